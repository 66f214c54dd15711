"""YOLO's segmentation labels (Ultralytics, Roboflow): `data.yaml`, and beside each picture's folder one of texts.

A line of `labels/.../a.txt` is a class and the corners of one polygon as fractions of `images/.../a.jpg`. A line of
five numbers is a box, and left out. The format knows no order: the polygon of fewest pixels lies on top. Pixels without
a polygon, and pictures without a text, are `background`.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from kerbseg.core.errors import DataError
from kerbseg.core.strict_yaml import read_yaml
from kerbseg.data.formats.regions import FractionalPolygon, Mark, polygon
from kerbseg.data.formats.source import (
    Document,
    Drawn,
    Entry,
    Folder,
    Source,
    read_bytes,
    read_text,
    shortened,
    with_background,
)
from kerbseg.data.pairs import files_below
from kerbseg.data.pictures import SUFFIXES


class _Data(Document):
    names: list[str] | dict[int, str]
    path: str | None = None
    train: str | list[str] | None = None
    val: str | list[str] | None = None
    test: str | list[str] | None = None
    kpt_shape: Any = None


def looks_like(root: Path) -> bool:
    """Whether the folder holds a `.yaml` with `names` and `train`."""
    return any(b"names:" in (data := read_bytes(path)) and b"train:" in data for path in _yaml_files(root))


def read(root: Path) -> Source:
    """All polygons of the data set that a `data.yaml`, or the folder that holds it, describes.

    Raises DataError naming file and line.
    """
    path = root if root.is_file() else _data_file(root)
    folder = Folder(path.parent)
    data = _read_data(path)
    names = dict(enumerate(data.names)) if isinstance(data.names, list) else data.names
    left_out: Counter[str] = Counter()
    entries: list[Entry] = []
    for split, written in (("train", data.train), ("val", data.val), ("test", data.test)):
        for each in [written] if isinstance(written, str) else written or []:
            for picture in _pictures(folder, data.path or "", each, f"{path}: {split}"):
                labels = _labels_of(picture, folder)
                marks = tuple(_marks(labels, names, left_out)) if labels.is_file() else ()
                entries.append(Entry(folder.name_of(picture), picture, Drawn(marks), str(labels), split=split))
    if not entries:
        raise DataError(f"{path} names no pictures: train, val and test are empty; check its paths")
    return Source(with_background(names[each] for each in sorted(names)), tuple(entries), left_out)


def _yaml_files(root: Path) -> list[Path]:
    ours = ("map.yaml", "dataset.yaml")
    paths = (path for path in root.iterdir() if path.suffix in (".yaml", ".yml") and path.name not in ours)
    return sorted(path for path in paths if path.is_file())


def _data_file(root: Path) -> Path:
    Folder(root)
    if (root / "data.yaml").is_file():
        return root / "data.yaml"
    paths = _yaml_files(root)
    if len(paths) != 1:
        seen = ", ".join(path.name for path in paths) or "no .yaml"
        raise DataError(f"{root} has no data.yaml (but {seen}); name the .yaml file of the data set itself")
    return paths[0]


def _read_data(path: Path) -> _Data:
    document = read_yaml(path, DataError)
    try:
        data = _Data.model_validate(document)
    except ValidationError as error:
        first = error.errors()[0]
        key = str(first["loc"][0]) if first["loc"] else "the file"
        raise DataError(f"{path}: {key}: {first['msg'].lower()}, found {shortened(first['input'])}") from None
    if data.kpt_shape is not None:
        raise DataError(f"{path} describes keypoints (kpt_shape), which are no masks; export segmentation")
    return data


def _pictures(folder: Folder, base: str, written: str, where: str) -> list[Path]:
    """The pictures of a folder, or of a text that lists them."""
    inside = [Path(base) / written, Path(written)]
    if written.startswith("../"):  # so writes Roboflow, and means the folder of data.yaml
        inside.append(Path(written[3:]))
    places = [Path(os.path.normpath(folder.root / each)) for each in inside]
    places = [each for each in places if each.is_relative_to(folder.root)]
    if not places:
        raise DataError(f"{where}: {written!r} lies outside {folder.root}; write it from the folder of the .yaml")
    place = next((each for each in places if os.path.exists(each)), None)
    if place is None:
        raise DataError(f"{where}: {written!r} does not exist in {folder.root}; correct it or delete the line")
    if place.is_dir():
        return [path for path in files_below(place) if path.suffix.lower() in SUFFIXES and path.name[0] != "."]
    lines = enumerate(read_text(place).splitlines(), 1)
    return [folder.picture(line.strip(), f"{place}:{n}", place.parent) for n, line in lines if line.strip()]


def _labels_of(picture: Path, folder: Folder) -> Path:
    """The text of a picture: the last folder called images becomes labels; beside the picture where there is none."""
    parts = list(picture.relative_to(folder.root).with_suffix(".txt").parts)
    if "images" in parts[:-1]:
        last = len(parts) - 2 - parts[-2::-1].index("images")
        parts[last] = "labels"
    return folder.root.joinpath(*parts)


def _marks(path: Path, names: dict[int, str], left_out: Counter[str]) -> Iterator[Mark]:
    for number, line in enumerate(read_text(path).splitlines(), 1):
        if not (words := line.split()):
            continue
        where = f"{path}:{number}"
        try:
            values = np.array([float(word) for word in words])
        except ValueError as error:
            raise DataError(f"{where}: {shortened(line)} is no line of numbers; export it again") from error
        if not values[0].is_integer() or int(values[0]) not in names:
            known = ", ".join(map(str, sorted(names)))
            raise DataError(f"{where}: class {words[0]} is none of the names ({known}) in the .yaml; correct it")
        if len(values) == 5:
            left_out["boxes without a mask"] += 1
            continue
        if len(values) % 2 == 0:
            raise DataError(f"{where}: a polygon of {len(values) - 1} numbers, not pairs of x and y; correct it")
        ring = polygon(values[1:], where)
        if (np.abs(ring) > 2).any():
            raise DataError(f"{where}: a corner at {np.abs(ring).max():g}, where fractions 0..1 are; export it again")
        yield Mark(names[int(values[0])], FractionalPolygon(ring))
