"""LiteSeg: counts of every variant against the fact sheet, the paper's counts, output strides, batches of one."""

from itertools import product

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from golden_rule import read_counts
from kerbseg.core.errors import InputError
from kerbseg.models import create_model, list_models
from kerbseg.models.backbones import Darknet19, MobileNetV2, ShuffleNet, mobilenet_v2_classifier, shufflenet_classifier
from kerbseg.models.backbones.darknet19 import as_published
from kerbseg.models.liteseg import ASPP, DASPP, LiteSeg, Separable, dense

VARIANTS = [name for name in list_models() if name.startswith("liteseg_")]
BACKBONES = {"mobilenet": (MobileNetV2, None), "shufflenet": (ShuffleNet, 48), "darknet": (Darknet19, 32)}
PARTS = {"dwsep": Separable, "standard": dense}
PYRAMIDS = {  # of the sheet's rows: pyramid, width, Darknet's output stride
    "daspp": (DASPP, 96, 16),
    "daspp_os32": (DASPP, 96, 32),
    "aspp_baseline": (ASPP, 96, 32),
    "aspp_baseline_256": (ASPP, 256, 32),
}


def parameters(net: torch.nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


def macs(net: torch.nn.Module, height: int, width: int) -> int:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        net.eval()(torch.empty(1, 3, height, width, device="meta"))
    return counter.get_total_flops() // 2


@pytest.mark.parametrize(
    ("backbone", "conv", "pyramid"),
    [
        row
        for row in product(BACKBONES, PARTS, PYRAMIDS)
        if row[0] == "darknet" or row[2] != "daspp_os32"  # a row of Darknet's alone
    ],
)
def test_counts_are_the_sheets(backbone, conv, pyramid):
    row = read_counts(f"liteseg/{backbone}/{conv}/{pyramid}")
    module, filters, output_stride = PYRAMIDS[pyramid]
    make, low_width = BACKBONES[backbone]
    with torch.device("meta"):
        features = make(output_stride, as_published) if make is Darknet19 else make()
        net = LiteSeg(19, features, low_width, PARTS[conv], module, filters)
    assert parameters(net) == row["params_without_classifier"]
    for height, width in ((512, 1024), (360, 640)):
        expected = row["at"][f"{width}x{height}"]["conv_deconv_GMAC"]
        assert round(macs(net, height, width) / 1e9, 6) == expected


def test_the_papers_parameters_are_ours_and_the_dead_heads():
    def total(name, classifier=None):
        with torch.device("meta"):
            return parameters(create_model(name)) + (parameters(classifier().head) if classifier else 0)

    # table III prints 4.38, 3.51 and 20.55 million
    assert total("liteseg_mobilenet_v2", mobilenet_v2_classifier) == 4_382_707
    assert total("liteseg_shufflenet", shufflenet_classifier) == 3_508_451
    assert total("liteseg_darknet19") == 20_545_459


@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant_takes_every_output_stride(name):
    maps, states = {}, []
    for output_stride in (8, 16, 32):
        with torch.device("meta"):
            net = create_model(name, output_stride=output_stride).eval()
        net.pyramid.register_forward_pre_hook(lambda _, x, at=output_stride: maps.update({at: x[0].shape[-2:]}))
        with torch.no_grad():
            assert net(torch.empty(1, 3, 96, 128, device="meta")).shape == (1, 19, 96, 128)
        states.append({key: value.shape for key, value in net.state_dict().items()})
    assert maps == {8: (12, 16), 16: (6, 8), 32: (3, 4)}
    assert states[0] == states[1] == states[2]  # weights fit any of them


@pytest.mark.parametrize("name", VARIANTS)
def test_every_pyramid_looks_3_6_and_9_pixels_away(name):
    # of the plain pyramids no golden numbers tell it
    with torch.device("meta"):
        pyramid = create_model(name).pyramid
    spatial = [[m for m in branch.modules() if getattr(m, "kernel_size", None) == (3, 3)] for branch in pyramid.atrous]
    rates = [[(m.dilation, m.padding) for m in convolutions] for convolutions in spatial]
    then = [] if "aspp" in name else [((1, 1), (1, 1))]
    assert rates == [[((rate, rate), (rate, rate)), *then] for rate in (3, 6, 9)]


@pytest.mark.parametrize("size", [(73, 101), (31, 33), (8, 8)])
@pytest.mark.parametrize("name", ["liteseg_mobilenet_v2", "liteseg_shufflenet"])
def test_any_size_will_do_for_two_backbones(name, size):
    with torch.device("meta"), torch.no_grad():
        assert create_model(name, 3).eval()(torch.empty(1, 3, *size)).shape == (1, 3, *size)


def test_darknet_names_the_sizes_it_takes():
    net = create_model("liteseg_darknet19").eval()
    with pytest.raises(InputError, match=r"73x101 .* stride 4; pad to 76x104"):
        net(torch.zeros(1, 3, 73, 101))
    with pytest.raises(InputError, match=r"8x64 .* needs 16; enlarge"):
        net(torch.zeros(1, 3, 8, 64))
    with torch.no_grad():
        assert net(torch.zeros(1, 3, 16, 20)).shape == (1, 19, 16, 20)


def test_training_on_one_picture_says_why_not():
    net = create_model("liteseg_mobilenet_v2", 3)
    with pytest.raises(InputError, match=r"1 picture at a time.*batches of 2"):
        net(torch.rand(1, 3, 64, 64))
    assert net.eval()(torch.rand(1, 3, 64, 64)).shape == (1, 3, 64, 64)


def test_clean_padding_is_a_choice_that_fits_the_same_weights():
    published, clean = create_model("liteseg_darknet19", 3), create_model("liteseg_darknet19", 3, same_padding=True)
    clean.load_state_dict(published.state_dict())
    image = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        assert not torch.equal(published.eval()(image), clean.eval()(image))
    with torch.device("meta"):
        cost = macs(create_model("liteseg_darknet19", same_padding=True), 512, 1024)
    assert cost == 54_186_311_680


@pytest.mark.parametrize("pyramid", [ASPP, DASPP])
@pytest.mark.parametrize("conv", [dense, Separable])
def test_the_pyramid_looks_3_6_and_9_pixels_far(pyramid, conv):
    branches = pyramid(8, 8, conv).atrous
    widest = [max(m.dilation for m in branch.modules() if isinstance(m, torch.nn.Conv2d)) for branch in branches]
    assert widest == [(3, 3), (6, 6), (9, 9)]  # sec. II-D


class Ramps(torch.nn.Module):
    """A backbone whose deep map counts its columns from 0, beside early features of zeros."""

    stride, smallest, channels, low_channels = 1, 1, 1, 1

    def forward(self, image):
        high = torch.arange(5.0).expand(len(image), 1, 3, 5)
        return torch.zeros(len(image), 1, 9, 17), high


def test_both_interpolations_align_corners():
    net = LiteSeg(1, Ramps(), pyramid=lambda *_: torch.nn.Identity(), width=1).eval()
    net.decoder = torch.nn.Identity()
    with torch.no_grad():
        seen = net.logits(torch.zeros(1, 3, 32, 64))[:, :1]
        shown = net.upsample(seen, (18, 65))
    # with aligned corners a ramp stays one, from edge to edge
    torch.testing.assert_close(seen[0, 0, 4], torch.linspace(0, 4, 17))
    torch.testing.assert_close(shown[0, 0, 9], torch.linspace(0, 4, 65))
