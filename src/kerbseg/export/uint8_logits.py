"""The 256 levels of 8-bit logits, from what a network says of calibration pictures."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from jaxtyping import Float32

from kerbseg.exported_card import LEVELS
from kerbseg.runtime.checks import check_finite


def uint8_levels(logits: Iterable[Float32[np.ndarray, "b k H W"]]) -> tuple[float, int]:
    """Scale and zero point of levels q, which stand for `scale * (q - zero_point)`.

    They reach from the smallest runner-up of any pixel to the largest logit: what lies below every runner-up wins
    nowhere, and the levels are closer than over all that occurs (docs/deployment.md compares the two). One range serves
    all classes, so that levels have the order of the logits. Raises KerbsegError for logits that are not finite.
    """
    low = high = np.float32(0)  # inside the range, as a zero point has to be
    for each in logits:
        check_finite(each)
        largest, second = _two_largest(each)
        low, high = min(low, second.min()), max(high, largest.max())
    scale = float(np.float32((high - low) / (LEVELS - 1))) or 1.0
    return scale, round(float(-low) / scale)


def _two_largest(logits: Float32[np.ndarray, "b k H W"]) -> tuple[np.ndarray, np.ndarray]:
    """The largest logit of each pixel and its runner-up; of one class it is both."""
    largest = logits[:, 0]
    second = logits[:, 0] if logits.shape[1] == 1 else np.full_like(largest, -np.inf)
    for plane in logits.transpose(1, 0, 2, 3)[1:]:
        second = np.maximum(second, np.minimum(largest, plane))
        largest = np.maximum(largest, plane)
    return largest, second
