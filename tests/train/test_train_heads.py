"""A network's own training heads: they train and resume with it, and nothing that is saved of it has them."""

from pathlib import Path

import pytest
import safetensors.torch
import torch
from cuts import StopAfter

import kerbseg.models as models
from kerbseg.bundle import load, random_bundle, read_card, save
from kerbseg.core.errors import RecipeError
from kerbseg.core.labels import label_set
from kerbseg.train.fit import fit
from kerbseg.train.heads import check_kinds, freeze_others, heads_of, without_heads
from kerbseg.train.initial import load_initial_weights
from kerbseg.train.matching import Target
from kerbseg.train.outputs import NetworkOutputs
from kerbseg.train.recipe import Recipe
from kerbseg.train.recipe_file import read, shipped
from kerbseg.train.recipe_sense import HEADS, check_names

TINY = ("batch_size=2", "data.limit=4", "data.size=[64, 128]", "augment={flip: 0.5, scale: [0.75, 1.5]}", "ema=0.9")
FAST = (
    *TINY,
    "data.limit=2",
    "data.size=[32, 64]",
    "model={name: fast_scnn}",
    "heads={aux_downsample: {}, aux_global: {}}",
    "validate_every=1",
)
BOUNDARIES = (
    *TINY,
    "model={name: pidnet_s}",
    "heads={seghead_p: {ohem: false, average: all}, seghead_d: {loss: boundary, threshold: 0.3}}",
    "loss={weights: median_frequency, power: 0.3, ohem: {rule: hrnet, min_kept: 500}}",
    "data.edges={border: 3}",
    "validate_every=1",
)


@pytest.fixture(scope="module")
def headed(tmp_path_factory) -> Path:
    """A finished run of a network with heads, whose weights were averaged."""
    run = tmp_path_factory.mktemp("heads") / "run"
    fit(read("smoke/scenes", [*FAST, "epochs=2"]), run, device="cpu")
    return run


def test_what_is_saved_has_neither_heads_nor_the_option(headed):
    for name in ("best", "last"):
        path = headed / f"{name}.safetensors"
        bundle = load(path)
        assert bundle.card.options == {}
        assert bundle.model.heads == ()
        assert safetensors.torch.load_file(path).keys() == models.create_model("fast_scnn").state_dict().keys()
    assert read_card(headed / "last.safetensors").recipe["heads"]["aux_global"]["weight"] == 0.4
    checkpoint = torch.load(headed / "last.ckpt", weights_only=True)
    for state in ("state_dict", "current_model_state"):  # averaged and current weights
        assert any(".aux_global." in key for key in checkpoint[state]), "a resumed run must not begin its heads anew"
    # the averaged weights are what is saved
    saved = load(headed / "last.safetensors").model.state_dict()
    averaged = {key.rpartition("outputs.net.")[2]: value for key, value in checkpoint["state_dict"].items()}
    for key, value in saved.items():
        assert torch.equal(value, averaged[key]), key


def ends_as_unbroken(overrides: list[str], whole: Path, cut: Path) -> None:
    recipe = read("smoke/scenes", overrides)
    with pytest.raises(InterruptedError):
        fit(recipe, cut, device="cpu", callbacks=[StopAfter(1)])
    fit(recipe, cut, device="cpu", resume=True)
    for name in ("best", "last"):
        expected, ours = (safetensors.torch.load_file(run / f"{name}.safetensors") for run in (whole, cut))
        assert expected.keys() == ours.keys()
        assert all(torch.equal(ours[key], value) for key, value in expected.items())
    for state in ("state_dict", "current_model_state"):
        expected, ours = (torch.load(run / "last.ckpt", weights_only=True)[state] for run in (whole, cut))
        assert expected.keys() == ours.keys()
        assert all(torch.equal(ours[key], value) for key, value in expected.items()), "heads too"


@pytest.mark.slow
def test_a_run_with_heads_that_is_cut_off_ends_as_an_unbroken_one(headed, tmp_path):
    ends_as_unbroken([*FAST, "epochs=2"], headed, tmp_path / "cut")


@pytest.mark.slow
def test_a_run_that_learns_boundaries_is_cut_off_and_ends_as_an_unbroken_one(tmp_path):
    overrides = [*BOUNDARIES, "epochs=2"]
    fit(read("smoke/scenes", overrides), tmp_path / "whole", device="cpu")
    assert not any(key.startswith("seghead") for key in load(tmp_path / "whole").model.state_dict())
    ends_as_unbroken(overrides, tmp_path / "whole", tmp_path / "cut")


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in shipped() if name.partition("/")[2] in HEADS])
def test_each_recipe_trains_an_epoch_of_a_few_pictures(name, tmp_path):
    few = ["epochs=1", "batch_size=2", "data.name=scenes", "data.limit=4", "data.val_size=null", "precision=float32"]
    few += ["data.size=[128, 256]", "augment.crop=[64, 128]", "augment.progressive=[]", "schedule={name: constant}"]
    run = fit(read(name, few), tmp_path / "run", device="cpu")
    assert run.card.options == {}
    assert all(torch.isfinite(value).all() for value in run.model.state_dict().values())


def test_the_heads_known_without_torch_are_those_of_the_networks():
    assert {name: heads for name in models.list_models() if (heads := heads_of(name, {}))} == HEADS


@pytest.mark.parametrize(
    ("recipe", "heads", "says"),
    [
        (
            "modern/pidnet_s",
            "{seghead_q: {}, seghead_d: {loss: boundary}}",
            "heads: 'pidnet_s' has no 'seghead_q'",
        ),
        ("modern/erfnet", "{seghead_p: {}}", "heads: 'erfnet' has no training heads of its own"),
    ],
)
def test_heads_that_a_network_does_not_have_are_refused_in_one_line(recipe, heads, says, tmp_path):
    wrong = read(recipe, [f"heads={heads}"])
    for look in (check_names, lambda recipe: fit(recipe, tmp_path / "run", device="cpu")):
        with pytest.raises(RecipeError) as caught:
            look(wrong)
        assert str(caught.value).startswith(says)
        assert "\n" not in str(caught.value)
    assert not list(tmp_path.glob("run/*"))


@pytest.mark.parametrize(
    ("heads", "says"),
    [
        (
            "{seghead_p: {}, seghead_d: {}}",
            "heads.seghead_d: it gives 1 channel, loss: pixel takes 5; say loss",
        ),
        (
            "{seghead_p: {loss: boundary}}",
            "heads.seghead_p: it gives 5 channels, loss: boundary takes 1; say",
        ),
    ],
)
def test_a_head_with_the_loss_of_another_kind_is_refused(heads, says):
    edges = ["data.edges={}"] if "boundary" in heads else []
    recipe = read("modern/erfnet", [f"heads={heads}", *edges])
    with pytest.raises(RecipeError) as caught:
        check_kinds(models.create_model("pidnet_s", 5, heads=True), recipe.heads, 5)
    assert str(caught.value).startswith(says)


def test_an_option_of_the_network_is_no_way_around_the_section():
    with pytest.raises(RecipeError, match=r"model\.options\.heads is set by the section heads"):
        read("modern/erfnet", ["model={name: fast_scnn, options: {heads: true}}"])


def test_heads_are_seen_by_their_names_and_no_head_changes_the_logits():
    recipe = read("modern/pidnet_s")
    assert isinstance(recipe, Recipe)
    torch.manual_seed(0)
    net = models.create_model("pidnet_s", 5, **recipe.network_options).eval()
    image = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        outputs = NetworkOutputs(net, list(recipe.heads)).of(image)
        plain = without_heads(net, models.create_model("pidnet_s", 5)).eval()
        assert torch.equal(plain.logits(image), outputs.logits)
        own, heads = net.with_heads(image)
    assert torch.equal(own, outputs.logits)
    assert {name: tuple(value.shape) for name, value in outputs.features.items()} == {
        "seghead_p": (2, 5, 8, 8),
        "seghead_d": (2, 1, 8, 8),
    }
    for name, value in heads.items():
        assert torch.equal(outputs.features[name], value)


def test_heads_that_no_loss_is_of_stand_still():
    net = models.create_model("fast_scnn", heads=True)
    freeze_others(net, read("modern/erfnet", ["heads={aux_global: {}}"]).heads)
    frozen = {name for name, parameter in net.named_parameters() if not parameter.requires_grad}
    assert frozen == {name for name, _ in net.named_parameters() if name.startswith("aux_downsample.")}


@pytest.fixture(scope="module")
def without(tmp_path_factory) -> Path:
    """A bundle of the network without heads."""
    path = tmp_path_factory.mktemp("without") / "fast.safetensors"
    save(random_bundle("fast_scnn", label_set("camvid"), seed=3), path)
    return path


@pytest.mark.parametrize("kind", ["bundle", "named", "ordered"])
def test_weights_without_heads_start_a_network_that_has_them(without, kind, tmp_path):
    given = load(without).model.state_dict()
    path = without
    if kind != "bundle":
        path = tmp_path / "theirs.pth"
        rename = {"named": str, "ordered": lambda key: f"theirs.{key}"}[kind]
        torch.save({rename(key): value for key, value in given.items()}, path)
    torch.manual_seed(1)
    net = models.create_model("fast_scnn", 11, heads=True)
    before = {key: value.clone() for key, value in net.state_dict().items()}
    target = Target.of(label_set("camvid").classes, lambda classes: models.create_model("fast_scnn", classes))
    start = load_initial_weights(net, path, "", target)
    for key, value in net.state_dict().items():
        expected = before[key] if key.startswith("aux_") else given[key]
        assert torch.equal(value, expected), key
    if kind != "ordered":
        assert set(start.fresh) == {"aux_downsample", "aux_global"}
        assert start.new == ()
