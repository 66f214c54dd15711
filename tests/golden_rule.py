"""The rule of the golden numbers: weights and pictures that follow from names and sizes, and how near is near."""

from __future__ import annotations

import hashlib
import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

TOLERANCE = {"float64": 1e-10, "float32": 1e-4}  # of the standard deviation of the logits


def read_golden(data: Path, name: str) -> dict[str, Any]:
    """The golden numbers of one network, or a skipped test where they are not."""
    path = data.parent / "reference" / "golden" / f"{name}.json"
    if not path.is_file():
        pytest.skip(f"no reference/golden/{name}.json beside KERBSEG_DATA")
    golden: dict[str, Any] = json.loads(path.read_text())
    return golden


def golden_state(golden: dict[str, Any]) -> dict[str, torch.Tensor]:
    """The weights under the authors' names, checked against their sum."""
    gain, digest, state = golden["fill_rule"]["gain"], hashlib.sha256(), {}
    for key, shape in golden["state"]:
        state[key] = torch.from_numpy(_value(key, shape, gain)) if shape else torch.tensor(0)
        if shape:
            digest.update(state[key].numpy().astype("<f4").tobytes())
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
    for case in golden["cases"]:
        with torch.no_grad():
            logits = net(picture(*case["input_size"]).to(dtype)).numpy()
        expected = case[precision]
        near = {"rtol": 0, "atol": TOLERANCE[precision] * expected["std"], "err_msg": f"{case['input_size']}"}
        assert list(logits.shape) == case["output_shape"]
        index = np.random.RandomState(1).randint(0, logits.size, 64)
        assert index.tolist() == case["sample_index"]
        np.testing.assert_allclose(logits.ravel()[index], expected["samples"], **near)
        for statistic in ("mean", "std", "min", "max"):
            np.testing.assert_allclose(getattr(logits, statistic)(), expected[statistic], **near)
        counts = np.bincount(logits.argmax(1).ravel(), minlength=logits.shape[1])
        moved = np.abs(counts - expected["argmax_histogram"]).sum()
        assert moved <= (0 if precision == "float64" else 4)  # two pixels that change class


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
