"""A user's own data set: `images/{split}`, `masks/{split}` and `dataset.yaml`.

Pictures and masks are paired by their path within the split, without suffix; subfolders are welcome.

    name: park                  # the folder's name without it
    classes:                    # the position is the train id
      - {name: path, color: [128, 64, 128], ids: [1, 4]}   # ids that masks hold; the position without them
      - {name: grass}                                      # a colour is chosen where none is given
    ignore: [0, 255]            # ids that are no class; [255] without it
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from kerbseg.core.errors import DataError, did_you_mean
from kerbseg.core.labels import Color, LabelSet
from kerbseg.data.pairs import PairedFiles, by_relative_stem, check_split, pair_up
from kerbseg.data.pictures import id_mask


def open_split(root: Path, split: str) -> PairedFiles:
    """One split; its name is that of a folder under `images`."""
    labels = read_labels(root / "dataset.yaml")
    check_split(labels.name, split, splits(root))
    images, masks = root / "images" / split, root / "masks" / split
    listing = pair_up(images, by_relative_stem(images), by_relative_stem(masks))
    return PairedFiles("folder", split, labels, listing, partial(id_mask, labels=labels))


def splits(root: Path) -> tuple[str, ...]:
    """The folders under `images`, those of training first. Raises DataError where there is none."""
    images = root / "images"
    if not images.is_dir():
        raise DataError(f"{root} has no folder images; put pictures into images/train, masks into masks/train")
    found = [path.name for path in images.iterdir() if path.is_dir() and not path.name.startswith(".")]
    if not found:
        raise DataError(f"{images} has no folder for a split; move the pictures into images/train, masks likewise")
    usual = ("train", "val", "test")
    return tuple(sorted(found, key=lambda name: (usual.index(name) if name in usual else len(usual), name)))


def read_labels(path: Path) -> LabelSet:
    """The label set of a `dataset.yaml`. Raises DataError naming the key that is wrong."""
    document = _load(path)
    _check_keys(document, ("name", "classes", "ignore"), "", path)
    entries = document.get("classes")
    if not isinstance(entries, list) or not entries:
        raise DataError(f"{path}: classes must be a list such as [{{name: road}}], found {entries!r}")
    names: list[str] = []
    colors: list[Color | None] = []
    file_ids: dict[int, int] = {}
    for position, entry in enumerate(entries):
        where = f"classes[{position}]"
        if not isinstance(entry, dict):
            raise DataError(f"{path}: {where} must be a mapping such as {{name: road}}, found {entry!r}")
        _check_keys(entry, ("name", "color", "ids"), f"{where}.", path)
        names.append(_name(entry.get("name"), f"{where}.name", path))
        colors.append(_color(entry["color"], f"{where}.color", path) if "color" in entry else None)
        for file_id in _ids(entry.get("ids", [position]), f"{where}.ids", path):
            if file_id in file_ids:
                raise DataError(
                    f"{path}: id {file_id} of {where} ({names[-1]}) belongs to class {names[file_ids[file_id]]!r}"
                    " already; give each id to one class"
                )
            file_ids[file_id] = position
    _check_names(names, path)
    ignored = frozenset(_ids(document["ignore"], "ignore", path) if "ignore" in document else {255} - file_ids.keys())
    for file_id in sorted(ignored & file_ids.keys()):
        raise DataError(
            f"{path}: id {file_id} in ignore belongs to class {names[file_ids[file_id]]!r} too; keep one of them"
        )
    name = _name(document["name"], "name", path) if "name" in document else path.resolve().parent.name
    return LabelSet(name, tuple(names), tuple(distinct_colors(colors)), file_ids, ignored)


def distinct_colors(colors: Iterable[Color | None]) -> list[Color]:
    """The colours, with each gap filled by the one farthest from all others and from black, which stands for VOID."""
    colors = list(colors)
    taken = np.array([(0, 0, 0), *(color for color in colors if color is not None)])
    levels = np.linspace(0, 255, 8).round().astype(int)
    free = np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), -1).reshape(-1, 3)
    distance = ((free[:, None] - taken) ** 2).sum(-1).min(1)
    filled: list[Color] = []
    for color in colors:
        if color is None:
            r, g, b = (int(value) for value in free[distance.argmax()])
            color = (r, g, b)
            distance = np.minimum(distance, ((free - np.array(color)) ** 2).sum(-1))
        filled.append(color)
    return filled


def _load(path: Path) -> dict[Any, Any]:
    if not path.is_file():
        raise DataError(
            f"{path} does not exist; it names the classes, such as: classes: [{{name: road}}, {{name: sky}}]"
        )
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise DataError(f"{path} is no YAML ({error}); correct it") from error
    if not isinstance(document, dict):
        raise DataError(f"{path} must hold keys (name, classes, ignore), found {type(document).__name__}; add classes:")
    return document


def _check_keys(found: dict[Any, Any], valid: tuple[str, ...], where: str, path: Path) -> None:
    for key in found:
        if key not in valid:
            raise DataError(f"{path}: unknown key {where}{key}; {did_you_mean(str(key), valid)}")


def _check_names(names: list[str], path: Path) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DataError(f"{path}: classes name {twice[0]!r} stands twice; give every class its own name")
    if len(names) > 255:
        raise DataError(f"{path}: {len(names)} classes; ids are uint8, at most 255 classes")


def _name(value: Any, where: str, path: Path) -> str:
    if not isinstance(value, str) or not value.strip():
        found = "nothing" if value is None else repr(value)
        raise DataError(f"{path}: {where} must be text, found {found}; add it, or put it in quotes")
    return value


def _color(value: Any, where: str, path: Path) -> Color:
    if isinstance(value, str) and re.fullmatch(r"#[0-9a-fA-F]{6}", value):
        r, g, b = bytes.fromhex(value[1:])
        return r, g, b
    if isinstance(value, list) and len(value) == 3 and all(map(_is_byte, value)):
        r, g, b = value
        return r, g, b
    raise DataError(f"{path}: {where} must be [r, g, b] of 0..255 or '#rrggbb', found {value!r}")


def _ids(value: Any, where: str, path: Path) -> list[int]:
    if not isinstance(value, list) or not all(map(_is_byte, value)) or (not value and where != "ignore"):
        raise DataError(f"{path}: {where} must be a list of ids 0..255 such as [3, 7], found {value!r}")
    if len(set(value)) != len(value):
        raise DataError(f"{path}: {where} holds an id twice, found {value!r}; keep one of each")
    return value


def _is_byte(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 255
