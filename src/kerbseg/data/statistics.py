"""How often classes occur, and the class weights that papers make of it."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

from kerbseg.core.types import VOID, Dataset, samples


def class_frequencies(dataset: Dataset) -> tuple[Int[np.ndarray, " k"], int]:
    """Pixels of each class, and of VOID."""
    counts = np.zeros(256, np.int64)
    for sample in samples(dataset):
        counts += np.bincount(sample.mask.ravel(), minlength=256)
    return counts[: len(dataset.labels)], int(counts[VOID])


def enet_weights(counts: Int[np.ndarray, " k"], void: int, c: float) -> Float[np.ndarray, " k"]:
    """1 / ln(c + p), where p is the class's share of ALL pixels, VOID included (ENet; ERFNet's lists agree)."""
    share = counts / max(int(counts.sum()) + void, 1)
    return 1 / np.log(c + share)


def median_frequency_weights(counts: Int[np.ndarray, " k"], power: float) -> Float[np.ndarray, " k"]:
    """(median / frequency) to a power; 0 for a class that does not occur.

    As MiniNet's authors count: from one on, and the median is over all classes, those that do not occur included.
    """
    frequency = counts + 1.0
    return np.where(counts > 0, (np.median(frequency) / frequency) ** power, 0.0)
