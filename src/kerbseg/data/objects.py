"""Objects in a mask: connected pixels of one class, found without any library of picture processing."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Int, UInt8

Runs = Int[np.ndarray, "n 3"]  # row, first column, column after the last


def centres(mask: UInt8[np.ndarray, "h w"], train_id: int, smallest: int = 1) -> list[tuple[float, float]]:
    """(x, y) of the centre of gravity of each object of a class that has at least so many pixels.

    Pixels that touch at a side or a corner are one object, so two cars behind each other count once.
    """
    runs = _runs(mask == train_id)
    if not len(runs):
        return []
    owner = _join(runs)
    pixels = (runs[:, 2] - runs[:, 1]).astype(float)
    size = np.bincount(owner, pixels)
    y = np.bincount(owner, pixels * runs[:, 0]) / size.clip(min=1)
    x = np.bincount(owner, pixels * (runs[:, 1] + runs[:, 2] - 1) / 2) / size.clip(min=1)
    return [(float(x[i]), float(y[i])) for i in np.flatnonzero(size >= max(1, smallest))]


def _runs(inside: Bool[np.ndarray, "h w"]) -> Runs:
    """Stretches of true pixels, row by row."""
    edges = np.diff(np.pad(inside, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    rows, starts = np.nonzero(edges == 1)
    _, ends = np.nonzero(edges == -1)
    return np.stack([rows, starts, ends], axis=1)


def _join(runs: Runs) -> Int[np.ndarray, " n"]:
    """For each stretch, the first stretch of its object."""
    parent = list(range(len(runs)))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    above, stretches = 0, runs.tolist()
    for i, (row, start, end) in enumerate(stretches):
        while stretches[above][0] < row - 1 or (stretches[above][0] == row - 1 and stretches[above][2] < start):
            above += 1
        other = above
        while other < i and stretches[other][0] == row - 1 and stretches[other][1] <= end:
            first, second = sorted((root(other), root(i)))
            parent[second] = first
            other += 1
    return np.array([root(i) for i in range(len(runs))])
