"""What the doctor says of a data set: figures, class weights, problems."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np

from kerbseg.core.labels import LabelSet
from kerbseg.data.statistics import enet_weights, median_frequency_weights

Kind = Literal[
    "layout", "partner", "unreadable", "size", "unknown", "leak", "absent", "unlabelled", "palette", "orientation"
]


@dataclass(frozen=True)
class Problem:
    """One line on what must be mended before the data set can be trusted."""

    kind: Kind
    text: str
    files: tuple[str, ...] = ()  # all that it is about; the text names the first


@dataclass(frozen=True)
class Suspicion:
    """What looks wrong and may be right: one to look at."""

    kind: Literal["shifted", "edges", "shares", "alike"]
    split: str
    pictures: tuple[tuple[str, str], ...]  # (split, name)
    text: str


@dataclass(frozen=True)
class UnknownInFile:
    """A value outside the label set in one mask, and the first pixel that holds it."""

    file: str
    value: str
    pixels: int
    row: int
    column: int


@dataclass(frozen=True)
class SplitReport:
    """Figures and problems of one split."""

    data: str
    split: str
    labels: LabelSet
    pictures: int  # with their masks
    unlabelled: int  # of them, those whose labels the benchmark keeps to itself
    sizes: Mapping[tuple[int, int], int]  # (height, width) -> pictures
    pixels: tuple[int, ...]  # of each class
    containing: tuple[int, ...]  # pictures that show the class
    void: int  # pixels
    unknown: tuple[UnknownInFile, ...] = ()
    damage: tuple[Problem, ...] = ()  # all but unknown values
    notes: tuple[str, ...] = ()  # what is worth knowing, and nothing to mend
    fingerprints: Mapping[str, str] = field(default_factory=dict, repr=False)  # picture -> digest of its pixels
    tiny: Mapping[str, np.ndarray] = field(default_factory=dict, repr=False)  # picture -> its few gray pixels
    suspicions: tuple[Suspicion, ...] = ()

    @property
    def labelled_pixels(self) -> int:
        """Pixels of all masks, VOID and unknown ones included."""
        return sum(self.pixels) + self.void + sum(value.pixels for value in self.unknown)

    @property
    def void_share(self) -> float:
        """Share of the masks' pixels that is VOID; unknown values are not counted as such."""
        return self.void / max(self.labelled_pixels, 1)

    @property
    def shares(self) -> tuple[float, ...]:
        """Share of the masks' pixels of each class."""
        return tuple(pixels / max(self.labelled_pixels, 1) for pixels in self.pixels)

    @cached_property
    def class_weights(self) -> dict[str, tuple[float, ...]]:
        """Weights of each formula that recipes know; meant for training splits."""
        counts = np.array(self.pixels)
        weights = {f"enet c={c:.2f}": enet_weights(counts, self.void, c) for c in (1.02, 1.10)}
        weights |= {f"median_frequency power={p:g}": median_frequency_weights(counts, p) for p in (0.12, 1.0)}
        return {formula: tuple(each.tolist()) for formula, each in weights.items()}

    @property
    def problems(self) -> tuple[Problem, ...]:
        """Everything to mend; an unknown value is one problem, however many masks hold it."""
        by_value: dict[str, list[UnknownInFile]] = {}
        for each in self.unknown:
            by_value.setdefault(each.value, []).append(each)
        return (*self.damage, *(self._unknown_problem(value, places) for value, places in by_value.items()))

    def _unknown_problem(self, value: str, places: list[UnknownInFile]) -> Problem:
        first, pixels = places[0], sum(place.pixels for place in places)
        return Problem(
            "unknown",
            f"{self.split}: value {value} is outside label set {self.labels.name!r}: {pixels}"
            f" pixels in {len(places)} mask(s), the first in {first.file} at row {first.row}, column {first.column};"
            " give it to a class or ignore it in the label set, or correct the masks",
            tuple(place.file for place in places),
        )

    def to_dict(self) -> dict[str, Any]:
        """All figures, as JSON can hold them."""
        classes = self.labels.classes
        figures = zip(self.pixels, self.shares, self.containing, strict=True)
        return {
            "pictures": self.pictures,
            "unlabelled": self.unlabelled,
            "sizes": [{"height": h, "width": w, "pictures": n} for (h, w), n in self.sizes.items()],
            "void_pixels": self.void,
            "void_share": self.void_share,
            "classes": {
                name: {"pixels": pixels, "share": share, "pictures": pictures}
                for name, (pixels, share, pictures) in zip(classes, figures, strict=True)
            },
            "class_weights": {
                formula: dict(zip(classes, weights, strict=True)) for formula, weights in self.class_weights.items()
            },
            "unknown": [asdict(value) for value in self.unknown],
            "problems": [asdict(problem) for problem in self.problems],
            "notes": list(self.notes),
        }


@dataclass(frozen=True)
class Copies:
    """(split, picture) of pictures that are equal in every pixel."""

    places: tuple[tuple[str, str], ...]

    @property
    def leak(self) -> bool:
        """Whether training and judging share the picture; `train` and `train_coarse` may."""
        return len({split.partition("_")[0] for split, _ in self.places}) > 1


@dataclass(frozen=True)
class DatasetReport:
    """All splits of a data set, and what only shows between them."""

    data: str
    splits: tuple[SplitReport, ...]
    unopened: tuple[Problem, ...] = ()  # splits whose folders are wrong
    copies: tuple[Copies, ...] = ()
    near_copies: tuple[Suspicion, ...] = ()

    @property
    def suspicions(self) -> tuple[Suspicion, ...]:
        """All that is worth a look: first what shows between splits, then each split's own."""
        return (*self.near_copies, *(each for split in self.splits for each in split.suspicions))

    @property
    def problems(self) -> tuple[Problem, ...]:
        """Everything to mend, in order of weight: layout, leaks, then each split's own."""
        own = (problem for split in self.splits for problem in split.problems)
        return (*self.unopened, *_leaks(self.copies), *own)

    @property
    def healthy(self) -> bool:
        """Whether there is nothing to mend."""
        return not self.problems

    def to_dict(self) -> dict[str, Any]:
        """All figures, as JSON can hold them."""
        return {
            "data": self.data,
            "healthy": self.healthy,
            "problems": [asdict(problem) for problem in self.problems],
            "suspicions": [asdict(suspicion) for suspicion in self.suspicions],
            "copies": [[list(place) for place in copies.places] for copies in self.copies],
            "splits": {split.split: split.to_dict() for split in self.splits},
        }


def _leaks(copies: tuple[Copies, ...]) -> list[Problem]:
    """One problem for each set of splits that share pictures."""
    shared: dict[tuple[str, ...], list[Copies]] = {}
    for each in copies:
        if each.leak:
            shared.setdefault(tuple(dict.fromkeys(split for split, _ in each.places)), []).append(each)
    return [
        Problem(
            "leak",
            f"splits {' and '.join(names)} share {len(pictures)} picture(s), such as"
            f" {' = '.join('/'.join(place) for place in pictures[0].places[:4])}; keep each picture in one split,"
            " or scores will be too high",
        )
        for names, pictures in shared.items()
    ]
