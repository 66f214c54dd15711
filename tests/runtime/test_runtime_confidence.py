"""Confidence: that of float64 softmax of interpolated logits, from every runtime, as floats and as bytes."""

from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
import torch
from torch.nn.functional import avg_pool2d, interpolate

import kerbseg
from kerbseg.bundle import Bundle, load, random_bundle, save
from kerbseg.core.errors import InputError, KerbsegError
from kerbseg.core.labels import label_set
from kerbseg.data import open_dataset
from kerbseg.export import export
from kerbseg.export import openvino as openvino_export
from kerbseg.export.int8 import Quantizer
from kerbseg.export.uint8_logits import uint8_levels
from kerbseg.runtime import ENGINES, open_runtime
from kerbseg.runtime.confidence import confidence as torchs_confidence
from kerbseg.runtime.protocols import ConfidenceMeasure
from kerbseg.runtime.upsample_argmax import Coordinates, UpsampleArgmax

MEASURES = get_args(ConfidenceMeasure)


def places(source, target, rule):
    """Of each target position the source position, in float64."""
    at = np.arange(target, dtype=np.float64)
    if source == target:
        return at
    if rule == "align_corners":
        return at * ((source - 1) / (target - 1) if target > 1 else 0)
    place = at * source / target if rule == "asymmetric" else (at + 0.5) * source / target - 0.5
    return np.clip(place, 0, source - 1)


def interpolated(logits, size, rule):
    """Logits [b k h w] at another size, in float64 all along."""
    logits = logits.astype(np.float64)
    for axis, target in ((2, size[0]), (3, size[1])):
        place = places(logits.shape[axis], target, rule)
        before = np.minimum(place.astype(int), logits.shape[axis] - 1)
        after = np.minimum(before + 1, logits.shape[axis] - 1)
        shape = [1, 1, 1, 1]
        shape[axis] = target
        weight = (place - before).reshape(shape)
        logits = logits.take(before, axis) * (1 - weight) + logits.take(after, axis) * weight
    return logits


def measured(full, ids, measure):
    """How sure each id is, in float64, of logits [b k h w]."""
    shifted = full - full.max(1, keepdims=True)
    powers = np.exp(shifted)
    probabilities = powers / powers.sum(1, keepdims=True)
    own = np.take_along_axis(probabilities, ids[:, None].astype(int), 1)[:, 0]
    if measure == "probability" or full.shape[1] == 1:
        return own
    if measure == "margin":
        others = probabilities.copy()
        np.put_along_axis(others, ids[:, None].astype(int), -1, 1)
        return np.maximum(own - others.max(1), 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(probabilities > 0, probabilities * np.log(probabilities), 0)
    return 1 + terms.sum(1) / np.log(full.shape[1])


def drawn(random, shape):
    """Logits as networks have them, noise, with ties, far apart, or of 8 bits; with the scale of a byte's level."""
    noise = random.standard_normal(shape).astype(np.float32)
    regions = avg_pool2d(torch.from_numpy(noise), 5, 1, 2).numpy()
    classes = shape[1]
    match random.integers(6):
        case 0:
            return 3 * noise, {}
        case 1:
            return 40 * regions, {}
        case 2:
            return np.round(2 * noise), {}
        case 3:
            return 1000 * regions, {}
        case 4:
            levels = np.clip(200 * regions + 128, 0, 255).astype(np.uint8)
            return levels, {"scale": 0.2, "zero_point": int(random.integers(0, 256))}
        case _:
            scales = random.uniform(0.05, 0.3, classes).astype(np.float32)
            levels = np.clip(200 * regions + 128, 0, 255).astype(np.uint8)
            return levels, {"scale": scales.tolist(), "zero_point": random.integers(0, 256, classes).tolist()}


def meant(logits, ranges):
    """What levels stand for."""
    if not ranges:
        return logits
    scale, zero_point = (np.asarray(each, np.float64).reshape(-1, 1, 1) for each in ranges.values())
    return (logits - zero_point) * scale


def check(case):
    """One case; returns pixels, and how many of them are farther from float64 than a level of a byte."""
    random = np.random.default_rng(case)
    classes = int(random.choice([1, 2, 3, 11, 19, 40, 150]))
    shape = (int(random.integers(1, 3)), classes, *(int(n) for n in random.integers(1, 40, 2)))
    size = tuple(int(n) for n in random.integers(1, 150, 2))
    rule, measure = str(random.choice(get_args(Coordinates))), str(random.choice(MEASURES))
    temperature, threads = float(random.choice([1, 0.4, 1.3, 3])), int(random.integers(1, 4))
    layout = str(random.choice(["NCHW", "NHWC"]))
    logits, ranges = drawn(random, shape)
    given = logits if layout == "NCHW" else np.ascontiguousarray(logits.transpose(0, 2, 3, 1))
    options = {"layout": layout, "coordinates": rule, "threads": threads, **ranges}
    alone = kerbseg.upsample_argmax(given, size, **options)
    sure = {"confidence": measure, "temperature": temperature}
    ids, floats = kerbseg.upsample_argmax(given, size, **options, **sure)
    ids_too, levels = kerbseg.upsample_argmax(given, size, **options, **sure, dtype="uint8")
    assert (ids == alone).all(), case
    assert (ids_too == alone).all(), case
    assert (floats.dtype, levels.dtype) == (np.float32, np.uint8)
    assert floats.min() >= 0, case
    assert floats.max() <= 1, case
    full = interpolated(meant(logits, ranges), size, rule) / temperature
    expected = measured(full, ids, measure)
    # float32 weights and logits: what they lack, times how far apart the logits are
    slack = 1e-6 + 1e-6 * np.ptp(full)
    assert np.abs(floats - expected).max() <= slack, (case, np.abs(floats - expected).max(), slack)
    assert np.abs(levels - 255 * expected).max() <= 0.52 + 255 * slack, case
    return levels.size, int((np.abs(levels / 255 - expected) > 1 / 255).sum())


def test_confidence_is_that_of_float64():
    pixels, far = np.sum([check(case) for case in range(30)], 0)
    assert far <= 1e-3 * pixels


@pytest.mark.slow
def test_confidence_is_that_of_float64_in_thousands_of_cases():
    pixels, far = np.sum([check(case) for case in range(1000, 4000)], 0)
    print(f"{far} of {pixels} pixels are farther than 1/255")
    assert far <= 1e-3 * pixels


@pytest.mark.parametrize("measure", MEASURES)
def test_confidence_of_extreme_logits_is_a_number(measure):
    random = np.random.default_rng(0)
    for magnitude in (1e-30, 1e4, 1e30, 3e38):
        logits = random.choice([-1.0, 0.5, 1], (1, 5, 9, 8)).astype(np.float32) * np.float32(magnitude)
        for dtype in ("float32", "uint8"):
            ids, sure = kerbseg.upsample_argmax(logits, (36, 32), confidence=measure, dtype=dtype)
            assert (ids == kerbseg.upsample_argmax(logits, (36, 32))).all()
            assert np.isfinite(sure).all()
            assert sure.max() <= (1 if dtype == "float32" else 255)


def test_cells_between_four_certain_pixels_are_filled_and_their_borders_are_not():
    logits = np.zeros((1, 3, 16, 64), np.float32)
    logits[:, 0, :, :40], logits[:, 2, :, 40:] = 8, 8
    ids, sure = kerbseg.upsample_argmax(logits, (64, 256), confidence=True, dtype="uint8")
    expected = measured(interpolated(logits, (64, 256), "half_pixel"), ids, "probability")
    assert np.abs(sure - 255 * expected).max() <= 0.52
    assert sure.min() < 230 < 255 == sure[0, :, :150].min()


@pytest.mark.parametrize(("options", "said"), [({"confidence": "entrpy"}, "entropy"), ({"dtype": "int8"}, "uint8")])
def test_a_word_that_is_no_confidence_is_refused(options, said):
    with pytest.raises(InputError, match=said):
        kerbseg.upsample_argmax(np.zeros((1, 3, 4, 5), np.float32), (8, 10), **({"confidence": True} | options))
    with pytest.raises(InputError):
        torchs_confidence(np.zeros((1, 4, 5), np.uint8), torch.zeros(1, 3, 4, 5), None, "entrpy")


# ---- runtimes

SIZE = (64, 96)
PICTURES = np.random.default_rng(5).integers(0, 256, (3, *SIZE, 3), np.uint8)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """One network as a bundle and in every exported form, with a temperature; its logits are far apart."""
    folder = tmp_path_factory.mktemp("confidence")
    bundle = random_bundle("mininet_v2_cpu", label_set("camvid"), seed=0)
    with torch.no_grad():
        bundle.model.output.weight *= 40
        bundle.model.output.bias *= 40
    card = replace(bundle.card, input_size=SIZE, scores={"calibration": {"temperature": 1.7}})
    bundle = Bundle(bundle.model, card)
    save(bundle, folder / "m.safetensors")
    export(bundle, folder / "m.onnx", size=SIZE, pictures=PICTURES[:1])
    model, exported = openvino_export.converted(bundle, SIZE)
    openvino_export.save(model.clone(), exported, folder / "m.xml")
    graph = openvino_export.OpenvinoGraph()
    logits = graph.logits_of(model)
    scale, zero_point = uint8_levels(logits(picture[None]) for picture in PICTURES)
    levels = replace(exported.last_stage, dtype="uint8", scale=scale, zero_point=zero_point)
    graph.save(graph.on_levels(model, levels), replace(exported, last_stage=levels), folder / "uint8.xml")
    return folder


RUNTIMES = [
    ("m.safetensors", {}),
    ("m.safetensors", {"engine": "torch-eager"}),
    pytest.param("m.safetensors", {"engine": "torch-compiled"}, marks=pytest.mark.slow),
    ("m.safetensors", {"precision": "bfloat16"}),
    ("m.onnx", {}),
    ("m.xml", {}),
    ("m.xml", {"precision": "bfloat16"}),
    ("uint8.xml", {}),
]


@pytest.mark.parametrize(("file", "options"), RUNTIMES)
def test_every_runtime_gives_the_softmax_of_its_logits(file, options, models):
    runtime = open_runtime(models / file, threads=1, **options)
    ids, logits = runtime.with_logits(PICTURES)
    assert (ids == runtime(PICTURES)).all()
    for measure in MEASURES:
        expected = measured(logits.double().numpy() / 1.7, ids, measure)
        for dtype, most in (("float32", 1e-4), ("uint8", 1 / 255)):
            again, sure = runtime.with_confidence(PICTURES, measure=measure, dtype=dtype)
            assert (again == ids).all()
            far = np.abs(sure / (255 if dtype == "uint8" else 1) - expected) > most
            assert far.mean() <= 1e-3, (measure, dtype)
    assert 0.1 < (runtime.with_confidence(PICTURES, dtype="uint8")[1] == 255).mean() + expected.std() < 1.5


@pytest.mark.parametrize("file", ["m.onnx", "m.xml"])
def test_float_files_are_within_a_level_of_torchs_softmax(file, models):
    theirs = open_runtime(models / "m.safetensors", threads=1)
    expected = (theirs.upsampled_logits(PICTURES).double() / 1.7).softmax(1).amax(1).numpy()
    _, levels = open_runtime(models / file, threads=1).with_confidence(PICTURES, dtype="uint8")
    assert (np.abs(levels / 255 - expected) <= 1 / 255).mean() >= 0.999


def test_the_first_call_of_a_process_is_no_other(models):
    stage = UpsampleArgmax((4, 6), (8, 12), False, (8, 12))
    logits = np.random.default_rng(1).standard_normal((1, 4, 6, 5)).astype(np.float32)
    assert (stage.with_confidence(logits)[0] == stage(logits)).all()
    with pytest.raises(KerbsegError):
        stage.with_confidence(logits[:, :3])


def test_torchs_own_interpolation_is_the_reference_too():
    logits = torch.randn(1, 7, 12, 10, generator=torch.Generator().manual_seed(0)) * 4
    full = interpolate(logits, (50, 44), mode="bilinear").double()
    ids = full.argmax(1).to(torch.uint8).numpy()
    _, sure = kerbseg.upsample_argmax(logits, (50, 44), confidence=True)
    assert np.abs(sure - full.softmax(1).amax(1).numpy()).max() <= 2e-6
    assert np.abs(measured(full.numpy(), ids, "probability") - sure).max() <= 2e-6


def test_load_is_used_for_a_bundle_in_memory(models):
    bundle = load(models / "m.safetensors")
    ids, sure = open_runtime(bundle).with_confidence(PICTURES[:1], dtype="uint8")
    assert ids.shape == sure.shape == (1, *SIZE)


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_of_float16_logits_confidence_is_the_softmax_of_their_values(layout):
    logits = (torch.randn(1, 11, 16, 24, generator=torch.Generator().manual_seed(2)) * 4).half()
    expected = interpolate(logits.double(), (64, 96), mode="bilinear").softmax(1).amax(1).numpy()
    given = logits.numpy() if layout == "NCHW" else np.ascontiguousarray(logits.numpy().transpose(0, 2, 3, 1))
    _, levels = kerbseg.upsample_argmax(given, (64, 96), layout=layout, confidence=True, dtype="uint8")
    assert (np.abs(levels / 255 - expected) <= 1 / 255).all()


@pytest.mark.parametrize("file", ["m.onnx", "m.xml"])
def test_what_an_exported_file_leaves_unknown_is_what_torchs_softmax_is_unsure_of(file, models):
    theirs = open_runtime(models / "m.safetensors", threads=1)
    sure = (theirs.upsampled_logits(PICTURES[:1]).double() / 1.7).softmax(1).amax(1).numpy()[0]
    ids = kerbseg.Predictor(models / file, unknown=0.5)(PICTURES[0]).ids
    clear = np.abs(sure - 0.5) > 1 / 255  # nearer, rounding decides
    assert 0.05 < (sure < 0.5).mean() < 0.95
    assert ((ids == 255) == (sure < 0.5))[clear].mean() >= 0.999


@pytest.mark.slow
@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize(("suffix", "in_bytes"), [(".onnx", False), (".xml", False), (".xml", True)])
def test_an_int8_file_gives_the_softmax_of_its_own_logits(suffix, in_bytes, measure, models, tmp_path):
    pytest.importorskip("nncf", reason="nncf is not installed")
    engine = next(each for each in ENGINES.values() if each.suffix == suffix)
    quantizer = Quantizer.of_bundle(load(models / "m.safetensors"), engine, SIZE, open_dataset("scenes", "train"), 4)
    quantized = quantizer.quantize_all()
    path = tmp_path / f"int8{suffix}"
    quantizer.save(quantizer.with_uint8_logits(quantized) if in_bytes else quantized, path)
    runtime = open_runtime(path, threads=1)
    assert (runtime.precision, runtime.last_stage.dtype) == ("int8", "uint8" if in_bytes else "float32")
    ids, logits = runtime.with_logits(PICTURES)
    expected = measured(logits.double().numpy() / 1.7, ids, measure)
    for dtype in ("float32", "uint8"):
        again, sure = runtime.with_confidence(PICTURES, measure=measure, dtype=dtype)
        assert (again == ids).all()
        far = np.abs(sure / (255 if dtype == "uint8" else 1) - expected) > 1 / 255 + 1e-9
        assert far.mean() <= 1e-3
