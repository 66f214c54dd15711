"""Corrected labels, saved as a data set in the folder form: what `kerbseg train own` learns from."""

from __future__ import annotations

import filecmp
import shutil
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from unicodedata import normalize

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from kerbseg.core.display import display_palette
from kerbseg.core.errors import DataError, KerbsegError
from kerbseg.core.files import atomic_write, check_writable
from kerbseg.core.labels import LabelSet
from kerbseg.core.types import VOID
from kerbseg.data.convert import dataset_yaml
from kerbseg.data.dataset_yaml import DatasetFile, labels_of, read_dataset_file
from kerbseg.data.pairs import is_picture
from kerbseg.data.pictures import FORMATS, SUFFIXES, open_picture

YAML = "dataset.yaml"
SPLIT = "train"  # where corrections go, unless the data set draws its splits


@dataclass(frozen=True)
class Saved:
    """Where a picture and its mask lie now."""

    picture: Path
    mask: Path


class Corrections:
    """A folder that takes pictures with corrected masks: a new data set, or one that has the model's classes.

    What lies in it stays: a mask is replaced only where that is asked for, and a picture never. Raises KerbsegError for
    a folder that is no such data set.
    """

    def __init__(self, folder: Path, labels: LabelSet) -> None:
        self.folder = folder
        self._lock = threading.Lock()
        check_writable(folder / YAML)
        document = self._document()
        self._labels = _with_own_ids(labels) if document is None else labels_of(document, folder / YAML)
        if lacking := [name for name in labels.classes if name not in self._labels.classes]:
            raise KerbsegError(
                f"data set {folder} has no class {lacking[0]!r}, which the model has; name another: -o OUT"
            )
        self._inside = SPLIT if document is None or document.split is None else ""
        self._file_ids = _file_ids(labels, self._labels)

    def __len__(self) -> int:
        """Masks that lie where corrections go."""
        return sum(map(is_picture, _listed(self._folder("masks"))))

    def save(self, picture: Path, ids: UInt8[np.ndarray, "h w"], name: str, replace: bool = False) -> Saved:
        """Copies a picture file into the data set, called `name`, and writes its mask of train ids.

        Another picture of that name stays, and this one gets a number. Raises KerbsegError where this very picture
        has a mask already, unless that is to be replaced, and where a file cannot be written; then nothing has changed.
        """
        if (ids == VOID).any() and self._file_ids[VOID] not in self._labels.ignored_file_ids:
            raise KerbsegError(
                f"pixels are of no class, and {self.folder / YAML} has no id for such; add ignore: [255]"
            )
        with self._lock, ExitStack() as whole:
            saved = self._place(picture, name)
            if saved.mask.exists() and not replace:
                raise KerbsegError(f"{saved.mask} is there already; tick Replace to write it anew")
            if not (self.folder / YAML).exists():
                text = whole.enter_context(atomic_write(self.folder / YAML))
                text.write_text(dataset_yaml(self._labels), encoding="utf-8")
            self._picture_of(self._file_ids[ids]).save(whole.enter_context(atomic_write(saved.mask)))
            if not saved.picture.exists():
                shutil.copyfile(picture, whole.enter_context(atomic_write(saved.picture)))
        return saved

    def _document(self) -> DatasetFile | None:
        """What the folder's `dataset.yaml` says; None where the folder is still to be made, or empty."""
        path = self.folder / YAML
        if not path.exists():
            if any(_listed(self.folder)):
                raise KerbsegError(f"{self.folder} is no data set, it holds other files; name another folder: -o OUT")
            return None
        document = read_dataset_file(path)
        if document.masks != "ids" or document.paths is not None:
            raise KerbsegError(
                f"{path} has masks of colors, or paths of its own, and corrections are ids in images/ and masks/; name"
                " another folder: -o OUT"
            )
        return document

    def _place(self, picture: Path, name: str) -> Saved:
        """Where a picture and its mask belong: beside the same picture if that is there, else under a free name."""
        with open_picture(picture) as image:
            usual = FORMATS.get(image.format or "", (".jpg",))[0]  # a photo with previews (MPO) is a JPEG
        given = Path(normalize("NFC", Path(name).name))
        suffix = given.suffix if given.suffix.lower() in SUFFIXES else usual
        stem = given.stem.lstrip(".") or "picture"  # hidden files are no pictures of a data set
        images, masks = (self._by_stem(kind) for kind in ("images", "masks"))
        for each in _numbered(stem):
            mask = masks.get(each, self._folder("masks") / f"{each}.png")
            if each in images and filecmp.cmp(images[each], picture, shallow=False):
                if mask.suffix.lower() != ".png":
                    raise DataError(f"mask {mask} is no PNG, and corrections are; remove it first")
                return Saved(images[each], mask)
            if each not in images and each not in masks:
                return Saved(self._folder("images") / f"{each}{suffix}", mask)
        raise AssertionError("numbers do not end")

    def _by_stem(self, kind: str) -> dict[str, Path]:
        return {normalize("NFC", path.stem): path for path in _listed(self._folder(kind)) if is_picture(path)}

    def _folder(self, kind: str) -> Path:
        return self.folder / kind / self._inside

    def _picture_of(self, ids: UInt8[np.ndarray, "h w"]) -> Image.Image:
        """A palette picture of ids as files have them, in the data set's colors; no class has a color of its own."""
        palette = np.zeros((256, 3), np.uint8)
        palette[:] = next(gray for gray in range(256) if (gray, gray, gray) not in self._labels.colors)
        for file_id, train_id in self._labels.file_ids.items():
            palette[file_id] = self._labels.colors[train_id]
        picture = Image.fromarray(ids).copy()
        picture.putpalette(palette.tobytes())
        return picture


def _with_own_ids(labels: LabelSet) -> LabelSet:
    """The classes with one id each in files, that of the label set where it has one, in the colors that people see."""
    first = _first_ids(labels)
    if len(first) < len(labels) or VOID in first.values():
        first = {train_id: train_id for train_id in range(len(labels))}
    colors = [(red, green, blue) for red, green, blue in display_palette(labels)[: len(labels)].tolist()]
    file_ids = {first[train_id]: train_id for train_id in range(len(labels))}
    return LabelSet(
        labels.name, labels.classes, tuple(colors), file_ids, frozenset({VOID}), background=labels.background
    )


def _file_ids(model: LabelSet, data: LabelSet) -> UInt8[np.ndarray, " 256"]:
    """The id in files of each of the model's train ids."""
    first, ignored = _first_ids(data), data.ignored_file_ids
    table = np.full(256, VOID if VOID in ignored or not ignored else min(ignored), np.uint8)
    table[: len(model)] = [first[data.classes.index(name)] for name in model.classes]
    return table


def _first_ids(labels: LabelSet) -> dict[int, int]:
    """Of each train id the first id that files have for it."""
    first: dict[int, int] = {}
    for file_id, train_id in labels.file_ids.items():
        first.setdefault(train_id, file_id)
    return first


def _numbered(stem: str) -> Iterator[str]:
    yield stem
    yield from (f"{stem}-{number}" for number in count(2))


def _listed(folder: Path) -> list[Path]:
    return list(folder.iterdir()) if folder.is_dir() else []
