"""Masks that are pictures already, of ids or of colors: what the readers of public data sets share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from kerbseg.core.errors import DataError
from kerbseg.core.labels import Color, LabelSet
from kerbseg.core.types import VOID
from kerbseg.data.formats.source import Entry, Folder, Source, SourceClass
from kerbseg.data.masks import ID_MODES, Mask, color_mask, id_mask, open_mask, refuse_unknown
from kerbseg.data.pairs import files_below
from kerbseg.data.pictures import SUFFIXES


@dataclass(frozen=True)
class Values:
    """What the values of a data set's masks mean: a class's name, or None for what is no class."""

    data: str
    ids: Mapping[int, str | None]
    colors: Mapping[Color, str | None]

    @cached_property
    def labels(self) -> LabelSet:
        """Their classes, by place, as a label set."""
        names = tuple(each.name for each in self.classes)
        ids = {each: names.index(name) for each, name in self.ids.items() if name is not None}
        ignored = frozenset(each for each, name in self.ids.items() if name is None)
        return LabelSet(self.data, names, ((0, 0, 0),) * len(names), ids, ignored)

    @property
    def classes(self) -> tuple[SourceClass, ...]:
        """All classes, with their colors, in order of their ids, or of their colors where there are no ids."""
        colors: dict[str, Color] = {}
        for color, name in self.colors.items():
            if name is not None:
                colors.setdefault(name, color)
        names = (name for name in (self.ids or self.colors).values() if name is not None)
        return tuple(SourceClass(name, colors.get(name)) for name in dict.fromkeys(names))


@dataclass(frozen=True)
class MaskFile:
    """A mask in a file."""

    path: Path
    values: Values

    def mask(self, size: tuple[int, int], train_ids: Mapping[str, int]) -> UInt8[np.ndarray, "h w"]:
        """As `Marks.mask`; a value without a meaning is an error that names file, value and place."""
        mask = self._read()
        if mask.ids.shape != size:
            height, width = mask.ids.shape
            raise DataError(
                f"mask {self.path} is {height}x{width} but its picture is {size[0]}x{size[1]} (HxW); replace one"
            )
        refuse_unknown(mask, self.path, self.values.labels)
        lookup = np.full(256, VOID, np.uint8)
        for place, name in enumerate(self.values.labels.classes):
            lookup[place] = train_ids[name]
        return lookup[mask.ids]

    def _read(self) -> Mask:
        """Their classes by place, not yet ours."""
        ids, colors, labels = self.values.ids, self.values.colors, self.values.labels
        with open_mask(self.path) as image:
            of_ids = bool(ids) and image.mode in ID_MODES
        if of_ids or not colors:
            return id_mask(self.path, labels)
        places: dict[str | None, int] = {None: VOID, **{name: place for place, name in enumerate(labels.classes)}}
        return color_mask(self.path, {color: places[name] for color, name in colors.items()})


def values_of(labels: LabelSet, file_ids: bool) -> Values:
    """The values of masks that hold the ids of a label set: those of its files, or train ids with 255 for void."""
    ids: dict[int, str | None]
    if file_ids:
        ids = {each: labels.classes[train_id] for each, train_id in labels.file_ids.items()}
        ids |= dict.fromkeys(labels.ignored_file_ids)
    else:
        ids = {**dict(enumerate(labels.classes)), VOID: None}
    return Values(labels.name, ids, dict(zip(labels.colors, labels.classes, strict=True)))


def entries_of(
    folder: Folder, masks: Path, pictures: Path, values: Values, split: str | None, ending: str = ""
) -> Iterator[Entry]:
    """An entry for each mask of a folder, or of one below; its picture lies at the same place of the other folder.

    Stems of masks have this ending. Raises DataError for a mask without a picture.
    """
    for mask in files_below(masks) if masks.is_dir() else []:
        if mask.name.startswith(".") or not mask.name.endswith(f"{ending}.png"):
            continue
        stem = mask.relative_to(masks).with_suffix("").as_posix().removesuffix(ending)
        places = [pictures / f"{stem}{suffix}" for suffix in sorted(SUFFIXES)]
        picture = next((place for place in places if place.is_file()), None)
        if picture is None:
            raise DataError(f"mask {mask} has no picture {places[0].with_suffix('')}.*; add it or remove the mask")
        yield Entry(folder.name_of(pictures / stem), picture, MaskFile(mask, values), str(mask), split=split)


def source_of(entries: list[Entry], values: Values, nothing: str, notes: tuple[str, ...] = ()) -> Source:
    """The source of masks in files. Raises DataError, which says `nothing`, where there are none."""
    if not entries:
        raise DataError(nothing)
    return Source(values.classes, tuple(entries), notes=notes)
