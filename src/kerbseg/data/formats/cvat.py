"""CVAT for images 1.1: one XML with the shapes of all pictures.

Shapes lie on top of each other by their `z_order`, within one in the order of the file. Boxes and ellipses are painted
as CVAT's own mask export does; polylines, points, skeletons, cuboids and tags are left out. Pixels without a shape are
`background`, as are those of a label so called.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from kerbseg.core.errors import DataError, did_you_mean
from kerbseg.core.labels import Color
from kerbseg.data.formats.regions import Mark, Polygons, Region, Runs, ellipse, polygon, rectangle
from kerbseg.data.formats.runs import run_lengths
from kerbseg.data.formats.source import (
    BACKGROUND,
    UNMARKED,
    Drawn,
    Entry,
    Folder,
    Source,
    SourceClass,
    checked_size,
    read_bytes,
    read_text,
    split_of,
)

LEFT_OUT = {
    "polyline": "polylines",
    "points": "points",
    "skeleton": "skeletons",
    "cuboid": "cuboids",
    "tag": "tags",
}


def looks_like(root: Path) -> bool:
    """Whether an XML in the folder, or one below, is CVAT's."""
    return any(_is_cvat(path) for path in Folder(root).glance(".xml"))


def read(root: Path) -> Source:
    """All shapes of the XML files in a folder, or of one file. Raises DataError naming file and picture."""
    folder = Folder(root.parent if root.is_file() else root)
    paths = [root] if root.is_file() else _files(folder)
    if not paths:
        raise DataError(f"{root} holds no CVAT file: an .xml of 'CVAT for images 1.1'; check the path")
    classes: dict[str, Color | None] = {BACKGROUND: None}
    left_out: Counter[str] = Counter()
    entries: list[Entry] = []
    for path in paths:
        annotations = _parsed(path)
        classes |= _labels(annotations)
        entries += [_entry(image, path, folder, classes, left_out) for image in annotations.iter("image")]
    left_out[UNMARKED] = folder.unmarked(entries)
    if not entries:
        raise DataError(f"{paths[0]} holds no pictures; export 'CVAT for images 1.1'")
    return Source(tuple(SourceClass(*each) for each in classes.items()), tuple(entries), left_out)


def _files(folder: Folder) -> list[Path]:
    return [path for path in folder.files(".xml") if _is_cvat(path)]


def _is_cvat(path: Path) -> bool:
    return b"<annotations" in read_bytes(path)[:4096]


def _parsed(path: Path) -> Element:
    """The XML's root. Raises DataError for a document that defines entities: a small one can grow to gigabytes."""
    text = read_text(path)
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise DataError(f"{path} has a document type, which CVAT never writes; export it again")
    try:
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise DataError(f"{path} is no whole XML ({error}); export it again") from error
    if root.tag != "annotations":
        raise DataError(f"{path} begins with <{root.tag}>, not <annotations>; export 'CVAT for images 1.1'")
    if root.find("track") is not None:
        raise DataError(f"{path} is 'CVAT for video'; export 'CVAT for images 1.1', which holds a mask a frame")
    return root


def _labels(annotations: Element) -> dict[str, Color | None]:
    labels: dict[str, Color | None] = {}
    for label in annotations.iterfind("meta//label"):
        if label.findtext("type") not in ("skeleton", "points", "polyline", "tag", "cuboid"):
            labels[label.findtext("name") or ""] = _color(label.findtext("color") or "")
    return labels


def _color(text: str) -> Color | None:
    try:
        r, g, b = bytes.fromhex(text.removeprefix("#"))
    except ValueError:
        return None
    return r, g, b


def _entry(
    image: Element, path: Path, folder: Folder, classes: dict[str, Color | None], left_out: Counter[str]
) -> Entry:
    name = image.get("name") or ""
    where = f"{path}: image {image.get('id')} ({name})"
    size = checked_size(_whole(image, "height", where), _whole(image, "width", where), where)
    marks = []
    for index, shape in enumerate(image):
        if shape.tag in LEFT_OUT:
            left_out[LEFT_OUT[shape.tag]] += 1
            continue
        place = f"{where}: shape {index} ({shape.tag})"
        label = shape.get("label") or ""
        if len(classes) == 1:  # the task was exported without its labels
            raise DataError(f"{path} lists no labels; export it with its <meta>")
        if label not in classes:
            raise DataError(f"{place}: label {label!r} is none of the task's; {did_you_mean(label, classes)}")
        z_order = _whole(shape, "z_order", place) if shape.get("z_order") else 0
        marks.append((z_order, Mark(label, _region(shape, size, place))))
    marks.sort(key=lambda each: each[0])  # stable: the order of the file stays within a z_order
    picture = folder.picture(name, where, path.parent) if name else None
    if picture is None:
        raise DataError(f"{where}: has no name; export it again")
    split = split_of(image.get("subset") or "", *Path(name).parts[:-1])
    return Entry(
        folder.name_of(picture), picture, Drawn(tuple(mark for _, mark in marks), "as listed"), where, size, split
    )


def _region(shape: Element, size: tuple[int, int], where: str) -> Region:
    turn = _number(shape, "rotation", where) if shape.get("rotation") else 0.0
    match shape.tag:
        case "polygon":
            return Polygons((polygon(_points(shape.get("points") or "", where), where),))
        case "box":
            x0, y0, x1, y1 = (_number(shape, key, where) for key in ("xtl", "ytl", "xbr", "ybr"))
            return Polygons((rectangle(x0, y0, x1, y1, where, turn),))
        case "ellipse":
            x, y, rx, ry = (_number(shape, key, where) for key in ("cx", "cy", "rx", "ry"))
            return Polygons((ellipse(x, y, rx, ry, where, turn),))
        case "mask":
            return _mask(shape, size, where)
        case _:
            raise DataError(f"{where}: <{shape.tag}> is not known; delete it, or draw a polygon in its place")


def _mask(shape: Element, size: tuple[int, int], where: str) -> Runs:
    top, left, height, width = (_whole(shape, key, where) for key in ("top", "left", "height", "width"))
    if min(top, left) < 0 or min(height, width) < 1 or top + height > size[0] or left + width > size[1]:
        raise DataError(f"{where}: a mask of {width}x{height} at ({left}, {top}) leaves its picture; export it again")
    try:
        lengths = [int(word) for word in (shape.get("rle") or "").split(",")]
    except ValueError as error:
        raise DataError(f"{where}: rle is no list of whole numbers; export it again") from error
    return Runs(run_lengths(lengths, height * width, where), (height, width), (top, left))


def _points(text: str, where: str) -> list[tuple[float, float]]:
    try:
        return [(float(x), float(y)) for x, y in (point.split(",") for point in text.split(";"))]
    except ValueError as error:
        raise DataError(f"{where}: points must be x,y;x,y;..., found {text[:40]!r}; export it again") from error


def _number(element: Element, key: str, where: str) -> float:
    try:
        return float(element.get(key) or "")
    except ValueError as error:
        raise DataError(f"{where}: {key} must be a number, found {element.get(key)!r}; export it again") from error


def _whole(element: Element, key: str, where: str) -> int:
    try:
        return int(element.get(key) or "")
    except ValueError as error:
        raise DataError(f"{where}: {key} must be a whole number, found {element.get(key)!r}") from error
