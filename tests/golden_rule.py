"""The golden numbers and their rule: weights and pictures that follow from names and sizes, and how near is near."""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

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
            logits = net(picture(height, width).to(dtype)).numpy()
        expected = case[precision]
        near = {"rtol": 0, "atol": TOLERANCE[precision] * expected["std"], "err_msg": size}
        assert list(logits.shape) == case["shape"]
        index = np.random.RandomState(1).randint(0, logits.size, 64)
        np.testing.assert_allclose(logits.ravel()[index], expected["samples"], **near)
        for statistic in ("mean", "std", "min", "max"):
            np.testing.assert_allclose(getattr(logits, statistic)(), expected[statistic], **near)
        counts = np.bincount(logits.argmax(1).ravel(), minlength=logits.shape[1])
        moved = np.abs(counts - expected["argmax"]).sum()
        assert moved <= (0 if precision == "float64" else 4)  # two pixels that change class


def _read(name: str) -> dict[str, Any]:
    table: dict[str, Any] = json.loads((GOLDEN / f"{name}.json").read_text())
    return table


def _value(key: str, shape: list[int], gain: float) -> np.ndarray:
    noise = np.random.RandomState(zlib.crc32(key.encode())).standard_normal(tuple(shape))
    if len(shape) >= 2:
        values = noise * np.sqrt(gain / (noise.size / shape[0]))
    elif key.endswith("running_mean"):
        values = 0.1 * noise
    elif key.endswith("running_var"):
        values = np.exp(0.2 * noise)
    elif key.endswith("weight"):
        values = 1 + 0.1 * noise
    else:
        values = 0.1 * noise
    return values.astype(np.float32)
