"""Label Studio's JSON export: a list of tasks, their regions polygons, ellipses and brushes in percent of the picture.

The format knows no order: the region of fewest pixels lies on top. Pixels without a region are `background`. Of several
annotations of a picture the ground truth counts, or else the first; skipped ones do not. Rectangles, key points and the
like are left out; so are tasks that nobody has annotated.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from pydantic import RootModel

from kerbseg.core.errors import DataError
from kerbseg.data.formats.regions import FractionalPolygon, Mark, Region, Runs, ellipse, polygon
from kerbseg.data.formats.runs import brush_mask, lengths_of
from kerbseg.data.formats.source import (
    Document,
    Drawn,
    Entry,
    Folder,
    Source,
    checked_size,
    read_bytes,
    read_document,
    split_of,
    with_background,
)
from kerbseg.data.pictures import SUFFIXES

_PAINTED = ("polygonlabels", "brushlabels", "ellipselabels", "labels")
_LEFT_OUT = {
    "rectanglelabels": "rectangles",
    "rectangle": "rectangles",
    "keypointlabels": "key points",
    "keypoint": "key points",
    "polygon": "regions without a label",
    "brush": "regions without a label",
    "ellipse": "regions without a label",
    "vectorlabels": "lines",
}
_UPLOADED = re.compile(r"^[0-9a-f]{8}-")  # what an upload puts before a file's name


class _Value(Document):
    points: list[tuple[float, float]] | None = None
    rle: list[int] | None = None
    x: float | None = None
    y: float | None = None
    radiusX: float | None = None
    radiusY: float | None = None
    rotation: float = 0
    polygonlabels: tuple[str, ...] = ()
    brushlabels: tuple[str, ...] = ()
    ellipselabels: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()


class _Result(Document):
    type: str
    value: _Value = _Value()
    original_width: int | None = None
    original_height: int | None = None
    image_rotation: float = 0


class _Annotation(Document):
    result: tuple[_Result, ...] = ()
    was_cancelled: bool = False
    ground_truth: bool = False


class _Task(Document):
    data: dict[str, Any]
    annotations: list[_Annotation]
    id: int | str | None = None


class _File(RootModel[list[_Task]]):
    pass


def looks_like(root: Path) -> bool:
    """Whether a JSON in the folder, or one below, holds tasks with annotations."""
    return any(_is_export(read_bytes(path)) for path in Folder(root).glance(".json"))


def read(root: Path) -> Source:
    """All regions of the JSON files in a folder, or of one file. Raises DataError naming file, task and region."""
    folder = Folder(root.parent if root.is_file() else root)
    paths = [root] if root.is_file() else folder.json_files(_is_export)
    left_out: Counter[str] = Counter()
    entries: list[Entry] = []
    several = 0
    labels = set[str]()
    for path in paths:
        for index, task in enumerate(read_document(path, _File).root):
            done = [annotation for annotation in task.annotations if not annotation.was_cancelled]
            if not done:
                left_out["tasks without an annotation"] += 1
                continue
            several += len(done) > 1
            chosen = next((annotation for annotation in done if annotation.ground_truth), done[0])
            entry = _entry(task, chosen, f"{path}: task [{index}] (id {task.id})", path, folder, left_out)
            labels.update(mark.label for mark in entry.marks.marks)  # type: ignore[attr-defined] # it is Drawn
            entries.append(entry)
    if not entries:
        raise DataError(
            f"{root} holds no annotated task of Label Studio; export 'JSON' (not JSON-MIN), and put the pictures beside"
        )
    notes = (f"{several} task(s) have several annotations: of each, one counts",) if several else ()
    return Source(with_background(sorted(labels)), tuple(entries), left_out, notes)


def _is_export(data: bytes) -> bool:
    return data.lstrip()[:1] == b"[" and b'"annotations"' in data and b'"data"' in data


def _entry(
    task: _Task, annotation: _Annotation, where: str, path: Path, folder: Folder, left_out: Counter[str]
) -> Entry:
    marks, sizes = [], set()
    for index, result in enumerate(annotation.result):
        place = f"{where}: result[{index}] ({result.type})"
        if result.type not in _PAINTED:
            left_out[_LEFT_OUT.get(result.type, "other answers")] += 1
            continue
        if result.original_height is None or result.original_width is None:
            raise DataError(f"{place}: has no original_width and original_height; export it again")
        if result.image_rotation:
            raise DataError(f"{place}: the picture was turned in the tool; turn it back there, or save it turned")
        size = checked_size(result.original_height, result.original_width, place)
        sizes.add(size)
        names = list(dict.fromkeys(name for kind in _PAINTED for name in getattr(result.value, kind)))
        if len(names) > 1:
            raise DataError(f"{place}: has labels {', '.join(names)}; a pixel has one class: keep one of them")
        if not names:
            left_out["regions without a label"] += 1
            continue
        marks.append(Mark(names[0], _region(result.value, size, place)))
    if len(sizes) > 1:
        raise DataError(f"{where}: its regions name pictures of different sizes; export it again")
    picture = _picture(task.data, where, path, folder)
    name = folder.name_of(picture)
    split = split_of(*Path(name).parts[:-1])
    return Entry(name, picture, Drawn(tuple(marks)), where, next(iter(sizes), None), split)


def _region(value: _Value, size: tuple[int, int], where: str) -> Region:
    height, width = size
    if value.rle is not None:
        return Runs(lengths_of(brush_mask(value.rle, size, where)), size)
    if value.points is not None:
        return FractionalPolygon(polygon(value.points, where) / 100)
    x, y, rx, ry = value.x, value.y, value.radiusX, value.radiusY
    if x is None or y is None or rx is None or ry is None:
        raise DataError(f"{where}: has neither points nor rle, nor what an ellipse has; export it again")
    ring = ellipse(x * width / 100, y * height / 100, rx * width / 100, ry * height / 100, where, value.rotation)
    return FractionalPolygon(ring / (width, height))


def _picture(data: dict[str, Any], where: str, path: Path, folder: Folder) -> Path:
    written = next(_addresses(data), None)
    if written is None:
        raise DataError(f"{where}: its data names no picture, found {', '.join(data) or 'nothing'}; export it again")
    if not folder.has_file(written) and _UPLOADED.match(PurePosixPath(written).name):
        written = str(PurePosixPath(written).with_name(_UPLOADED.sub("", PurePosixPath(written).name)))
    return folder.picture(written, where, path.parent)


def _addresses(data: dict[str, Any]) -> Iterator[str]:
    """What a task says of its picture, as a path: of `/data/local-files/?d=street/a.jpg` what is asked for."""
    for value in (data[key] for key in sorted(data, key=lambda key: key != "image")):
        if isinstance(value, str):
            try:
                address = urlsplit(value.replace("\\", "/"))
                wanted = parse_qs(address.query).get("d", [unquote(address.path)])[0]
            except ValueError:  # brackets that are no address
                continue
            if PurePosixPath(wanted).suffix.lower() in SUFFIXES:
                yield wanted
