"""Heads and teachers help a network to learn, and are no part of what is saved."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from cuts import StopAfter
from lightning.pytorch.callbacks import Callback
from PIL import Image

import kerbseg.models as models
from kerbseg.bundle import Bundle, load, random_bundle, read_card, save
from kerbseg.core.errors import BundleError, DataError, RecipeError
from kerbseg.core.labels import label_set
from kerbseg.core.normalize import Normalize
from kerbseg.core.resize import resize_ids
from kerbseg.core.types import Preprocessing
from kerbseg.data import open_dataset
from kerbseg.losses import cross_entropy, distillation, lovasz_softmax, mask_at
from kerbseg.models.mininet import PREPROCESSING
from kerbseg.runtime import segment
from kerbseg.runtime.torch import TorchRuntime
from kerbseg.train.auxiliary import AuxiliaryLoss
from kerbseg.train.builders import check_one_picture, output_count
from kerbseg.train.distill import DistillationLoss, Teacher, agreed, teachers
from kerbseg.train.fit import fit
from kerbseg.train.matching import Target, match
from kerbseg.train.network_loss import NetworkLoss, build_loss, loss_terms
from kerbseg.train.optim import parameter_groups
from kerbseg.train.outputs import NetworkOutputs
from kerbseg.train.pixel_loss import pixel_loss
from kerbseg.train.recipe import Distill, Model
from kerbseg.train.recipe_file import read
from kerbseg.train.recipe_loss import AuxHead, Boundary, Lovasz, Ohem, PlainLoss
from kerbseg.train.recipe_optim import ParamGroup
from kerbseg.train.run import train

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


PIXELS = pixel_loss(PlainLoss(), None)


def loss_of(net, image, mask, auxiliary=None, taught=None, loss=None):
    """What a recipe with these parts compares, on one batch."""
    names = [] if auxiliary is None else [head.at for head in auxiliary._settings]
    whole = NetworkLoss(loss_terms(loss or PlainLoss(), None), auxiliary, taught)
    return whole(NetworkOutputs(net, names).of(image), image, mask)


def test_a_head_adds_its_loss_at_its_own_resolution(net):
    image, mask = batch()
    heads = AuxiliaryLoss(PIXELS, net, [AuxHead("features", weight=0.5)], 11)
    features = net.features(net.downsample(image))
    logits = heads.heads[0](features)
    assert logits.shape == (2, 11, 4, 8)
    expected = cross_entropy(net(image), mask) + 0.5 * cross_entropy(logits, mask_at(mask, (4, 8)))
    assert torch.isclose(loss_of(net, image, mask, heads), expected, rtol=1e-4)


def test_outputs_beyond_the_classes_are_in_the_softmax_and_no_target(bundle_path):
    """As the twentieth of ERFNet's and EfficientSeg's authors."""
    image, mask = batch()
    net = models.create_model("mininet_v2_cpu", 14, dropout=0.0)
    split = SimpleNamespace(labels=label_set("camvid"))
    loss = {"weights": "list", "values": [1.0, 2.0] + [1.0] * 9, "average": "weights"}
    recipe = read("camvid/mininet_v2_cpu", [f"loss={loss}", "auxiliary=[{at: features}]"])
    heads = build_loss(recipe, net, split, outputs=14)
    logits = net(image)
    picked = logits.log_softmax(1).gather(1, mask[:, None].long())[:, 0]  # over all 14
    weights = torch.where(mask == 1, 2.0, 1.0)
    outputs = NetworkOutputs(net, ["features"]).of(image)
    added = heads.auxiliary(outputs.features, mask)[0]
    assert heads.auxiliary.heads[0][-1].out_channels == 14
    assert torch.isclose(heads(outputs, image, mask), added - (picked * weights).sum() / weights.sum(), rtol=1e-4)
    # a teacher knows nothing of them
    settings = Distill(teacher=(str(bundle_path),))
    taught = DistillationLoss(teachers(settings, label_set("camvid"), PREPROCESSING), settings)
    before = taught(NetworkOutputs(net).of(image), image, mask)
    with torch.no_grad():
        net.output.bias[11:] += 5
    assert torch.isclose(taught(NetworkOutputs(net).of(image), image, mask), before, rtol=1e-5)


def test_rows_of_classes_start_a_network_with_outputs_beyond_them():
    classes, known = ("road", "sky", "car"), ("car", "tree", "road", "sky", "bus")
    target = Target.of(classes, lambda outputs: models.create_model("mininet_v2_cpu", outputs), besides=2)
    own, given = (models.create_model("mininet_v2_cpu", outputs).state_dict() for outputs in (5, 6))
    state, start = match(own, given, target, known, "weights")
    assert start.new == ()
    for ours, theirs in enumerate((2, 3, 0)):
        assert torch.equal(state["output.weight"][:, ours], given["output.weight"][:, theirs])
    assert torch.equal(state["output.weight"][:, 3:], own["output.weight"][:, 3:])


@pytest.mark.slow
def test_a_network_with_outputs_beyond_the_classes_is_trained_and_they_never_win(tmp_path):
    run = train(read("smoke/scenes", [*TINY, "epochs=1", "model.outputs=24"]), tmp_path / "run", device="cpu")
    bundle = load(run)
    assert (bundle.card.outputs, len(bundle.card.labels)) == (24, 19)
    bundle.model.output.bias.data[19:] += 1000
    ids = TorchRuntime(bundle)(torch.randint(0, 256, (1, 64, 128, 3), dtype=torch.uint8).numpy())
    assert ids.max() < 19


@pytest.mark.parametrize(
    ("pictures", "batch_size", "told"),
    [
        (9, 4, r"^an epoch ends with a batch of 1 picture: LiteSeg cannot .*; set drop_last=true$"),
        (9, 1, r"^each batch is 1 picture: LiteSeg cannot .*; set batch_size=2 or more$"),
        (1, 1, r"^there is 1 training picture alone: LiteSeg cannot .*; add another, and set batch_size=2$"),
    ],
)
def test_a_network_that_cannot_train_on_one_picture_is_told_before_the_first_step(pictures, batch_size, told):
    check_one_picture(models.create_model("erfnet"), 8, pictures, batch_size)
    net = models.create_model("liteseg_shufflenet")
    with pytest.raises(RecipeError, match=told):
        check_one_picture(net, 32, pictures, batch_size)
    assert net.training


def alone(root):
    """A data set of which one picture is for training, and one for validation."""
    generator = np.random.default_rng(0)
    for split in ("train", "val"):
        for folder, pixels in (("images", generator.integers(0, 256, (64, 96, 3))), ("masks", np.eye(64, 96))):
            (root / folder / split).mkdir(parents=True)
            Image.fromarray(pixels.astype(np.uint8)).save(root / folder / split / "a.png")
    classes = "classes:\n- {name: a, color: [0, 0, 0], ids: [0]}\n- {name: b, color: [255, 0, 0], ids: [1]}\n"
    (root / "dataset.yaml").write_text(classes)
    return ["data.name=folder", "epochs=1", "model.options={}"]


def test_one_picture_alone_is_trained_on_or_refused_in_one_line(tmp_path):
    root = tmp_path / "one"
    words = alone(root)
    with pytest.raises(DataError, match="1 training picture is fewer than batch_size=8; lower batch_size, or add"):
        train(read("smoke/scenes", words), tmp_path / "run", data_root=root, device="cpu")
    lite = [*words, "batch_size=1", "model.name=liteseg_shufflenet"]
    with pytest.raises(RecipeError, match="alone: its batch-norm would average over a single value; add another"):
        train(read("smoke/scenes", lite), tmp_path / "run", data_root=root, device="cpu")
    assert not (tmp_path / "run").exists()
    trained = load(
        train(read("smoke/scenes", [*words, "batch_size=1"]), tmp_path / "run", data_root=root, device="cpu")
    )
    assert all(weights.isfinite().all() for weights in trained.model.parameters())


def test_fewer_outputs_than_classes_are_refused():
    with pytest.raises(RecipeError, match=r"model\.outputs=18 is less than the 19 classes"):
        output_count(Model("erfnet", outputs=18), 19)
    assert output_count(Model("erfnet"), 19) == 19


@pytest.mark.slow
def test_validation_has_a_size_and_a_part_of_its_own_and_the_card_says_how(tmp_path):
    overrides = [*TINY, "epochs=1", "data.size=null", "data.val_size=[96, 192]", "data.val_crop=[64, 96]"]
    overrides += ["data.resample=lanczos", "augment.resample=lanczos", "augment.scale_of=[96, 192]"]
    best = train(read("smoke/scenes", [*overrides, "augment.crop=[64, 128]"]), tmp_path / "run", device="cpu")
    card = read_card(best)
    assert (card.input_size, card.resample) == ((96, 192), "lanczos")
    assert card.scores["protocol"]["label_size"] == [64, 96]
    assert card.scores["protocol"]["part"] == "center"
    picture = open_dataset("scenes", "val")[0].image
    runtime = TorchRuntime(load(best))
    small = np.array(Image.fromarray(picture).resize((192, 96), Image.Resampling.LANCZOS))
    assert np.array_equal(segment(runtime, picture), resize_ids(runtime(small[None])[0], picture.shape[:2]))


def test_a_head_reaches_the_network_before_it_and_no_other_part(net):
    image, mask = batch()
    heads = AuxiliaryLoss(PIXELS, net, [AuxHead("features")], 11)
    features = NetworkOutputs(net, ["features"]).of(image).features
    sum(heads(features, mask)).backward()
    assert net.features[0].conv.weight.grad.abs().max() > 0
    assert net.output.weight.grad is None
    assert all(parameter.grad.abs().max() > 0 for parameter in heads.parameters())


def test_logits_are_compared_where_the_recipe_says(net):
    image, mask = batch()
    logits = net.logits(image)
    assert logits.shape[-2:] != image.shape[-2:]
    coarse = cross_entropy(logits, mask_at(mask, (logits.shape[-2], logits.shape[-1])))
    assert torch.isclose(loss_of(net, image, mask, loss=PlainLoss(at="logits")), coarse)
    assert torch.isclose(loss_of(net, image, mask), cross_entropy(net(image), mask))


def test_the_lovasz_loss_begins_where_its_stretch_does_and_compares_where_it_says(net):
    image, mask = batch()
    loss = PlainLoss(lovasz=Lovasz(0.5, start=0.8, at="logits"))
    whole = NetworkLoss(loss_terms(loss, None), epochs=10)
    outputs = NetworkOutputs(net).of(image)
    plain = cross_entropy(outputs.upsampled, mask)
    size = (outputs.logits.shape[-2], outputs.logits.shape[-1])
    added = 0.5 * lovasz_softmax(outputs.logits, mask_at(mask, size))
    assert added > 0
    for epoch, expected in {0: plain, 7: plain, 8: plain + added, 9: plain + added}.items():
        assert torch.isclose(whole(outputs, image, mask, epoch), expected), epoch


def test_heads_train_at_the_rate_of_the_rest(net):
    heads = AuxiliaryLoss(PIXELS, net, [AuxHead("features")], 11)
    whole = NetworkLoss([(PIXELS, "picture")], heads)
    rest, part = parameter_groups(net, [ParamGroup("downsample.", 1e-9)], whole.parameters())
    own = {id(parameter) for parameter in heads.parameters()}
    assert own
    assert own <= {id(parameter) for parameter in rest["params"]}
    assert not own & {id(parameter) for parameter in part["params"]}
    assert list(NetworkLoss([(PIXELS, "picture")]).parameters()) == []


@pytest.mark.parametrize(("at", "names"), [("feature", "'features'"), ("", "''")])
def test_a_head_where_nothing_is_is_refused(net, at, names):
    with pytest.raises(RecipeError, match=names):
        AuxiliaryLoss(PIXELS, net, [AuxHead(at)], 11)


def test_a_teacher_sees_what_it_was_trained_on(bundle_path):
    image, _ = batch()
    bundle = load(bundle_path)
    (known,) = teachers(Distill(str(bundle_path)), label_set("camvid"), PREPROCESSING)
    expected = bundle.model(Normalize(bundle.card.preprocessing)(image))
    logits = known(Normalize(PREPROCESSING)(image))
    assert torch.allclose(logits, expected, atol=1e-4)
    assert not logits.requires_grad


def test_preprocessing_can_be_undone():
    image, _ = batch()
    for settings in (PREPROCESSING, Preprocessing(mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6))):
        normalize = Normalize(settings)
        assert torch.allclose(normalize.undo(normalize(image)), image, atol=1e-6)


def test_distillation_adds_the_divergence_and_leaves_the_teacher_still(net, bundle_path):
    image, mask = batch()
    settings = Distill(str(bundle_path), weight=0.25, temperature=3.0)
    (known,) = teachers(settings, label_set("camvid"), PREPROCESSING)
    taught = DistillationLoss([known], settings)
    expected = cross_entropy(net(image), mask) + 0.25 * distillation(net(image), known(image), mask, 3.0)
    loss = loss_of(net, image, mask, taught=taught)
    assert torch.isclose(loss, expected, rtol=1e-4)
    loss.backward()
    assert taught.state_dict() == {}
    before = load(bundle_path).model.state_dict()
    assert all(torch.equal(value, before[key]) for key, value in known._net.state_dict().items())


def test_several_teachers_agree_on_the_mean_of_their_softened_probabilities():
    draw = torch.Generator().manual_seed(0)
    several = [3 * torch.randn(2, 11, 4, 4, generator=draw) for _ in range(3)]
    mean = torch.stack([(logits / 2).softmax(1) for logits in several]).mean(0)
    assert torch.allclose((agreed(several, 2.0) / 2).softmax(1), mean, atol=1e-6)
    assert agreed(several[:1], 2.0) is several[0]


@pytest.mark.parametrize("at", ["picture", "logits"])
def test_teachers_are_followed_at_either_size(net, bundle_path, at):
    """A teacher that is the network itself teaches it nothing; others are brought to the size of its logits."""
    image, mask = batch()
    net.eval()
    outputs = NetworkOutputs(net).of(image)
    settings = Distill((str(bundle_path), str(bundle_path)), at=at)
    labels = label_set("camvid")
    own = Teacher(Bundle(net, random_bundle("mininet_v2_cpu", labels).card), PREPROCESSING)
    assert DistillationLoss([own, own], settings)(outputs, image, mask).abs() < 1e-5
    others = teachers(settings, labels, PREPROCESSING)
    assert DistillationLoss(others, settings)(outputs, image, mask) > 1e-3
    odd = torch.rand(1, 3, 40, 72)  # the teacher's stride is 32: its picture is padded
    size = (20, 36)
    expected = torch.nn.functional.interpolate(others[0](odd), size, mode="bilinear", align_corners=True)
    assert torch.equal(others[0](odd, size, align_corners=True), expected)


def test_a_teacher_of_other_classes_is_refused_in_one_line(tmp_path):
    path = tmp_path / "city.safetensors"
    save(random_bundle("mininet_v2_cpu", label_set("cityscapes")), path)
    with pytest.raises(RecipeError, match=r"19 classes of 'cityscapes'.*11 of 'camvid'") as caught:
        teachers(Distill(str(path)), label_set("camvid"), PREPROCESSING)
    assert "\n" not in str(caught.value)
    with pytest.raises(BundleError, match="does not exist"):
        teachers(Distill(str(tmp_path / "none.safetensors")), label_set("camvid"), PREPROCESSING)


def test_terms_of_the_loss_add_up():
    draw = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 11, 16, 16, generator=draw)
    mask = torch.randint(0, 2, (2, 16, 16), generator=draw).to(torch.uint8)
    losses = {
        name: pixel_loss(loss, None)(logits, mask)
        for name, loss in {
            "plain": PlainLoss(),
            "boundary": PlainLoss(boundary=Boundary(weight=2.0, radius=1)),
            "lovasz": PlainLoss(lovasz=0.5),
            "both": PlainLoss(boundary=Boundary(weight=2.0, radius=1), lovasz=0.5),
            "hard": PlainLoss(ohem=Ohem(threshold=0.05, min_kept=0.1)),
        }.items()
    }
    assert losses["boundary"] > losses["plain"]
    assert losses["lovasz"] > losses["plain"]
    assert losses["hard"] > losses["plain"]  # the mean of the hard pixels' losses
    assert torch.isclose(losses["both"] - losses["plain"], losses["boundary"] + losses["lovasz"] - 2 * losses["plain"])


@pytest.fixture(scope="module")
def helped(tmp_path_factory):
    """A finished run with all that helps in training, its recipe, and the run of its teacher."""
    folder = tmp_path_factory.mktemp("helped")
    fit(read("smoke/scenes", [*TINY, "epochs=1"]), folder / "teacher", device="cpu")
    overrides = [
        *TINY,
        "epochs=3",
        "ema=0.9",
        "auxiliary=[{at: features}]",
        f"distill={{teacher: {folder / 'teacher' / 'best.safetensors'}}}",
        "loss.ohem={}",
        "loss.boundary={}",
        "loss.lovasz=0.5",
    ]
    recipe = read("smoke/scenes", overrides)
    fit(recipe, folder / "run", device="cpu")
    return folder, recipe


def test_what_helps_in_training_is_not_in_the_bundle(helped):
    folder, _ = helped
    for name in ("best", "last"):
        bundle = load(folder / "run" / f"{name}.safetensors")
        alone = models.create_model(bundle.card.model, bundle.card.outputs, **bundle.card.options)
        assert bundle.model.state_dict().keys() == alone.state_dict().keys()
    card, plain_card = (read_card(folder / run / "best.safetensors") for run in ("run", "teacher"))
    assert (card.model, card.options, card.outputs) == (plain_card.model, plain_card.options, plain_card.outputs)
    checkpoint = torch.load(folder / "run" / "last.ckpt", weights_only=False)
    assert any("heads" in key for key in checkpoint["state_dict"])  # lest a resumed run begin its heads anew
    assert not any("teacher" in key for key in checkpoint["state_dict"])


class CutOff(Callback):
    """Ends a run in the middle of an epoch, as a power cut would."""

    def on_train_batch_start(self, trainer, task, batch, index):
        if (trainer.current_epoch, index) == (1, 1):
            raise InterruptedError


def test_a_run_with_heads_teacher_and_average_is_cut_in_its_middle_and_ends_as_unbroken(helped, tmp_path):
    folder, recipe = helped
    with pytest.raises(InterruptedError):
        fit(recipe, tmp_path / "run", device="cpu", callbacks=[CutOff()])
    assert torch.load(tmp_path / "run" / "last.ckpt", weights_only=False)["epoch"] == 0
    fit(recipe, tmp_path / "run", device="cpu", resume=True)
    for name in ("best", "last"):
        resumed, unbroken = (load(root / "run" / f"{name}.safetensors") for root in (tmp_path, folder))
        assert resumed.card == unbroken.card
        expected = unbroken.model.state_dict()
        for key, value in resumed.model.state_dict().items():
            assert torch.equal(value, expected[key]), (name, key)
    kept, expected = (
        torch.load(root / "run" / "last.ckpt", weights_only=False)["current_model_state"] for root in (tmp_path, folder)
    )
    assert kept.keys() == expected.keys()
    assert all(torch.equal(value, expected[key]) for key, value in kept.items())  # heads too, which no bundle has


def test_a_finished_run_is_resumed_to_what_it_was(helped):
    folder, recipe = helped
    before = load(folder / "run" / "best.safetensors")
    again = fit(recipe, folder / "run", resume=True, device="cpu")
    assert again.card == before.card
    expected = before.model.state_dict()
    assert all(torch.equal(value, expected[key]) for key, value in again.model.state_dict().items())


EVERYTHING = (
    *TINY,
    "ema=0.9",
    "epochs=3",
    "loss={at: logits, ohem: {}, boundary: {}, lovasz: {weight: 0.5, start: 0.5, at: picture}}",
    "auxiliary=[{at: features}, {at: downsample, weight: 0.2}]",
)


@pytest.fixture(scope="module")
def taught(tmp_path_factory) -> str:
    """The override that adds a teacher."""
    run = tmp_path_factory.mktemp("teacher") / "run"
    fit(read("smoke/scenes", [*TINY, "epochs=1"]), run, device="cpu")
    return f"distill={{teacher: {run}, at: logits}}"


def test_a_run_with_all_of_it_cut_in_its_middle_ends_with_the_same_weights(taught, tmp_path):
    recipe = read("smoke/scenes", [*EVERYTHING, taught])
    fit(recipe, tmp_path / "whole", device="cpu")
    with pytest.raises(InterruptedError):
        fit(recipe, tmp_path / "cut", device="cpu", callbacks=[StopAfter(1)])
    train(None, tmp_path / "cut", device="cpu", resume=True)  # the folder knows its recipe
    for name in ("best", "last"):
        whole, cut = (load(tmp_path / run / f"{name}.safetensors").model.state_dict() for run in ("whole", "cut"))
        assert all(torch.equal(cut[key], value) for key, value in whole.items())
    heads = [torch.load(tmp_path / run / "last.ckpt", weights_only=False)["state_dict"] for run in ("whole", "cut")]
    names = [key for key in heads[0] if "heads" in key]
    assert names
    assert all(torch.equal(heads[0][key], heads[1][key]) for key in names)


@pytest.mark.slow
def test_all_of_it_compiles_and_computes_the_same(taught, tmp_path, monkeypatch, shapes_unchecked):
    """The whole network is one graph, heads' features included; the backend that runs it uses torch's own kernels."""
    graphs, compile = [], torch.nn.Module.compile

    def count(graph, inputs):
        graphs.append(graph)
        return graph.forward

    monkeypatch.setattr(torch.nn.Module, "compile", lambda module: compile(module, backend=count, fullgraph=True))
    monkeypatch.setattr("kerbseg.train.engine.check_compiler", lambda device, otherwise: None)
    recipe = read("smoke/scenes", [*EVERYTHING, taught, "epochs=1"])
    fit(recipe, tmp_path / "eager", device="cpu")
    fit(recipe, tmp_path / "compiled", device="cpu", compile=True)
    assert graphs
    eager, compiled = (load(tmp_path / run / "last.safetensors").model.state_dict() for run in ("eager", "compiled"))
    for key, value in eager.items():
        torch.testing.assert_close(compiled[key], value, rtol=1e-3, atol=1e-4, msg=key)


@pytest.mark.slow
def test_all_of_it_trains_as_torch_compiles_it(taught, tmp_path, shapes_unchecked):
    bundle = fit(read("smoke/scenes", [*EVERYTHING, taught, "epochs=1"]), tmp_path / "run", device="cpu", compile=True)
    assert all(torch.isfinite(value).all() for value in bundle.model.state_dict().values())
