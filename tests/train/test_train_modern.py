"""Heads and teachers help a network to learn, and are no part of what is saved."""

import dataclasses

import pytest
import torch

import kerbseg.models as models
from kerbseg.bundle import load, read_card, save
from kerbseg.core.errors import BundleError, RecipeError
from kerbseg.core.labels import label_set
from kerbseg.core.normalize import Normalize
from kerbseg.core.types import Preprocessing
from kerbseg.losses import at_scores, cross_entropy, distillation
from kerbseg.models.mininet import PREPROCESSING
from kerbseg.regroup import random_bundle
from kerbseg.train.auxiliary import AuxiliaryLoss
from kerbseg.train.builders import check_compilable, network_loss, pixel_loss, trained_with
from kerbseg.train.distill import Distilled, teacher
from kerbseg.train.fit import fit
from kerbseg.train.optim import parameter_groups
from kerbseg.train.recipe import AuxHead, Boundary, Distill, Loss, Ohem, ParamGroup, read

TINY = ("epochs=2", "batch_size=2", "data.size=[64, 128]", "data.limit=4", "augment.progressive=[]", "validate_every=1")


@pytest.fixture
def net() -> torch.nn.Module:
    torch.manual_seed(0)
    return models.create_model("mininet_v2_cpu", 11, dropout=0.0)


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(1)
    return torch.rand(2, 3, 32, 64, generator=draw), torch.randint(0, 11, (2, 32, 64), generator=draw).to(torch.uint8)


@pytest.fixture
def bundle_path(tmp_path):
    """A network of another family than the pupil's, with CamVid's classes."""
    torch.manual_seed(3)
    path = tmp_path / "teacher.safetensors"
    save(random_bundle("liteseg_shufflenet", label_set("camvid")), path)
    return path


plain = network_loss(pixel_loss(Loss(), None), "picture")


def test_a_head_adds_its_loss_at_its_own_resolution(net):
    image, mask = batch()
    both = AuxiliaryLoss(plain, pixel_loss(Loss(), None), net, [AuxHead("features", weight=0.5)], 11)
    features = net.features(net.downsample(image))
    logits = both.heads[0](features)
    assert logits.shape == (2, 11, 4, 8)
    expected = plain(net, image, mask) + 0.5 * cross_entropy(logits, at_scores(mask, (4, 8)))
    assert torch.isclose(both(net, image, mask), expected, rtol=1e-4)


def test_a_head_reaches_the_network_before_it_and_no_other_part(net):
    image, mask = batch()
    both = AuxiliaryLoss(
        lambda net, image, mask: net(image).sum() * 0, pixel_loss(Loss(), None), net, [AuxHead("features")], 11
    )
    both(net, image, mask).backward()
    assert net.features[0].conv.weight.grad.abs().max() > 0
    assert net.output.weight.grad.abs().max() == 0
    assert all(parameter.grad.abs().max() > 0 for parameter in both.heads.parameters())
    assert not net._forward_hooks
    assert not net.features._forward_hooks


def test_heads_train_at_the_rate_of_the_rest(net):
    both = AuxiliaryLoss(plain, pixel_loss(Loss(), None), net, [AuxHead("features")], 11)
    rest, part = parameter_groups(net, [ParamGroup("downsample.", 1e-9)], trained_with(both))
    heads = {id(parameter) for parameter in both.parameters()}
    assert heads
    assert heads <= {id(parameter) for parameter in rest["params"]}
    assert not heads & {id(parameter) for parameter in part["params"]}
    assert trained_with(plain) == []


@pytest.mark.parametrize(("at", "names"), [("feature", "'features'"), ("", "''")])
def test_a_head_where_nothing_is_is_refused(net, at, names):
    with pytest.raises(RecipeError, match=names):
        AuxiliaryLoss(plain, pixel_loss(Loss(), None), net, [AuxHead(at)], 11)


def test_a_teacher_sees_what_it_was_trained_on(bundle_path):
    image, _ = batch()
    bundle = load(bundle_path)
    known = teacher(Distill(str(bundle_path)), label_set("camvid"), PREPROCESSING)
    expected = bundle.model(Normalize(bundle.card.preprocessing)(image))
    found = known(Normalize(PREPROCESSING)(image))
    assert torch.allclose(found, expected, atol=1e-4)
    assert not found.requires_grad


def test_preprocessing_can_be_undone():
    image, _ = batch()
    for settings in (PREPROCESSING, Preprocessing(mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6))):
        normalize = Normalize(settings)
        assert torch.allclose(normalize.undo(normalize(image)), image, atol=1e-6)


def test_distillation_adds_the_divergence_and_leaves_the_teacher_still(net, bundle_path):
    image, mask = batch()
    settings = Distill(str(bundle_path), weight=0.25, temperature=3.0)
    known = teacher(settings, label_set("camvid"), PREPROCESSING)
    taught = Distilled(plain, known, settings)
    expected = plain(net, image, mask) + 0.25 * distillation(net(image), known(image), mask, 3.0)
    loss = taught(net, image, mask)
    assert torch.isclose(loss, expected, rtol=1e-4)
    loss.backward()
    assert trained_with(taught) == []
    assert taught.state_dict() == {}
    before = load(bundle_path).model.state_dict()
    assert all(torch.equal(value, before[key]) for key, value in known._net.state_dict().items())


def test_a_teacher_of_other_classes_is_refused_in_one_line(tmp_path):
    path = tmp_path / "city.safetensors"
    save(random_bundle("mininet_v2_cpu", label_set("cityscapes")), path)
    with pytest.raises(RecipeError, match=r"19 classes of 'cityscapes'.*11 of 'camvid'") as caught:
        teacher(Distill(str(path)), label_set("camvid"), PREPROCESSING)
    assert "\n" not in str(caught.value)
    with pytest.raises(BundleError, match="does not exist"):
        teacher(Distill(str(tmp_path / "none.safetensors")), label_set("camvid"), PREPROCESSING)


def test_terms_of_the_loss_add_up():
    draw = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 11, 16, 16, generator=draw)
    mask = torch.randint(0, 2, (2, 16, 16), generator=draw).to(torch.uint8)
    found = {
        name: pixel_loss(loss, None)(logits, mask)
        for name, loss in {
            "plain": Loss(),
            "boundary": Loss(boundary=Boundary(weight=2.0, radius=1)),
            "lovasz": Loss(lovasz=0.5),
            "both": Loss(boundary=Boundary(weight=2.0, radius=1), lovasz=0.5),
            "hard": Loss(ohem=Ohem(threshold=0.05, min_kept=0.1)),
        }.items()
    }
    assert found["boundary"] > found["plain"]
    assert found["lovasz"] > found["plain"]
    assert found["hard"] > found["plain"]  # the mean of the hard pixels' losses
    assert torch.isclose(found["both"] - found["plain"], found["boundary"] + found["lovasz"] - 2 * found["plain"])


def test_what_helps_in_training_is_not_in_the_bundle_and_resumes(tmp_path):
    teacher_recipe = read("smoke/scenes", [*TINY, "epochs=1"])
    fit(teacher_recipe, tmp_path / "teacher", device="cpu")
    overrides = [
        *TINY,
        "ema=0.9",
        "auxiliary=[{at: features}]",
        f"distill={{teacher: {tmp_path / 'teacher' / 'best.safetensors'}}}",
        "loss.ohem={}",
        "loss.boundary={}",
        "loss.lovasz=0.5",
    ]
    recipe = read("smoke/scenes", overrides)
    fit(recipe, tmp_path / "run", device="cpu")
    for name in ("best", "last"):
        bundle = load(tmp_path / "run" / f"{name}.safetensors")
        alone = models.create_model(bundle.card.model, bundle.card.outputs, **bundle.card.options)
        assert bundle.model.state_dict().keys() == alone.state_dict().keys()
    card = read_card(tmp_path / "run" / "best.safetensors")
    plain_card = read_card(tmp_path / "teacher" / "best.safetensors")
    assert (card.model, card.options, card.outputs) == (plain_card.model, plain_card.options, plain_card.outputs)
    checkpoint = torch.load(tmp_path / "run" / "last.ckpt", weights_only=False)
    assert any("heads" in key for key in checkpoint["state_dict"])  # lest a resumed run begin its heads anew
    assert not any("teacher" in key for key in checkpoint["state_dict"])
    again = fit(recipe, tmp_path / "run", resume=True, device="cpu")  # nothing is left to do, and all is found
    assert again.card == card


def test_distillation_needs_scores_at_the_pictures_size(tmp_path, bundle_path):
    recipe = read("smoke/scenes", [*TINY, f"distill={{teacher: {bundle_path}}}", "loss.at=scores"])
    with pytest.raises(RecipeError, match=r"loss\.at=scores"):
        fit(recipe, tmp_path / "run", device="cpu")
    assert dataclasses.replace(recipe, distill=None).loss.at == "scores"


@pytest.mark.parametrize(
    "more", ["auxiliary=[{at: features}]", "distill={teacher: teacher.safetensors}", "loss.at=scores"]
)
def test_what_looks_inside_a_network_does_not_go_with_compiling_it(more):
    with pytest.raises(RecipeError, match=more.partition("=")[0]):
        check_compilable(read("smoke/scenes", [more]))
    check_compilable(read("smoke/scenes"))
