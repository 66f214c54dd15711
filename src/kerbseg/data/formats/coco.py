"""COCO's instances: one JSON of pictures, classes and objects, each object polygons or run lengths.

An object's polygons are one region, a hole is part of a ring by a seam. The format knows no order: the object of fewest
pixels lies on top, crowds beneath all. Pixels without an object are `background`. Objects with a box or keypoints alone
are left out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from kerbseg.core.errors import DataError
from kerbseg.data.formats.regions import Mark, Polygons, Region, Runs, polygon
from kerbseg.data.formats.runs import coco_lengths, run_lengths
from kerbseg.data.formats.source import (
    UNMARKED,
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


class _Runs(Document):
    counts: str | list[int]
    size: tuple[int, int]


class _Annotation(Document):
    image_id: int | str
    category_id: int
    id: int | str | None = None
    segmentation: list[list[float]] | _Runs | None = None
    iscrowd: bool = False
    keypoints: list[float] | None = None


class _Image(Document):
    id: int | str
    file_name: str
    height: int
    width: int


class _Category(Document):
    id: int
    name: str


class _File(Document):
    images: list[_Image]
    annotations: list[_Annotation]
    categories: list[_Category]


def looks_like(root: Path) -> bool:
    """Whether a JSON in the folder, or one below, names pictures, objects and categories."""
    paths = Folder(root).glance(".json")
    return any(path.name.startswith("instances_") or _is_coco(read_bytes(path)) for path in paths)


def read(root: Path) -> Source:
    """All objects of the JSON files in a folder, or of one file. Raises DataError naming file and entry."""
    folder = Folder(root.parent.parent if root.is_file() and root.parent.name == "annotations" else _folder(root))
    paths = [root] if root.is_file() else _files(folder)
    if not paths:
        raise DataError(f"{root} holds no COCO file: a .json with images, annotations and categories; check the path")
    names: dict[int, dict[str, None]] = {}
    entries: list[Entry] = []
    left_out: Counter[str] = Counter()
    for path in paths:
        entries += _read_file(path, folder, names, left_out)
    left_out[UNMARKED] = folder.unmarked(entries)
    return Source(with_background(name for each in sorted(names) for name in names[each]), tuple(entries), left_out)


def _folder(root: Path) -> Path:
    return root.parent if root.is_file() else root


def _files(folder: Folder) -> list[Path]:
    """COCO's own names first: beside `instances_*.json` lie captions and keypoints of the same pictures."""
    instances = [path for path in folder.files(".json") if path.name.startswith("instances_")]
    return instances or folder.json_files(_is_coco)


def _is_coco(data: bytes) -> bool:
    return all(key in data for key in (b'"images"', b'"annotations"', b'"categories"'))


def _read_file(path: Path, folder: Folder, names: dict[int, dict[str, None]], left_out: Counter[str]) -> list[Entry]:
    document = read_document(path, _File)
    categories = {category.id: category.name for category in document.categories}
    for each, name in categories.items():
        names.setdefault(each, {})[name] = None
    images = {image.id: image for image in document.images}
    if len(images) < len(document.images):
        twice = Counter(image.id for image in document.images).most_common(1)[0][0]
        raise DataError(f"{path}: image id {twice!r} stands twice; give every picture its own")
    marks: dict[int | str, list[Mark]] = {each: [] for each in images}
    for index, annotation in enumerate(document.annotations):
        where = f"{path}: annotations[{index}] (id {annotation.id})"
        image = images.get(annotation.image_id)
        if image is None:
            raise DataError(f"{where}: image_id {annotation.image_id!r} is none of the images; correct or delete it")
        if annotation.category_id not in categories:
            known = ", ".join(map(str, sorted(categories))) or "none"
            raise DataError(f"{where}: category_id {annotation.category_id} is none of the categories ({known})")
        if not annotation.segmentation:
            left_out["keypoints without a mask" if annotation.keypoints else "boxes without a mask"] += 1
            continue
        region = _region(annotation.segmentation, image, where)
        marks[image.id].append(Mark(categories[annotation.category_id], region, beneath=annotation.iscrowd))
    split = split_of(path.stem, path.parent.name)
    return [_entry(image, index, marks[image.id], path, folder, split) for index, image in enumerate(document.images)]


def _entry(image: _Image, index: int, marks: Sequence[Mark], path: Path, folder: Folder, split: str | None) -> Entry:
    where = f"{path}: images[{index}] (id {image.id})"
    picture = folder.picture(image.file_name, where, path.parent)
    size = checked_size(image.height, image.width, where)
    return Entry(folder.name_of(picture), picture, Drawn(tuple(marks)), where, size, split)


def _region(segmentation: list[list[float]] | _Runs, image: _Image, where: str) -> Region:
    if not isinstance(segmentation, _Runs):
        for ring in segmentation:
            if len(ring) % 2:
                raise DataError(f"{where}: a polygon of {len(ring)} numbers, not pairs of x and y; correct it")
        return Polygons(tuple(polygon(ring, where) for ring in segmentation))  # type: ignore[arg-type] # is reshaped
    if segmentation.size != (image.height, image.width):
        height, width = segmentation.size
        raise DataError(
            f"{where}: a mask of {width}x{height} on a picture of {image.width}x{image.height}; export it again"
        )
    size = checked_size(*segmentation.size, where)
    counts = segmentation.counts
    lengths = coco_lengths(counts, where) if isinstance(counts, str) else counts
    return Runs(run_lengths(lengths, size[0] * size[1], where), size, by_column=True)
