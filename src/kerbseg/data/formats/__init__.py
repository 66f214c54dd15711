"""Formats of labelling tools and public data sets, which `kerbseg convert` reads.

A new one is a file here, with `looks_like` and `read`, and a line in `FORMATS`.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from kerbseg.core.errors import DataError, did_you_mean
from kerbseg.data.formats import (
    ade20k,
    bdd100k,
    coco,
    cvat,
    idd,
    kitti,
    label_studio,
    labelme,
    mapillary,
    voc,
    yolo,
)
from kerbseg.data.formats.source import Source

MOST_FILES = 300_000


@dataclass(frozen=True)
class Format:
    """A format as the rest of the program knows it."""

    name: str
    on_disk: str  # what lies in its folder
    looks_like: Callable[[Path], bool]
    read: Callable[[Path], Source]


FORMATS: dict[str, Format] = {
    each.name: each
    for each in (
        Format("coco", "*.json with images, annotations and categories", coco.looks_like, coco.read),
        Format("yolo", "data.yaml, images/ and labels/*.txt", yolo.looks_like, yolo.read),
        Format("labelme", "a .json a picture, with shapes", labelme.looks_like, labelme.read),
        Format("cvat", "annotations.xml of 'CVAT for images 1.1'", cvat.looks_like, cvat.read),
        Format("label-studio", "*.json, a list of tasks", label_studio.looks_like, label_studio.read),
        Format("voc", "JPEGImages/ and SegmentationClass/*.png", voc.looks_like, voc.read),
        Format("mapillary", "training/, validation/ and config*.json", mapillary.looks_like, mapillary.read),
        Format("bdd100k", "images/10k/ and labels/sem_seg/masks/", bdd100k.looks_like, bdd100k.read),
        Format("idd", "leftImg8bit/ and gtFine/*/*/*_gtFine_polygons.json", idd.looks_like, idd.read),
        Format("kitti", "training/image_2/ and training/semantic/", kitti.looks_like, kitti.read),
        Format("ade20k", "images/training/ and annotations/training/", ade20k.looks_like, ade20k.read),
    )
}


def read_source(name: str, root: Path) -> Source:
    """All pictures and marks of a folder in a format.

    Raises DataError for an unknown format, and for a folder that is not in it, with the one that it looks like.
    """
    if name not in FORMATS:
        raise DataError(f"unknown format {name!r}; {did_you_mean(name, FORMATS)}")
    if root.is_dir() and not FORMATS[name].looks_like(root) and (others := recognize(root)):
        raise DataError(f"{root} does not look like {name} ({FORMATS[name].on_disk}); {_advice(others, root)}")
    source = FORMATS[name].read(root)
    if not source.entries:
        raise DataError(f"{root} holds no marked picture in format {name}; check the path")
    return source


def recognize(root: Path) -> tuple[str, ...]:
    """The formats that a folder looks like; none where it holds too much for a data set, such as a whole disk."""
    files = (name for _, _, names in os.walk(root) for name in names)
    if len(list(islice(files, MOST_FILES))) == MOST_FILES:
        return ()
    return tuple(name for name, each in FORMATS.items() if each.looks_like(root))


def advice(root: Path) -> str:
    """What a folder looks like and the command to use, as a phrase; empty where it looks like nothing known."""
    return _advice(names, root) if root.is_dir() and (names := recognize(root)) else ""


def _advice(names: tuple[str, ...], root: Path) -> str:
    commands = " or ".join(f"kerbseg convert {name} {root} -o my_streets" for name in names)
    return f"it looks like {' or '.join(names)}: {commands}"
