"""COCO-Text: text or not, drawn from the marks of words on COCO's train2014 pictures (Veit et al. 2016).

Read are the label files `cocotext.v2.json` (version 2, polygons) and `COCO_Text.json` (version 1, boxes), and any other
in their layout, such as TextOCR's; pictures lie in `train2014/`, in `images/` or beside the file. Text is what is
legible and machine printed, as in MiniNet-v2's paper; what the other marks become is an option:

geometry  polygon, or box as in the paper
others    void (no loss, no score), background as in the paper, or text
subset    legible_printed: pictures with at least one such mark, as in the paper; or all pictures
labels    v2 or v1, where both files lie in the folder; v2 without it
missing   error, or skip: leave out marks whose picture is not there

A pixel is text where its center lies inside a mark: Pillow and OpenCV paint edges too, 3 to 6 % more of small words.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float, UInt8

from kerbseg.core.errors import DataError
from kerbseg.core.labels import label_set
from kerbseg.core.types import VOID, Sample
from kerbseg.data.coco_text_labels import SPLITS, Annotation, by_id, key_of, read_labels, set_of, version_of
from kerbseg.data.formats.raster import fill_ring
from kerbseg.data.formats.regions import FARTHEST, inside
from kerbseg.data.formats.source import checked_size
from kerbseg.data.pairs import check_split
from kerbseg.data.pictures import as_turned, exif_orientation, read_rgb

Geometry = Literal["polygon", "box"]
Others = Literal["void", "background", "text"]
Subset = Literal["legible_printed", "all"]
Labels = Literal["auto", "v2", "v1"]
Missing = Literal["error", "skip"]

OPTIONS: Mapping[str, tuple[str, ...]] = {
    "geometry": ("polygon", "box"),
    "others": ("void", "background", "text"),
    "subset": ("legible_printed", "all"),
    "labels": ("v2", "v1"),
    "missing": ("error", "skip"),
}
PRESETS: Mapping[str, Mapping[str, str]] = {"paper": {"geometry": "box", "others": "background"}}
FOLDERS = ("train2014", "images", ".")
BACKGROUND, TEXT = 0, 1
OFFICIAL = {"v2": 53_686, "v1": 63_686}  # pictures that the public files name (v2: train and val alone)
LEAST_AREA = 1e-6  # twice the square pixels of a ring that has any


@dataclass(frozen=True, slots=True)
class Mark:
    """One mark of a picture: its outline of (x, y) in pixels, and whether it is text."""

    ring: Float[np.ndarray, "n 2"]
    is_text: bool


@dataclass(frozen=True, slots=True)
class Entry:
    """A picture and its marks, those that cannot be drawn left out."""

    name: str
    picture: Path
    size: tuple[int, int]  # height, width
    marks: tuple[Mark, ...]


class CocoText:
    """One split; masks are drawn when they are asked for, which takes less time than decoding the JPEG."""

    def __init__(
        self,
        name: str,
        split: str,
        entries: Sequence[Entry],
        *,
        version: str,
        choices: Mapping[str, str],
        labelled: bool = True,
        left_out: Mapping[str, int] | None = None,
        missing: Sequence[Path] = (),
        whole: bool = False,
    ) -> None:
        self.name, self.split, self.labels = name, split, label_set("text")
        self.entries, self.version, self.choices = list(entries), version, dict(choices)
        self.labelled = labelled  # the test split's labels are not public
        self.left_out = Counter(left_out or {})  # marks that cannot be drawn: why -> how many
        self.missing = tuple(missing)  # pictures that are named and not there
        self.whole = whole  # whether this is the public data set, and not a sample of it

    @property
    def names(self) -> list[str]:
        """Of the pictures, in order of their ids in the label file."""
        return [entry.name for entry in self.entries]

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, index: int) -> Sample:
        """Raises DataError for a picture that cannot be read, or that has another size than its labels."""
        entry = self.entries[index]
        image = read_rgb(entry.picture)
        ids = as_turned(self.mask(index), exif_orientation(entry.picture))  # words were marked on pictures as stored
        if ids.shape != image.shape[:2]:
            raise DataError(
                f"{entry.picture} is {image.shape[0]}x{image.shape[1]}, its labels are for"
                f" {entry.size[0]}x{entry.size[1]} (HxW); put the picture of COCO train2014 there"
            )
        return Sample(image, ids, entry.name)

    def mask(self, index: int) -> UInt8[np.ndarray, "h w"]:
        """Train ids of a picture as it is stored: others first, text over them; VOID where no label is public."""
        entry = self.entries[index]
        ids = np.full(entry.size, BACKGROUND if self.labelled else VOID, np.uint8)
        others = {"void": VOID, "background": BACKGROUND, "text": TEXT}[self.choices["others"]]
        for mark in sorted(entry.marks, key=lambda each: each.is_text):
            patch = fill_ring(mark.ring, entry.size)
            inside(ids, patch)[patch.mask] = TEXT if mark.is_text else others
        return ids

    def words(self, index: int) -> Iterator[tuple[Bool[np.ndarray, "h w"], float]]:
        """Each text of a picture: its pixels, and the height of its box in pixels."""
        entry = self.entries[index]
        orientation = exif_orientation(entry.picture)
        for mark in entry.marks:
            if mark.is_text:
                pixels, patch = np.zeros(entry.size, np.uint8), fill_ring(mark.ring, entry.size)
                inside(pixels, patch)[patch.mask] = 1
                yield as_turned(pixels, orientation).astype(bool), float(np.ptp(mark.ring[:, 1]))

    @property
    def described(self) -> str:
        """Which labels these are, and how they are drawn, for the protocol of a figure."""
        drawn = (f"{key} {self.choices[key]}" for key in ("geometry", "others", "subset"))
        return ", ".join([f"labels {self.version}", *drawn])

    @property
    def notes(self) -> tuple[str, ...]:
        """What the doctor says of the split."""
        told = [f"{self.split}: {self.described}"]
        if self.left_out:
            reasons = ", ".join(f"{count} {why}" for why, count in sorted(self.left_out.items()))
            told.append(f"{self.split}: left out {self.left_out.total()} mark(s): {reasons}")
        if self.missing and self.choices["missing"] == "skip":
            told.append(f"{self.split}: left out {len(self.missing)} picture(s) that are not there")
        if len({entry.size for entry in self.entries}) > 1:
            told.append(f"{self.split}: pictures have several sizes; a recipe brings them to one by data.size")
        return tuple(told)

    def problems(self) -> list[tuple[str, tuple[Path, ...]]]:
        """What is wrong, a line for each kind of fault, with the files that it is about."""
        if self.missing and self.choices["missing"] == "error":
            total = len(self.missing) + len(self.entries)
            shown = ", ".join(path.name for path in self.missing[:3]) + (", ..." if len(self.missing) > 3 else "")
            text = (
                f"{self.split}: {len(self.missing)} of {total} pictures are not in {self.missing[0].parent}: {shown};"
                f" unpack COCO train2014 there, or leave them out: {self.name}{',' if ':' in self.name else ':'}"
                "missing=skip"
            )
            return [(text, self.missing)]
        if not self.entries and self.missing:
            return [
                (
                    f"{self.split}: none of its pictures is in {self.missing[0].parent}; unpack COCO train2014 there",
                    self.missing,
                )
            ]
        if not self.entries:
            return [(f"{self.split}: no picture is in subset {self.choices['subset']!r}; choose subset=all", ())]
        return []

    def check(self) -> None:
        """Raises DataError for pictures that are not there, or where there is none."""
        if problems := self.problems():
            raise DataError(problems[0][0])


def open_split(
    root: Path,
    split: str,
    *,
    geometry: Geometry = "polygon",
    others: Others = "void",
    subset: Subset = "legible_printed",
    labels: Labels = "auto",
    missing: Missing = "error",
) -> CocoText:
    """One split, drawn as the options say. Raises DataError for a label file that is damaged or of another layout."""
    path, document = read_labels(root, labels)
    known = by_id(path, document)
    sets = {set_of(picture) for picture in known.values()}
    check_split("coco_text", split, [each for each in SPLITS if each in sets])
    chosen = {key: picture for key, picture in known.items() if set_of(picture) == split}
    left_out: Counter[str] = Counter()
    by_picture: dict[str, list[tuple[str, Annotation]]] = {}
    for key, annotation in document.anns.items():  # `imgToAnns` may lack pictures
        if (picture_id := key_of(annotation.image_id)) in chosen:
            by_picture.setdefault(picture_id, []).append((key, annotation))
        elif picture_id not in known:
            left_out["of pictures that the file does not name"] += 1
    labelled = bool(by_picture)
    if subset == "legible_printed" and labelled:
        wanted = {key for key, marks in by_picture.items() if any(each.is_text for _, each in marks)}
        chosen = {key: picture for key, picture in chosen.items() if key in wanted}
    folder = next(place for name in FOLDERS if (place := root / name).is_dir())
    there = set(os.listdir(folder))
    entries, absent = [], []
    for key, picture in chosen.items():
        where = f"{path}: imgs[{key}]"
        is_there = picture.file_name in there  # most lie in the folder itself: 80,000 files are asked for at once
        file = folder / picture.file_name if is_there else _inside(folder, picture.file_name, where)
        if not is_there and not file.is_file():
            absent.append(file)
            continue
        size = checked_size(picture.height, picture.width, where)
        marks = _marks(by_picture.get(key, []), geometry, size, path, left_out)
        entries.append(Entry(file.stem, file, size, marks))
    choices = {"geometry": geometry, "others": others, "subset": subset, "missing": missing}
    version = version_of(document)
    return CocoText(
        _full_name(choices, labels),
        split,
        entries,
        version=version,
        choices=choices,
        labelled=labelled,
        left_out=left_out,
        missing=absent,
        whole=len(document.imgs) >= OFFICIAL.get(version, len(document.imgs) + 1),
    )


def splits(root: Path, **options: Any) -> tuple[str, ...]:
    """The splits that the label file names. Raises DataError as `open_split`."""
    _, document = read_labels(root, options.get("labels", "auto"))
    sets = {set_of(picture) for picture in document.imgs.values()}
    return tuple(split for split in SPLITS if split in sets)


def _full_name(choices: Mapping[str, str], labels: str) -> str:
    """`coco_text`, with the options that are not the usual ones."""
    given = {**choices, "labels": labels}
    usual = {**{key: values[0] for key, values in OPTIONS.items()}, "labels": "auto"}
    unusual = [f"{key}={given[key]}" for key in OPTIONS if given[key] != usual[key]]
    return ":".join(["coco_text", *([",".join(unusual)] if unusual else [])])


def _marks(
    annotations: Sequence[tuple[str, Annotation]],
    geometry: Geometry,
    size: tuple[int, int],
    path: Path,
    left_out: Counter[str],
) -> tuple[Mark, ...]:
    marks = []
    for key, annotation in annotations:
        where = f"{path}: anns[{key}]"
        numbers = _box(annotation, where) if geometry == "box" else _polygon(annotation, where)
        if why := _undrawable(numbers[::2], numbers[1::2], size):
            left_out[why] += 1
        else:
            marks.append(Mark(np.array(numbers, np.float64).reshape(-1, 2), annotation.is_text))
    return tuple(marks)


def _box(annotation: Annotation, where: str) -> list[float]:
    """The corners of a box, x and y by turns."""
    if len(annotation.bbox) != 4:
        raise DataError(f"{where}: a bbox of {len(annotation.bbox)} numbers, not x, y, width, height; correct it")
    x, y, width, height = annotation.bbox
    right, bottom = x + max(width, 0), y + max(height, 0)
    return [x, y, right, y, right, bottom, x, bottom]


def _polygon(annotation: Annotation, where: str) -> list[float]:
    """The corners of a polygon, x and y by turns."""
    numbers = annotation.outline
    if numbers is None:
        raise DataError(f"{where}: it has no polygon (mask, polygon or points); choose geometry=box")
    if len(numbers) % 2:
        raise DataError(f"{where}: a polygon of {len(numbers)} numbers, not pairs of x and y; correct it")
    return numbers


def _undrawable(x: list[float], y: list[float], size: tuple[int, int]) -> str:
    """Why a ring cannot be drawn; nothing where it can. In plain Python: there are 200,000, of four points mostly."""
    if len(x) < 3:
        return "of fewer than 3 points"
    if not all(-FARTHEST <= each <= FARTHEST for each in (*x, *y)):  # NaN is not either
        return "with a point that is no place in a picture"
    left, top = min(x), min(y)
    if max(x) <= 0 or max(y) <= 0 or left >= size[1] or top >= size[0]:
        return "outside of their picture"
    double_area = sum((x[i - 1] - left) * (y[i] - top) - (x[i] - left) * (y[i - 1] - top) for i in range(len(x)))
    return "without area" if abs(double_area) < LEAST_AREA else ""


def _inside(folder: Path, written: str, where: str) -> Path:
    parts = PurePosixPath(written).parts
    if not parts or PurePosixPath(written).is_absolute() or ".." in parts or "\0" in written:
        raise DataError(f"{where}: file_name {written!r} is no name of a picture in {folder}; correct it")
    return folder.joinpath(*parts)
