"""Reading pictures and masks; every failure names the file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image, UnidentifiedImageError

from kerbseg.core.errors import DataError
from kerbseg.core.labels import LabelSet

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".ppm"})


def read_rgb(path: Path) -> UInt8[np.ndarray, "h w 3"]:
    """The picture as RGB. Raises DataError for a missing, truncated or foreign file."""
    return np.array(_open(path).convert("RGB"))


def read_ids(path: Path) -> UInt8[np.ndarray, "h w"]:
    """The mask's stored ids, palette indices included. Raises DataError if it has more than one channel."""
    image = _open(path)
    if image.mode not in ("L", "P", "1", "I", "I;16"):
        raise DataError(f"mask {path} has mode {image.mode}, not one id a pixel; save it as 8-bit grey or palette PNG")
    ids = np.array(image)
    if ids.max(initial=0) > 255 or ids.min(initial=0) < 0:
        raise DataError(f"mask {path} holds ids {ids.min()}..{ids.max()}; ids are 0..255")
    return ids.astype(np.uint8)


def train_ids(ids: UInt8[np.ndarray, "h w"], labels: LabelSet, path: Path) -> UInt8[np.ndarray, "h w"]:
    """Train ids of a mask's stored ids. Raises DataError that says which ids are unknown, where, how many."""
    unknown = labels.unknown_ids[ids]
    if unknown.any():
        row, column = np.argwhere(unknown)[0]
        found = ", ".join(str(i) for i in np.unique(ids[unknown])[:8])
        raise DataError(
            f"mask {path}: {int(unknown.sum())} pixels hold ids outside label set {labels.name!r} ({found};"
            f" the first at row {row}, column {column}); map or ignore them in the label set, or correct the mask"
        )
    return labels.lookup[ids]


def pairs(images: dict[str, Path], masks: dict[str, Path], where: Path) -> list[tuple[str, Path, Path]]:
    """(stem, picture, mask) in order of stem. Raises DataError for one without the other."""
    for stems, found, missing in (
        (images.keys() - masks.keys(), "picture", "mask"),
        (masks.keys() - images.keys(), "mask", "picture"),
    ):
        if stems:
            raise DataError(
                f"{where}: {len(stems)} {found}(s) without {missing}, the first is {min(stems)!r};"
                f" add the {missing} or remove the {found}"
            )
    if not images:
        raise DataError(f"{where} holds no pictures; check --data-root and the split")
    return [(stem, images[stem], masks[stem]) for stem in sorted(images)]


def by_stem(folder: Path) -> dict[str, Path]:
    """Pictures of a folder by stem. Raises DataError if the folder is missing or a stem stands twice."""
    if not folder.is_dir():
        raise DataError(f"folder {folder} does not exist; check --data-root and the split")
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in SUFFIXES and not path.name.startswith("."):
            if path.stem in found:
                raise DataError(f"{path} and {found[path.stem]} share a stem; keep one of them")
            found[path.stem] = path
    return found


def check_sizes(image: np.ndarray, mask: np.ndarray, image_path: Path, mask_path: Path) -> None:
    """Raises DataError where mask and picture differ in height or width."""
    if image.shape[:2] != mask.shape:
        (h, w), (mask_h, mask_w) = image.shape[:2], mask.shape
        raise DataError(f"{mask_path} is {mask_w}x{mask_h} but {image_path} is {w}x{h}; both must be of one size")


def _open(path: Path) -> Image.Image:
    try:
        image = Image.open(path)
        image.load()
    except FileNotFoundError as error:
        raise DataError(f"{path} does not exist") from error
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(
            f"{path} cannot be read as a picture ({error}); it is truncated or no picture: replace it"
        ) from error
    return image
