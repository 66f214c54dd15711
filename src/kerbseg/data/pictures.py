"""Reading pictures and masks; every failure names the file."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Int, UInt8
from PIL import Image, ImageOps, UnidentifiedImageError

from kerbseg.core.errors import DataError
from kerbseg.core.labels import Color, LabelSet
from kerbseg.core.types import VOID

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".ppm"})


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


def read_rgb(path: Path) -> UInt8[np.ndarray, "h w 3"]:
    """The picture as RGB. Raises DataError for a missing, truncated or foreign file."""
    image = _open(path)
    if image.mode.startswith(("I", "F")):  # conversion would clip to 255, not scale
        raise DataError(f"picture {path} has mode {image.mode}, more than 8 bits a channel; save it with 8 bits")
    return np.array(image.convert("RGB"))


def read_ids(path: Path) -> UInt8[np.ndarray, "h w"]:
    """The mask's stored ids, palette indices included. Raises DataError if it has more than one channel."""
    image = _open(path)
    if image.mode not in ("L", "P", "1", "I", "I;16"):
        raise DataError(f"mask {path} has mode {image.mode}, not one id a pixel; save it as 8-bit gray or palette PNG")
    ids = np.array(image)
    if ids.max(initial=0) > 255 or ids.min(initial=0) < 0:
        raise DataError(f"mask {path} holds ids {ids.min()}..{ids.max()}; ids are 0..255, save it as 8-bit gray PNG")
    return ids.astype(np.uint8)


def id_mask(path: Path, labels: LabelSet) -> Mask:
    """The mask of a file of ids."""
    return mask_of(read_ids(path), labels)


def mask_of(ids: UInt8[np.ndarray, "h w"], labels: LabelSet) -> Mask:
    """The mask of a file's ids."""
    unknown = labels.unknown_ids[ids]
    return Mask(labels.lookup[ids], tuple(_unknown(ids, unknown, str)) if unknown.any() else ())


def color_mask(path: Path, train_ids: Mapping[Color, int]) -> Mask:
    """The mask of a file of colors, by the train id (or VOID) of each."""
    rgb = np.array(_open(path).convert("RGB")).astype(np.int32)
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
    if image.shape[:2] != mask.shape:
        (h, w), (mask_h, mask_w) = image.shape[:2], mask.shape
        raise DataError(
            f"mask {mask_path} is {mask_w}x{mask_h} but picture {image_path} is {w}x{h};"
            " save both at one size (masks with nearest resampling)"
        )


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


def _open(path: Path) -> Image.Image:
    try:
        image = Image.open(path)
        image.load()
        ImageOps.exif_transpose(image, in_place=True)  # viewers and labelling tools turn pictures as the camera noted
    except FileNotFoundError as error:
        raise DataError(f"{path} does not exist; check the path") from error
    except (
        # Pillow's decoders raise all of these for damaged files
        UnidentifiedImageError,
        OSError,
        SyntaxError,
        ValueError,
        EOFError,
        KeyError,
        IndexError,
        TypeError,
        struct.error,
        Image.DecompressionBombError,
    ) as error:
        raise DataError(
            f"{path} cannot be read as a picture ({error}); it is truncated or no picture: replace it"
        ) from error
    return image
