"""Reading masks: train ids, and the values that no class has."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Int, UInt8
from PIL import Image

from kerbseg.core.errors import DataError
from kerbseg.core.labels import Color, LabelSet
from kerbseg.core.types import VOID
from kerbseg.data.pictures import decode, exif_orientation, open_picture, rgb_pixels, upright

ID_MODES = frozenset({"1", "L", "P", "I", "I;16", "I;16B"})


@dataclass(frozen=True)
class Unknown:
    """A value in a mask that the label set does not know, and the first pixel that holds it."""

    value: str
    pixels: int
    row: int
    column: int


@dataclass(frozen=True)
class Mask:
    """Train ids of a mask file, VOID where its values are unknown."""

    ids: UInt8[np.ndarray, "h w"]
    unknown: tuple[Unknown, ...] = ()
    palette: Mapping[int, Color] = field(default_factory=dict)  # of a palette mask: the color of each id in it


def read_ids(path: Path) -> UInt8[np.ndarray, "h w"]:
    """The mask's stored ids, palette indices included, upright. Raises DataError where they cannot be those drawn."""
    return _read(path)[0]


def id_mask(path: Path, labels: LabelSet, given: Mapping[int, Color] | None = None) -> Mask:
    """The mask of a file of ids; `given` are colors that ids must have if the file has a palette.

    Raises DataError where a palette shows that ids were renumbered after they were drawn, and as `read_ids`.
    """
    ids, palette = _read(path)
    refuse_renumbered(palette, labels, given or {}, path)
    return replace(mask_of(ids, labels), palette=palette)


def refuse_renumbered(palette: Mapping[int, Color], labels: LabelSet, given: Mapping[int, Color], path: Path) -> None:
    """Raises DataError where an id has the color of another id: optimizers sort palettes, and ids change with that."""
    id_of = {color: file_id for file_id, color in given.items()}
    known, grays = {*labels.file_ids, *labels.ignored_file_ids}, {r for r, _, _ in palette.values()}
    if all(r == g == b for r, g, b in palette.values()) and grays <= known and grays - {0, 255}:
        id_of |= {(gray, gray, gray): gray for gray in known}  # a gray mask that was given a palette: its grays are ids
    for file_id, color in palette.items():
        drawn = id_of.get(color, file_id)
        if drawn != file_id and given.get(file_id) != color:
            raise DataError(
                f"mask {path}: pixels of id {file_id} have the palette's color {color}, which is that of id {drawn}: an"
                " optimizer renumbered the palette; export the masks again, as 8-bit gray PNG, and keep optimizers off"
            )


@contextmanager
def open_mask(path: Path) -> Iterator[Image.Image]:
    """A mask file, not yet decoded. Raises DataError as `open_picture`, and for compression that alters ids."""
    with open_picture(path) as image:
        if image.format in ("JPEG", "MPO") or image.info.get("compression") == "jpeg":  # the last within a TIFF
            raise DataError(
                f"mask {path} is a JPEG, which alters ids along every border; export the masks again, as PNG"
                " (a JPEG saved as PNG stays wrong)"
            )
        yield image


def mask_of(ids: UInt8[np.ndarray, "h w"], labels: LabelSet) -> Mask:
    """The mask of a file's ids."""
    unknown = labels.unknown_ids[ids]
    return Mask(labels.lookup[ids], tuple(_unknown(ids, unknown, str)) if unknown.any() else ())


def color_mask(path: Path, train_ids: Mapping[Color, int]) -> Mask:
    """The mask of a file of colors, by the train id (or VOID) of each."""
    with open_mask(path) as image:
        rgb = rgb_pixels(image, f"mask {path}", DataError).astype(np.int32)
    codes = rgb[..., 0] << 16 | rgb[..., 1] << 8 | rgb[..., 2]
    table = sorted((r << 16 | g << 8 | b, train_id) for (r, g, b), train_id in train_ids.items())
    known = np.array([code for code, _ in table])
    at = np.searchsorted(known, codes).clip(max=len(known) - 1)
    unknown = known[at] != codes
    ids = np.where(unknown, VOID, np.array([train_id for _, train_id in table])[at]).astype(np.uint8)
    return Mask(ids, tuple(_unknown(codes, unknown, _color_name)) if unknown.any() else ())


def refuse_unknown(mask: Mask, path: Path, labels: LabelSet) -> None:
    """Raises DataError that says which values of a mask are unknown, where, how many."""
    if mask.unknown:
        pixels = sum(value.pixels for value in mask.unknown)
        first = min(mask.unknown, key=lambda value: (value.row, value.column))
        which = ", ".join(f"{value.value} x{value.pixels}" for value in mask.unknown[:8])
        more = f" and {len(mask.unknown) - 8} more" if len(mask.unknown) > 8 else ""
        raise DataError(
            f"mask {path}: {pixels} pixels hold values outside label set {labels.name!r} ({which}{more};"
            f" the first at row {first.row}, column {first.column}); map or ignore them in the label set,"
            " or correct the mask"
        )


def train_ids(ids: UInt8[np.ndarray, "h w"], labels: LabelSet, path: Path) -> UInt8[np.ndarray, "h w"]:
    """Train ids of a mask's stored ids. Raises DataError that says which ids are unknown, where, how many."""
    mask = mask_of(ids, labels)
    refuse_unknown(mask, path, labels)
    return mask.ids


def check_sizes(image: np.ndarray, mask: np.ndarray, image_path: Path, mask_path: Path) -> None:
    """Raises DataError where mask and picture differ in height or width."""
    if image.shape[:2] == mask.shape:
        return
    (h, w), (mask_h, mask_w) = image.shape[:2], mask.shape
    remedy = "save both at one size (masks with nearest resampling)"
    if (h, w) == (mask_w, mask_h) and exif_orientation(image_path) >= 5:
        remedy = (
            "the camera's note in the picture's EXIF turns it, and the mask was drawn before; turn the masks as the"
            " pictures are shown, or, where a network is to see pictures unturned, remove the note (exiftool"
            " -Orientation= FILE)"
        )
    raise DataError(f"mask {mask_path} is {mask_h}x{mask_w} but picture {image_path} is {h}x{w} (HxW); {remedy}")


def _unknown(
    codes: Int[np.ndarray, "h w"] | UInt8[np.ndarray, "h w"],
    unknown: Bool[np.ndarray, "h w"],
    name: Callable[[int], str],
) -> Iterator[Unknown]:
    values, first, counts = np.unique(codes[unknown], return_index=True, return_counts=True)
    places = np.flatnonzero(unknown)[first]
    for value, place, pixels in zip(values, places, counts, strict=True):
        row, column = divmod(int(place), codes.shape[1])
        yield Unknown(name(int(value)), int(pixels), row, column)


def _color_name(code: int) -> str:
    return f"({code >> 16}, {code >> 8 & 255}, {code & 255})"


def _read(path: Path) -> tuple[UInt8[np.ndarray, "h w"], dict[int, Color]]:
    """Stored ids, and of a palette mask the color of each."""
    with open_mask(path) as image:
        decode(image, f"mask {path}", DataError)
        if image.mode not in ID_MODES:
            raise DataError(
                f"mask {path} has mode {image.mode}, not one id a pixel; save it as 8-bit gray or palette PNG"
            )
        ids = upright(image, partial(_ids, path=path))
        if image.mode != "P":
            return ids, {}
        colors = np.array(image.getpalette() or [], np.uint8).reshape(-1, 3).tolist()
        used = np.flatnonzero(np.bincount(ids.ravel())).tolist()
        return ids, {i: (colors[i][0], colors[i][1], colors[i][2]) for i in used if i < len(colors)}


def _ids(band: Image.Image, path: Path) -> UInt8[np.ndarray, "h w"]:
    ids = np.asarray(band)
    if ids.dtype == np.uint8:
        return ids
    if ids.max(initial=0) > 255 or ids.min(initial=0) < 0:
        raise DataError(f"mask {path} holds ids {ids.min()}..{ids.max()}; ids are 0..255, save it as 8-bit gray PNG")
    return ids.astype(np.uint8)
