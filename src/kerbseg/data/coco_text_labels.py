"""Label files of COCO-Text: what `cocotext.v2.json`, `COCO_Text.json` and others in their layout say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import Field

from kerbseg.core.errors import DataError, did_you_mean
from kerbseg.data.formats.source import Document, read_bytes, read_document

SPLITS = ("train", "val", "test")
FILES: Mapping[str, str] = {"v2": "cocotext.v2.json", "v1": "COCO_Text.json"}
UNREADABLE = "."  # TextOCR's text of a word that nobody can read


@dataclass(frozen=True, slots=True)
class Picture:
    id: int | str
    set: str
    width: int
    height: int
    file_name: str


@dataclass(frozen=True, slots=True)
class Annotation:
    image_id: int | str
    bbox: list[float]
    mask: list[float] | None = None  # version 2
    polygon: list[float] | None = None  # version 1
    points: list[float] | None = None  # TextOCR
    legibility: str | None = None
    kind: Annotated[str | None, Field(validation_alias="class")] = None
    utf8_string: str | None = None

    @property
    def outline(self) -> list[float] | None:
        """The polygon, whatever the version calls it."""
        return next((each for each in (self.mask, self.polygon, self.points) if each is not None), None)

    @property
    def is_text(self) -> bool:
        """Whether it is legible and machine printed; TextOCR says neither word."""
        legible = (self.legibility is None and self.utf8_string != UNREADABLE) or _same(self.legibility, "legible")
        return legible and (self.kind is None or _same(self.kind, "machine printed"))


class LabelFile(Document):
    imgs: dict[str, Picture]
    anns: dict[str, Annotation]


def read_labels(root: Path, labels: str) -> tuple[Path, LabelFile]:
    """The labels that were asked for, or those of all files of the layout, and the first of these files."""
    wanted = FILES.values() if labels == "auto" else (FILES[labels],)
    paths = [path for name in wanted if (path := root / name).is_file()][:1]
    if not paths and labels != "auto":
        raise DataError(f"{root} holds no {FILES[labels]}; put it there, or leave the option labels={labels} out")
    paths = paths or [path for path in sorted(root.glob("*.json")) if _is_layout(path)]
    if not paths:
        raise DataError(
            f"{root} holds no COCO-Text: there is neither {' nor '.join(FILES.values())}; check --data-root"
        )
    documents = [read_document(path, LabelFile) for path in paths]  # TextOCR has one for each split
    pictures: dict[str, Picture] = {}
    marks: dict[str, Annotation] = {}
    for path, document in zip(paths, documents, strict=True):
        others = [key for key in pictures.keys() & document.imgs.keys() if pictures[key] != document.imgs[key]]
        others += [key for key in marks.keys() & document.anns.keys() if marks[key] != document.anns[key]]
        if others:
            raise DataError(f"{path} has another {min(others)!r} than a file beside it; keep one of the files there")
        pictures |= document.imgs
        marks |= document.anns
    if not pictures:
        raise DataError(f"{paths[0]} names no picture; export it again")
    return paths[0], LabelFile.model_construct(imgs=pictures, anns=marks)


def by_id(path: Path, document: LabelFile) -> dict[str, Picture]:
    """Pictures by their id. Raises DataError where two have the same, or one is of no split."""
    known: dict[str, Picture] = {}
    for key, picture in document.imgs.items():
        if known.setdefault(key_of(picture.id), picture) is not picture:
            raise DataError(f"{path}: imgs[{key}] has the id {picture.id} of a picture before it; export it again")
        if set_of(picture) not in SPLITS:
            raise DataError(f"{path}: imgs[{key}] is of set {picture.set!r}; {did_you_mean(picture.set, SPLITS)}")
    return known


def _is_layout(path: Path) -> bool:
    data = read_bytes(path)
    return b'"imgs"' in data and b'"anns"' in data


def version_of(document: LabelFile) -> str:
    first = next(iter(document.anns.values()), None)
    if first is None or first.mask is not None:
        return "v2"
    return "v1" if first.polygon is not None else "TextOCR"


def set_of(picture: Picture) -> str:
    return picture.set.strip().lower()


def key_of(id: int | str) -> str:
    return str(id)


def _same(text: str | None, word: str) -> bool:
    return text is not None and text.strip().lower() == word
