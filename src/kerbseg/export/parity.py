"""How far an exported file agrees with the bundle that it was made from."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8

from kerbseg.bundle import Bundle
from kerbseg.core.errors import KerbsegError
from kerbseg.core.text import counted
from kerbseg.core.types import Dataset
from kerbseg.export.graph import DeployGraph
from kerbseg.runtime import open_runtime
from kerbseg.runtime.checks import check_finite
from kerbseg.runtime.segment import letterboxed

FLOOR = 0.999  # share of equal pixels


@dataclass(frozen=True)
class Parity:
    """Agreement of class ids and of logits before the last interpolation."""

    equal: float  # share of pixels of the same class
    largest_difference: float  # of logits
    largest_logit: float  # in torch, by magnitude
    pictures: int

    def __str__(self) -> str:
        return (
            f"{self.equal:.4%} of the pixels of {counted(self.pictures, 'picture')} as in torch; largest difference of"
            f" a logit {self.largest_difference:.2g}, of logits up to {self.largest_logit:.3g}"
        )

    def to_dict(self) -> dict[str, float]:
        """As `kerbseg export --json` writes it."""
        return asdict(self)

    def checked(self, path: Path, floor: float = FLOOR) -> Parity:
        """Itself. Raises KerbsegError where fewer pixels agree than `floor`."""
        if not (self.equal >= floor and math.isfinite(self.largest_difference)):  # NaN is a difference too
            raise KerbsegError(f"{path} would not agree with its bundle: {self}; nothing was written")
        return self


def parity(bundle: Bundle, path: Path, pictures: Sequence[UInt8[np.ndarray, "h w 3"]]) -> Parity:
    """Runs pictures of the file's size through the file and through torch: ids of the bundle as it is evaluated."""
    exported, reference = open_runtime(path), open_runtime(bundle)
    graph = DeployGraph(bundle, exported.size or exported.card.input_size).eval()
    equal, differences, largest = [], [], []
    for picture in pictures:
        with torch.inference_mode():
            _, logits = graph(torch.from_numpy(np.ascontiguousarray(picture[None])))
        check_finite(logits)
        equal.append(float((exported(picture[None]) == reference(picture[None])).mean()))
        theirs = exported.logits(picture[None])
        check_finite(theirs)
        differences.append(float(np.abs(theirs - logits.numpy()).max()))
        largest.append(float(logits.abs().max()))
    return Parity(float(np.mean(equal)), max(differences), max(largest), len(pictures))


def pictures_of(dataset: Dataset, size: tuple[int, int], count: int) -> list[UInt8[np.ndarray, "h w 3"]]:
    """Pictures spread over a split, at a size, as a runtime of one size sees them."""
    chosen = np.linspace(0, len(dataset) - 1, min(count, len(dataset))).round().astype(int)
    return [letterboxed(dataset[int(i)].image, size).input[0] for i in chosen]
