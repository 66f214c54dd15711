"""ERFNet and its grouped variants: the fact sheet's counts, what each variant replaces, where channels are shuffled."""

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from golden_rule import read_counts
from kerbseg.models import create_model, list_models
from kerbseg.models.erfnet import NonBottleneck1d
from kerbseg.models.erfnet_grouped import ConvModule, LightUpsampler

HEAD = 128 * 20 + 20  # the encoder's training head, which the sheet counts with the grouped networks and we do not
SHEET = {"erfnet": "ERFNet"} | {
    name: name.removeprefix("erfnet_").upper().replace("_ALL", "*").replace("_LIGHT", "*-proposed")
    for name in list_models()
    if name.startswith(("erfnet_d_", "erfnet_dg")) or name == "erfnet_d"
}


@pytest.mark.parametrize(("name", "row"), SHEET.items())
def test_counts_are_the_sheets(name, row):
    counts = read_counts(f"gradual_grouping/{row}")
    with torch.device("meta"):
        net = create_model(name, 20).eval()
    assert sum(p.numel() for p in net.parameters()) + HEAD == counts["params"]["total"]
    norms = [m for m in net.modules() if isinstance(m, nn.BatchNorm2d)]
    assert sum(p.numel() for m in norms for p in m.parameters()) == counts["params"]["bn_affine"]
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        net(torch.empty(1, 3, 512, 1024, device="meta"))
    assert counter.get_total_flops() / 2e9 == pytest.approx(counts["at"]["1024x512"]["conv_deconv_GMAC"], abs=1e-6)


def test_the_sheet_has_every_variant_of_the_grouping_paper():
    assert len(SHEET) == 18  # rows of tables 3, 4 and 5


def test_dropout_dilation_and_batch_norm_are_the_authors():
    net = create_model("erfnet")
    blocks = [(m.bn1.num_features, m.conv3x1_2.dilation[0], m.dropout.p)
              for m in net.modules() if isinstance(m, NonBottleneck1d)]  # fmt: skip
    far = [(128, dilation, 0.3) for dilation in (2, 4, 8, 16) * 2]
    assert blocks == [(64, 1, 0.03)] * 5 + far + [(64, 1, 0.0)] * 2 + [(16, 1, 0.0)] * 2
    assert {m.eps for m in net.modules() if isinstance(m, nn.BatchNorm2d)} == {1e-3}
    first = [m.conv3x1_1.dilation for m in net.modules() if isinstance(m, NonBottleneck1d)]
    assert set(first) == {(1, 1)}


def test_the_encoders_head_scores_an_eighth_of_the_picture():
    net = create_model("erfnet_encoder", 5).eval()
    with torch.no_grad():
        assert net.logits(torch.rand(1, 3, 40, 64)).shape == (1, 5, 5, 8)


@pytest.mark.parametrize(("name", "near", "far"), [("erfnet_dg2_all", 5, 8), ("erfnet_dg2", 2, 4)])
def test_what_is_replaced(name, near, far):
    encoder = create_model(name).encoder
    at_64, at_128 = list(encoder)[2:7], list(encoder)[8:16]
    assert [isinstance(m, ConvModule) for m in at_64] == [False] * (5 - near) + [True] * near
    assert [isinstance(m, ConvModule) for m in at_128] == [False] * (8 - far) + [True] * far
    dilations = [m.depthwise2.dilation[0] for m in at_128 if isinstance(m, ConvModule)]
    assert dilations == ([2, 4, 8, 16] * 2)[8 - far :]


@pytest.mark.parametrize("groups", [2, 4, 8])
def test_pointwise_convolutions_of_the_encoder_alone_are_grouped_and_shuffled_once(groups):
    net = create_model(f"erfnet_dg{groups}s_all")
    modules = [m for m in net.encoder if isinstance(m, ConvModule)]
    assert {(m.pointwise1.groups, m.pointwise2.groups) for m in modules} == {(groups, groups)}
    assert {m.depthwise1.groups == m.depthwise1.in_channels for m in modules} == {True}
    assert {m.groups for m in net.decoder.modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d)} == {1}
    assert sum(isinstance(m, nn.ChannelShuffle) for m in net.modules()) == len(modules)
    assert not any(isinstance(m, nn.ChannelShuffle) for m in create_model(f"erfnet_dg{groups}_all").modules())


def test_without_a_shuffle_a_group_sees_only_itself():
    def channels_reached(shuffle) -> torch.Tensor:
        torch.manual_seed(0)
        module = ConvModule(8, groups=4, shuffle=shuffle).eval()
        image = torch.rand(1, 8, 5, 5, requires_grad=True)
        y = module.pointwise1(module.depthwise1(image))
        module.pointwise2(module.depthwise2(module.shuffle(y)))[0, 0].sum().backward()
        return image.grad.abs().sum(dim=(0, 2, 3)) > 0

    assert channels_reached(nn.Identity).tolist() == [True] * 2 + [False] * 6
    assert channels_reached(lambda: nn.ChannelShuffle(4)).tolist() == [True] * 4 + [False] * 4


@pytest.mark.parametrize(
    ("dense", "grouped"),
    [("erfnet_d_all", "erfnet_dg4s_all"), ("erfnet_d", "erfnet_dg8"), ("erfnet_d_light", "erfnet_dg2_light")],
)
def test_the_dense_and_the_grouped_network_have_the_same_names(dense, grouped):
    with torch.device("meta"):
        assert create_model(dense).state_dict().keys() == create_model(grouped).state_dict().keys()


def test_the_light_upsampler_may_convolve_first():
    torch.manual_seed(0)
    light = LightUpsampler(6, 4).eval()
    x = torch.rand(1, 6, 5, 7)
    with torch.no_grad():
        doubled = nn.functional.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
        torch.testing.assert_close(light(x), light.bn(light.conv(doubled)).relu())
