"""PP-LiteSeg-T: the authors' numbers and counts, a second writing's gradients, and mistakes that must show."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

import lite_written_again
from golden_rule import compare, deviation, filled, golden_state, picture, read_counts, read_golden, read_mistakes
from kerbseg.importers.pp_liteseg_paddle import LEAVES, module_names
from kerbseg.models import SegmentationNet, card, create_model, pp_liteseg
from kerbseg.models._net import resize

NAME = "pp_liteseg_t"
GOLDEN = read_golden(NAME)
SMALL, LARGE = GOLDEN["cases"]  # sizes


def ours(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights under our names. That the importer's table is true, the golden numbers show."""
    names, renamed = module_names(heads=True), {}
    for key, value in state.items():
        module, _, leaf = key.rpartition(".")
        renamed[f"{names[module]}.{LEAVES.get(leaf, leaf)}"] = value
    return renamed


def network(state: dict[str, Tensor], classes: int = 19) -> SegmentationNet:
    with torch.device("meta"):
        net = create_model(NAME, classes, heads=True)
    counters = {key: torch.tensor(0) for key in net.state_dict() if key.endswith("num_batches_tracked")}
    net.load_state_dict(ours(state) | counters, assign=True)
    return net


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    return golden_state(GOLDEN)


def check(net: SegmentationNet, precision: str, size: str) -> dict[str, Tensor]:
    """Asserts that logits and heads are golden at a size, enlarged to the picture as in the authors' network."""
    dtype = getattr(torch, precision)
    height, width = map(int, size.split("x"))
    with torch.no_grad():
        logits, heads = net.to(dtype).eval().with_heads(picture(height, width).to(dtype))
        shown = {name: net.upsample(each, (height, width)) for name, each in {"": logits, **heads}.items()}
    compare(shown[""], GOLDEN["cases"][size], precision, size)
    for name, cases in GOLDEN["heads"].items():
        if size in cases:
            compare(shown[name], cases[size], precision, name)
    return shown


@pytest.mark.parametrize("precision", ["float64", "float32"])
@pytest.mark.parametrize("size", [SMALL, pytest.param(LARGE, marks=pytest.mark.slow)])
def test_logits_and_heads_are_the_authors(size, precision, state):
    assert GOLDEN["heads"].keys() == {"seg_heads.1", "seg_heads.2"}
    check(network(state), precision, size)


@pytest.mark.parametrize("classes", [19, 11])
def test_counts_are_the_authors(classes):
    counts = read_counts(f"{NAME}/C{classes}")
    with torch.device("meta"):
        net, headed = create_model(NAME, classes).eval(), create_model(NAME, classes, heads=True)
    assert sum(each.numel() for each in net.parameters()) == counts["params"]["total"]
    assert sum(each.numel() for each in headed.parameters()) == counts["params"]["with_heads"]
    norms = [each for each in net.modules() if isinstance(each, nn.BatchNorm2d)]
    assert sum(each.numel() for norm in norms for each in norm.parameters()) == counts["params"]["bn_affine"]
    for size, count in counts["at"].items():
        width, height = map(int, size.split("x"))
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            assert list(net(torch.empty(1, 3, height, width, device="meta")).shape) == count["out"]
        assert counter.get_total_flops() == 2 * count["MAC"]
    if classes == 19:
        facts = card(NAME)
        assert (facts.parameters, facts.parameters_with_heads) == (8_028_320, 8_141_600)
        assert facts.macs == counts["at"]["1024x512"]["MAC"]
        entries = [key for key in headed.state_dict() if not key.endswith("num_batches_tracked")]
        assert len(entries) == 250
        assert GOLDEN["parameters"] == facts.parameters_with_heads


def test_the_constants_are_stored_and_never_trained():
    with torch.device("meta"):
        net = create_model(NAME)
    kept = {key for key in net.state_dict() if key.endswith("scale")}
    assert kept == {f"ppseg_head.arm_list.{n}.scale" for n in range(3)}
    assert not kept & {key for key, _ in net.named_parameters()}
    assert torch.equal(pp_liteseg.UAFM(2, 2, 2).scale, torch.ones(1))


def test_the_start_is_the_authors():
    torch.manual_seed(0)
    net = create_model(NAME)
    for name, module in net.named_modules():
        if isinstance(module, nn.Conv2d):
            fan = module.weight[0].numel()
            std = 0.001 if name.startswith("backbone.") else (2 / fan) ** 0.5
            assert float(module.weight.detach().std()) == pytest.approx(std, rel=4 / module.weight.numel() ** 0.5), name
            assert module.bias is None or not module.bias.any()
        if isinstance(module, nn.BatchNorm2d):
            assert (module.eps, module.momentum) == (1e-5, 0.1)


def test_a_training_step_is_that_of_a_second_writing():
    shapes = {key: list(value.shape) for key, value in golden_state(GOLDEN).items()}
    shapes |= {f"seg_heads.{n}.conv_out.weight": [5, width, 1, 1] for n, width in enumerate((32, 64, 64))}
    mine, theirs = ({key: value.double() for key, value in filled(shapes, 1.2).items()} for _ in range(2))
    net = network(mine, 5)
    for key, value in theirs.items():
        value.requires_grad_(not key.endswith(("_mean", "_variance", "_scale")))
    image = torch.cat([picture(65, 72), picture(72, 65).mT]).double()
    losses = []
    for main, heads in (net.train().with_heads(image), lite_written_again.pp_liteseg_t(theirs, image)):
        assert list(heads) == ["seg_heads.1", "seg_heads.2"]
        losses.append(sum(weighed(each, place) for place, each in enumerate([main, *heads.values()])))
        losses[-1].backward()
    assert losses[0].item() == pytest.approx(losses[1].item(), rel=1e-12)
    again, gradients = ours(theirs), dict(net.named_parameters())
    assert len(gradients) == sum(value.requires_grad for value in theirs.values())
    shifts = 0
    for key, value in net.state_dict().items():
        if key in gradients:
            size = again[key].grad.abs().max().item()
            shifts += size < 1e-6  # of biases that a batch-norm takes off again, rounding is left
            near = {"rtol": 0, "atol": 1e-10 * max(1, size)}
            torch.testing.assert_close(gradients[key].grad, again[key].grad, **near, msg=key)
        elif not key.endswith("num_batches_tracked"):
            torch.testing.assert_close(value, again[key], rtol=0, atol=1e-12, msg=key)
    assert shifts == 4  # the pyramid's


def weighed(output: Tensor, place: int) -> Tensor:
    """A loss of which every logit has another share."""
    return (output * torch.linspace(-1, 1 + place, output.numel(), dtype=output.dtype).view_as(output)).sum()


@pytest.mark.parametrize("size", [(1, 1), (33, 47)])
def test_any_size_will_do(size):
    with torch.device("meta"), torch.no_grad():
        net = create_model(NAME, 3).eval()
        assert net(torch.empty(1, 3, *size)).shape == (1, 3, *size)
        assert net.logits(torch.empty(1, 3, *size)).shape[-2:] == tuple(-(-n // 8) for n in size)


# single mistakes: each takes a whole network and what pytest patches with, and makes it wrong

Mistake = Callable[[SegmentationNet, pytest.MonkeyPatch], None]


def corners_aligned(net: SegmentationNet, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(pp_liteseg, "resize", lambda features, size, align_corners: resize(features, size, True))
    net.align_corners = True


def another_eps(net: SegmentationNet, patch: pytest.MonkeyPatch) -> None:
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps = 1e-3


def padding_counted(net: SegmentationNet, patch: pytest.MonkeyPatch) -> None:
    for module in net.modules():
        if isinstance(module, nn.AvgPool2d):
            module.count_include_pad = True


def pyramid_without_bias(net: SegmentationNet, patch: pytest.MonkeyPatch) -> None:
    for module in net.ppseg_head.cm.modules():
        if isinstance(module, nn.Conv2d):
            module.bias = None


def attention_sees(order: tuple[int, ...]) -> Mistake:
    """The four maps in another order than mean and max of the low map, mean and max of the high one."""

    def make(net: SegmentationNet, patch: pytest.MonkeyPatch) -> None:
        for fusion in net.ppseg_head.arm_list:
            fusion.conv_xy_atten.register_forward_pre_hook(lambda module, maps: (maps[0][:, order],))

    return make


def gate_on_the_high_map(net: SegmentationNet, patch: pytest.MonkeyPatch) -> None:
    for fusion in net.ppseg_head.arm_list:
        fusion.conv_xy_atten.register_forward_hook(lambda module, maps, output: -output)


def depthwise_rectified(net: SegmentationNet, patch: pytest.MonkeyPatch) -> None:
    for module in net.modules():
        if isinstance(module, pp_liteseg.StridedShortTermDense):
            module.avd_layer.register_forward_hook(lambda module, maps, output: F.relu(output))


MISTAKES = {
    "align_corners True": corners_aligned,
    "BN eps 1e-3": another_eps,
    "average pooling counts its padding": padding_counted,
    "SPPM convs without bias": pyramid_without_bias,
    "attention maps ordered mean, mean, max, max": attention_sees((0, 2, 1, 3)),
    "attention maps of high before low": attention_sees((2, 3, 0, 1)),
    "gate on the high map": gate_on_the_high_map,
    "ReLU after avd_layer": depthwise_rectified,
}


def test_no_mistake_of_the_reference_is_left_out():
    assert MISTAKES.keys() == read_mistakes(NAME).keys()


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_single_mistake_shows(mistake, state, monkeypatch):
    net = network({key: value.clone() for key, value in state.items()})
    MISTAKES[mistake](net, monkeypatch)
    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        check(net, "float32", SMALL)
    height, width = map(int, SMALL.split("x"))
    with torch.no_grad():
        cost = deviation(net.eval()(picture(height, width)), GOLDEN["cases"][SMALL])
    # the reference made this very mistake: it costs as much
    assert cost == pytest.approx(read_mistakes(NAME)[mistake][0], rel=0.06), mistake
