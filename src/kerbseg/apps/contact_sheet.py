"""The page of `kerbseg doctor --html`: a data set's pictures with their masks drawn on, and all that is wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from kerbseg.apps.html import data_uri, display_colors, render, thumbnail
from kerbseg.core.errors import DataError
from kerbseg.core.types import VOID, Dataset
from kerbseg.data import open_unchecked
from kerbseg.data.pairs import PairedFiles
from kerbseg.data.pictures import read_rgb
from kerbseg.data.report import DatasetReport, SplitReport
from kerbseg.predict.draw import blend_overlay

MOST_CARDS = 48  # pictures of the sheet itself
MOST_PROBLEMS, EXAMPLES = 20, 3  # that are shown with pictures, and pictures of each
MOST_SUSPICIONS = 24
THUMBNAIL_PX = 320  # longest side: with the numbers above, what bounds the page's size


@dataclass(frozen=True)
class Card:
    """One pair as the page shows it; without a picture where that cannot be read."""

    name: str
    picture: str | None
    note: str


def page(report: DatasetReport, root: str | Path | None = None) -> str:
    """The page as HTML; broken splits and files are on it with what is wrong."""
    album = _Album(report, root)
    labelled = [split for split in report.splits if split.labelled_pixels]
    problems = report.problems
    return render(
        "contact_sheet.html.j2",
        report=report,
        splits=report.splits,
        unlabelled=any(split.unlabelled for split in report.splits),
        sizes={split.split: _sizes(split) for split in report.splits},
        problems=[
            {"problem": each, "cards": _leaked(report, album) if each.kind == "leak" else album.of_files(each.files)}
            for each in problems[:MOST_PROBLEMS]
        ],
        more_problems=len(problems) - MOST_PROBLEMS,
        suspicions=[
            {"suspicion": each, "cards": [album.of_name(*place) for place in each.pictures]}
            for each in report.suspicions[:MOST_SUSPICIONS]
        ],
        more_suspicions=len(report.suspicions) - MOST_SUSPICIONS,
        notes=[*dict.fromkeys(note for split in report.splits for note in split.notes)],
        classes=_classes(labelled),
        labelled=labelled,
        sheets={split.split: album.spread(split.split) for split in report.splits},
    )


class _Album:
    """Draws pictures of a data set, each by itself, so that a broken one leaves the others whole."""

    def __init__(self, report: DatasetReport, root: str | Path | None) -> None:
        self._data, self._root = report.data, root
        self._splits = [split.split for split in report.splits]

    @cached_property
    def _datasets(self) -> dict[str, Dataset]:
        return {split: open_unchecked(self._data, split, self._root) for split in self._splits}

    @cached_property
    def _of_file(self) -> dict[str, tuple[str, int]]:
        """Split and index of each file of a pair."""
        places: dict[str, tuple[str, int]] = {}
        for split, dataset in self._datasets.items():
            if isinstance(dataset, PairedFiles):
                for index, pair in enumerate(dataset.listing.pairs):
                    places |= {str(file): (split, index) for file in (pair.image, pair.mask) if file is not None}
        return places

    @cached_property
    def _of_name(self) -> dict[tuple[str, str], int]:
        return {
            (split, name): index
            for split, dataset in self._datasets.items()
            for index, name in enumerate(dataset.names)
        }

    def of_files(self, files: Sequence[str]) -> list[Card]:
        """The pairs that the first of some pictures and masks belong to; a file without partner by itself."""
        return [
            self._card(*self._of_file[file]) if file in self._of_file else _lone(Path(file))
            for file in files[:EXAMPLES]
        ]

    def of_name(self, split: str, name: str) -> Card:
        """The pair of that name."""
        return self._card(split, self._of_name[split, name])

    def spread(self, split: str) -> list[Card]:
        """Pairs at equal distances through a split, as many as the sheet has room for."""
        count = len(self._datasets[split])
        shown = min(count, max(1, MOST_CARDS // len(self._splits)))
        return [self._card(split, int(index)) for index in np.linspace(0, count - 1, shown)]

    def _card(self, split: str, index: int) -> Card:
        dataset = self._datasets[split]
        name = f"{split}/{dataset.names[index]}"
        try:
            image, ids, note = _pair(dataset, index)
        except DataError:
            return Card(name, None, "cannot be read")
        if ids is not None and ids.shape != image.shape[:2]:
            ids, note = None, "the mask has another size"
        step = max(1, max(image.shape[:2]) // (2 * THUMBNAIL_PX))
        image = np.ascontiguousarray(image[::step, ::step])
        if ids is not None:
            image = blend_overlay(image, np.ascontiguousarray(ids[::step, ::step]), dataset.labels, 0.55)
        return Card(name, data_uri(thumbnail(image, THUMBNAIL_PX)), note)


def _leaked(report: DatasetReport, album: _Album) -> list[Card]:
    """The first pictures that stand in more than one split."""
    places = (place for copies in report.copies if copies.leak for place in copies.places)
    return [album.of_name(*place) for place in islice(places, 2 * EXAMPLES)]


def _lone(file: Path) -> Card:
    try:
        return Card(file.name, data_uri(thumbnail(read_rgb(file), THUMBNAIL_PX)), "no partner")
    except DataError:
        return Card(file.name, None, "cannot be read")


def _pair(dataset: Dataset, index: int) -> tuple[np.ndarray, np.ndarray | None, str]:
    """The picture, its ids, and what to say of them. Raises DataError where the picture cannot be read."""
    if not isinstance(dataset, PairedFiles):
        sample = dataset[index]
        return sample.image, sample.mask, ""
    image = dataset.picture(index)
    try:
        mask = dataset.mask(index)
    except DataError:
        return image, None, "the mask cannot be read"
    if mask is None:
        return image, None, "no labels"
    if mask.unknown:
        return image, mask.ids, f"unknown values: {', '.join(value.value for value in mask.unknown[:3])}"
    return image, mask.ids, "void alone" if (mask.ids == VOID).all() else ""


def _sizes(split: SplitReport) -> str:
    shown = [f"{height}x{width}" for height, width in split.sizes]
    return ", ".join(shown[:3]) + (f" and {len(shown) - 3} more" if len(shown) > 3 else "")


def _classes(labelled: Sequence[SplitReport]) -> list[dict[str, Any]]:
    """Color, and of each split share and number of pictures, of each class."""
    if not labelled:
        return []
    labels = labelled[0].labels
    most = max(max(split.shares) for split in labelled) or 1.0
    return [
        {
            "name": name,
            "color": color,
            "splits": [
                {"share": split.shares[i], "bar": split.shares[i] / most, "pictures": split.containing[i]}
                for split in labelled
            ],
        }
        for i, (name, color) in enumerate(zip(labels.classes, display_colors(labels), strict=True))
    ]
