"""DDRNet's and PIDNet's files: golden logits through the importers; variants, wrappings, classes; what is refused."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from golden_rule import Shapes, check_outputs, filled, golden_state, picture, read_golden, read_keys
from kerbseg.bundle import load, save
from kerbseg.cli import main
from kerbseg.core.errors import BundleError, KerbsegError
from kerbseg.core.labels import LabelSet, label_set
from kerbseg.export.parity import parity
from kerbseg.importers import import_checkpoint
from kerbseg.models import create_model
from kerbseg.train.initial import load_initial_weights
from kerbseg.train.matching import Target

FORMATS = {"ddrnet_23_slim": "ddrnet-pytorch", "pidnet_s": "pidnet-pytorch"}
LOSS = {"ddrnet_23_slim": "loss.criterion.weight", "pidnet_s": "sem_loss.criterion.weight"}
THEIR_CAMVID = (  # the PIDNet authors' words and order
    "Bicyclist", "Building", "Car", "Column_Pole", "Fence", "Pedestrian",
    "Road", "Sidewalk", "SignSymbol", "Sky", "Tree",
)  # fmt: skip
SAME = {"pole": "Column_Pole", "pavement": "Sidewalk", "sign_symbol": "SignSymbol"}  # ours of another name -> theirs


def shapes_of(name: str, classes: int) -> Shapes:
    """The authors' keys with another number of classes."""
    return {
        key: [classes, *shape[1:]] if ".conv2." in key and shape[0] == 19 else shape
        for key, shape in read_keys(name).items()
    }


@pytest.fixture(scope="module")
def states() -> dict[str, dict[str, Tensor]]:
    return {name: golden_state(read_golden(name)) for name in FORMATS}


def published(name: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """As the authors save it: a prefix, all heads, and the loss."""
    return {f"model.{key}": value for key, value in state.items()} | {LOSS[name]: torch.ones(19)}


@pytest.mark.parametrize(
    ("name", "left_out"),
    [("ddrnet_23_slim", "loss, seghead_extra"), ("pidnet_s", "seghead_d, seghead_p, sem_loss")],
)
def test_logits_are_the_authors(name, left_out, states, written, tmp_path):
    golden = read_golden(name)
    bundle = import_checkpoint(FORMATS[name], written(published(name, states[name])))
    card = bundle.card
    assert (card.model, card.labels.name, card.outputs, card.input_size) == (name, "cityscapes", 19, (1024, 2048))
    assert "MIT License" in card.source
    assert f"left out: {left_out}, of training" in card.source
    assert card.preprocessing.mean == (0.485, 0.456, 0.406)
    assert sum(each.numel() for each in bundle.model.parameters()) == golden["parameters_that_reach_the_output"]
    save(bundle, tmp_path / "net.safetensors")
    loaded = load(tmp_path / "net.safetensors")
    assert loaded.card == card
    assert loaded.model.heads == ()
    assert not card.options
    without = golden | {"heads": {"picture": golden["heads"]["picture"]}}
    check_outputs(loaded.model, without, "float32", ["72x104"])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ddrnet_23", "pidnet_m", "pidnet_l"])
def test_variants_are_told_by_their_shapes(name, written):
    torch.manual_seed(0)
    net = create_model(name, heads=True)
    format = f"{name.partition('_')[0]}-pytorch"
    source = written({f"model.{key}": value for key, value in net.state_dict().items()})
    bundle = import_checkpoint(format, source, model=name)
    assert bundle.card.model == name
    assert torch.equal(bundle.model.layer4[1].conv2.weight, net.layer4[1].conv2.weight)
    other = {"ddrnet_23": "ddrnet_23_slim", "pidnet_m": "pidnet_s", "pidnet_l": "pidnet_m"}[name]
    with pytest.raises(BundleError, match=f"is {name}, not {other}; leave out --model"):
        import_checkpoint(format, source, model=other)


def test_pidnets_camvid_outputs_are_turned_to_our_order(written):
    state = filled(shapes_of("pidnet_s", 11), 1.2)
    bundle = import_checkpoint("pidnet-pytorch", written(state))
    ours = label_set("camvid")
    assert (bundle.card.labels, bundle.card.input_size) == (ours, (720, 960))
    for row, name in enumerate(ours.classes):
        theirs = THEIR_CAMVID.index(SAME.get(name, name.capitalize()))
        for leaf in ("weight", "bias"):
            turned = getattr(bundle.model.final_layer.conv2, leaf)[row]
            assert torch.equal(turned, state[f"final_layer.conv2.{leaf}"][theirs]), name
    assert "turned from the authors' order" in bundle.card.source


def test_eleven_classes_of_a_ddrnet_are_asked_for_and_taken_in_the_order_of_the_outputs(states, written):
    own = LabelSet("own", tuple("abcdefghijk"), tuple((i, i, i) for i in range(11)))
    state = {key: value for key, value in states["ddrnet_23_slim"].items() if "seghead" not in key}
    state |= {key: value[:11] for key, value in state.items() if key.startswith("final_layer.conv2")}
    source = written(state)
    with pytest.raises(BundleError, match=r"has 11 outputs; .*do not say in which order: .*--classes and your own"):
        import_checkpoint("ddrnet-pytorch", source)
    bundle = import_checkpoint("ddrnet-pytorch", source, own)
    assert (bundle.card.labels, bundle.card.input_size) == (own, (512, 1024))
    assert torch.equal(bundle.model.final_layer.conv2.bias, state["final_layer.conv2.bias"])
    assert "left out" not in bundle.card.source


@pytest.mark.slow
def test_eleven_classes_of_ones_own_are_no_camvid_to_pidnet(written):
    own = LabelSet("own", tuple("abcdefghijk"), tuple((i, i, i) for i in range(11)))
    state = filled(shapes_of("pidnet_s", 11), 1.2)
    bundle = import_checkpoint("pidnet-pytorch", written(state), own)
    assert torch.equal(bundle.model.final_layer.conv2.bias, state["final_layer.conv2.bias"])


CONV, NORM = torch.ones(32, 3, 3, 3), torch.ones(32)
LAST = {"final_layer.conv2.bias": torch.zeros(19), "final_layer.conv2.weight": torch.zeros(19, 64, 1, 1)}
WRONG = [
    ("ddrnet-pytorch", {"bn.weight": NORM}, "holds no convolution 'conv1.0.weight': it is no network of ddrnet"),
    ("ddrnet-pytorch", {"conv1.0.weight": NORM}, "holds no convolution 'conv1.0.weight'"),
    ("ddrnet-pytorch", {"conv1.0.weight": CONV, "linear.weight": NORM}, "nothing yet; start a training of a ddrnet"),
    ("ddrnet-pytorch", {"conv1.0.weight": CONV, "final_layer.conv2.bias": CONV}, "not a number a class"),
    ("ddrnet-pytorch", {"conv1.0.weight": CONV[:9], **LAST}, "begins with 9 channels, DDRNet-23-slim with 32"),
    ("ddrnet-pytorch", {"conv1.0.weight": CONV, **LAST}, "lacks 'conv1.0.bias' for a ddrnet_23_slim"),
    ("ddrnet-pytorch", {"conv1.0.weight": CONV, "pag3.f_x.0.weight": CONV, **LAST}, "unknown 'pag3.f_x.0.weight'"),
    ("ddrnet-pytorch", {"conv1.0.weight": CONV, "model.conv1.0.weight": CONV}, "holds 'conv1.0.weight' twice"),
    ("pidnet-pytorch", {"conv1.0.weight": CONV, **LAST}, "holds neither 'spp.scale_process"),
    ("pidnet-pytorch", {"conv1.0.weight": CONV, "spp.process1.0.weight": NORM, **LAST}, "no PIDNet; is it a DDRNet"),
    (
        "pidnet-pytorch",
        {"conv1.0.weight": CONV, "spp.process1.0.weight": NORM, "pag3.f_x.0.weight": CONV, **LAST},
        "begins with 32 channels, PIDNet-S with 32",
    ),
    ("pidnet-pytorch", {"conv1.0.weight": CONV}, "segments nothing yet; start a training of a pidnet"),
    ("pidnet-pytorch", {"conv1.0.weight": torch.full_like(CONV, torch.nan), **LAST}, "NaN"),
]  # fmt: skip


@pytest.mark.parametrize(("format", "state", "says"), WRONG)
def test_what_does_not_fit_is_named(format, state, says, written):
    with pytest.raises(BundleError, match=says):
        import_checkpoint(format, written(state))


class Trap:
    sprung = False

    def __reduce__(self):
        return setattr, (Trap, "sprung", True)


@pytest.mark.parametrize("format", FORMATS.values())
def test_code_in_a_file_is_refused_in_one_line(format, written, tmp_path, capsys):
    for content in ({"state_dict": {"conv1.0.weight": CONV}, "arguments": Trap()}, {"conv1.0.weight": "text"}):
        with pytest.raises(SystemExit) as ended:
            main(["import", format, str(written(content)), "-o", str(tmp_path / "out.safetensors")])
        assert ended.value.code == 2
        assert len(capsys.readouterr().err.strip().splitlines()) <= 4  # one sentence, wrapped
    assert not Trap.sprung
    assert not (tmp_path / "out.safetensors").exists()


@pytest.mark.parametrize(
    ("format", "name", "near"),
    [("ddrnet-pytorch", "ddrnet23", "ddrnet_23"), ("pidnet-pytorch", "pidnet_ss", "pidnet_s")],
)
def test_a_network_of_another_name_is_refused(format, name, near, written):
    with pytest.raises(KerbsegError, match=f"did you mean '{near}'"):
        import_checkpoint(format, written({"conv1.0.weight": CONV}), model=name)


def imagenet(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """An encoder as the authors trained it first: no pyramid and heads, and layers behind that no segmentation has."""
    kept = {key: value for key, value in state.items() if not key.startswith(("spp", "seghead", "final_layer"))}
    kept |= {"down5.0.weight": torch.ones(512, 128, 3, 3), "last_layer.0.weight": torch.ones(8, 512, 1, 1)}
    return kept | {"linear.weight": torch.ones(1000, 8), "linear.bias": torch.ones(1000)}


def test_a_training_starts_from_an_imagenet_encoder_as_it_is(states, written):
    state = states["ddrnet_23_slim"]
    torch.manual_seed(0)
    net = create_model("ddrnet_23_slim", 5, heads=True)
    before = {key: value.clone() for key, value in net.state_dict().items()}
    target = Target.of(tuple("abcde"), lambda k: create_model("ddrnet_23_slim", k, heads=True))
    start = load_initial_weights(net, written({"state_dict": imagenet(state)}), target=target)
    assert {"spp", "final_layer", "seghead_extra"} >= start.fresh.keys() >= {"spp"}
    assert start.new == tuple("abcde")
    after = net.state_dict()
    for key, value in before.items():
        fresh = key.startswith(("spp", "seghead", "final_layer"))
        assert torch.equal(after[key], value if fresh else state[key]), key


def test_a_training_starts_from_a_published_file_as_it_is(states, written):
    state = states["pidnet_s"]
    net = create_model("pidnet_s", 19)
    start = load_initial_weights(net, written(published("pidnet_s", state)), target=Target())
    assert start.fresh == {}
    assert all(torch.equal(value, state[key]) for key, value in net.state_dict().items())


@pytest.mark.slow
@pytest.mark.parametrize("name", FORMATS)
def test_from_an_authors_file_to_exported_pictures(name, written, tmp_path, capsys):
    torch.manual_seed(0)
    net = create_model(name, heads=True).train()
    with torch.no_grad():  # statistics of drawn noise, so that logits differ from place to place
        for _ in range(4):
            net(torch.randn(4, 3, 96, 128))
    source = written(published(name, net.state_dict()))
    ours, street = tmp_path / "net.safetensors", tmp_path / "street.png"
    pixels = (255 * picture(96, 192)[0].permute(1, 2, 0).numpy()).astype(np.uint8)
    Image.fromarray(pixels).save(street)
    main(["import", FORMATS[name], str(source), "-o", str(ours)])
    assert f"{name}, 19 classes of cityscapes, 19 outputs" in capsys.readouterr().out
    for ending in ("onnx", "xml"):
        file = tmp_path / f"net.{ending}"
        main(["export", str(ours), "-o", str(file), "--size", "96x192"])
        main(["predict", str(file), str(street), "-o", str(tmp_path / ending)])
        ids = np.asarray(Image.open(tmp_path / ending / "street_ids.png"))
        assert ids.shape == (96, 192)
        assert len(np.unique(ids)) > 3
        assert parity(load(ours), file, [pixels]).equal >= 0.999
    main(["predict", str(ours), str(street), "-o", str(tmp_path / "torch")])
    assert np.asarray(Image.open(tmp_path / "torch" / "street_ids.png")).shape == (96, 192)
