"""Ids and confidence at full size: those of torch's interpolation, argmax and softmax, over all that may be asked."""

import subprocess
import sys
from dataclasses import dataclass, field
from typing import get_args

import numpy as np
import pytest
import torch
from numba import njit
from torch.nn.functional import avg_pool2d, interpolate

import kerbseg
from kerbseg.core.errors import BundleError, InputError, KerbsegError
from kerbseg.runtime import upsample_argmax
from kerbseg.runtime.upsample_argmax import Coordinates, UpsampleArgmax
from kerbseg.runtime.upsample_kernels import compiled

# other processors add without multiplying at once, and round otherwise
ROUNDS_AS_WE_DO = torch.backends.cpu.get_cpu_capability() in ("AVX2", "AVX512")


def smooth(seed: int, shape: tuple[int, ...]) -> torch.Tensor:
    """Logits with regions, and borders between them, as networks have them."""
    rough = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    return avg_pool2d(rough, 5, 1, 2)


def drawn(random: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Logits of one of the kinds that there are: noise, regions, many ties, large, half or 8 bits."""
    noise = random.standard_normal(shape).astype(np.float32)
    match random.integers(6):
        case 0:
            return noise
        case 1:
            return avg_pool2d(torch.from_numpy(noise), 5, 1, 2).numpy()
        case 2:
            return np.round(noise)
        case 3:
            return noise * np.float32(1e4)
        case 4:
            return noise.astype(np.float16)
        case _:
            return np.clip(noise * 40 + 128, 0, 255).astype(np.uint8)


def torchs(logits: np.ndarray, size: tuple[int, int], corners: bool) -> torch.Tensor:
    """Full-size logits, by the way that torch takes for four and more classes."""
    values = torch.from_numpy(logits.astype(np.float32))
    lacking = max(0, 4 - values.shape[1])
    values = torch.cat([values, torch.full((len(values), lacking, *values.shape[2:]), -1e9)], 1)
    return interpolate(values, size, mode="bilinear", align_corners=corners)


@dataclass
class Count:
    """Pixels by how they agree with torch; `near`: where torch rounds in another order, both are as good."""

    pixels: int = 0
    different: int = 0
    ties: int = 0
    near: int = 0
    cases: list[int] = field(default_factory=list)

    def add(self, case: int) -> None:
        random = np.random.default_rng(case)
        classes = int(random.choice([1, 2, 3, 4, 7, 19, 40, 256], p=[0.06, 0.1, 0.1, 0.14, 0.25, 0.25, 0.06, 0.04]))
        height, width = (int(n) for n in random.integers(1, 40, 2))
        if random.integers(3) == 0:  # exact multiples
            times = random.integers(1, 9, 2)
            size = (int(height * times[0]), int(width * times[1]))
        else:
            size = (int(random.integers(1, 180)), int(random.integers(1, 180)))
        corners, layout = bool(random.integers(2)), str(random.choice(["NCHW", "NHWC"]))
        logits = drawn(random, (int(random.integers(1, 3)), classes, height, width))
        given = logits if layout == "NCHW" else np.ascontiguousarray(logits.transpose(0, 2, 3, 1))
        threads = int(random.integers(1, 4))
        ids = kerbseg.upsample_argmax(given, size, align_corners=corners, layout=layout, threads=threads)
        full = torchs(logits, size, corners)
        other = ids != full.argmax(1).numpy()
        self.pixels += other.size
        if other.any():
            lost = (full.amax(1) - full.gather(1, torch.from_numpy(ids).long()[:, None])[:, 0]).numpy()
            same_order = ROUNDS_AS_WE_DO and sum(size) > 128
            close = lost <= (0 if same_order else 1e-6 * np.abs(logits.astype(np.float32)).max())
            self.ties += int((other & (lost == 0)).sum())
            self.near += int((other & close & (lost > 0)).sum())
            self.different += int((other & ~close).sum())
            self.cases += [case] * bool((other & ~close).any())


def test_ids_are_those_of_torch():
    count = Count()
    for case in range(150):
        count.add(case)
    assert (count.different, count.cases) == (0, []), count
    assert count.ties + count.near < 1e-4 * count.pixels


@pytest.mark.slow
def test_ids_are_those_of_torch_in_thousands_of_cases():
    count = Count()
    for case in range(1000, 3500):
        count.add(case)
    print(count)
    assert (count.different, count.cases) == (0, []), count
    assert count.ties + count.near < 1e-5 * count.pixels


@pytest.mark.parametrize("case", range(40))
def test_the_way_of_a_first_picture_gives_the_same_ids(case, monkeypatch):
    random = np.random.default_rng(case)
    shape = (2, int(random.choice([1, 3, 19])), *(int(n) for n in random.integers(1, 30, 2)))
    size, rule = tuple(int(n) for n in random.integers(1, 90, 2)), str(random.choice(get_args(Coordinates)))
    logits = drawn(random, shape)
    ids = kerbseg.upsample_argmax(logits, size, coordinates=rule)
    monkeypatch.setattr(upsample_argmax, "_is_first_without_kernels", lambda: True)
    assert (kerbseg.upsample_argmax(logits, size, coordinates=rule) == ids).all()


@pytest.mark.parametrize("case", range(12))
def test_confidence_is_the_softmax_of_the_interpolated_logits(case):
    random = np.random.default_rng(case)
    classes = int(random.choice([1, 2, 19, 256]))
    shape = (2, classes, int(random.integers(1, 30)), int(random.integers(1, 30)))
    size = (int(random.integers(1, 90)), int(random.integers(1, 200)))
    corners, temperature = bool(case % 2), float(random.choice([1, 0.5, 2.3]))
    logits = random.standard_normal(shape).astype(np.float32) * 3
    ids, confidence = kerbseg.upsample_argmax(
        logits, size, align_corners=corners, confidence=True, temperature=temperature, threads=1 + case % 3
    )
    full = interpolate(torch.from_numpy(logits), size, mode="bilinear", align_corners=corners).double()
    own = (full / temperature).softmax(1).gather(1, torch.from_numpy(ids).long()[:, None])[:, 0]
    assert np.abs(own.numpy() - confidence).max() <= 1e-6
    assert (ids == kerbseg.upsample_argmax(logits, size, align_corners=corners)).all()


@pytest.mark.parametrize("magnitude", [40, 1e4, 3e38])
def test_confidence_of_large_logits_keeps_its_digits(magnitude):
    logits = np.random.default_rng(0).choice([-1.0, 0.999, 1], (1, 5, 9, 8)).astype(np.float32) * np.float32(magnitude)
    ids, confidence = kerbseg.upsample_argmax(logits, (36, 32), confidence=True)
    full = interpolate(torch.from_numpy(logits).double(), (36, 32), mode="bilinear")  # weights of few bits: exact
    own = full.softmax(1).gather(1, torch.from_numpy(ids).long()[:, None])[:, 0].numpy()
    certain = magnitude * 2**-23 < 1e-4  # else two that are as good as equal may change places
    assert np.abs(own - confidence).max() <= 1e-6 or not certain
    assert np.isfinite(confidence).all()
    assert confidence.max() <= 1


def test_many_classes_that_are_negligible_one_by_one_count_together():
    logits = np.full((1, 256, 4, 4), -17.5, np.float32)
    logits[:, 3] = 0
    _, confidence = kerbseg.upsample_argmax(logits, (16, 16), confidence=True)
    assert np.abs(confidence - 1 / (1 + 255 * np.exp(-17.5))).max() <= 2e-7


@pytest.mark.parametrize("corners", [True, False])
@pytest.mark.parametrize("factor", [1, 2, 4, 8])
def test_at_the_sizes_of_real_networks_with_a_cropped_picture(factor, corners):
    logits = smooth(factor, (1, 19, 128 // factor, 256 // factor))
    inner, padded, size = (128 // factor, 256 // factor), (128, 256), (120, 250)
    ids = UpsampleArgmax(inner, padded, corners, size, 2)(logits.permute(0, 2, 3, 1).numpy())
    full = interpolate(logits, padded, mode="bilinear", align_corners=corners)[..., :120, :250]
    assert (torch.from_numpy(ids) == full.argmax(1)).float().mean() > 0.9999
    assert (full.amax(1) - full.gather(1, torch.from_numpy(ids).long()[:, None])[:, 0]).max() <= 1e-6


def asymmetric(logits: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Interpolated as ONNX says it: place = output place * input size / output size."""
    for axis, target in zip((2, 3), size, strict=True):
        source = logits.shape[axis]
        place = np.arange(target) * source / target
        before = place.astype(int)
        weight = np.expand_dims(place - before, tuple(n for n in range(4) if n != axis))
        after = np.minimum(before + 1, source - 1)
        logits = logits.take(before, axis) * (1 - weight) + logits.take(after, axis) * weight
    return logits


@pytest.mark.parametrize("size", [(24, 44), (17, 29), (5, 6), (12, 11), (1, 90)])
def test_asymmetric_coordinates_are_those_of_onnx(size):
    logits = smooth(1, (2, 6, 12, 11)).numpy()
    ids = kerbseg.upsample_argmax(logits, size, coordinates="asymmetric")
    full = asymmetric(logits.astype(np.float64), size)
    assert (full.max(1) - np.take_along_axis(full, ids[:, None].astype(int), 1)[:, 0]).max() <= 1e-5
    assert (ids == full.argmax(1)).mean() > 0.998
    if size == (24, 44):
        assert (ids != kerbseg.upsample_argmax(logits, size)).any()


def test_of_equal_logits_the_first_class_wins_as_in_torch():
    logits = np.zeros((1, 5, 6, 4), np.float32)
    logits[..., 2:] = 1
    assert (UpsampleArgmax((5, 6), (10, 12), False, (10, 12))(logits) == 2).all()
    swapped = np.array([[[[1.0, 0]], [[0, 1]]]], np.float32)  # classes change places, and are equal in the middle
    assert (kerbseg.upsample_argmax(swapped, (1, 3), align_corners=True) == [[[0, 0, 1]]]).all()


@pytest.mark.parametrize(("scale", "zero_point"), [(0.1, 7), ([0.1, 0.2, 0.05, 0.1, 0.3], [0, 5, 100, 7, 9])])
def test_uint8_logits_mean_what_their_scale_says(scale, zero_point):
    integers = np.random.default_rng(2).integers(0, 256, (1, 5, 9, 14), np.uint8)
    ranges = [np.asarray(each, np.float32).reshape(-1, 1, 1) for each in (scale, zero_point)]
    meant = (integers - ranges[1]) * ranges[0]
    size = (36, 140)
    ids, confidence = kerbseg.upsample_argmax(integers, size, scale=scale, zero_point=zero_point, confidence=True)
    expected, sure = kerbseg.upsample_argmax(meant, size, confidence=True)
    assert (ids == expected).mean() > 0.999  # of integers, equal ones stay equal where they are interpolated
    assert np.abs(confidence - sure).max() <= 1e-5
    last_stage = UpsampleArgmax((9, 14), size, False, size, 2, scale=scale, zero_point=zero_point)
    assert (last_stage(integers.transpose(0, 2, 3, 1)) == ids).all()


def test_one_picture_tensors_and_views_are_taken_as_they_are():
    logits = smooth(5, (1, 7, 10, 12))
    ids = kerbseg.upsample_argmax(logits.numpy(), (40, 100))
    assert (kerbseg.upsample_argmax(logits[0], (40, 100)) == ids[0]).all()
    assert (kerbseg.upsample_argmax(logits.clone().requires_grad_(), (40, 100)) == ids).all()
    last = logits.contiguous(memory_format=torch.channels_last)
    assert (kerbseg.upsample_argmax(last, (40, 100)) == ids).all()
    assert (kerbseg.upsample_argmax(last.permute(0, 2, 3, 1).numpy()[0], (40, 100), layout="NHWC") == ids[0]).all()
    odd = np.repeat(logits.numpy(), 2, 3)[..., ::2]
    odd.flags.writeable = False
    assert (kerbseg.upsample_argmax(odd, (40, 100)) == ids).all()
    assert (kerbseg.upsample_argmax(odd.astype(">f4"), (40, 100)) == ids).all()
    negative = torch._neg_view(logits)
    assert (kerbseg.upsample_argmax(negative, (40, 100)) == kerbseg.upsample_argmax(-logits, (40, 100))).all()
    rounded = logits.bfloat16()
    assert (kerbseg.upsample_argmax(rounded, (40, 100)) == kerbseg.upsample_argmax(rounded.float(), (40, 100))).all()


FEW = np.zeros((1, 3, 4, 5), np.float32)


@pytest.mark.parametrize(
    ("logits", "options", "said"),
    [
        (FEW * np.nan, {}, "NaN or infinite"),
        (FEW - np.inf, {}, "NaN or infinite"),
        (FEW.astype(np.float64), {}, "logits are float64; give float32"),
        (FEW[0, 0], {}, r"logits are \[4, 5\]"),
        (FEW[:0], {}, "not empty"),
        (np.zeros((1, 300, 4, 5), np.float32), {}, "300 classes"),
        (FEW, {"layout": "CHWN"}, "choose NCHW or NHWC"),
        (FEW, {"size": (0, 5)}, r"size is \(0, 5\)"),
        (FEW, {"size": 8}, "size is 8"),
        (FEW, {"size": (2**31, 1)}, "16,777,216 pixels each"),
        (FEW, {"size": (8.5, 5)}, "size is"),
        (FEW, {"threads": 0}, "threads is 0"),
        (FEW, {"threads": 1.5}, "threads is 1.5"),
        (FEW, {"threads": "2"}, "threads is '2'"),
        (torch.zeros(1, 3, 4, 5).to_sparse(), {}, "give a dense one"),
        (torch.zeros(1, 3, 4, 5, device="meta"), {}, "give a dense one"),
        ([[1.0], [1.0, 2.0]], {}, "logits are no array"),
        (FEW, {"scale": 0.5}, "leave them out"),
        (FEW, {"temperature": 0}, "temperature is 0"),
        (FEW, {"coordinates": "tf_crop"}, "choose from: half_pixel"),
        (FEW, {"coordinates": "asymmetric", "align_corners": True}, "contradicts"),
        (FEW.astype(np.uint8), {"scale": -1}, "positive number"),
        (FEW.astype(np.uint8), {"scale": "a"}, "give numbers"),
        (FEW.astype(np.uint8), {"scale": []}, "finite numbers"),
        (FEW.astype(np.uint8), {"scale": 1, "zero_point": []}, "finite numbers"),
        (FEW.astype(np.uint8), {"scale": [1, 2, 3], "zero_point": np.nan}, "finite numbers"),
        (FEW.astype(np.uint8), {"scale": [1, 2, 3], "zero_point": None}, "finite numbers"),
        (FEW.astype(np.uint8), {"scale": [1, 2]}, "2 scales"),
        (FEW.astype(np.uint8), {"scale": [1, 1], "zero_point": 3}, "2 scales"),
        (FEW.astype(np.uint8), {"confidence": True}, "needs their scale"),
    ],
)
def test_what_it_cannot_take_is_refused_in_one_line(logits, options, said):
    with pytest.raises(KerbsegError, match=said) as error:
        kerbseg.upsample_argmax(logits, **({"size": (8, 10)} | options))
    assert isinstance(error.value, InputError | BundleError) or "threads" in said
    assert "\n" not in str(error.value)


def test_it_needs_no_torch():
    code = """
import sys
sys.modules["torch"] = None
import numpy as np, kerbseg
logits = np.random.default_rng(0).standard_normal((1, 5, 6, 7)).astype(np.float32)
print(kerbseg.upsample_argmax(logits, (12, 14)).shape)
"""
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert finished.stdout == "(1, 12, 14)\n", finished.stderr


def test_many_threads_may_call_at_once_and_a_forked_process_too():
    from concurrent.futures import ThreadPoolExecutor
    from multiprocessing import get_context

    pictures = [smooth(seed, (1, 5, 20, 30)).numpy() for seed in range(16)]
    alone = [kerbseg.upsample_argmax(each, (80, 120), threads=1) for each in pictures]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda each: kerbseg.upsample_argmax(each, (80, 120), threads=3), pictures))
    assert all((one == other).all() for one, other in zip(alone, together, strict=True))
    context = get_context("fork")
    queue = context.SimpleQueue()
    child = context.Process(target=lambda: queue.put(kerbseg.upsample_argmax(pictures[0], (80, 120), threads=3)))
    child.start()
    assert (queue.get() == alone[0]).all()
    child.join()


def test_numba_works_where_it_has_no_folder_for_what_it_compiles():
    names: dict = {}
    exec("def twice(x):\n    return 2 * x", names)  # of no file, so no folder fits
    with pytest.raises(RuntimeError, match="cannot cache"):
        njit(cache=True)(names["twice"])
    assert compiled(names["twice"])(21) == 42
