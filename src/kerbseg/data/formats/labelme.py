"""Labelme: one JSON a picture, with polygons, rectangles, circles and masks.

Shapes are painted in the order of the file, as Labelme's own export does: the later one lies on top. Pixels without a
shape are `background`, as are those of a shape called `_background_`; `__ignore__` is void. Lines and points are left
out; a picture without a JSON is too, since nobody has looked at it.
"""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from kerbseg.core.errors import DataError
from kerbseg.data.formats.regions import Mark, Polygons, Region, Runs, ellipse, polygon, rectangle
from kerbseg.data.formats.runs import lengths_of
from kerbseg.data.formats.source import (
    BACKGROUND,
    UNMARKED,
    Document,
    Drawn,
    Entry,
    Folder,
    Source,
    SourceClass,
    checked_size,
    read_bytes,
    read_document,
    split_of,
    with_background,
)
from kerbseg.data.pictures import decode, open_embedded

IGNORED = "__ignore__"
LEFT_OUT = {"line": "lines", "linestrip": "lines", "point": "points", "points": "points"}


class _Shape(Document):
    label: str
    points: list[tuple[float, float]]
    shape_type: str = "polygon"
    mask: str | None = None


class _File(Document):
    shapes: list[_Shape]
    imagePath: str
    imageHeight: int | None = None
    imageWidth: int | None = None


def looks_like(root: Path) -> bool:
    """Whether a JSON in the folder, or one below, holds shapes of one picture."""
    return any(_is_labelme(read_bytes(path)) for path in Folder(root).glance(".json"))


def read(root: Path) -> Source:
    """All shapes of the JSON files in a folder. Raises DataError naming file and shape."""
    folder = Folder(root)
    left_out: Counter[str] = Counter()
    labels = set[str]()
    entries = [_entry(path, folder, left_out, labels) for path in folder.json_files(_is_labelme)]
    left_out[UNMARKED] = folder.unmarked(entries)
    if not entries:
        raise DataError(f"{root} holds no Labelme file: a .json with shapes and imagePath; check the path")
    classes = with_background(sorted(labels - {IGNORED, BACKGROUND}))
    if IGNORED in labels:
        classes = (*classes, SourceClass(IGNORED, void=True))
    return Source(classes, tuple(entries), left_out)


def _is_labelme(data: bytes) -> bool:
    return b'"shapes"' in data and b'"imagePath"' in data


def _entry(path: Path, folder: Folder, left_out: Counter[str], labels: set[str]) -> Entry:
    document = read_document(path, _File)
    size = None
    if document.imageHeight is not None and document.imageWidth is not None:
        size = checked_size(document.imageHeight, document.imageWidth, str(path))
    marks = tuple(_marks(document, path, size, left_out))
    labels.update(mark.label for mark in marks)
    picture = folder.picture(document.imagePath, f"{path}: imagePath", path.parent)
    name = folder.name_of(picture)
    return Entry(name, picture, Drawn(marks, "as listed"), str(path), size, split_of(*Path(name).parts[:-1]))


def _marks(document: _File, path: Path, size: tuple[int, int] | None, left_out: Counter[str]) -> Iterator[Mark]:
    for index, shape in enumerate(document.shapes):
        where = f"{path}: shapes[{index}] ({shape.label})"
        if shape.shape_type in LEFT_OUT:
            left_out[LEFT_OUT[shape.shape_type]] += 1
            continue
        yield Mark(BACKGROUND if shape.label == "_background_" else shape.label, _region(shape, where))


def _region(shape: _Shape, where: str) -> Region:
    kind, points = shape.shape_type, shape.points
    if kind in ("polygon", "oriented_rectangle"):
        return Polygons((polygon(points, where),))
    if kind not in ("rectangle", "circle", "mask"):
        raise DataError(f"{where}: shape_type {kind!r} is not known; draw a polygon in its place, or delete it")
    if len(points) != 2:
        raise DataError(f"{where}: a {kind} of {len(points)} point(s); it needs two: correct or delete it")
    (x0, y0), (x1, y1) = points
    if kind == "circle":  # the middle, and a point of the edge
        radius = float(np.hypot(x1 - x0, y1 - y0))
        return Polygons((ellipse(x0, y0, radius, radius, where),))
    if kind == "rectangle":
        return Polygons((rectangle(x0, y0, x1, y1, where),))
    mask = _decoded(shape.mask or "", where)
    polygon([*points, points[0]], where)  # places in a picture
    return Runs(lengths_of(mask), (mask.shape[0], mask.shape[1]), (round(y0), round(x0)))


def _decoded(text: str, where: str) -> np.ndarray:
    """The pixels of a PNG as text, painted where it is not 0."""
    try:
        data = base64.b64decode(text, validate=True)
    except ValueError as error:
        raise DataError(f"{where}: its mask is no PNG as text ({error}); draw it again or delete it") from error
    shown = f"the mask of {where}"
    with open_embedded(data, shown) as image:
        decode(image, shown, DataError)
        return np.asarray(image.convert("L")) > 0
