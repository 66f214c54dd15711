"""Fast-SCNN: its two layouts against a second writing, counts, and mistakes that must show."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import lite_written_again
from golden_rule import Shapes, filled, picture, read_counts, read_keys
from kerbseg.importers.fast_scnn_pytorch import module_names
from kerbseg.models import SegmentationNet, card, create_model, fast_scnn
from kerbseg.models._net import resize

NETWORKS = ("fast_scnn", "fast_scnn_public")
HEADS = {"fast_scnn": ("aux_downsample", "aux_global"), "fast_scnn_public": ("auxlayer",)}
BIASES = ("feature_fusion.conv_lower_res.0.bias", "feature_fusion.conv_higher_res.0.bias")  # of the public layout


def shapes(name: str, classes: int = 19) -> Shapes:
    """Names and shapes as published; for the paper's network what differs is changed."""
    keys = read_keys("fast_scnn")
    if name == "fast_scnn":
        head = {key.removeprefix("auxlayer"): shape for key, shape in keys.items() if key.startswith("auxlayer")}
        keys = {key: shape for key, shape in keys.items() if key not in BIASES and not key.startswith("auxlayer")}
        for ours, channels in (("aux_downsample", 64), ("aux_global", 128)):
            keys |= {ours + leaf: shape for leaf, shape in head.items()} | {f"{ours}.0.weight": [32, channels, 3, 3]}
    return {key: [classes if n == 19 else n for n in shape] for key, shape in keys.items()}


def ours(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights under our names. That each has its place, the second writing shows, which has the published names."""
    names, renamed = module_names(), {}
    for key, value in state.items():
        module, _, leaf = key.rpartition(".")
        renamed[f"{names.get(module, module)}.{leaf}"] = value
    return renamed


def pair(name: str, classes: int = 5) -> tuple[SegmentationNet, dict[str, Tensor]]:
    """The network with dropout switched off, and its weights under the published names; float64, apart in memory."""
    mine, theirs = (
        {key: value.double() if value.ndim else value for key, value in filled(shapes(name, classes), 1.5).items()}
        for _ in range(2)
    )
    with torch.device("meta"):
        net = create_model(name, classes, heads=True)
    net.load_state_dict(ours(mine), assign=True)
    for module in net.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return net, theirs


def second(name: str, state: dict[str, Tensor], image: Tensor, training: bool) -> dict[str, Tensor]:
    logits, heads = lite_written_again.fast_scnn(state, image, training, public=name == "fast_scnn_public")
    return {"": logits, **heads}


def outputs(net: SegmentationNet, image: Tensor) -> dict[str, Tensor]:
    logits, heads = net.with_heads(image)
    return {"": logits, **heads}


@pytest.mark.parametrize("name", NETWORKS)
def test_the_published_names_are_ours_and_no_more(name):
    with torch.device("meta"):
        net = create_model(name, heads=True)
    assert {key: list(value.shape) for key, value in ours(filled(shapes(name))).items()} == {
        key: list(value.shape) for key, value in net.state_dict().items()
    }
    if name == "fast_scnn_public":
        assert len(net.state_dict()) == len(read_keys("fast_scnn")) == 276
        with torch.device("meta"):
            assert len(create_model(name).state_dict()) == 268


@pytest.mark.parametrize("name", NETWORKS)
def test_a_training_step_is_that_of_a_second_writing(name):
    net, theirs = pair(name)
    learned = dict(net.named_parameters())
    for key, value in theirs.items():
        value.requires_grad_(key.endswith(("weight", "bias")))
    image = torch.cat([picture(64, 96), picture(96, 64).mT]).double()
    losses = []
    for made in (outputs(net.train(), image), second(name, theirs, image, training=True)):
        assert tuple(made) == ("", *HEADS[name])
        assert [list(each.shape[-2:]) for each in made.values()] == [[8, 12], [8, 12], [2, 3]][: len(made)]
        losses.append(sum(weighed(each, place) for place, each in enumerate(made.values())))
        losses[-1].backward()
    assert losses[0].item() == pytest.approx(losses[1].item(), rel=1e-12)
    again = ours(theirs)
    for key, value in net.state_dict().items():
        if key in learned:
            near = {"rtol": 0, "atol": 1e-10 * max(1, again[key].grad.abs().max().item())}
            torch.testing.assert_close(learned[key].grad, again[key].grad, **near, msg=key)
        elif not key.endswith("num_batches_tracked"):
            torch.testing.assert_close(value, again[key], rtol=0, atol=1e-12, msg=key)


def weighed(output: Tensor, place: int) -> Tensor:
    """A loss of which every logit has another share."""
    return (output * torch.linspace(-1, 1 + place, output.numel(), dtype=output.dtype).view_as(output)).sum()


@pytest.mark.parametrize(("name", "size"), [("fast_scnn", (73, 101)), ("fast_scnn_public", (96, 160))])
def test_answers_are_those_of_a_second_writing(name, size):
    net, theirs = pair(name)
    image = picture(*size).double()
    with torch.no_grad():
        expected, made = second(name, theirs, image, training=False), outputs(net.eval(), image)
    for output in expected:
        torch.testing.assert_close(made[output], expected[output], rtol=0, atol=1e-10 * expected[output].std().item())


@pytest.mark.parametrize("classes", [19, 11])
def test_counts_of_the_public_layout_are_the_sheets(classes):
    counts = read_counts(f"fast_scnn_tramac/C{classes}")
    with torch.device("meta"):
        net = create_model("fast_scnn_public", classes).eval()
        headed = create_model("fast_scnn_public", classes, heads=True)
    assert sum(each.numel() for each in net.parameters()) == counts["params"]["total"]
    assert sum(each.numel() for each in headed.parameters()) == counts["params"]["with_heads"]
    norms = [each for each in net.modules() if isinstance(each, nn.BatchNorm2d)]
    assert sum(each.numel() for norm in norms for each in norm.parameters()) == counts["params"]["bn_affine"]
    for size, count in counts["at"].items():
        width, height = map(int, size.split("x"))
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            assert list(net(torch.empty(1, 3, height, width, device="meta")).shape) == count["out"]
        assert counter.get_total_flops() == 2 * count["MAC"]


def test_what_the_papers_count_of_parameters_may_be():
    paper, public = card("fast_scnn").parameters, card("fast_scnn_public").parameters
    norms = read_counts("fast_scnn_tramac/C19")["params"]["bn_affine"]
    assert paper == 1_137_795
    assert public - paper == 2 * 128  # biases in the fusion
    assert public - norms == 1_114_371
    assert public - 256 * 128 - 2 * 128 == 1_105_027  # without the convolution behind the pyramid, which is normalized


def test_dropout_is_before_the_last_layers_alone():
    net = create_model("fast_scnn", heads=True)
    after = {name: module.p for name, module in net.named_modules() if isinstance(module, nn.Dropout)}
    assert after == {"classifier.2": 0.1, "aux_downsample.3": 0.1, "aux_global.3": 0.1}


@pytest.mark.parametrize("size", [(1, 1), (33, 47)])
def test_any_size_will_do(size):
    with torch.device("meta"), torch.no_grad():
        assert create_model("fast_scnn", 3).eval()(torch.empty(1, 3, *size)).shape == (1, 3, *size)


# single mistakes: each takes a network and what pytest patches with, and makes it another reading


def halves_rectified(net: SegmentationNet, patch: pytest.MonkeyPatch) -> None:
    for module in net.modules():
        if isinstance(module, fast_scnn.SeparableConv):
            module[2] = nn.ReLU()


def first_unpadded(net: SegmentationNet, patch: pytest.MonkeyPatch) -> None:
    net.learning_to_downsample[0][0].padding = (0, 0)


def fusion_undilated(net: SegmentationNet, patch: pytest.MonkeyPatch) -> None:
    conv = net.feature_fusion.dwconv[0]
    conv.dilation = conv.padding = (1, 1)


def corners_aligned(net: SegmentationNet, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(fast_scnn, "resize", lambda features, size, align_corners: resize(features, size, True))


def other_parts(net: SegmentationNet, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(fast_scnn, "BINS", (1, 2, 4, 6))


def narrow_end_rectified(net: SegmentationNet, patch: pytest.MonkeyPatch) -> None:
    for module in net.modules():
        if isinstance(module, fast_scnn.LinearBottleneck):
            module.block.append(nn.ReLU())


def never_added(net: SegmentationNet, patch: pytest.MonkeyPatch) -> None:
    for module in net.modules():
        if isinstance(module, fast_scnn.LinearBottleneck):
            module.residual = False


def skip_left_out(net: SegmentationNet, patch: pytest.MonkeyPatch) -> None:
    net.feature_fusion.conv_higher_res.register_forward_hook(lambda module, maps, output: 0 * output)


MISTAKES: list[Callable[[SegmentationNet, pytest.MonkeyPatch], None]] = [
    halves_rectified, first_unpadded, fusion_undilated, corners_aligned, other_parts, narrow_end_rectified,
    never_added, skip_left_out,
]  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_single_mistake_shows(mistake, monkeypatch):
    net, theirs = pair("fast_scnn")
    image = picture(160, 224).double()
    with torch.no_grad():
        expected = second("fast_scnn", theirs, image, training=False)[""]
        mistake(net.eval(), monkeypatch)
        made = net.logits(image)
    # the whole logits in float32 would be within 1e-4
    assert made.shape != expected.shape or (made - expected).abs().max() > 1e-2 * expected.std()
