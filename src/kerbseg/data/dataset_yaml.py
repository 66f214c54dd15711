"""`dataset.yaml` of a data set of one's own: what it may hold, and the label set that it gives; see `folder`."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from reprlib import Repr
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from kerbseg.core.errors import DataError, KerbsegError, did_you_mean
from kerbseg.core.labels import BACKGROUND, LABEL_SETS, Color, LabelSet
from kerbseg.core.strict_yaml import read_yaml
from kerbseg.core.text import printable
from kerbseg.core.types import VOID
from kerbseg.data.path_templates import PathTemplate


def is_name(text: str) -> bool:
    """Whether a text can stand in a legend."""
    return bool(text.strip()) and printable(text) == text and len(text) <= LONGEST_NAME


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
    "paths": (
        "must be like {images: 'camera/{split}/{name}.jpg', masks: 'labels/{split}/{name}.png'}",
        "write both, in quotes where they begin with a brace",
    ),
    "ignored colors": ("must be a list of colors such as [[0, 0, 0]] (masks: color)", "list each that is no class"),
}


_SHORT = Repr()
_SHORT.maxstring = _SHORT.maxother = 60


class _Document(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class ClassEntry(_Document):
    """A class of `dataset.yaml`."""

    name: Text  # as legends and results show it
    color: Rgb | None = None  # [r, g, b] or "#rrggbb", in masks of colors and in drawings; one is chosen without it
    ids: Annotated[Ids, Field(min_length=1)] | None = None  # ids that masks hold for it; its position without them
    colors: Annotated[list[Rgb], Field(min_length=1)] | None = None  # more of its colors, with `masks: color`
    background: bool | None = None  # true: overlays leave it unpainted; without it a class of the name `background` is


class Paths(_Document):
    """Where pictures and masks lie, as path templates."""

    images: str  # such as `camera/{split}/{name}.jpg`
    masks: str  # such as `labels/{split}/{name}.png`

    @property
    def tell_split(self) -> bool:
        """Whether files say of which split they are."""
        return self.templates[0].tells_split

    @model_validator(mode="after")
    def _checked(self) -> Paths:
        images, masks = self.templates
        if images.tells_split != masks.tells_split:
            raise ValueError("have {split} in one of images and masks; write it into both, or into neither")
        if images.text == masks.text:
            raise ValueError("give images and masks one place; they need two")
        return self

    @property
    def templates(self) -> tuple[PathTemplate, PathTemplate]:
        """Those of pictures and of masks. Raises ValueError for one that cannot be followed."""
        made = []
        for kind in ("images", "masks"):
            try:
                made.append(PathTemplate(getattr(self, kind)))
            except ValueError as problem:
                raise ValueError(f"{kind} {problem}") from None
        return made[0], made[1]


class DatasetFile(_Document):
    """What `dataset.yaml` holds."""

    name: Text | None = None  # of the data set; the folder's without it
    classes: Annotated[list[ClassEntry], Field(min_length=1)]  # names, or mappings; the order is that of train ids
    ignore: Ids | None = None  # ids (or colors) in masks that are no class: no loss, no score; 255 without it
    masks: Literal["ids", "color"] = "ids"  # what a pixel of a mask holds
    split: Share | None = None  # share of the pictures for training, where no folders say it
    paths: Paths | None = None  # where pictures and masks lie, if not in `images/` and `masks/`


class ColorDatasetFile(DatasetFile):
    """What `dataset.yaml` holds where masks hold colors."""

    ignore: list[Rgb] | None = None  # type: ignore[assignment] # colors in place of ids


def read_labels(path: Path) -> LabelSet:
    """The label set of a `dataset.yaml`. Raises DataError naming the key that is wrong."""
    return labels_of(read_dataset_file(path), path)


def find_labels(name: str) -> LabelSet:
    """The label set of that name, or of a `dataset.yaml`, given as its path or as the folder that holds it.

    A name comes before a folder called the same. Raises KerbsegError with the nearest name, DataError as `read_labels`.
    """
    if name in LABEL_SETS:
        return LABEL_SETS[name]
    path = Path(name)
    if os.path.isdir(path):  # no exception where a name is too long
        return read_labels(path / "dataset.yaml")
    if path.suffix in (".yaml", ".yml"):
        return read_labels(path)
    raise KerbsegError(
        f"unknown label set {name!r}; {did_you_mean(name, LABEL_SETS)}; or give a dataset.yaml, or the folder with it"
    )


def labels_of(document: DatasetFile, path: Path) -> LabelSet:
    names = [entry.name for entry in document.classes]
    of_colors = isinstance(document, ColorDatasetFile)
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise DataError(f"{path}: classes name {twice[0]!r} stands twice; give every class its own name")
    if len(names) > 255:
        raise DataError(f"{path}: {len(names)} classes; ids are uint8, at most 255 classes")
    if of_colors:
        mask_colors(document, path)
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


def mask_colors(document: DatasetFile, path: Path) -> dict[Color, int]:
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


def read_dataset_file(path: Path) -> DatasetFile:
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
        read = (ColorDatasetFile if document.get("masks") == "color" else DatasetFile).model_validate(document)
    except ValidationError as error:
        raise DataError(f"{path}: {_explain(error, document)}") from None
    if read.paths is not None and read.paths.tell_split and read.split is not None:
        raise DataError(f"{path} draws a split, but paths tell it; remove split:, or {{split}} from paths")
    if read.paths is not None and not read.paths.tell_split and read.split is None:
        raise DataError(f"{path}: paths tell no split; write {{split}} into both, or split: 0.8 to have one drawn")
    return read


def _explain(error: ValidationError, document: Any) -> str:
    """The first complaint as one line: key, what stands there, way out."""
    # named first: a slip in a name also leaves one missing
    first = min(error.errors(), key=lambda complaint: complaint["type"] not in ("extra_forbidden", "invalid_key"))
    inside = Paths if first["loc"][0] == "paths" else ClassEntry
    fields = (DatasetFile if len(first["loc"]) == 1 else inside).model_fields
    if first["type"] == "invalid_key":
        return f"key {_SHORT.repr(first['input'])} is no word; keys are {', '.join(fields)}"
    where, stands = "", document
    for part in first["loc"][:3]:
        where += f"[{part}]" if isinstance(part, int) else f".{part:.60}" if where else f"{part:.60}"
        stands = _at(stands, part)
    key = next(str(part) for part in reversed(first["loc"][:3]) if isinstance(part, str))
    if first["type"] == "extra_forbidden":
        return f"unknown key {where}; {did_you_mean(key, fields)}"
    if first["type"] == "value_error" and key == "paths":
        return f"paths: {first['ctx']['error']}; such as {{name}} in camera/{{split}}/{{name}}.jpg"
    if first["type"] == "value_error" and key in ("ids", "ignore"):
        return f"{where} holds an id twice, found {_SHORT.repr(stands)}; keep one of each"
    if first["type"] == "value_error" and key == "name":
        return f"{where} must be 1 to {LONGEST_NAME} visible characters, found {_SHORT.repr(stands)}; correct it"
    if key == "ignore" and document.get("masks") == "color":
        key = "ignored colors"
    if first["loc"][0] == "paths":
        key = "paths"
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
