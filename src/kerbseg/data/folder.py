"""A user's own data set: `images/{split}`, `masks/{split}` and `dataset.yaml`.

Pictures and masks are paired by their path within the split, without suffix; subfolders are welcome.

    name: park                  # the folder's name without it
    classes:                    # the position is the train id
      - {name: path, color: [128, 64, 128], ids: [1, 4]}   # ids that masks hold; the position without them
      - {name: grass}                                      # a color is chosen where none is given
      - fence                                              # as {name: fence}
      - {name: rest, background: true}                     # stays unpainted in overlays, as a class called background
    ignore: [0, 255]            # ids that are no class; [255] without it

With `masks: color`, masks hold colors instead of ids: the `color` of a class, or one of its `colors`; colors in
`ignore` are no class, and any other is an error. With `split: 0.8`, pictures lie in `images` and masks in `masks`
without folders for splits: a split into train and val is drawn, the same each time, that leaves drives whole.

    masks: color
    split: 0.8
    classes:
      - {name: road, color: [128, 64, 128]}
      - {name: vehicle, colors: [[0, 0, 142], '#000046']}
    ignore: [[0, 0, 0]]

Two classes or more: what is none of them is a class too, such as background. Where masks have a palette, the colors
given here must be the palette's, since optimizers renumber palettes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from reprlib import Repr
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from kerbseg.core.errors import DataError, did_you_mean
from kerbseg.core.labels import BACKGROUND, Color, LabelSet
from kerbseg.core.strict_yaml import read_yaml
from kerbseg.core.text import printable
from kerbseg.core.types import VOID
from kerbseg.data.drives import draw_split
from kerbseg.data.masks import color_mask, id_mask
from kerbseg.data.pairs import Listing, PairedFiles, by_relative_stem, check_split, is_picture, pair_up


def open_split(root: Path, split: str) -> PairedFiles:
    """One split; its name is that of a folder under `images`."""
    path = root / "dataset.yaml"
    document = _read(path)
    labels = _labels(document, path)
    check_split(labels.name, split, splits(root))
    images, masks = root / "images", root / "masks"
    if document.split is None:
        listing = pair_up(images / split, by_relative_stem(images / split), by_relative_stem(masks / split))
    else:
        listing = _drawn(pair_up(images, by_relative_stem(images), by_relative_stem(masks)), split, document.split)
    if document.masks == "color":
        return PairedFiles(
            "folder", split, labels, listing, partial(color_mask, train_ids=_mask_colors(document, path))
        )
    given = {
        file_id: labels.colors[train_id]
        for file_id, train_id in labels.file_ids.items()
        if document.classes[train_id].color is not None
    }
    return PairedFiles("folder", split, labels, listing, partial(id_mask, labels=labels, given=given), given)


def splits(root: Path) -> tuple[str, ...]:
    """The folders under `images`, those of training first, or those that are drawn.

    Raises DataError where there is none.
    """
    images, path = root / "images", root / "dataset.yaml"
    if not (images.is_dir() and path.exists()):
        from kerbseg.data.formats import advice  # which needs much of this room

        if other := advice(root):
            raise DataError(f"{root} is not in the folder form, with images, masks and dataset.yaml; {other}")
    if not images.is_dir():
        raise DataError(f"{root} has no folder images; put pictures into images/train, masks into masks/train")
    present = [path.name for path in images.iterdir() if path.is_dir() and not path.name.startswith(".")]
    usual = ("train", "val", "test")
    try:
        share = _read(path).split if path.exists() else None
    except DataError:
        if not present:
            raise
        share = None  # folders are the splits, and opening one tells what is wrong
    if share is not None:
        if folders := [name for name in usual if name in present]:
            raise DataError(f"{path} draws a split, but {images / folders[0]} is one; remove split: from dataset.yaml")
        return ("train", "val") if share < 1 else ("train",)
    if not present:
        raise DataError(
            f"{images} has no folder for a split; move the pictures into images/train, masks likewise, or write"
            " split: 0.8 into dataset.yaml to have one drawn"
        )
    return tuple(sorted(present, key=lambda name: (usual.index(name) if name in usual else len(usual), name)))


def _drawn(listing: Listing, split: str, share: float) -> Listing:
    """The part of all pairs that is drawn for a split; what has no partner is told with the training."""
    training = draw_split([pair.name for pair in listing.pairs], share) if listing.pairs else []
    pairs = (pair for pair, trains in zip(listing.pairs, training, strict=True) if trains == (split == "train"))
    return replace(listing, pairs=tuple(pairs)) if split == "train" else Listing(listing.where, tuple(pairs))


def is_name(text: str) -> bool:
    """Whether a text can stand in a legend."""
    return bool(text.strip()) and printable(text) == text and len(text) <= LONGEST_NAME


def strays(root: Path) -> Iterator[str]:
    """What lies in the data set's folders and belongs to no split, in words."""
    with suppress(DataError):  # without a dataset.yaml that can be read, folders are the splits
        if _read(root / "dataset.yaml").split is not None:  # all belongs to what is drawn
            return
    for kind in ("images", "masks"):
        if loose := sorted(path for path in (root / kind).glob("*") if is_picture(path) and path.is_file()):
            yield (
                f"{len(loose)} file(s) lie right in {root / kind}, such as {loose[0].name}, and belong to no split;"
                f" move them into {kind}/train"
            )
    for path in sorted((root / "masks").glob("[!.]*")):
        if path.is_dir() and not (root / "images" / path.name).is_dir():
            yield f"{path} has no {root / 'images' / path.name} beside it; add the pictures, or remove the masks"


def _visible(text: str) -> str:
    if not is_name(text):
        raise ValueError("cannot be shown")
    return text


def _from_hex(value: Any) -> Any:
    """[r, g, b] of '#rrggbb'; anything else as it is."""
    if isinstance(value, str) and value.startswith("#") and len(value) == 7:
        return list(bytes.fromhex(value[1:]))
    return value


def _once(ids: list[int]) -> list[int]:
    if len(set(ids)) != len(ids):
        raise ValueError("twice")
    return ids


LONGEST_NAME = 100  # characters: a picture's legend is as wide as its longest name

Text = Annotated[str, AfterValidator(_visible)]
Byte = Annotated[int, Field(ge=0, le=255)]
Rgb = Annotated[list[Byte], Field(min_length=3, max_length=3), BeforeValidator(_from_hex)]
Ids = Annotated[list[Byte], AfterValidator(_once)]
Share = Annotated[float, Field(gt=0, le=1)]

_WANTED = {  # by the key in `dataset.yaml`: what it holds, and what to do where it holds something else
    "name": ("must be text", "add it, or put it in quotes"),
    "classes": ("must be a list such as [{name: road}]", "list the classes"),
    "class": ("must be a name such as road, or a mapping such as {name: road}", "give it a name"),
    "color": ("must be [r, g, b] of 0..255 or '#rrggbb'", "leave it out to have one chosen"),
    "ids": ("must be a list of ids 0..255 such as [3, 7]", "list each id that masks hold for the class"),
    "ignore": ("must be a list of ids 0..255 such as [3, 7]", "list each id that is no class"),
    "colors": ("must be a list of colors such as [[0, 0, 142], '#000046']", "list each color that masks hold for it"),
    "masks": ("must be ids or color", "leave it out where masks hold ids"),
    "background": ("must be true or false", "write background: true for a class that overlays leave unpainted"),
    "split": ("must be the share of pictures for training, above 0 and at most 1", "write split: 0.8"),
    "ignored colors": ("must be a list of colors such as [[0, 0, 0]] (masks: color)", "list each that is no class"),
}


_SHORT = Repr()
_SHORT.maxstring = _SHORT.maxother = 60


class _Document(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class ClassEntry(_Document):
    """A class of `dataset.yaml`."""

    name: Text
    color: Rgb | None = None
    ids: Annotated[Ids, Field(min_length=1)] | None = None  # in masks; the position without them
    colors: Annotated[list[Rgb], Field(min_length=1)] | None = None  # in masks of colors, beside `color`
    background: bool | None = None  # unpainted in overlays; by the name without it


class DatasetFile(_Document):
    """What `dataset.yaml` holds."""

    name: Text | None = None
    classes: Annotated[list[ClassEntry], Field(min_length=1)]
    ignore: Ids | None = None
    masks: Literal["ids", "color"] = "ids"
    split: Share | None = None  # for training, where no folders say it


class ColorDatasetFile(DatasetFile):
    """What `dataset.yaml` holds where masks hold colors."""

    ignore: list[Rgb] | None = None  # type: ignore[assignment] # colors in place of ids


def read_labels(path: Path) -> LabelSet:
    """The label set of a `dataset.yaml`. Raises DataError naming the key that is wrong."""
    return _labels(_read(path), path)


def _labels(document: DatasetFile, path: Path) -> LabelSet:
    names = [entry.name for entry in document.classes]
    of_colors = isinstance(document, ColorDatasetFile)
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise DataError(f"{path}: classes name {twice[0]!r} stands twice; give every class its own name")
    if len(names) > 255:
        raise DataError(f"{path}: {len(names)} classes; ids are uint8, at most 255 classes")
    if of_colors:
        _mask_colors(document, path)
    elif (position := next((i for i, entry in enumerate(document.classes) if entry.colors), None)) is not None:
        raise DataError(f"{path}: classes[{position}].colors are for masks of colors; add masks: color, or remove them")
    file_ids: dict[int, int] = {}
    for position, entry in enumerate(document.classes):
        for file_id in [position] if entry.ids is None else entry.ids:
            if file_id in file_ids:
                raise DataError(
                    f"{path}: id {file_id} of classes[{position}] ({entry.name}) belongs to class"
                    f" {names[file_ids[file_id]]!r} already; give each id to one class"
                )
            file_ids[file_id] = position
    ignored = frozenset({255} - file_ids.keys() if of_colors or document.ignore is None else document.ignore)
    if both := sorted(ignored & file_ids.keys()):
        raise DataError(
            f"{path}: id {both[0]} in ignore belongs to class {names[file_ids[both[0]]]!r} too; keep one of them"
        )
    if len(names) == 1:
        raise DataError(
            f"{path}: {names[0]!r} is the only class, so that every pixel is of it; add a background class for all"
            " else, such as {name: background}"
        )
    shown = (entry.color or (entry.colors[0] if entry.colors else None) for entry in document.classes)
    colors = distinct_colors(None if color is None else _color(color) for color in shown)
    background = frozenset(
        entry.name
        for entry in document.classes
        if (entry.name.casefold() == BACKGROUND if entry.background is None else entry.background)
    )
    name = document.name or path.resolve().parent.name
    return LabelSet(name, tuple(names), tuple(colors), file_ids, ignored, background=background)


def _mask_colors(document: DatasetFile, path: Path) -> dict[Color, int]:
    """The train id, or VOID, of each color in masks. Raises DataError for a class without one, or a color of two."""
    train_ids: dict[Color, int] = {}
    ignored: Any = document.ignore or []
    for position, entry in enumerate(document.classes):
        here = f"{path}: classes[{position}] ({entry.name})"
        if entry.ids is not None:
            raise DataError(f"{here} has ids, but masks hold colors (masks: color); give its color instead")
        colors = {_color(each) for each in [*([] if entry.color is None else [entry.color]), *(entry.colors or [])]}
        if not colors:
            raise DataError(f"{here} has no color, and masks hold colors (masks: color); add color: [r, g, b]")
        if both := [color for color in colors if color in train_ids]:
            other = document.classes[train_ids[both[0]]].name
            raise DataError(f"{here} has color {both[0]}, which is that of {other!r}; give each color to one class")
        train_ids |= dict.fromkeys(colors, position)
    for color in map(_color, ignored):
        if color in train_ids:
            name = document.classes[train_ids[color]].name
            raise DataError(f"{path}: color {color} in ignore belongs to class {name!r} too; keep one of them")
    return train_ids | dict.fromkeys(map(_color, ignored), VOID)


def _color(rgb: list[int]) -> Color:
    r, g, b = rgb
    return r, g, b


def _read(path: Path) -> DatasetFile:
    if not path.exists():
        raise DataError(
            f"{path} does not exist; it names the classes, such as: classes: [{{name: road}}, {{name: sky}}]"
        )
    document = read_yaml(path, DataError)
    if not isinstance(document, dict):
        keys = ", ".join(DatasetFile.model_fields)
        raise DataError(f"{path} must hold keys ({keys}), found {type(document).__name__}; add classes:")
    classes = document.get("classes")
    if isinstance(classes, list):
        document["classes"] = [{"name": each} if isinstance(each, str) else each for each in classes]
    try:
        return (ColorDatasetFile if document.get("masks") == "color" else DatasetFile).model_validate(document)
    except ValidationError as error:
        raise DataError(f"{path}: {_explain(error, document)}") from None


def _explain(error: ValidationError, document: Any) -> str:
    """The first complaint as one line: key, what stands there, way out."""
    # named first: a slip in a name also leaves one missing
    first = min(error.errors(), key=lambda complaint: complaint["type"] not in ("extra_forbidden", "invalid_key"))
    if first["type"] == "invalid_key":
        fields = (DatasetFile if len(first["loc"]) == 1 else ClassEntry).model_fields
        return f"key {_SHORT.repr(first['input'])} is no word; keys are {', '.join(fields)}"
    where, stands = "", document
    for part in first["loc"][:3]:
        where += f"[{part}]" if isinstance(part, int) else f".{part:.60}" if where else f"{part:.60}"
        stands = _at(stands, part)
    key = next(str(part) for part in reversed(first["loc"][:3]) if isinstance(part, str))
    if first["type"] == "extra_forbidden":
        kind = DatasetFile if len(first["loc"]) == 1 else ClassEntry
        return f"unknown key {where}; {did_you_mean(key, kind.model_fields)}"
    if first["type"] == "value_error" and key in ("ids", "ignore"):
        return f"{where} holds an id twice, found {_SHORT.repr(stands)}; keep one of each"
    if first["type"] == "value_error" and key == "name":
        return f"{where} must be 1 to {LONGEST_NAME} visible characters, found {_SHORT.repr(stands)}; correct it"
    if key == "ignore" and document.get("masks") == "color":
        key = "ignored colors"
    wanted, remedy = _WANTED["class" if first["loc"][0] == "classes" and len(first["loc"]) == 2 else key]
    shown = "nothing" if stands is None and key == "name" else _SHORT.repr(stands)
    return f"{where} {wanted}, found {shown}; {remedy}"


def _at(value: Any, part: int | str) -> Any:
    """What stands at a key or position; None where there is nothing."""
    try:
        return value[part]
    except (KeyError, IndexError, TypeError):
        return None


def distinct_colors(colors: Iterable[Color | None]) -> list[Color]:
    """The colors, with each gap filled by the one farthest from all others and from black, which stands for VOID."""
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
