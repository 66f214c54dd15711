"""Every registered network keeps its promises: card, gradients, classes, export, weights, and words for bad input."""

import copy
import json

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from kerbseg.cli import main
from kerbseg.core.errors import InputError, KerbsegError
from kerbseg.core.outline import outlines
from kerbseg.models import card, create_model, list_models, pad_to_stride, register
from kerbseg.models._input import check_input
from kinds import ghost, of_a_new_kind, slow_but_for

CLASSES = 2
ASKED = {  # what the five papers' tables report
    "erfnet", "erfnet_encoder",
    "erfnet_d_all", "erfnet_dg2_all", "erfnet_dg4_all", "erfnet_dg8_all", "erfnet_dg2s_all", "erfnet_dg4s_all",
    "erfnet_dg8s_all",
    "erfnet_d", "erfnet_dg2", "erfnet_dg4", "erfnet_dg8", "erfnet_dg2s", "erfnet_dg4s", "erfnet_dg8s",
    "erfnet_d_light", "erfnet_dg2_light", "erfnet_dg4_light",
    "mininet_v1", "mininet_v2", "mininet_v2_cpu", "mininet_erfnet_s", "mininet_erfnet_d", "mininet_v2_s",
    "mininet_v2_d", "mininet_v2_d_s",
    "mininet_v2_d_i", "mininet_v2_d_i_0", "mininet_v2_d_i_1", "mininet_v2_d_i_2", "mininet_v2_d_i_m",
    "liteseg_mobilenet_v2", "liteseg_mobilenet_v2_dense", "liteseg_mobilenet_v2_aspp",
    "liteseg_shufflenet", "liteseg_shufflenet_dense", "liteseg_shufflenet_aspp",
    "liteseg_darknet19", "liteseg_darknet19_dense", "liteseg_darknet19_aspp",
    "efficientseg", "efficientseg_1_5", "efficientseg_6_0", "unet_minicity", "enet", "segnet_basic", "espnet",
}  # fmt: skip
OTHERS = {"mininet_v2", "segnet_basic", "pidnet_s", "pp_liteseg_t"}  # with operations of their own in forward
EVERY = slow_but_for(of_a_new_kind())


def small(name: str) -> tuple[int, int]:
    """The smallest picture that is 64 wide and that the network takes."""
    return (max(32, card(name).stride), 64)


def sizes(name: str) -> list[tuple[int, int]]:
    """Two small sizes; the second is no multiple of 32 where the network's stride allows it."""
    height, width = small(name)
    return [(height, width), (height + card(name).stride, width)]


def picture(size: tuple[int, int], batch: int = 1) -> torch.Tensor:
    return torch.rand(batch, 3, *size, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module", params=EVERY)
def trained(request):
    """(name, network of two classes after a training step at each of two sizes)."""
    torch.manual_seed(0)
    net = create_model(request.param, CLASSES).train()
    for size in sizes(request.param):
        net.zero_grad()
        logits = net(picture(size, batch=2))
        assert logits.shape == (2, CLASSES, *size)
        logits.square().mean().backward()
        for key, parameter in net.named_parameters():
            assert parameter.grad is not None, f"{key} gets no gradient at {size}"
            assert parameter.grad.isfinite().all(), key
    return request.param, net


def test_every_network_of_the_papers_is_there():
    assert set(list_models()) >= ASKED


def test_the_command_line_lists_them_all(tmp_path, capsys):
    main(["models", "--all", "--json", str(tmp_path / "models.json")])
    rows = {row["name"]: row for row in json.loads((tmp_path / "models.json").read_text())}
    assert list(rows) == list_models()
    for name, row in rows.items():
        facts = card(name)
        assert (row["parameters"], row["macs"], tuple(row["input"])) == (facts.parameters, facts.macs, facts.input)
        assert row["parameters_with_heads"] == facts.parameters_with_heads
    shown = capsys.readouterr().out
    assert {line.split()[0] for line in shown.splitlines() if line.strip()} >= rows.keys()


@pytest.mark.parametrize("name", list_models())
def test_the_card_is_true(name):
    facts, net = card(name), ghost(name)
    assert sum(parameter.numel() for parameter in net.parameters()) == facts.parameters
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        logits = net(torch.empty(1, 3, *facts.input, device="meta"))
    assert counter.get_total_flops() == 2 * facts.macs
    assert logits.shape == (1, facts.classes, *facts.input)
    assert facts.summary.endswith(".") or facts.summary.endswith(")")
    assert facts.paper


@pytest.mark.parametrize("name", [name for name in list_models() if card(name).parameters_with_heads])
def test_training_heads_are_counted_and_leave_the_answer_alone(name):
    net = ghost(name)
    with outlines():
        headed = create_model(name, heads=True).eval()
    assert sum(parameter.numel() for parameter in headed.parameters()) == card(name).parameters_with_heads
    assert net.heads == ()
    assert headed.heads
    extra = headed.state_dict().keys() - net.state_dict().keys()
    assert {key for key in headed.state_dict() if key.startswith(tuple(f"{head}." for head in headed.heads))} == extra
    image = torch.empty(2, 3, *small(name), device="meta")
    alone, nothing = net.with_heads(image)
    logits, by_head = headed.with_heads(image)
    assert nothing == {}
    assert logits.shape == alone.shape == net.logits(image).shape
    assert tuple(by_head) == headed.heads
    assert all(each.ndim == 4 for each in by_head.values())
    assert not any(module._forward_hooks for module in headed.modules())


def test_a_network_without_training_heads_says_so():
    assert card("erfnet").parameters_with_heads is None
    assert create_model("erfnet").heads == ()
    with pytest.raises(KerbsegError, match="heads"):
        create_model("erfnet", heads=True)


@pytest.mark.parametrize("name", EVERY)
def test_any_number_of_classes(name):
    with torch.no_grad():
        assert ghost(name, 20)(torch.empty(1, 3, *small(name), device="meta")).shape == (1, 20, *small(name))


def test_learns_at_two_sizes_and_answers_alike_twice(trained):
    name, net = trained
    net.eval()
    with torch.no_grad():
        for size in sizes(name):
            image = picture(size)
            logits = net(image)
            assert torch.equal(net(image), logits)
            assert torch.equal(net.upsample(net.logits(image), size), logits)
            assert logits.isfinite().all()


def test_one_picture_at_a_time_trains_or_says_why_not(trained):
    name, net = trained
    net.train()
    if name.startswith(("liteseg_", "ddrnet_", "pidnet_", "pp_liteseg_", "fast_scnn")):
        with pytest.raises(InputError, match=r"cannot train on 1 picture.*batches of 2 or more, or eval\(\)"):
            net(picture(small(name)))
    else:
        net.zero_grad()
        net(picture(small(name))).square().mean().backward()
        assert all(parameter.grad.isfinite().all() for parameter in net.parameters())


def test_the_weights_fit_a_fresh_network_strictly(trained):
    name, net = trained
    state = net.state_dict()
    assert len({value.data_ptr() for value in state.values()}) == len(state), "two entries share memory"
    rebuilt = copy.deepcopy(ghost(name, CLASSES))
    rebuilt.load_state_dict(state, strict=True, assign=True)  # what is not in the state would stay without memory
    with torch.no_grad():
        assert torch.equal(rebuilt(picture(small(name))), net.eval()(picture(small(name))))
    with pytest.raises(RuntimeError, match="size mismatch"):
        ghost(name, 3).load_state_dict(state)


@pytest.mark.parametrize("training", [False, True])
def test_bad_input_is_refused_with_the_remedy(trained, training, shapes_unchecked):
    name, net = trained
    net.train(training)
    with pytest.raises(InputError, match=r"found \[2, 1, 32, 64\]; convert gray pictures to RGB"):
        net(torch.zeros(2, 1, 32, 64))
    with pytest.raises(InputError, match=r"found \[3, 32, 64\]"):
        net(torch.zeros(3, 32, 64))
    with pytest.raises(InputError, match=r"found torch.uint8; .*Predictor"):
        net(torch.zeros(2, 3, 32, 64, dtype=torch.uint8))
    for value in (torch.nan, torch.inf):
        image = picture(small(name), batch=2)
        image[1, 2, -1, -1] = value
        with pytest.raises(InputError, match="NaN or infinite values; check the picture"):
            net(image)
        with pytest.raises(InputError, match="NaN or infinite"), torch.no_grad():
            net(image)
    stride = card(name).stride
    if stride > 1:
        height, width = small(name)
        remedy = rf"{height + 1}x{width} .*stride {stride}; pad to {height + stride}x{width} .*Predictor"
        with pytest.raises(InputError, match=remedy):
            net(torch.zeros(2, 3, height + 1, width))


@pytest.mark.parametrize("size", [(1, 1), (1, 70), (33, 47)])
def test_any_picture_will_do_once_it_is_padded(trained, size):
    name, net = trained
    padded = pad_to_stride(picture(size), card(name).stride)
    assert torch.equal(padded[..., : size[0], : size[1]], picture(size))
    assert torch.equal(padded[..., -1, -1], picture(size)[..., -1, -1])
    with torch.no_grad():
        assert net.eval()(padded).isfinite().all()


@pytest.mark.parametrize("name", slow_but_for(of_a_new_kind(classes=False) | OTHERS))
def test_exports(name):
    torch.manual_seed(0)
    net, image = create_model(name, CLASSES).eval(), picture(small(name))
    with torch.no_grad():
        program = torch.export.export(net, (image,))
        torch.testing.assert_close(program.module()(image), net(image))


def test_looking_at_the_input_breaks_no_compiled_graph():
    def network(image: torch.Tensor) -> torch.Tensor:
        check_input(image, stride=8)
        return image.relu()

    compiled = torch.compile(network, backend="eager", fullgraph=True)  # fullgraph: a break is an error
    assert torch.equal(compiled(picture((32, 64))), picture((32, 64)))
    with pytest.raises(InputError, match="pad to 40x64"):
        network(picture((33, 64)))


def test_a_half_precision_picture_of_many_bright_pixels_is_not_taken_for_infinite():
    image = torch.ones(1, 3, 256, 256, dtype=torch.float16)
    assert not image.sum().isfinite()
    with torch.no_grad():
        assert create_model("mininet_v2_cpu", 2).eval().half()(image).shape == (1, 2, 256, 256)


def test_a_wrong_name_or_option_is_told_with_the_nearest():
    with pytest.raises(KerbsegError, match="unknown model 'mininet'; did you mean 'mininet_v2'"):
        create_model("mininet")
    with pytest.raises(KerbsegError, match=r"erfnet.*depth"):
        create_model("erfnet", depth=3)


def test_a_name_is_registered_once_and_explained():
    def erfnet(classes: int) -> nn.Module:
        """Another."""
        return nn.Identity()

    def unexplained(classes: int) -> nn.Module:
        return nn.Identity()

    facts = {"paper": "none", "parameters": 0, "macs": 0, "input": (8, 8), "stride": 1}
    with pytest.raises(ValueError, match="'erfnet' is registered twice"):
        register(**facts)(erfnet)
    with pytest.raises(ValueError, match="'unexplained' has no docstring"):
        register(**facts)(unexplained)
