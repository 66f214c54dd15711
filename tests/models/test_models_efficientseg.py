"""EfficientSeg and the Minicity U-Net: channels and counts of the fact sheet, start, scores, sizes."""

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from golden_rule import read_counts
from kerbseg.core.errors import InputError
from kerbseg.models import create_model
from kerbseg.models.efficientseg import divisible

# inputs, hidden, outputs of every block at width 1.5
ENCODER_1_5 = [
    (24, 24, 24), (24, 96, 40), (40, 120, 40), (40, 120, 64), (64, 192, 64), (64, 192, 64), (64, 384, 120),
    (120, 304, 120), (120, 280, 120), (120, 280, 120), (120, 720, 168), (168, 1008, 168), (168, 1008, 240),
    (240, 1440, 240), (240, 1440, 240),
]  # fmt: skip
DECODER_1_5 = [
    (240, 1440, 240), (240, 1440, 240), (240, 1008, 168), (336, 1008, 168), (168, 720, 120), (120, 280, 120),
    (120, 280, 120), (120, 304, 120), (120, 384, 64), (128, 192, 64), (64, 192, 64), (64, 120, 40), (80, 120, 40),
    (40, 96, 24), (48, 24, 24),
]  # fmt: skip

SHEET = [  # key in counts.json, network, classes, options
    ("efficientseg/w1.5/C20", "efficientseg_1_5", 20, {}),
    ("efficientseg/w1.5/C20", "efficientseg", 20, {"width": 1.5}),
    ("efficientseg/w1.5/C20/raw_logits", "efficientseg_1_5", 20, {"raw_logits": True}),
    ("efficientseg/w1.5/C19", "efficientseg_1_5", 19, {}),
    ("efficientseg/w6.0/C20", "efficientseg_6_0", 20, {}),
    ("efficientseg/w6.0/C20", "efficientseg", 20, {"width": 6.0}),
    ("efficientseg/w6.0/C20/raw_logits", "efficientseg_6_0", 20, {"raw_logits": True}),
    ("efficientseg/w6.0/C19", "efficientseg_6_0", 19, {}),
    ("unet_baseline/nobn/C20", "unet_minicity", 20, {}),
    ("unet_baseline/bn/C20", "unet_minicity_bn", 20, {}),
]


@pytest.mark.parametrize(("key", "name", "classes", "options"), SHEET)
def test_counts_are_the_sheets(key, name, classes, options):
    row = read_counts(key)
    with torch.device("meta"):
        net = create_model(name, classes, **options).eval()
    assert sum(p.numel() for p in net.parameters()) == row["params"]["total"]
    for size, counts in row["at"].items():
        width, height = map(int, size.split("x"))
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            net(torch.empty(1, 3, height, width, device="meta"))
        expected = counts["conv_deconv_GMAC"] + counts["linear_GMAC"]
        assert counter.get_total_flops() / 2e9 == pytest.approx(expected, abs=1.5e-6)  # two rounded figures


def test_blocks_have_the_papers_channels():
    def channels(block):
        convolutions = [layer for layer in block.layers if isinstance(layer, nn.Conv2d)]
        depthwise = next(layer for layer in convolutions if layer.groups > 1)
        return convolutions[0].in_channels, depthwise.in_channels, convolutions[-1].out_channels

    with torch.device("meta"):
        net = create_model("efficientseg_1_5")
    assert [channels(block) for block in net.encoder] == ENCODER_1_5
    assert [channels(block) for block in net.decoder] == DECODER_1_5


@pytest.mark.parametrize(("channels", "rounded"), [(16, 16), (3, 8), (20, 24), (11, 16), (300, 304), (276, 280)])
def test_rounding_never_takes_a_tenth_away(channels, rounded):
    assert divisible(channels) == rounded >= 0.9 * channels


def test_the_start_is_that_of_the_authors_training():
    net = create_model("efficientseg", width=0.5)
    for module in net.modules():
        if isinstance(module, nn.Conv2d | nn.Linear) and module.weight.numel() > 1000:
            bound = (6 / (module.weight.numel() / len(module.weight))) ** 0.5
            assert 0.95 * bound < module.weight.abs().max() <= bound


def test_scores_end_where_h_swish_does_unless_raw():
    torch.manual_seed(0)
    image = torch.randn(2, 3, 64, 64)
    published, raw = (create_model("efficientseg", 5, width=0.5, raw_logits=raw) for raw in (False, True))
    assert published(image).min() >= -0.375
    assert raw(image).min() < -0.375


@pytest.mark.parametrize("size", [(72, 104), (33, 32), (0, 32)])
def test_efficientseg_takes_multiples_of_32_only(size):
    net = create_model("efficientseg", width=0.5).eval()
    with pytest.raises(InputError, match="stride 32; pad to"):
        net(torch.zeros(1, 3, *size))


def test_training_on_a_single_small_picture_says_why_not():
    net = create_model("efficientseg", 3, width=0.5)
    with pytest.raises(InputError, match="one picture of 32x32"):
        net(torch.rand(1, 3, 32, 32))
    assert net(torch.rand(1, 3, 32, 64)).shape == (1, 3, 32, 64)


@pytest.mark.parametrize("size", [(73, 101), (16, 16), (17, 31)])
def test_unet_takes_any_size_but_the_smallest(size):
    with torch.device("meta"), torch.no_grad():
        net = create_model("unet_minicity", 3).eval()
        assert net(torch.empty(1, 3, *size)).shape == (1, 3, *size)
        with pytest.raises(InputError, match="too small for a network that needs 16"):
            net(torch.empty(1, 3, 15, 64))
