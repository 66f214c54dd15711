"""MiniNet-v2 and the ladder to it: the fact sheet's counts, TensorFlow's alignment, dilations, where branches join."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from golden_rule import read_counts
from kerbseg.models import card, create_model
from kerbseg.models.mininet import Downsample, MultiDilation, Separable, Transposed
from kerbseg.models.mininet_ladder import FactorisedDepthwiseUnit, FactorisedUnit, SeparableModule, StandardModule

SHEET = [  # network, classes, row of counts.json, whether its counts end with the scores
    ("mininet_v2", 19, "mininet_v2/C19", True),
    ("mininet_v2", 11, "mininet_v2/C11", True),
    ("mininet_v2_cpu", 19, "mininet_v2_cpu/C19", True),
    ("mininet_v2_cpu", 11, "mininet_v2_cpu/C11", True),
    ("mininet_erfnet_s", 19, "mininet_ladder/ERFNet-S", False),
    ("mininet_erfnet_d", 19, "mininet_ladder/ERFNet-D", False),
    ("mininet_v2_s", 19, "mininet_ladder/MiniNet-v2-S", False),
    ("mininet_v2_d", 19, "mininet_ladder/MiniNet-v2-D", False),
    ("mininet_v2_d_s", 19, "mininet_ladder/MiniNet-v2-D-S", False),
    ("mininet_v2_d_i", 19, "mininet_ladder/MiniNet-v2-D-I-E", False),
    ("mininet_v2_d_i_0", 19, "mininet_ladder/MiniNet-v2-D-I-0", False),
    ("mininet_v2_d_i_1", 19, "mininet_ladder/MiniNet-v2-D-I-1", False),
    ("mininet_v2_d_i_2", 19, "mininet_ladder/MiniNet-v2-D-I-2", False),
    ("mininet_v2_d_i_m", 19, "mininet_ladder/MiniNet-v2-D-I-M", False),
    ("mininet_v2", 19, "mininet_ladder/MiniNet-v2-D-I-M-R", True),
]
LADDER = [name for name, _, row, _ in SHEET if "ladder" in row]


@pytest.mark.parametrize(("name", "classes", "row", "halved"), SHEET)
def test_counts_are_the_sheets(name, classes, row, halved):
    counts = read_counts(row)
    with torch.device("meta"):
        net = create_model(name, classes).eval()
    assert sum(p.numel() for p in net.parameters()) == counts["params"]["total"]
    norms = [m for m in net.modules() if isinstance(m, nn.BatchNorm2d)]
    assert sum(p.numel() for m in norms for p in m.parameters()) == counts["params"]["bn_affine"]
    for size, count in counts["at"].items():
        width, height = map(int, size.split("x"))
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            scores = net.logits(torch.empty(1, 3, height, width, device="meta"))
        assert counter.get_total_flops() / 2e9 == pytest.approx(count["conv_deconv_GMAC"], abs=1e-6)
        assert list(scores.shape) == count["out"]
        assert scores.shape[-1] == width // (2 if halved else 1)


def test_a_strided_convolution_pads_right_and_bottom_only():
    block = Downsample(3, 8).eval()
    nn.init.zeros_(block.conv.weight)
    block.conv.weight.data[:, :, 0, 0] = 1  # reads the top left cell of its window: with TensorFlow's 'SAME', cell 2i
    image = torch.rand(1, 3, 6, 10)
    with torch.no_grad():
        expected = image[:, :, ::2, ::2].sum(1) / (1 + 1e-3) ** 0.5
        torch.testing.assert_close(block(image)[:, 0], expected)
        block.conv.weight.data.zero_()[:, :, 2, 2] = 1  # and its bottom right one cell 2i+2, beyond the edge zero
        shifted = F.pad(image, (0, 2, 0, 2))[:, :, 2::2, 2::2].sum(1) / (1 + 1e-3) ** 0.5
        torch.testing.assert_close(block(image)[:, 0], shifted)


def test_a_transposed_convolution_starts_where_its_input_does():
    up = Transposed(1, 1)
    nn.init.zeros_(up.bias)
    up.weight.data.copy_(torch.arange(9.0).reshape(1, 1, 3, 3))
    dot = torch.zeros(1, 1, 3, 4)
    dot[0, 0, 1, 2] = 1
    with torch.no_grad():
        spread = up(dot)
    assert spread.shape == (1, 1, 6, 8)
    assert torch.equal(spread[0, 0, 2:5, 4:7], up.weight[0, 0])
    assert spread.sum() == 36


def dilations(net: nn.Module) -> list[int]:
    return [m.far.dilation[0] for m in net.modules() if isinstance(m, MultiDilation)]


def test_the_feature_extractor_sees_as_far_as_the_authors_trained_it():
    assert dilations(create_model("mininet_v2")) == [1, 2, 1, 4, 1, 8, 1, 16, 1, 1, 1, 2, 1, 8, 1, 16]
    assert dilations(create_model("mininet_v2_cpu")) == [1, 2, 1, 4, 1, 8]


@pytest.mark.parametrize("name", ["mininet_v2", "mininet_v2_cpu", *LADDER])
def test_pixels_norms_and_dropout_are_tensorflows(name):
    net = create_model(name)
    preprocessing = card(name).preprocessing
    assert (preprocessing.channels, preprocessing.mean) == ("bgr", (0.5,) * 3)
    assert {(m.eps, m.momentum) for m in net.modules() if isinstance(m, nn.BatchNorm2d)} == {(1e-3, 0.01)}
    multi = [(m.bn.num_features, m.dropout.p) for m in net.modules() if isinstance(m, MultiDilation)]
    assert {p for channels, p in multi if channels == 128} <= {0.25}
    assert {p for channels, p in multi if channels != 128} <= {0.0}


def test_scores_end_at_half_the_picture():
    net = create_model("mininet_v2_cpu", 4).eval()
    image = torch.rand(1, 3, 32, 64)
    with torch.no_grad():
        assert net.logits(image).shape == (1, 4, 16, 32)
        corner = net.logits(image)[..., -1, -1]
        torch.testing.assert_close(net(image)[..., -1, -1], corner)  # aligned corners


@pytest.mark.parametrize(
    ("name", "unit", "count"),
    [
        ("mininet_erfnet_s", FactorisedUnit, 17),
        ("mininet_erfnet_d", FactorisedDepthwiseUnit, 17),
        ("mininet_v2_s", StandardModule, 34),
        ("mininet_v2_d", SeparableModule, 34),
        ("mininet_v2_d_i", SeparableModule, 34),
        ("mininet_v2_d_i_m", MultiDilation, 34),
        ("mininet_v2", Separable, 14),
    ],
)
def test_every_rung_is_made_of_its_own_unit(name, unit, count):
    net = create_model(name)
    assert sum(isinstance(m, unit) for m in net.modules()) == count


@pytest.mark.parametrize(
    ("name", "rates"),
    [
        ("mininet_v2_d_i", [2, 4, 8, 16] * 2),
        ("mininet_v2_d_i_0", [1] * 8),
        ("mininet_v2_d_i_1", [1, 2, 4, 5] * 2),
        ("mininet_v2_d_i_2", [4, 8, 16, 32] * 2),
    ],
)
def test_the_second_module_of_each_pair_is_dilated(name, rates):
    pairs = list(create_model(name).features)[1:]
    assert [tuple(module.depthwise.dilation[0] for module in pair) for pair in pairs] == [(1, rate) for rate in rates]


@pytest.mark.parametrize(("name", "joins"), [("mininet_v2_d", ""), ("mininet_v2_d_s", "S"), ("mininet_v2_d_i", "I")])
def test_branches_join_where_the_paper_says(name, joins):
    # with the deep path silenced, what still depends on the picture came by the branch
    torch.manual_seed(0)
    net = create_model(name, 3).eval()
    for block in (net.up64, net.up16) if joins != "I" else (net.up64,):
        nn.init.zeros_(block.deconv.weight)
    with torch.no_grad():
        one, other = net.logits(torch.rand(1, 3, 32, 32)), net.logits(torch.rand(1, 3, 32, 32))
    assert torch.equal(one, other) == (joins == "")
