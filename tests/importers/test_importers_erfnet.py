"""ERFNet's files: golden logits through the importer; network and classes recognised; strict; the way to pictures."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from golden_rule import Shapes, check, filled, golden_state, picture, read_golden, read_keys
from kerbseg.bundle import load, read_card, save
from kerbseg.cli import main
from kerbseg.core.errors import BundleError, KerbsegError
from kerbseg.core.labels import label_set
from kerbseg.importers import import_checkpoint
from kerbseg.models import create_model


def norm(name: str, channels: int) -> Shapes:
    vectors = {f"{name}.{leaf}": [channels] for leaf in ("weight", "bias", "running_mean", "running_var")}
    return vectors | {f"{name}.num_batches_tracked": []}


def sampler(name: str, weight: list[int], outputs: int, channels: int) -> Shapes:
    return {f"{name}.conv.weight": weight, f"{name}.conv.bias": [outputs]} | norm(f"{name}.bn", channels)


def block(name: str, channels: int) -> Shapes:
    shapes = {}
    for pair in (1, 2):
        for kernel in ((3, 1), (1, 3)):
            conv = f"{name}.conv{kernel[0]}x{kernel[1]}_{pair}"
            shapes |= {f"{conv}.weight": [channels, channels, *kernel], f"{conv}.bias": [channels]}
        shapes |= norm(f"{name}.bn{pair}", channels)
    return shapes


def encoder(prefix: str) -> Shapes:
    """The authors' tree, spelled without the importer's table."""
    shapes = sampler(f"{prefix}initial_block", [13, 3, 3, 3], 13, 16)
    shapes |= sampler(f"{prefix}layers.0", [48, 16, 3, 3], 48, 64)
    for n in range(1, 6):
        shapes |= block(f"{prefix}layers.{n}", 64)
    shapes |= sampler(f"{prefix}layers.6", [64, 64, 3, 3], 64, 128)
    for n in range(7, 15):
        shapes |= block(f"{prefix}layers.{n}", 128)
    return shapes


def head(name: str, classes: int) -> Shapes:
    return {f"{name}.weight": [classes, 128, 1, 1], f"{name}.bias": [classes]}


def whole(classes: int) -> Shapes:
    shapes = encoder("encoder.") | head("encoder.output_conv", classes)
    for n, inputs, outputs in ((0, 128, 64), (3, 64, 16)):
        shapes |= sampler(f"decoder.layers.{n}", [inputs, outputs, 3, 3], outputs, outputs)
        shapes |= block(f"decoder.layers.{n + 1}", outputs) | block(f"decoder.layers.{n + 2}", outputs)
    return shapes | {"decoder.output_conv.weight": [16, classes, 2, 2], "decoder.output_conv.bias": [classes]}


def imagenet() -> Shapes:
    linear = {"classifier.linear.weight": [1000, 128], "classifier.linear.bias": [1000]}
    return encoder("features.encoder.") | linear


@pytest.mark.parametrize(
    ("name", "shapes"),
    [
        ("erfnet", whole(20)),
        ("erfnet_encoder", encoder("") | head("output_conv", 20)),
        ("erfnet_imagenet", imagenet()),
    ],
)
def test_the_keys_above_are_the_authors(name, shapes):
    assert read_keys(name) == shapes


@pytest.mark.parametrize("precision", ["float32", "float64"])
@pytest.mark.parametrize(
    ("name", "model", "parameters"),
    [
        ("erfnet", None, 2_064_256),
        ("erfnet_encoder", None, 1_876_624),
        ("erfnet_only_encode", "erfnet_encoder", 1_876_624),
    ],
)
def test_logits_are_the_authors(written, name, model, parameters, precision):
    golden = read_golden(name)
    bundle = import_checkpoint("erfnet-pytorch", written({"state_dict": golden_state(golden)}), model=model)
    assert (bundle.card.outputs, len(bundle.card.labels)) == (20, 19)
    assert sum(p.numel() for p in bundle.model.parameters()) == parameters == golden["parameters_that_reach_the_output"]
    # the authors' encoder ends at 1/8, where our logits go on to the picture's size
    net = bundle.model
    net.forward = net.logits
    check(net, golden, precision)


@pytest.mark.parametrize("wrapper", [None, "state_dict", "model_state_dict"])
@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize(("classes", "labels"), [(20, "cityscapes"), (19, "cityscapes"), (11, "camvid")])
def test_the_network_is_recognised_in_any_wrapping(classes, labels, prefix, wrapper, written):
    state = filled(whole(classes))
    content = {prefix + key: value for key, value in state.items()}
    source = written({wrapper: content, "epoch": 150, "best_acc": 0.7} if wrapper else content)
    bundle = import_checkpoint("erfnet-pytorch", source)
    card = bundle.card
    assert (card.model, card.outputs, card.labels.name) == ("erfnet", classes, labels)
    assert torch.equal(bundle.model.encoder[8].conv1x3_2.weight, state["encoder.layers.7.conv1x3_2.weight"])
    assert torch.equal(bundle.model.decoder[6].bias, state["decoder.output_conv.bias"])
    assert "CC BY-NC" in card.source
    assert "left out: encoder.output_conv" in card.source


def test_classes_of_any_other_number_are_asked_for(written):
    source = written(filled(whole(3)))  # any three, or two and void
    with pytest.raises(BundleError, match=r"has 3 outputs, .*with --classes \(.*text, or your own dataset.yaml\)"):
        import_checkpoint("erfnet-pytorch", source)
    card = import_checkpoint("erfnet-pytorch", source, label_set("text")).card
    assert (card.labels.name, card.outputs) == ("text", 3)


def test_a_file_without_training_head_and_counters_of_batches_loads(written):
    old = {key: value for key, value in filled(whole(20)).items() if "output_conv" not in key or "decoder" in key}
    old = {key: value for key, value in old.items() if not key.endswith("num_batches_tracked")}
    bundle = import_checkpoint("erfnet-pytorch", written(old))
    assert bundle.model.encoder[0].bn.num_batches_tracked == 0
    assert "left out" not in bundle.card.source


@pytest.mark.parametrize("prefix", ["", "encoder.", "module.encoder."])
def test_an_encoder_is_recognised(prefix, written):
    source = written({"state_dict": filled(encoder(prefix) | head(f"{prefix}output_conv", 20))})
    card = import_checkpoint("erfnet-pytorch", source).card
    assert (card.model, card.outputs, card.labels.name) == ("erfnet_encoder", 20, "cityscapes")
    assert "left out" not in card.source
    with pytest.raises(BundleError, match="is erfnet_encoder, not erfnet; it holds no decoder"):
        import_checkpoint("erfnet-pytorch", source, model="erfnet")


def test_of_a_whole_network_the_encoder_can_be_had_alone(written):
    card = import_checkpoint("erfnet-pytorch", written(filled(whole(20))), model="erfnet_encoder").card
    assert card.model == "erfnet_encoder"
    assert "left out: the decoder" in card.source


def test_the_imagenet_encoder_fits_into_erfnet_and_says_that_it_segments_nothing(written, tmp_path):
    state = filled(imagenet())
    source = written({"state_dict": {f"module.{key}": value for key, value in state.items()}, "arch": "erfnet"})
    for model in (None, "erfnet"):
        with pytest.raises(BundleError, match=r"segments nothing yet.*--model erfnet_encoder"):
            import_checkpoint("erfnet-pytorch", source, model=model)
    bundle = import_checkpoint("erfnet-pytorch", source, label_set("camvid"), "erfnet_encoder")
    assert bundle.card.outputs == 11
    assert "the head is zero: train it before use" in bundle.card.source
    save(bundle, tmp_path / "imagenet.safetensors")
    net = create_model("erfnet", 3)
    net.encoder.load_state_dict(load(tmp_path / "imagenet.safetensors").model.encoder.state_dict())
    assert torch.equal(net.encoder[15].conv3x1_1.weight, state["features.encoder.layers.14.conv3x1_1.weight"])


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda state: state.pop("encoder.layers.7.bn2.weight"), "lacks 'encoder.layers.7.bn2.weight' for a erfnet"),
        (lambda state: state.pop("decoder.output_conv.bias"), "lacks 'decoder.output_conv.bias', its last layer"),
        (lambda state: state.update({"decoder.layers.6.conv.bias": torch.ones(3)}), "unknown 'decoder.layers.6.conv.b"),
        (
            lambda state: state.update({"encoder.layers.0.bn.gamma": torch.ones(64)}),
            "unknown 'encoder.layers.0.bn.gamma'",
        ),
        (
            lambda state: state.update({"encoder.layers.0.bn.bias": torch.ones(3)}),
            r"'encoder.layers.0.bn.bias' is \[3\]",
        ),
        (
            lambda state: state.update({"decoder.output_conv.weight": torch.ones(16, 7, 2, 2)}),
            r"decoder.output_conv.weight' is",
        ),
        (lambda state: state.pop("encoder.initial_block.conv.weight"), "no ERFNet of its authors"),
        (lambda state: state.update({"encoder.layers.0.bn.bias": torch.full((64,), torch.nan)}), "holds NaN"),
    ],
)
def test_what_does_not_fit_is_named(change, says, written):
    state = filled(whole(20))
    change(state)
    with pytest.raises(BundleError, match=says):
        import_checkpoint("erfnet-pytorch", written(state))


def test_labels_and_network_given_must_fit_the_file(written):
    source = written(filled(whole(20)))
    with pytest.raises(BundleError, match="20 outputs, label set 'camvid' has 11"):
        import_checkpoint("erfnet-pytorch", source, label_set("camvid"))
    with pytest.raises(KerbsegError, match="did you mean 'erfnet_encoder'"):
        import_checkpoint("erfnet-pytorch", source, model="erfnet_encode")
    with pytest.raises(BundleError, match="7 outputs, which is no number of classes that its authors published"):
        import_checkpoint("erfnet-pytorch", written(filled(whole(7))))


def kerbseg(*arguments: object) -> None:
    main([str(argument) for argument in arguments])


def test_from_a_users_checkpoint_to_scores_and_pictures_without_python(written, tmp_path, capsys):
    state = filled(whole(20))
    state["decoder.output_conv.bias"][19] = 1000.0  # void would win everywhere
    source = written({"state_dict": {f"module.{key}": value for key, value in state.items()}})
    ours, street = tmp_path / "erfnet.safetensors", tmp_path / "street.png"
    # as high as ERFNet's own pictures, so it is not resized; its width is no multiple of 8
    pixels = (255 * picture(512, 50)[0].permute(1, 2, 0).numpy()).astype(np.uint8)
    Image.fromarray(pixels).save(street)

    kerbseg("import", "erfnet-pytorch", source, "-o", ours)
    assert "erfnet, 19 classes of cityscapes, 20 outputs" in capsys.readouterr().out
    kerbseg("evaluate", ours, "--data", "scenes", "--limit", 2, "--json", tmp_path / "scores.json")
    scores = json.loads((tmp_path / "scores.json").read_text())
    kerbseg("predict", ours, street, "-o", tmp_path / "out")
    ids = np.asarray(Image.open(tmp_path / "out" / "street_ids.png"))

    assert read_card(ours).outputs == 20
    assert scores["images"] == 2
    assert np.shape(scores["confusion"]) == (19, 19)
    assert np.sum(scores["confusion"]) > 100_000
    assert (tmp_path / "out" / "street_overlay.png").is_file()
    assert ids.shape == (512, 50)
    # what torch makes of the same weights and pixels, padded by hand; the 20th output is left out
    padded = np.pad(pixels, ((0, 0), (0, 6), (0, 0)), mode="edge")
    with torch.no_grad():
        logits = load(ours).model(torch.from_numpy(padded).permute(2, 0, 1)[None] / 255)
    assert (logits.argmax(1) == 19).all()
    expected = logits[0, :19, :, :50].argmax(0).numpy()
    assert (ids == expected).mean() > 0.999  # memory layouts differ, so scores do in their last digit
    assert len(np.unique(ids)) > 3
