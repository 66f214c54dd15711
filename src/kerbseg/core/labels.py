"""Label sets: class names, colors, and the ids that files on disk use for them.

Train ids are 0..k-1 and VOID (255); ids in files are whatever the data set uses. The mapping happens once,
inside the loader of the data set, so that no preparation step can be forgotten or done twice.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from jaxtyping import UInt8

from kerbseg.core.errors import KerbsegError, did_you_mean
from kerbseg.core.text import printable

Color = tuple[int, int, int]
LONGEST_NAME = 100  # characters
BACKGROUND = "background"  # the usual name of what is none of the other classes


@dataclass(frozen=True)
class LabelSet:
    """An ordered set of classes; a class's position is its train id."""

    name: str
    classes: tuple[str, ...]
    colors: tuple[Color, ...]  # RGB, 0..255
    file_ids: Mapping[int, int] = field(default_factory=dict)  # id in files -> train id
    ignored_file_ids: frozenset[int] = frozenset()  # ids in files that are VOID
    submission_ids: tuple[int, ...] = ()  # train id -> id that the benchmark's server expects
    categories: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # category -> its classes
    background: frozenset[str] = frozenset()  # classes that overlays leave unpainted

    def __post_init__(self) -> None:
        for name in (self.name, *self.classes, *self.categories):
            _check_name(name)
        where, count = f"label set {self.name!r}", len(self.classes)
        if not self.classes or count != len(self.colors):
            raise KerbsegError(f"{where}: {count} classes, {len(self.colors)} colors")
        if count == 1:
            raise KerbsegError(
                f"{where} has the class {self.classes[0]!r} alone, so every pixel would be it;"
                " add one for all the rest, such as background"
            )
        if count > 255:
            raise KerbsegError(f"{where} has {count} classes; ids are uint8, at most 255")
        if len(set(self.classes)) != count:
            raise KerbsegError(f"{where} names a class twice")
        for color in self.colors:
            if len(color) != 3 or not all(0 <= value <= 255 for value in color):
                raise KerbsegError(f"{where}: color {tuple(color)} is no RGB of 0..255")
        for file_id in (*self.file_ids, *self.ignored_file_ids, *self.submission_ids):
            if not 0 <= file_id <= 255:
                raise KerbsegError(f"{where}: id {file_id} of files is not in 0..255")
        if len(self.submission_ids) not in (0, count):
            raise KerbsegError(f"{where}: {count} classes, {len(self.submission_ids)} submission ids")
        for train_id in self.file_ids.values():
            if not 0 <= train_id < count:
                raise KerbsegError(f"{where}: train id {train_id} is not in 0..{count - 1}")
        for name in (name for members in self.categories.values() for name in members):
            if name not in self.classes:
                raise KerbsegError(
                    f"{where}: category of an unknown class {name!r}; {did_you_mean(name, self.classes)}"
                )
        if unknown := sorted(self.background - {*self.classes}):
            raise KerbsegError(
                f"{where}: background {unknown[0]!r} is no class; {did_you_mean(unknown[0], self.classes)}"
            )

    def __len__(self) -> int:
        return len(self.classes)

    @cached_property
    def palette(self) -> UInt8[np.ndarray, "256 3"]:
        """Color of every uint8 id; what is no class is black."""
        palette = np.zeros((256, 3), np.uint8)
        palette[: len(self)] = self.colors
        return palette

    @cached_property
    def lookup(self) -> UInt8[np.ndarray, 256]:
        """Train id of every uint8 id in a file; VOID where ignored or unknown (see `unknown_ids`)."""
        table = np.full(256, 255, np.uint8)
        for file_id, train_id in self.file_ids.items():
            table[file_id] = train_id
        return table

    @cached_property
    def unknown_ids(self) -> np.ndarray:
        """Bool [256]: ids that no file of this label set may hold."""
        unknown = np.ones(256, bool)
        unknown[[*self.file_ids, *self.ignored_file_ids]] = False
        return unknown


def _check_name(name: object) -> None:
    """Raises KerbsegError for what no table, file or terminal can show as a name."""
    if not isinstance(name, str):
        raise KerbsegError(f"a class or label set is called {name!r}, which is no text; put it in quotes")
    if not name.strip() or len(name) > LONGEST_NAME:
        raise KerbsegError(f"a name of {len(name)} characters ({name[:30]!r}); give it 1 to {LONGEST_NAME}")
    if printable(name) != name:
        raise KerbsegError(f"the name {name!a} holds control characters; leave them out")


_CITYSCAPES = (  # name, category, labelId, color: the public benchmark's table
    ("road", "flat", 7, (128, 64, 128)),
    ("sidewalk", "flat", 8, (244, 35, 232)),
    ("building", "construction", 11, (70, 70, 70)),
    ("wall", "construction", 12, (102, 102, 156)),
    ("fence", "construction", 13, (190, 153, 153)),
    ("pole", "object", 17, (153, 153, 153)),
    ("traffic light", "object", 19, (250, 170, 30)),
    ("traffic sign", "object", 20, (220, 220, 0)),
    ("vegetation", "nature", 21, (107, 142, 35)),
    ("terrain", "nature", 22, (152, 251, 152)),
    ("sky", "sky", 23, (70, 130, 180)),
    ("person", "human", 24, (220, 20, 60)),
    ("rider", "human", 25, (255, 0, 0)),
    ("car", "vehicle", 26, (0, 0, 142)),
    ("truck", "vehicle", 27, (0, 0, 70)),
    ("bus", "vehicle", 28, (0, 60, 100)),
    ("train", "vehicle", 31, (0, 80, 100)),
    ("motorcycle", "vehicle", 32, (0, 0, 230)),
    ("bicycle", "vehicle", 33, (119, 11, 32)),
)

_CAMVID = (
    ("sky", (128, 128, 128)),
    ("building", (128, 0, 0)),
    ("pole", (192, 192, 128)),
    ("road", (128, 64, 128)),
    ("pavement", (0, 0, 192)),
    ("tree", (128, 128, 0)),
    ("sign_symbol", (192, 128, 128)),
    ("fence", (64, 64, 128)),
    ("car", (64, 0, 128)),
    ("pedestrian", (64, 64, 0)),
    ("bicyclist", (0, 128, 192)),
)


def _cityscapes() -> LabelSet:
    label_ids = [row[2] for row in _CITYSCAPES]
    categories: dict[str, tuple[str, ...]] = {}
    for name, category, _, _ in _CITYSCAPES:
        categories[category] = (*categories.get(category, ()), name)
    return LabelSet(
        name="cityscapes",
        classes=tuple(row[0] for row in _CITYSCAPES),
        colors=tuple(row[3] for row in _CITYSCAPES),
        file_ids={label_id: train_id for train_id, label_id in enumerate(label_ids)},
        # the benchmark's labelIds run from 0 to 33; licence plate is -1, stored as 255
        ignored_file_ids=frozenset({*range(34), 255} - set(label_ids)),
        submission_ids=tuple(label_ids),
        categories=categories,
    )


def _camvid() -> LabelSet:
    return LabelSet(
        name="camvid",
        classes=tuple(name for name, _ in _CAMVID),
        colors=tuple(color for _, color in _CAMVID),
        file_ids={i: i for i in range(len(_CAMVID))},
        ignored_file_ids=frozenset({len(_CAMVID)}),
    )


def _text() -> LabelSet:
    return LabelSet(
        name="text",
        classes=("background", "text"),
        colors=((0, 0, 0), (255, 210, 0)),
        file_ids={0: 0, 1: 1},
        ignored_file_ids=frozenset({255}),
        background=frozenset({"background"}),
    )


LABEL_SETS: dict[str, LabelSet] = {labels.name: labels for labels in (_cityscapes(), _camvid(), _text())}


def label_set(name: str) -> LabelSet:
    """The label set of that name. Raises KerbsegError with the nearest name."""
    if not isinstance(name, str) or name not in LABEL_SETS:
        raise KerbsegError(f"unknown label set {name!r}; {did_you_mean(str(name), LABEL_SETS)}")
    return LABEL_SETS[name]
