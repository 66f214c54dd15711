"""One temperature for a network: fitted, stored in its card, carried by its exports, applied to what they say."""

import json
import sys
from dataclasses import fields, replace

import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image

import kerbseg
from kerbseg.bundle import Bundle, BundleCard, load, random_bundle, read_card, save
from kerbseg.calibrate import calibrate
from kerbseg.cli import main
from kerbseg.core.errors import BundleError, DataError, KerbsegError, KerbsegWarning
from kerbseg.core.labels import label_set
from kerbseg.core.types import VOID, Sample
from kerbseg.evaluate import evaluate
from kerbseg.export import export, export_int8, pictures_of
from kerbseg.predict import Predictor
from kerbseg.runtime import onnx as onnx_runtime
from kerbseg.runtime import open_runtime, segment_with_logits
from kerbseg.runtime.torch import FlipAveraged

HEAT = 2.0
SIZE = (32, 48)


class Drawn:
    """Noise whose truth is drawn from a network's own probabilities at a temperature, void along the left edge."""

    name, labels = "drawn", label_set("camvid")

    def __init__(self, bundle, count=6, split="val", void=4):
        self.split, generator = split, np.random.default_rng(1)
        self.names = [f"{index}.png" for index in range(count)]
        self._pictures = generator.integers(0, 256, (count, *SIZE, 3), np.uint8)
        probabilities = (open_runtime(bundle).upsampled_logits(self._pictures) / HEAT).double().softmax(1).numpy()
        self._masks = (probabilities.cumsum(1) < generator.random((count, 1, *SIZE))).sum(1).clip(0, 10)
        self._masks = self._masks.astype(np.uint8)
        self._masks[:, :, :void] = VOID

    def __len__(self):
        return len(self.names)

    def __getitem__(self, index):
        return Sample(self._pictures[index], self._masks[index], self.names[index])


@pytest.fixture(scope="module")
def sure(tmp_path_factory):
    """The file of a network whose logits are far apart."""
    bundle = random_bundle("mininet_v2_cpu", label_set("camvid"), seed=0)
    with torch.no_grad():
        bundle.model.output.weight *= 40
        bundle.model.output.bias *= 40
    card = replace(bundle.card, input_size=SIZE, scores={"miou": 0.5, "test": {"miou": 0.25}})
    path = tmp_path_factory.mktemp("calibrate") / "sure.safetensors"
    save(Bundle(bundle.model, card), path)
    return path


@pytest.fixture(scope="module")
def drawn(sure):
    return Drawn(load(sure))


@pytest.fixture(scope="module")
def calibrated(sure, drawn):
    """The file of the same network with its temperature."""
    path = sure.with_name("calibrated.safetensors")
    calibrate(sure, drawn, out=path)
    return path


@pytest.fixture
def on_disk(drawn, tmp_path):
    """The same pictures as CamVid has them."""
    for index, name in enumerate(drawn.names):
        sample = drawn[index]
        for folder, pixels in (("val", sample.image), ("valannot", np.where(sample.mask == VOID, 11, sample.mask))):
            path = tmp_path / "camvid" / folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels.astype(np.uint8)).save(path)
    return tmp_path / "camvid"


def contrary(bundle):
    """The network that says the opposite."""
    with torch.no_grad():
        bundle.model.output.weight *= -1
        bundle.model.output.bias *= -1
    return bundle


def fails(capsys, *arguments):
    with pytest.raises(SystemExit) as left:
        main([str(each) for each in arguments])
    error = capsys.readouterr().err
    assert left.value.code == 2
    assert len(error.splitlines()) == 1, error
    return error


def test_the_temperature_is_found_and_changes_nothing_but_the_card(sure, drawn, calibrated, tmp_path):
    made = calibrate(sure, drawn, out=tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == calibrated.read_bytes()
    assert made.temperature == pytest.approx(HEAT, rel=0.05)
    assert made.after.nll < made.before.nll
    assert made.after.ece < 0.02 < made.before.ece
    assert (made.protocol["split"], made.protocol["images"]) == ("val", 6)
    assert made.protocol["fitted_pixels"] == made.protocol["labelled_pixels"] == 6 * 32 * 44
    before, after = (safetensors.torch.load_file(path) for path in (sure, calibrated))
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)
    card = read_card(calibrated)
    assert card.temperature == load(calibrated).card.temperature == made.temperature
    entry = card.scores["calibration"]
    assert {**card.scores, "calibration": None} == {"miou": 0.5, "test": {"miou": 0.25}, "calibration": None}
    assert entry["protocol"]["data"] == "drawn"
    assert entry["after"] == pytest.approx(made.after.figures())
    assert read_card(sure).temperature is None


def test_evaluate_applies_it_and_says_what_was_without(sure, drawn, calibrated):
    before, after = (evaluate(path, drawn, calibration=True) for path in (sure, calibrated))
    assert before.reliability.temperature is None
    assert before.reliability.uncalibrated is None
    assert before.reliability.calibration == after.reliability.uncalibrated
    assert after.reliability.calibration.ece < 0.02 < before.reliability.calibration.ece
    assert after.reliability.temperature == read_card(calibrated).temperature
    assert torch.equal(before.metrics.confusion, after.metrics.confusion), "it changes no class"
    assert evaluate(calibrated, drawn).reliability is None, "not asked for"
    again = calibrate(calibrated, drawn)
    assert again.temperature == after.reliability.temperature, "fitted on bare logits, whatever the card says"
    flipped = evaluate(calibrated, drawn, calibration=True, tta="flip")
    assert torch.equal(flipped.metrics.confusion, evaluate(sure, drawn, tta="flip").metrics.confusion)
    assert flipped.reliability.calibration.ece != flipped.reliability.uncalibrated.ece


def test_of_a_larger_split_an_even_share_of_each_picture_is_kept(sure, drawn, calibrated, monkeypatch):
    monkeypatch.setattr(sys.modules["kerbseg.calibrate"], "MOST_LOGITS", 6 * 300 * 11)
    made = calibrate(sure, drawn)
    assert made.protocol["fitted_pixels"] == 6 * 300
    assert made.temperature == pytest.approx(read_card(calibrated).temperature, rel=0.1)
    assert made.before.nll == pytest.approx(calibrate(sure, drawn, limit=1).before.nll, rel=0.2)


@pytest.mark.filterwarnings("ignore:pictures of other proportions")
def test_logits_lie_where_the_ids_lie(sure):
    runtime, picture = open_runtime(sure), np.random.default_rng(3).integers(0, 256, (50, 60, 3), np.uint8)
    for size in ("trained", "own", (40, 100)):
        ids, logits_of = segment_with_logits(runtime, picture, size)
        chosen = np.random.default_rng(4).random(ids.shape) < 0.3
        assert (logits_of(chosen).argmax(0).numpy() == ids[chosen]).all()


def test_a_runtime_without_logits_is_told_of(sure, drawn):
    class Ids:
        name, device, precision, threads, size = "made", "cpu", "float32", 1, None

        def __init__(self):
            self.card = read_card(sure)

        def __call__(self, pictures):
            return np.zeros(pictures.shape[:3], np.uint8)

    with pytest.warns(KerbsegWarning, match="calibration is not measured: made gives class ids"):
        report = evaluate(Ids(), drawn, calibration=True)
    assert report.reliability is None
    assert report.to_dict()["calibration"] is None
    assert report.images == 6


def test_the_command_writes_into_the_file_and_says_so(sure, drawn, on_disk, tmp_path, capsys):
    run = tmp_path / "run"
    run.mkdir()
    (run / "best.safetensors").write_bytes(sure.read_bytes())
    command = ["calibrate", run, "--data", "camvid", "--data-root", on_disk, "--json", tmp_path / "figures.json"]
    main([str(each) for each in command])
    said, figures = capsys.readouterr().out, json.loads((tmp_path / "figures.json").read_text())
    assert figures["temperature"] == pytest.approx(HEAT, rel=0.05)
    assert f"temperature {figures['temperature']:g}" in said
    assert f"{figures['before']['ece']:.4f}" in said
    assert all(len(line) <= 80 for line in said.splitlines() if "/" not in line), "but for paths"
    assert read_card(run / "best.safetensors").temperature == figures["temperature"]
    main(["info", str(run)])
    assert f"{figures['temperature']:g}, of camvid val" in capsys.readouterr().out
    main(["evaluate", str(run), "--data", "camvid", "--data-root", str(on_disk), "--split", "val"])
    said = capsys.readouterr().out
    (row,) = (line for line in said.splitlines() if line.startswith("│ ECE, 15 bins"))
    assert row.split("│")[2].strip() == f"{figures['after']['ece']:.4f}"
    assert row.split("│")[3].strip() == f"{figures['before']['ece']:.4f} at temperature 1"


@pytest.mark.parametrize("split", ["train", "test"])
def test_another_split_than_val_is_warned_of(sure, split):
    with pytest.warns(KerbsegWarning, match=f"fitted on '{split}'.*the usual is --split val"):
        calibrate(sure, Drawn(load(sure), 2, split))


def test_what_cannot_be_calibrated_is_one_line_and_leaves_nothing(sure, drawn, on_disk, folder_root, tmp_path, capsys):
    data, out = ("--data", "camvid", "--data-root", on_disk), tmp_path / "o.safetensors"
    (tmp_path / "m.onnx").write_bytes(b"")
    assert "calibrate the bundle (.safetensors), then export it again" in fails(
        capsys, "calibrate", tmp_path / "m.onnx", *data, "-o", out
    )
    other = ("--data", "folder", "--data-root", folder_root)
    assert "3 classes of 'park'" in fails(capsys, "calibrate", sure, *other, "-o", out)
    shipped = "mininet_v2_cpu-camvid"
    assert f"name a file: -o {shipped}.safetensors" in fails(capsys, "calibrate", shipped, *data)
    assert "a bundle is a .safetensors file" in fails(capsys, "calibrate", sure, *data, "-o", tmp_path / "o.pt")
    assert "limit is 0" in fails(capsys, "calibrate", sure, *data, "-o", out, "--limit", 0)
    assert "does not exist" in fails(capsys, "calibrate", tmp_path / "none.safetensors", *data, "-o", out)
    for mask in (on_disk / "valannot").iterdir():
        Image.fromarray(np.full(SIZE, 11, np.uint8)).save(mask)
    assert "no labelled pixel to calibrate on" in fails(capsys, "calibrate", sure, *data, "-o", out)
    assert {path.name for path in tmp_path.iterdir()} == {"camvid", "park", "m.onnx"}
    with pytest.raises(DataError, match="next to nothing"):
        calibrate(contrary(load(sure)), drawn)
    with pytest.raises(KerbsegError, match="opened data set"):
        kerbseg.calibrate(sure, "camvid")


def test_a_kerbseg_that_knows_no_temperature_reads_the_card(calibrated):
    keys = json.loads(load(calibrated).card.to_json()).keys() - {"format"}
    assert keys == {each.name for each in fields(BundleCard)}
    assert "temperature" not in keys, "older ones refuse keys that they do not know"


@pytest.mark.parametrize("value", ["1.2", True, 0, -1.5, 1e9, [1]])
def test_a_temperature_that_is_none_is_refused(sure, value):
    card = read_card(sure)
    raw = json.loads(card.to_json())
    raw["scores"]["calibration"] = {"temperature": value}
    with pytest.raises(BundleError, match=r"damaged \(temperature .* is none"):
        BundleCard.from_json(json.dumps(raw), "m.safetensors")
    assert replace(card, scores={"calibration": "good"}).temperature is None
    assert replace(card, scores={"calibration": {"temperature": 2}}).temperature == 2


@pytest.fixture(scope="module", params=[".onnx", ".xml"])
def exported(request, calibrated, drawn):
    path = calibrated.with_name(f"m{request.param}")
    export(load(calibrated), path, pictures=pictures_of(drawn, SIZE, 1))
    return path


def test_exports_carry_it_and_apply_it(exported, calibrated, sure, drawn):
    runtime, reference, bare = open_runtime(exported, threads=1), open_runtime(calibrated), open_runtime(sure)
    assert runtime.card.temperature == reference.card.temperature
    pictures = np.stack([drawn[0].image, drawn[1].image])
    ids, confidence = runtime.with_confidence(pictures)
    assert (ids.dtype, confidence.dtype, confidence.shape) == (np.uint8, np.float32, (2, *SIZE))
    assert (ids == runtime(pictures)).all()
    expected = (bare.upsampled_logits(pictures) / HEAT).softmax(1).amax(1).numpy()
    theirs, torch_confidence = reference.with_confidence(pictures)
    same = ids == theirs
    assert same.mean() > 0.999
    np.testing.assert_allclose(confidence[same], torch_confidence[same], atol=2e-3)
    assert np.abs(torch_confidence - expected).mean() < 0.02, "about at the temperature that was drawn at"
    assert np.abs(bare.with_confidence(pictures)[1] - expected).mean() > 0.1, "and not without it"
    ours, logits = runtime.with_logits(pictures)
    assert (ours == ids).all()
    np.testing.assert_allclose(logits.numpy(), bare.upsampled_logits(pictures).numpy(), atol=2e-2)
    report = evaluate(exported, drawn, calibration=True)
    assert report.reliability.calibration.ece < 0.03 < report.reliability.uncalibrated.ece


def test_other_programs_see_it_in_the_metadata(exported, calibrated):
    expected = repr(read_card(calibrated).temperature)
    if exported.suffix == ".onnx":
        import onnx

        metadata = {each.key: each.value for each in onnx.load(exported).metadata_props}
        assert metadata["temperature"] == expected
    else:
        import openvino

        assert openvino.Core().read_model(exported).get_rt_info("temperature").astype(str) == expected


def test_an_onnx_file_on_a_gpu_gives_confidence_from_its_logits(exported, drawn, monkeypatch):
    if exported.suffix != ".onnx":
        return
    pictures = drawn[0].image[None]
    expected = open_runtime(exported, threads=1).with_confidence(pictures)
    monkeypatch.setitem(onnx_runtime.PROVIDERS, "cuda", ("CPUExecutionProvider",))  # this machine has no other
    runtime = open_runtime(exported, threads=1, device="cuda")
    assert runtime._output == "ids", "ids alone are those of the file's own last stage"
    assert (runtime(pictures) == expected[0]).mean() > 0.999
    for ours, theirs in zip(runtime.with_confidence(pictures), expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_predict_writes_it_for_every_engine(exported, calibrated, drawn, tmp_path, capsys):
    Image.fromarray(drawn[0].image).save(tmp_path / "street.png")
    for model in (calibrated, exported):
        out = tmp_path / model.name
        main(["predict", str(model), str(tmp_path / "street.png"), "-o", str(out), "--confidence"])
        written = {"classes.json", "street_confidence.png", "street_ids.png", "street_overlay.png"}
        assert {path.name for path in out.iterdir()} == written
        gray = np.asarray(Image.open(out / "street_confidence.png"))
        assert (gray.dtype, gray.shape) == (np.uint8, SIZE)
        expected = Predictor(model)(drawn[0].image, confidence=True)
        assert (gray == (expected.confidence * 255).round()).all()
        assert (np.asarray(Image.open(out / "street_ids.png")) == expected.ids).all()
        assert json.loads((out / "classes.json").read_text())["temperature"] == read_card(calibrated).temperature
    street, few = str(tmp_path / "street.png"), str(tmp_path / "few")
    main(["predict", str(exported), street, "-o", few, "--confidence", "--save", "ids"])
    assert {path.name for path in (tmp_path / "few").iterdir()} == written - {"street_overlay.png"}


def test_mirrored_views_keep_their_ids(calibrated, sure, drawn):
    with_it, without = (FlipAveraged(open_runtime(path)) for path in (calibrated, sure))
    pictures = drawn[0].image[None]
    assert (with_it.with_confidence(pictures)[0] == without(pictures)).all()
    assert (with_it.with_confidence(pictures)[1] < without.with_confidence(pictures)[1]).mean() > 0.95
    mean = without.probabilities(pictures).amax(1).numpy()
    np.testing.assert_allclose(without.with_confidence(pictures)[1], mean, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".onnx", ".xml"])
def test_int8_carries_and_applies_it(suffix, calibrated, drawn, tmp_path):
    path = tmp_path / f"m8{suffix}"
    export_int8(load(calibrated), path, calibration=drawn, eval_set=drawn, max_drop=1.0, threads=1)
    runtime = open_runtime(path, threads=1)
    assert runtime.precision == "int8"
    assert runtime.card.temperature == read_card(calibrated).temperature
    report = evaluate(runtime, drawn, calibration=True)
    assert report.reliability.calibration.ece < report.reliability.uncalibrated.ece
