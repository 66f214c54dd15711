"""Pictures of class ids: colors, overlays with a legend, confusion matrices."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Int, Int16, UInt8, UInt32
from PIL import Image, ImageDraw, ImageFont

from kerbseg.core.display import display_palette
from kerbseg.core.labels import LabelSet
from kerbseg.predict.fonts import NOTE, font_for, shown_names
from kerbseg.predict.legend import INK, PAPER, percent, with_legend
from kerbseg.predict.region_names import draw_names

if TYPE_CHECKING:
    from kerbseg.metrics import Metrics  # and with them torch, which no drawing needs

__all__ = [
    "INK",
    "PAPER",
    "blend_overlay",
    "border_painter",
    "colorize",
    "confusion_picture",
    "counts",
    "draw_names",
    "percent",
    "with_legend",
]

LINE_SHARE = 700
"""A border is a pixel wider on each side for each so many pixels of the picture's shorter side."""

BORDER_COATS = 3
BORDERED = 64  # pixels of the shorter side: borders would cover a smaller picture
FAINTEST = 20  # of 255: what a border adds beyond cannot be seen

BAND_PIXELS = 2**20
"""Pixels that are drawn at once: what a step makes on its way is small beside a large picture."""


Paint = Callable[..., None]
"""Paints the borders in a band of an overlay, in place: (band, picture, ids with a margin around them, strength of the
borders, colors, weight of each strength, margin, the strength that is too faint)."""


def border_painter() -> Paint | None:
    """What paints borders fastest: machine code, with the same pixels; None without numba, which the engines bring."""
    try:
        from kerbseg.runtime.border_kernel import paint_borders
    except ImportError:  # MissingExtra is one
        return None
    painter: Paint = paint_borders
    return painter


def colorize(ids: UInt8[np.ndarray, "h w"], labels: LabelSet) -> UInt8[np.ndarray, "h w 3"]:
    """The color of every pixel's class; VOID is black."""
    return labels.palette[ids]


def blend_overlay(
    picture: UInt8[np.ndarray, "h w 3"],
    ids: UInt8[np.ndarray, "h w"],
    labels: LabelSet,
    alpha: float = 0.5,
    paint: Paint | None = None,
) -> UInt8[np.ndarray, "h w 3"]:
    """The picture under its classes' display colors, of which `alpha` is the weight; background stays as it is.

    Along its border a region is painted as if `BORDER_COATS` times, softly, so that its color can be seen as it is in
    the legend, and regions do not flow into each other. `paint` draws borders faster (`border_painter`); the pixels are
    the same without it.
    """
    mixed = np.empty(picture.shape, np.uint8)  # in rows, whatever the order of the picture
    colors = display_palette(labels)
    painted = (colors * alpha).astype(np.uint8).tobytes()
    beside = (np.arange(256) * (1 - alpha)).astype(np.uint8)
    background = np.zeros(256, bool)
    background[[labels.classes.index(name) for name in labels.background]] = True
    for rows in _bands(ids):
        band = mixed[rows]
        layer = Image.fromarray(ids[rows])
        layer.putpalette(painted)  # a tenth of the time that numpy takes, and every frame of a video needs it
        np.add(
            np.asarray(layer.convert("RGB")), picture[rows] >> 1 if alpha == 0.5 else beside[picture[rows]], out=band
        )
        if labels.background:
            one, other = (each.reshape(-1, 3).view("V3") for each in (band, picture[rows]))  # a pixel as one thing
            np.copyto(one, other, where=background.take(ids[rows]).reshape(-1, 1))
        if min(ids.shape) >= BORDERED:
            _paint_borders(band, picture, ids, rows, colors, background, alpha, paint)
    return mixed


def _paint_borders(
    band: UInt8[np.ndarray, "r w 3"],
    picture: UInt8[np.ndarray, "h w 3"],
    ids: UInt8[np.ndarray, "h w"],
    rows: slice,
    colors: UInt8[np.ndarray, "256 3"],
    background: Bool[np.ndarray, " 256"],
    alpha: float,
    paint: Paint | None,
) -> None:
    """Paints what lies along borders between classes in those rows of an overlay, pixel by pixel: they are few."""
    reach = min(ids.shape) // LINE_SHARE
    margin = reach + 2
    around = _padded(ids, rows, margin)
    strength = _border_strength(around, reach)
    soft = np.minimum(1, np.arange(256) / 127)  # the half of a border that is its middle is painted in full
    border = 1 - (1 - alpha) ** BORDER_COATS
    # 128 is all: in 16 bits, which take half the time of 32
    weights = (128 * (alpha + (border - alpha) * soft)).astype(np.int16)
    if paint is not None and not background.any():
        paint(band, picture[rows], around, strength, colors, weights, margin, FAINTEST)
        return
    strength = strength.ravel()
    near = np.flatnonzero(strength > FAINTEST)
    inside = near + margin * around.shape[1] + margin + near // ids.shape[1] * 2 * margin  # of `around`
    own = around.ravel().take(inside)
    strength = strength.take(near)
    weight = weights.take(strength)
    if background.any():
        weight = np.where(background.take(own), (128 * border * soft).astype(np.int16).take(strength), weight)
        own = _nearest_painted(around, inside, background, margin)
    color = _smoothed(around, inside, own, colors, background)
    pixels = picture[rows].reshape(-1, 3).take(near, 0).astype(np.int16)
    band.reshape(-1, 3)[near] = pixels + ((color - pixels) * weight[:, None] >> 7)


def _nearest_painted(
    around: UInt8[np.ndarray, "H W"], at: Int[np.ndarray, " n"], background: Bool[np.ndarray, " 256"], margin: int
) -> UInt8[np.ndarray, " n"]:
    """The class of each of those pixels; of background the one nearest to it, whose border it is beside."""
    flat, width = around.ravel(), around.shape[1]
    nearest = flat.take(at)
    left = np.flatnonzero(background.take(nearest))
    for distance in range(1, margin + 1):
        for step in (1, -1, width, -width, width + 1, width - 1, 1 - width, -width - 1):
            other = flat.take(at.take(left) + distance * step)
            painted = ~background.take(other)
            nearest[left[painted]] = other[painted]
            left = left[~painted]
    return nearest


def _smoothed(
    around: UInt8[np.ndarray, "H W"],
    at: Int[np.ndarray, " n"],
    own: UInt8[np.ndarray, " n"],
    colors: UInt8[np.ndarray, "256 3"],
    background: Bool[np.ndarray, " 256"],
) -> Int16[np.ndarray, "n 3"]:
    """The colors of those pixels: half their class's, half those of the four neighbors."""
    flat, width = around.ravel(), around.shape[1]
    packed = np.zeros((256, 4), np.uint8)  # the color of a pixel as one number, of which `_mean_color` takes means
    packed[:, :3] = colors
    color_of = packed.view(np.uint32).ravel()
    around_it = []
    for step in (1, -1, width, -width):
        other = flat.take(at + step)
        if background.any():
            other = np.where(background.take(other), own, other)
        around_it.append(color_of.take(other))
    left, right, above, below = around_it
    mean = _mean_color(color_of.take(own), _mean_color(_mean_color(left, right), _mean_color(above, below)))
    return mean.view(np.uint8).reshape(-1, 4)[:, :3].astype(np.int16)


def _mean_color(one: UInt32[np.ndarray, " n"], other: UInt32[np.ndarray, " n"]) -> UInt32[np.ndarray, " n"]:
    """The mean of each byte."""
    return (one & other) + (((one ^ other) & np.uint32(0xFEFEFEFE)) >> np.uint32(1))


def _bands(ids: UInt8[np.ndarray, "h w"]) -> Iterator[slice]:
    height, width = ids.shape
    rows = max(1, BAND_PIXELS // max(1, width))
    return (slice(top, min(top + rows, height)) for top in range(0, height, rows))


def _padded(ids: UInt8[np.ndarray, "h w"], rows: slice, margin: int) -> UInt8[np.ndarray, "H W"]:
    """Those rows with what is around them; beyond the picture its own edge goes on."""
    top, bottom = max(0, rows.start - margin), min(len(ids), rows.stop + margin)
    beyond = (margin - (rows.start - top), margin - (bottom - rows.stop))
    return np.pad(ids[top:bottom], (beyond, (margin, margin)), mode="edge")


def _border_strength(around: UInt8[np.ndarray, "H W"], reach: int) -> UInt8[np.ndarray, "h w"]:
    """How near a border between classes each pixel is, 255 at most; a margin of `reach + 2` pixels is used up."""
    below, beside = around[1:] != around[:-1], around[:, 1:] != around[:, :-1]
    corners = below[:, 1:] | below[:, :-1] | beside[1:] | beside[:-1]  # between four pixels that are not of one class
    strength = corners.view(np.uint8) * np.uint8(255)
    for axis in (0, 1) * reach:
        one, two, three = (_part(strength, axis, start, 2) for start in range(3))
        strength = np.maximum(np.maximum(one, two), three)
    for axis in (0, 1) * 3:  # an odd number, from corners to pixels
        strength = _mean(strength, axis)
    return strength


def _mean(values: UInt8[np.ndarray, "H W"], axis: int) -> UInt8[np.ndarray, "h w"]:
    """Of each two neighbors, one fewer: exact where they are equal, else rounded down."""
    one, two = (_part(values, axis, start, 1) for start in range(2))
    half: UInt8[np.ndarray, "h w"] = one ^ two
    half >>= 1
    half += one & two
    return half


def _part(values: np.ndarray, axis: int, start: int, left_out: int) -> np.ndarray:
    """A view of all but `left_out` of an axis."""
    length = values.shape[axis] - left_out
    return values[start : start + length] if axis == 0 else values[:, start : start + length]


def counts(ids: UInt8[np.ndarray, "h w"]) -> Int[np.ndarray, " 256"]:
    """How many pixels have each id."""
    return np.array(Image.fromarray(ids).histogram(), np.int64)  # which numpy would do on eight bytes a pixel


def confusion_picture(metrics: Metrics, labels: LabelSet) -> Image.Image:
    """Where each class's pixels went: rows are the truth, columns the prediction, in percent of the row."""
    confusion = metrics.confusion.double().numpy()
    shares = 100 * confusion / np.maximum(confusion.sum(1, keepdims=True), 1)
    font, small = font_for("".join(labels.classes), 15), font_for("", 13)
    names = shown_names(labels.classes, labels, font)
    cell = 38
    margin = int(max(font.getlength(name) for name in names.values())) + 16
    k = len(labels)
    caption = "rows: truth, columns: prediction, in % of the row"
    if any(names[name] != name for name in labels.classes):
        caption = f"{caption}; {NOTE}"
    width = max(margin + k * cell, int(small.getlength(caption))) + 12
    sheet = Image.new("RGB", (width, margin + k * cell + 36), PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.text((width - 12, margin + k * cell + 18), caption, fill=INK, font=small, anchor="rm")
    for row, name in enumerate(names.values()):
        draw.text((margin - 8, margin + (row + 0.5) * cell), name, fill=INK, font=font, anchor="rm")
        _vertical(sheet, name, font, (int(margin + (row + 0.5) * cell), margin - 8))
        for column in range(k):
            x, y = margin + column * cell, margin + row * cell
            value = shares[row, column]
            draw.rectangle((x, y, x + cell - 2, y + cell - 2), fill=_shade(value, right=row == column))
            if value >= 0.5:
                ink = PAPER if value > 55 else INK
                draw.text((x + cell / 2 - 1, y + cell / 2 - 1), f"{value:.0f}", fill=ink, font=small, anchor="mm")
    return sheet


def _shade(percent: float, right: bool) -> tuple[int, int, int]:
    """From white to full color: blue on the diagonal, red beside it."""
    full = np.array((31, 99, 168) if right else (186, 52, 44))
    strength = min(1.0, (percent / 100) ** 0.6)  # small confusions stay visible
    red, green, blue = (255 + (full - 255) * strength).astype(int).tolist()
    return red, green, blue


def _vertical(sheet: Image.Image, text: str, font: ImageFont.FreeTypeFont, foot: Sequence[int]) -> None:
    """Text that reads upwards and ends at `foot`."""
    strip = Image.new("L", (int(font.getlength(text)) + 2, int(font.size * 1.4)))
    ImageDraw.Draw(strip).text((1, strip.height / 2), text, fill=255, font=font, anchor="lm")
    strip = strip.rotate(90, expand=True)
    sheet.paste(INK, (foot[0] - strip.width // 2, foot[1] - strip.height), strip)
