"""Opening pictures: the one place where a file becomes pixels; every failure names the file.

Only the formats listed here are decoded, whatever a file's suffix says: Pillow would hand PostScript to Ghostscript.
"""

from __future__ import annotations

import stat
import struct
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from io import SEEK_END, BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from jaxtyping import UInt8
from PIL import Image, UnidentifiedImageError

from kerbseg.core.errors import DataError, KerbsegError

FORMATS: Mapping[str, tuple[str, ...]] = {  # Pillow's name of a format -> the suffixes that its files have
    "PNG": (".png", ".apng"),
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "WEBP": (".webp",),
    "TIFF": (".tif", ".tiff"),
    "BMP": (".bmp",),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm"),
    "GIF": (".gif",),
}
SUFFIXES = frozenset(suffix for suffixes in FORMATS.values() for suffix in suffixes)
MAX_PIXELS = 2**26  # 8192 x 8192: a small file can claim any size, and four bytes a pixel are taken before it is read

_RGB_MODES = frozenset({"1", "L", "P", "LA", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "HSV"})
_BAND_PIXELS = 2**20  # are converted at once: two or three copies of a large picture at a time would be many

_STORED: Mapping[int, Callable[[np.ndarray], np.ndarray]] = {  # EXIF orientation -> an upright picture as it is stored
    2: lambda upright: upright[:, ::-1],
    3: lambda upright: upright[::-1, ::-1],
    4: lambda upright: upright[::-1],
    5: lambda upright: upright.swapaxes(0, 1),
    6: lambda upright: np.rot90(upright, 1),
    7: lambda upright: upright.swapaxes(0, 1)[::-1, ::-1],
    8: lambda upright: np.rot90(upright, -1),
}

_DAMAGE = (  # what Pillow's decoders raise for damaged files
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    LookupError,
    TypeError,
    ArithmeticError,
    AttributeError,
    RuntimeError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)


def read_rgb(path: Path) -> UInt8[np.ndarray, "h w 3"]:
    """The picture as RGB, upright. Raises DataError for a file that is missing, damaged, foreign or too large."""
    with open_picture(path) as image:
        return rgb_pixels(image, f"picture {path}", DataError)


def rgb_of(content: bytes, shown: str, most: int = MAX_PIXELS) -> UInt8[np.ndarray, "h w 3"]:
    """The same of the content of a file that came another way, which errors call `shown`; at most so many pixels."""
    with _identified(BytesIO(content), shown) as image:
        _check_single(image, shown)
        return rgb_pixels(image, f"picture {shown}", DataError, most)


def rgb_pixels(
    image: Image.Image, shown: str, error: type[KerbsegError], most: int = MAX_PIXELS
) -> UInt8[np.ndarray, "h w 3"]:
    """The pixels of a file's picture, or of one that a caller made: upright, transparency left out.

    Raises `error`, which calls the picture `shown`, for one that is damaged, too large, or not of 8 bits a channel.
    """
    if image.format == "EPS":
        raise error(f"{shown} is PostScript, a program that draws a picture; save it as PNG first")
    decode(image, shown, error, most)
    if image.mode.startswith(("I", "F")):  # conversion would clip to 255, not scale
        raise error(f"{shown} has mode {image.mode}, more than 8 bits a channel; save it with 8 bits, scaled to 0..255")
    if image.mode not in _RGB_MODES:
        raise error(f"{shown} has mode {image.mode}, whose colors cannot be read as RGB; save it as RGB")
    return upright(image, _rgb, (3,))


def decode(image: Image.Image, shown: str, error: type[KerbsegError], most: int = MAX_PIXELS) -> None:
    """Reads the pixels of a picture that was opened. Raises `error` as `rgb_pixels`."""
    width, height = image.size
    if not width or not height:
        raise error(f"{shown} is {width}x{height}: it has no pixels; replace it")
    if width * height > most:
        raise error(
            f"{shown} is {width}x{height}, {width * height / 1e6:.0f} million pixels; at most"
            f" {most / 1e6:.0f} million are read: scale it down, or cut it into parts"
        )
    try:
        image.load()
    except _DAMAGE as problem:
        raise error(_damaged(shown, problem)) from problem


def upright(
    image: Image.Image, values: Callable[[Image.Image], np.ndarray], channels: tuple[int, ...] = ()
) -> UInt8[np.ndarray, "h w *c"]:
    """What `values` makes of a decoded picture, band by band, turned as its camera noted."""
    width, height = image.size
    orientation = _orientation(image)
    pixels = np.empty(((width, height) if orientation >= 5 else (height, width)) + channels, np.uint8)
    stored = _STORED[orientation](pixels) if orientation in _STORED else pixels
    rows = max(1, _BAND_PIXELS // width)
    for top in range(0, height, rows):
        bottom = min(top + rows, height)
        stored[top:bottom] = values(image if rows >= height else image.crop((0, top, width, bottom)))
    return pixels


@contextmanager
def open_picture(path: Path) -> Iterator[Image.Image]:
    """A picture file of one of `FORMATS`, its pixels not yet decoded. Raises DataError as `read_rgb`."""
    with _opened(path) as image:
        _check_single(image, str(path))
        yield image


def picture_size(path: Path) -> tuple[int, int]:
    """Height and width of a picture, upright; its pixels are not decoded. Raises DataError as `read_rgb`."""
    with open_picture(path) as image:
        width, height = image.size
        return (width, height) if _orientation(image) >= 5 else (height, width)


def exif_orientation(path: Path) -> int:
    """How the camera was held, 1..8, as a picture file notes it; 1 where it notes nothing. Raises DataError too."""
    with _opened(path) as image:
        return _orientation(image)


def as_turned(pixels: UInt8[np.ndarray, "h w"], orientation: int) -> UInt8[np.ndarray, "h2 w2"]:
    """What is drawn on a picture as it is stored, turned as the picture is."""
    inverse = {6: 8, 8: 6}.get(orientation, orientation)
    return _STORED[inverse](pixels) if inverse in _STORED else pixels


def is_animation(path: Path) -> bool:
    """Whether a picture file holds frames one after the other. Raises DataError as `read_rgb`."""
    with _opened(path) as image:
        return image.format in ("GIF", "WEBP", "PNG") and _has_more(image, str(path))


def read_animation(path: Path) -> Iterator[tuple[UInt8[np.ndarray, "h w 3"], float]]:
    """The frames of an animation as RGB, each with the milliseconds that it says it is shown for.

    Raises DataError as `read_rgb`, at the first frame that is damaged.
    """
    with _opened(path) as image:
        try:
            count = getattr(image, "n_frames", 1)
        except _DAMAGE as problem:
            raise DataError(_damaged(str(path), problem)) from problem
        for n in range(count):
            shown = f"frame {n} of {path}"
            try:
                image.seek(n)
            except _DAMAGE as problem:
                raise DataError(_damaged(shown, problem)) from problem
            yield rgb_pixels(image, shown, DataError), float(image.info.get("duration") or 0)


def _check_single(image: Image.Image, shown: str) -> None:
    if image.format != "MPO" and _has_more(image, shown):  # MPO: a photo and its previews
        raise DataError(
            f"{shown} holds more than one picture, an animation or pages, and only one can be read;"
            " save each as a file of its own"
        )


def _has_more(image: Image.Image, shown: str) -> bool:
    try:
        return bool(getattr(image, "is_animated", False))
    except _DAMAGE as problem:  # a GIF is asked by reading its second frame
        raise DataError(_damaged(shown, problem)) from problem


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # before it is opened: a named pipe waits for a writer
            raise DataError(f"{path} is {_kind(path)}, no picture file; remove it, or name a file")
        file = path.open("rb")
    except FileNotFoundError as problem:
        raise DataError(f"{path} does not exist; check the path") from problem
    except OSError as problem:
        raise DataError(f"{path} cannot be opened: {problem.strerror or problem}; check it") from problem
    with file, _identified(file, str(path)) as image:
        yield image


@contextmanager
def _identified(file: BinaryIO, shown: str) -> Iterator[Image.Image]:
    try:
        image = Image.open(file, formats=tuple(FORMATS))
    except UnidentifiedImageError as problem:
        foreign = f"it is none of {', '.join(FORMATS)}" if file.seek(0, SEEK_END) else "it is empty"
        raise DataError(_damaged(shown, foreign)) from problem
    except _DAMAGE as problem:
        raise DataError(_damaged(shown, problem)) from problem
    with image:
        yield image


@contextmanager
def open_embedded(data: bytes, shown: str, formats: tuple[str, ...] = ("PNG",)) -> Iterator[Image.Image]:
    """A picture within another file, its pixels not yet decoded. Raises DataError, which calls it `shown`."""
    try:
        image = Image.open(BytesIO(data), formats=formats)
    except _DAMAGE as problem:
        foreign = f"it is no {' or '.join(formats)}"
        raise DataError(_damaged(shown, foreign if isinstance(problem, OSError) else problem)) from problem
    with image:
        yield image


def _rgb(band: Image.Image) -> UInt8[np.ndarray, "h w 3"]:
    if band.mode == "RGB":
        return np.asarray(band)
    if "transparency" in band.info:  # Pillow warns where a palette's transparency is left out at once
        band = band.convert("RGBA")
    return np.asarray(band.convert("RGB"))


def _orientation(image: Image.Image) -> int:
    """How the camera was held (EXIF tag 0x0112), 1..8: viewers and labelling tools turn pictures by it.

    No other tag is decoded: many good pictures have EXIF that breaks the standard, at which some versions of Pillow
    read no further.
    """
    exif = image.info.get("exif")
    orientation: Any = _first_directory(exif.removeprefix(b"Exif\0\0"), 0x0112) if isinstance(exif, bytes) else None
    if orientation is None:  # of a TIFF it is a tag of the picture; some programs note it in XMP alone
        try:
            orientation = image.getexif().get(0x0112)
        except _DAMAGE:  # a viewer shows a picture as it is stored, too, where its EXIF cannot be read
            return 1
    return orientation if isinstance(orientation, int) and 1 <= orientation <= 8 else 1


def _first_directory(tiff: bytes, wanted: int) -> int | None:
    """The short number that a tag holds in the first directory of TIFF's structure, which EXIF has; None without it."""
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2])
    if order is None or len(tiff) < 8:
        return None
    start = struct.unpack_from(f"{order}I", tiff, 4)[0]
    count = struct.unpack_from(f"{order}H", tiff, start)[0] if start + 2 <= len(tiff) else 0
    for place in range(start + 2, min(start + 2 + 12 * count, len(tiff) - 11), 12):
        tag, kind, _, value = struct.unpack_from(f"{order}HHIH", tiff, place)
        if (tag, kind) == (wanted, 3):
            return int(value)
    return None


def _damaged(shown: str, problem: object) -> str:
    return f"{shown} cannot be read as a picture ({problem}); it is truncated or no picture: replace it"


def _kind(path: Path) -> str:
    mode = path.stat().st_mode
    kinds = {stat.S_ISDIR: "a folder", stat.S_ISFIFO: "a named pipe", stat.S_ISSOCK: "a socket"}
    return next((name for is_kind, name in kinds.items() if is_kind(mode)), "a device")
