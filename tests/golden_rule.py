"""The golden numbers and their rule: weights and pictures that follow from names and sizes, and how near is near."""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from kerbseg.models import SegmentationNet

GOLDEN = Path(__file__).parent / "golden"  # its README.md says what is what
TOLERANCE = {"float64": 1e-10, "float32": 1e-4}  # of the standard deviation of the logits

Shapes = dict[str, list[int]]


def read_golden(name: str) -> dict[str, Any]:
    """The golden numbers of one network."""
    return _read(f"logits/{name}")


def read_keys(name: str) -> Shapes:
    """Names and shapes of the weights in an authors' file, in its order."""
    return _read(f"keys/{name}")


def read_variables(checkpoint: str) -> dict[str, tuple[str, list[int]]]:
    """Of every TensorFlow variable of an authors' checkpoint what it is in the network, and its shape."""
    return {name: (role, shape) for name, (role, shape) in _read(f"variables/{checkpoint}").items()}


def read_mistakes(name: str) -> dict[str, list[float]]:
    """What single mistakes in one network cost at its smallest golden size and at its largest (`deviation`)."""
    return {mistake: costs for mistake, costs in _read("mistakes")[name].items() if mistake != "sizes"}


def read_counts(row: str) -> dict[str, Any]:
    """Parameters and multiply-accumulates of one network, counted by other programs than ours."""
    return _read("counts")[row]


def filled(shapes: Mapping[str, list[int]], gain: float = 2) -> dict[str, torch.Tensor]:
    """Weights that follow from names and shapes."""
    return {
        key: torch.from_numpy(_value(key, shape, gain)) if shape else torch.tensor(0) for key, shape in shapes.items()
    }


def golden_state(golden: dict[str, Any]) -> dict[str, torch.Tensor]:
    """The weights under the authors' names, checked against their sum."""
    state, digest = filled(read_keys(golden["keys"]), golden["gain"]), hashlib.sha256()
    for value in state.values():
        if value.ndim:
            digest.update(value.numpy().astype("<f4").tobytes())
    assert digest.hexdigest() == golden["weights_sha256"]
    return state


def picture(height: int, width: int) -> torch.Tensor:
    """The picture of that size, float32 [1 3 h w]."""
    pixels = np.random.RandomState(0).uniform(0, 1, (1, 3, height, width))
    return torch.from_numpy(pixels.astype(np.float32))


def check(net: nn.Module, golden: dict[str, Any], precision: str) -> None:
    """Asserts that the network gives the golden logits at each size."""
    dtype = getattr(torch, precision)
    net = net.to(dtype).eval()
    assert golden["cases"]
    for size, case in golden["cases"].items():
        height, width = map(int, size.split("x"))
        with torch.no_grad():
            compare(net(picture(height, width).to(dtype)), case, precision, size)


def check_outputs(net: SegmentationNet, golden: dict[str, Any], precision: str, sizes: Iterable[str]) -> None:
    """Asserts that the network's own logits are golden, and at sizes that have them its heads' and its picture's."""
    dtype = getattr(torch, precision)
    net = net.to(dtype).eval()
    for size in sizes:
        height, width = map(int, size.split("x"))
        with torch.no_grad():
            logits, heads = net.with_heads(picture(height, width).to(dtype))
            outputs = heads | {"picture": net.upsample(logits, (height, width))}
        compare(logits, golden["cases"][size], precision, size)
        for name, cases in golden["heads"].items():
            if size in cases:
                compare(outputs[name], cases[size], precision, f"{name} at {size}")


def compare(output: torch.Tensor, case: Mapping[str, Any], precision: str, where: str) -> None:
    """Asserts that an output is that of a golden case."""
    logits, expected = output.numpy(), case[precision]
    near = {"rtol": 0, "atol": TOLERANCE[precision] * expected["std"], "err_msg": where}
    assert list(logits.shape) == case["shape"]
    np.testing.assert_allclose(samples(logits), expected["samples"], **near)
    for statistic in ("mean", "std", "min", "max"):
        np.testing.assert_allclose(getattr(logits, statistic)(), expected[statistic], **near)
    if "argmax" in expected:
        counts = np.bincount(logits.argmax(1).ravel(), minlength=logits.shape[1])
        moved = np.abs(counts - expected["argmax"]).sum()
        assert moved <= (0 if precision == "float64" else 4)  # two pixels that change class


def samples(logits: np.ndarray) -> np.ndarray:
    """The 64 values of an output that golden files hold."""
    return logits.ravel()[np.random.RandomState(1).randint(0, logits.size, 64)]


def deviation(output: torch.Tensor, case: Mapping[str, Any]) -> float:
    """How far an output is from its golden case, as `mistakes.json` says it: over the samples, of their deviation."""
    expected = case["float64"]
    return float(np.abs(samples(output.numpy()) - expected["samples"]).max() / expected["std"])


def _read(name: str) -> dict[str, Any]:
    table: dict[str, Any] = json.loads((GOLDEN / f"{name}.json").read_text())
    return table


def _value(key: str, shape: list[int], gain: float) -> np.ndarray:
    noise = np.random.RandomState(zlib.crc32(key.encode())).standard_normal(tuple(shape))
    if len(shape) >= 2:
        values = noise * np.sqrt(gain / (noise.size / shape[0]))
    elif key.endswith("_mean"):  # torch's and Paddle's
        values = 0.1 * noise
    elif key.endswith(("running_var", "_variance")):
        values = np.exp(0.2 * noise)
    elif key.endswith("_scale"):
        values = np.ones_like(noise)
    elif key.endswith("weight"):
        values = 1 + 0.1 * noise
    else:
        values = 0.1 * noise
    return values.astype(np.float32)
