"""What of given weights starts a network: by names, shapes and the names of classes, never by position."""

from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import nn

import kerbseg.models as models
from kerbseg.bundle import Bundle, BundleCard, random_bundle, save
from kerbseg.core.errors import BundleError
from kerbseg.core.labels import LabelSet
from kerbseg.train.initial import load_initial_weights
from kerbseg.train.matching import Target
from kerbseg.train.start_cards import same_classes

SOURCE = ("road", "sky", "car", "pedestrian", "tree")
HEADS = {  # networks whose last layer differs in kind, and the weights that have a row a class
    "mininet_v2_cpu": {"output.weight": 1, "output.bias": 0},
    "erfnet": {"decoder.7.weight": 1, "decoder.7.bias": 0},
}


def labels(names: tuple[str, ...]) -> LabelSet:
    return LabelSet("own", names, tuple((i, 0, 0) for i in range(len(names))), {i: i for i in range(len(names))})


def bundle(path: Path, name: str = "mininet_v2_cpu", classes: tuple[str, ...] = SOURCE) -> nn.Module:
    made = random_bundle(name, labels(classes), seed=1)
    save(made, path)
    return made.model


def begun(path: Path, classes: tuple[str, ...], name: str = "mininet_v2_cpu"):
    torch.manual_seed(2)
    net = models.create_model(name, len(classes))
    before = {key: value.clone() for key, value in net.state_dict().items()}
    start = load_initial_weights(net, path, "", Target.of(classes, lambda k: models.create_model(name, k)))
    assert start is not None
    return net.state_dict(), before, start


@pytest.mark.parametrize("name", [name for name in models.list_models() if models.card(name).main])
def test_every_network_has_weights_with_a_row_a_class(name):
    target = Target.of(SOURCE, lambda k: models.create_model(name, k))
    with torch.device("meta"):
        shapes = {key: value.shape for key, value in models.create_model(name, 5).state_dict().items()}
        more = {key: value.shape for key, value in models.create_model(name, 9).state_dict().items()}
    assert target.axes or target.entangled
    growing = {key for key in shapes if shapes[key] != more.get(key)}
    assert growing <= {*target.axes, *target.entangled}
    assert target.axes.keys() <= growing


@pytest.mark.parametrize("name", HEADS)
def test_rows_are_taken_by_the_names_of_classes_and_not_by_their_order(name, tmp_path):
    source = bundle(tmp_path / "s.safetensors", name).state_dict()
    classes = ("car", "kerb", "road", "sky", "lawn")  # as many as the source has
    state, before, start = begun(tmp_path / "s.safetensors", classes, name)
    head = Target.of(classes, lambda k: models.create_model(name, k)).axes
    assert head
    for key, value in state.items():
        if key not in head:
            assert torch.equal(value, source[key]), key
            continue
        for row, other in ((0, 2), (2, 0), (3, 1)):
            assert torch.equal(value.select(head[key], row), source[key].select(head[key], other)), key
        for row in (1, 4):
            assert torch.equal(value.select(head[key], row), before[key].select(head[key], row)), key
    assert start.new == ("kerb", "lawn")
    assert start.line == "fresh: classifier head (2 of 5 classes are new: kerb, lawn)"


def test_the_same_classes_take_all_and_nothing_is_said(tmp_path):
    source = bundle(tmp_path / "s.safetensors").state_dict()
    state, _, start = begun(tmp_path / "s.safetensors", SOURCE)
    assert all(torch.equal(value, source[key]) for key, value in state.items())
    assert start.line == ""


@pytest.mark.parametrize("classes", [("sky", "road"), ("road", "kerb")])
def test_where_classes_have_no_rows_of_their_own_only_the_same_ones_are_taken(classes, tmp_path):
    source = bundle(tmp_path / "s.safetensors", "espnet", ("road", "sky")).state_dict()
    target = Target.of(classes, lambda k: models.create_model("espnet", k))
    assert target.entangled
    state, before, start = begun(tmp_path / "s.safetensors", classes, "espnet")
    for key, value in state.items():
        assert torch.equal(value, before[key] if key in target.entangled else source[key]), key
    assert start.new == classes
    state, _, start = begun(tmp_path / "s.safetensors", ("road", "sky"), "espnet")
    assert all(torch.equal(value, source[key]) for key, value in state.items())
    assert start.line == ""


def test_classes_without_one_known_begin_with_a_fresh_head(tmp_path):
    bundle(tmp_path / "s.safetensors")
    state, before, start = begun(tmp_path / "s.safetensors", ("a", "b", "c"))
    changed = {key for key in state if not torch.equal(state[key], before[key])}
    assert changed
    assert not [key for key in changed if key in ("output.weight", "output.bias")]
    assert start.new == ("a", "b", "c")


def test_layers_that_do_not_fit_stay_fresh_and_are_listed(tmp_path):
    source = bundle(tmp_path / "s.safetensors")
    state = {key: value for key, value in source.state_dict().items() if not key.startswith("refinement.")}
    safetensors.torch.save_file(state, tmp_path / "part.safetensors")
    _, _, start = begun(tmp_path / "part.safetensors", SOURCE)
    own = [key for key in source.state_dict() if key.startswith("refinement.")]
    count = sum(not key.endswith("num_batches_tracked") for key in own)  # counters are no weights
    assert start.line == f"fresh: refinement ({count} weights)"


def test_another_network_is_refused_in_one_line(tmp_path):
    bundle(tmp_path / "s.safetensors", "erfnet")
    net = models.create_model("mininet_v2_cpu", 5)
    before = {key: value.clone() for key, value in net.state_dict().items()}
    with pytest.raises(BundleError, match=r"s\.safetensors shares nothing with this network; is it another network"):
        load_initial_weights(net, tmp_path / "s.safetensors", "", Target())
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())


def test_whole_numbers_are_no_weights(tmp_path):
    state = bundle(tmp_path / "a.safetensors").state_dict()
    key = next(key for key, value in state.items() if value.ndim == 4)
    state[key] = (state[key] * 100).long()
    torch.save(state, tmp_path / "quantized.pth")
    with pytest.raises(BundleError, match=rf"quantized\.pth: '{key}' is torch\.int64, .*; give those from before"):
        begun(tmp_path / "quantized.pth", SOURCE)


def test_an_output_beyond_the_classes_is_no_class(tmp_path):
    made = random_bundle("mininet_v2_cpu", labels(("road", "sky")), seed=1)
    wide = models.create_model("mininet_v2_cpu", 3)
    card = BundleCard(**{**made.card.__dict__, "outputs": 3})
    save(Bundle(wide.eval(), card), tmp_path / "v.safetensors")
    state, before, start = begun(tmp_path / "v.safetensors", ("sky", "road", "kerb"))
    axis = Target.of(("a", "b", "c"), lambda k: models.create_model("mininet_v2_cpu", k)).axes["output.weight"]
    given = wide.state_dict()["output.weight"]
    assert torch.equal(state["output.weight"].select(axis, 0), given.select(axis, 1))
    assert torch.equal(state["output.weight"].select(axis, 2), before["output.weight"].select(axis, 2))
    assert start.new == ("kerb",)


def test_making_the_target_draws_no_random_number():
    torch.manual_seed(3)
    wanted = torch.rand(1)
    torch.manual_seed(3)
    Target.of(SOURCE, lambda k: models.create_model("mininet_v2_cpu", k))
    assert torch.equal(torch.rand(1), wanted)


def test_one_name_goes_before_another_for_the_same_thing():
    theirs = ("pedestrian", "Traffic Sign", "car", "vehicle")
    assert same_classes(("person", "traffic-sign", "vehicle", "car", "kerb"), theirs) == {
        "vehicle": "vehicle",
        "car": "car",
        "traffic-sign": "Traffic Sign",
        "person": "pedestrian",
    }
    assert same_classes(("person", "human"), theirs) == {"person": "pedestrian"}  # each of theirs once


@pytest.mark.parametrize(("ours", "theirs"), [("🚗", "🚌"), ("C++", "C#"), ("s", "--"), ("?", "+"), ("car", "tram")])
def test_names_that_differ_in_symbols_alone_are_two_things(ours, theirs):
    assert same_classes((ours,), (theirs,)) == {}
