"""DDRNet and PIDNet: the authors' numbers and counts, a second writing's gradients, and mistakes that must show."""

from collections.abc import Callable
from functools import partial

import dual_resolution
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from golden_rule import check_outputs, deviation, filled, golden_state, picture, read_counts, read_golden, read_mistakes
from kerbseg.models import SegmentationNet, card, create_model, ddrnet
from kerbseg.models._net import resize

GOLDEN = ("ddrnet_23_slim", "pidnet_s")
LARGE = ("ddrnet_23", "pidnet_m", "pidnet_l")
SMALL_SIZE, LARGE_SIZE = "72x104", "584x1096"
SECOND = {  # the same network written again
    "ddrnet_23_slim": dual_resolution.ddrnet,
    "ddrnet_23": dual_resolution.ddrnet,
    "pidnet_s": dual_resolution.pidnet,
    "pidnet_m": dual_resolution.pidnet,
    "pidnet_l": partial(dual_resolution.pidnet, m=3, n=4),
}
slow = pytest.mark.slow


@pytest.fixture(scope="module")
def states() -> dict[str, dict[str, Tensor]]:
    """Golden weights under the authors' names, which are ours."""
    return {name: golden_state(read_golden(name)) for name in GOLDEN}


def golden_net(name: str, states: dict[str, dict[str, Tensor]]) -> SegmentationNet:
    with torch.device("meta"):
        net = create_model(name, heads=True).eval()
    net.load_state_dict({key: value.clone() for key, value in states[name].items()}, assign=True)
    return net


@pytest.mark.parametrize("size", [SMALL_SIZE, pytest.param(LARGE_SIZE, marks=slow)])
@pytest.mark.parametrize("precision", ["float64", "float32"])
@pytest.mark.parametrize("name", GOLDEN)
def test_logits_and_heads_are_the_authors(name, precision, size, states):
    golden = read_golden(name)
    assert list(golden["cases"]) == [SMALL_SIZE, LARGE_SIZE]
    assert all(list(cases) == [SMALL_SIZE] for cases in golden["heads"].values())
    net = golden_net(name, states)
    assert golden["heads"].keys() == {*net.heads, "picture"}
    check_outputs(net, golden, precision, [size])


@pytest.mark.parametrize("name", GOLDEN)
def test_entries_and_parameters_are_the_authors(name):
    golden = read_golden(name)
    with torch.device("meta"):
        net, headed = create_model(name), create_model(name, heads=True)
    assert len(headed.state_dict()) == {"ddrnet_23_slim": 346, "pidnet_s": 479}[name]
    assert sum(each.numel() for each in net.parameters()) == golden["parameters_that_reach_the_output"]
    assert sum(each.numel() for each in headed.parameters()) == golden["parameters"]


@pytest.mark.parametrize("name", SECOND)
def test_cards_say_what_the_authors_networks_cost(name):
    counts, facts = read_counts(f"{name}/C19"), card(name)
    assert (facts.parameters, facts.parameters_with_heads) == (
        counts["params"]["total"],
        counts["params"]["with_heads"],
    )
    assert (facts.macs, facts.input, facts.classes) == (counts["at"]["1024x512"]["MAC"], (512, 1024), 19)


@pytest.mark.parametrize(
    ("name", "classes"),
    [
        *((name, 11) for name in GOLDEN),
        *(pytest.param(name, 19, marks=slow) for name in SECOND),
        *(pytest.param(name, 11, marks=slow) for name in LARGE),
    ],
)
def test_counts_are_the_authors(name, classes):
    counts = read_counts(f"{name}/C{classes}")
    with torch.device("meta"):
        net, headed = create_model(name, classes).eval(), create_model(name, classes, heads=True)
    assert sum(each.numel() for each in net.parameters()) == counts["params"]["total"]
    assert sum(each.numel() for each in headed.parameters()) == counts["params"]["with_heads"]
    norms = [each for each in net.modules() if isinstance(each, nn.BatchNorm2d)]
    assert sum(each.numel() for norm in norms for each in norm.parameters()) == counts["params"]["bn_affine"]
    for size in counts["at"]:
        width, height = map(int, size.split("x"))
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            logits = net.logits(torch.empty(1, 3, height, width, device="meta"))
        assert list(logits.shape) == counts["at"][size]["out"]
        assert counter.get_total_flops() == 2 * counts["at"][size]["MAC"]


@pytest.mark.parametrize("name", [*GOLDEN, *(pytest.param(name, marks=slow) for name in LARGE)])
def test_a_training_step_is_that_of_a_second_writing(name):
    with torch.device("meta"):
        net = create_model(name, 5, heads=True)
    shapes = {key: list(value.shape) for key, value in net.state_dict().items()}
    ours, theirs = (
        {key: value.double() if value.is_floating_point() else value for key, value in filled(shapes, 1.2).items()}
        for _ in range(2)
    )
    net.load_state_dict(ours, assign=True)
    learned = [key for key, _ in net.named_parameters()]
    for key in learned:
        theirs[key].requires_grad_()
    image = torch.cat([picture(64, 72), picture(72, 64).mT]).double()
    ours_out, theirs_out = net.train().with_heads(image), SECOND[name](theirs, image)
    losses = []
    for main, heads in (ours_out, theirs_out):
        assert heads.keys() == set(net.heads)
        losses.append(weighed(main, 0) + sum(weighed(heads[head], place) for place, head in enumerate(net.heads, 1)))
        losses[-1].backward()
    assert losses[0].item() == pytest.approx(losses[1].item(), rel=1e-12)
    sizes = {key: theirs[key].grad.abs().max().item() for key in learned}
    shifts = {key for key, size in sizes.items() if size < 1e-6}  # which a batch-norm takes off again: rounding is left
    assert len(shifts) <= 8
    assert all(key.endswith("bias") for key in shifts), shifts
    for key, parameter in net.named_parameters():
        near = {"rtol": 0, "atol": 1e-10 * max(1, sizes[key])}
        torch.testing.assert_close(parameter.grad, theirs[key].grad, **near, msg=key)
    for key, value in net.named_buffers():
        if not key.endswith("num_batches_tracked"):
            torch.testing.assert_close(value, theirs[key], rtol=0, atol=1e-12, msg=key)


@pytest.mark.parametrize("name", SECOND)
def test_its_convolutions_can_be_grouped(name):
    groups = {"groups": 4, "kinds": ["pointwise", "spatial"], "channels": 64}
    with torch.device("meta"):
        net, grouped = create_model(name, 3).eval(), create_model(name, 3, grouped=groups).eval()
        image = torch.empty(1, 3, 32, 64)
    before, after = (sum(each.numel() for each in one.parameters()) for one in (net, grouped))
    assert after < 0.45 * before
    assert grouped(image).shape == (1, 3, 32, 64)
    assert (net.spp.compression[2].groups, grouped.spp.compression[2].groups) == (1, 4)


def weighed(output: Tensor, place: int) -> Tensor:
    """A loss of which every logit has another share."""
    return (output * torch.linspace(-1, 1 + place, output.numel(), dtype=output.dtype).view_as(output)).sum()


# single mistakes: each takes a whole network and what pytest patches with, and makes it wrong


def corners_aligned_inside(net: SegmentationNet, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(ddrnet, "resize", lambda features, size, align_corners: resize(features, size, True))


def another_eps(net: SegmentationNet, patch: pytest.MonkeyPatch) -> None:
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps = 1e-3


def padding_left_out(net: SegmentationNet, patch: pytest.MonkeyPatch) -> None:
    for module in net.modules():
        if isinstance(module, nn.AvgPool2d):
            module.count_include_pad = False


def fused_after_the_sum(net: SegmentationNet, patch: pytest.MonkeyPatch) -> None:
    def fuse(high: Tensor, low: Tensor, compress: nn.Module, down: nn.Module) -> tuple[Tensor, Tensor]:
        low = low + down(F.relu(high))
        return high + ddrnet.enlarge(compress(F.relu(low)), high), low

    patch.setattr(net, "_fuse", fuse)


def rectified(*names: str) -> Callable[[SegmentationNet, pytest.MonkeyPatch], None]:
    def make(net: SegmentationNet, patch: pytest.MonkeyPatch) -> None:
        for name in names:
            net.get_submodule(name).end = nn.ReLU()

    return make


def without_the_chain(net: SegmentationNet, patch: pytest.MonkeyPatch) -> None:
    pyramid = net.spp
    processes = (pyramid.process1, pyramid.process2, pyramid.process3, pyramid.process4)

    def merge(fine: Tensor, averages: list[Tensor]) -> list[Tensor]:
        return [fine, *(process(average + fine) for process, average in zip(processes, averages, strict=True))]

    patch.setattr(pyramid, "merge", merge)


def as_a_chain(net: SegmentationNet, patch: pytest.MonkeyPatch) -> None:
    def merge(fine: Tensor, averages: list[Tensor]) -> list[Tensor]:
        chain = [fine]
        for average in averages:
            chain.append(average + chain[-1])
        return [fine, net.spp.scale_process(torch.cat(chain[1:], dim=1))]

    patch.setattr(net.spp, "merge", merge)


def guided_by_rectified_maps(net: SegmentationNet, patch: pytest.MonkeyPatch) -> None:
    for pag in (net.pag3, net.pag4):
        pag.register_forward_pre_hook(lambda module, maps: tuple(map(F.relu, maps)))


def p_and_i_exchanged(net: SegmentationNet, patch: pytest.MonkeyPatch) -> None:
    net.dfm.register_forward_pre_hook(lambda module, maps: (maps[1], maps[0], maps[2]))


def heads_before_the_relu(net: SegmentationNet, patch: pytest.MonkeyPatch) -> None:
    seen: dict[str, Tensor] = {}
    for name in ("pag3", "layer4_d", "diff4"):
        net.get_submodule(name).register_forward_hook(
            lambda module, inputs, output, name=name: seen.update({name: output})
        )
    net.seghead_p.register_forward_pre_hook(lambda module, inputs: seen["pag3"])
    net.seghead_d.register_forward_pre_hook(
        lambda module, inputs: seen["layer4_d"] + ddrnet.enlarge(seen["diff4"], seen["layer4_d"])
    )


STAGES = ("layer1.1", "layer2.1", "layer3.1", "layer4.1", "layer3_.1", "layer4_.1")
BOTH = {
    "align_corners True inside": corners_aligned_inside,
    "BN eps 1e-3": another_eps,
    "pyramid pools without their padding in the mean": padding_left_out,
}
MISTAKES = {
    "ddrnet_23_slim": BOTH
    | {
        "fusion reads the map after the sum (a3, a4)": fused_after_the_sum,
        "every stage ends with ReLU": rectified(*STAGES),
        "bottlenecks end with ReLU": rectified("layer5.0", "layer5_.0"),
        "DAPPM without the chain": without_the_chain,
    },
    "pidnet_s": BOTH
    | {
        "ReLU between the two bottlenecks of layer5": rectified("layer5.0"),
        "Pag on rectified maps": guided_by_rectified_maps,
        "Bag with p and i exchanged": p_and_i_exchanged,
        "PAPPM as a chain": as_a_chain,
        "layer3_d ends with ReLU": rectified("layer3_d"),
        "heads on maps that are not rectified (head_cases)": heads_before_the_relu,
    },
}


@pytest.mark.parametrize(
    ("name", "mistake"), [(name, mistake) for name, mistakes in MISTAKES.items() for mistake in mistakes]
)
def test_a_single_mistake_shows(name, mistake, states, monkeypatch):
    golden, net = read_golden(name), golden_net(name, states)
    MISTAKES[name][mistake](net, monkeypatch)
    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        check_outputs(net, golden, "float32", [SMALL_SIZE])
    with torch.no_grad():
        logits, heads = net.with_heads(picture(72, 104))
    if "heads" in mistake:
        cost = max(deviation(heads[head], golden["heads"][head][SMALL_SIZE]) for head in net.heads)
    else:
        cost = deviation(logits, golden["cases"][SMALL_SIZE])
    expected = read_mistakes(name)[mistake][0]  # the reference made this very mistake: it costs as much
    assert cost == pytest.approx(expected, rel=0.06), mistake


@pytest.mark.parametrize("name", GOLDEN)
def test_no_mistake_of_the_reference_is_left_out(name):
    assert MISTAKES[name].keys() == read_mistakes(name).keys()
