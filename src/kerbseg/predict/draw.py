"""Pictures of class ids: colors, overlays with a legend, confusion matrices."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Int, UInt8
from PIL import Image, ImageDraw, ImageFont

from kerbseg.core.display import display_palette
from kerbseg.core.labels import LabelSet
from kerbseg.metrics import Metrics
from kerbseg.predict.fonts import NOTE, font_for, shown_names

INK, PAPER = (30, 36, 44), (255, 255, 255)

BAND_PIXELS = 2**20
"""Pixels that are drawn at once: what a step makes on its way is small beside a large picture."""


def colorize(ids: UInt8[np.ndarray, "h w"], labels: LabelSet) -> UInt8[np.ndarray, "h w 3"]:
    """The color of every pixel's class; VOID is black."""
    return labels.palette[ids]


def blend_overlay(
    picture: UInt8[np.ndarray, "h w 3"], ids: UInt8[np.ndarray, "h w"], labels: LabelSet, alpha: float = 0.5
) -> UInt8[np.ndarray, "h w 3"]:
    """The picture under its classes' display colors, of which `alpha` is the weight; borders half as bright.

    Background is as it is in the picture.
    """
    mixed = np.empty_like(picture)
    colors = (display_palette(labels) * alpha).astype(np.uint8)
    beside = (np.arange(256) * (1 - alpha)).astype(np.uint8)
    background = np.isin(np.arange(256), [labels.classes.index(name) for name in labels.background])
    for rows in _bands(ids):
        band = mixed[rows]
        colors.take(ids[rows], 0, out=band, mode="clip")
        # halves of whole numbers take a tenth of the time, and every frame of a video needs them
        band += picture[rows] >> 1 if alpha == 0.5 else beside[picture[rows]]
        if labels.background:
            np.copyto(band, picture[rows], where=background[ids[rows]][..., None])
        band[_borders(ids, rows)] >>= 1
    return mixed


def _bands(ids: UInt8[np.ndarray, "h w"]) -> Iterator[slice]:
    height, width = ids.shape
    rows = max(1, BAND_PIXELS // max(1, width))
    return (slice(top, min(top + rows, height)) for top in range(0, height, rows))


def _borders(ids: UInt8[np.ndarray, "h w"], rows: slice) -> Bool[np.ndarray, "r w"]:
    """Pixels of those rows whose right or lower neighbor is of another class."""
    band = ids[rows]
    below = ids[rows.start + 1 : rows.stop + 1]
    borders = np.zeros(band.shape, bool)
    borders[:, :-1] = band[:, :-1] != band[:, 1:]
    borders[: len(below)] |= band[: len(below)] != below
    return borders


def counts(ids: UInt8[np.ndarray, "h w"]) -> Int[np.ndarray, " 256"]:
    """How many pixels have each id."""
    return sum((np.bincount(ids[rows].ravel(), minlength=256) for rows in _bands(ids)), np.zeros(256, np.int64))


def with_legend(drawn: UInt8[np.ndarray, "h w 3"], shares: Mapping[str, float], labels: LabelSet) -> Image.Image:
    """A picture above the names, colors and shares of classes, in the order in which they are given."""
    height, width = drawn.shape[:2]
    colors = dict(zip(labels.classes, labels.colors, strict=True))
    font = font_for("".join(shares), max(11, min(20, height // 28)))
    names = shown_names(shares, labels, font)
    entries = [f"{names[name]}  {percent(share)}" for name, share in shares.items()]
    note = NOTE if any(names[name] != name for name in shares) else ""
    line = int(font.size * 1.6)
    column = int(max((font.getlength(entry) for entry in entries), default=0)) + 2 * line
    columns = max(1, width // column)
    rows = -(-len(entries) // columns)
    sheet_width = max(width, column, int(font.getlength(note)) + line)
    sheet = Image.new("RGB", (sheet_width, height + (rows + bool(note)) * line + line // 2), PAPER)
    for band in _bands(drawn[..., 0]):
        sheet.paste(Image.fromarray(drawn[band]), (0, band.start))
    draw = ImageDraw.Draw(sheet)
    for n, (name, entry) in enumerate(zip(shares, entries, strict=True)):
        x, y = n % columns * column + line // 3, height + n // columns * line + line // 4
        swatch = (x, y + line // 5, x + int(font.size), y + line // 5 + int(font.size))
        draw.rectangle(swatch, fill=colors[name], outline=INK)
        draw.text((x + line, y + line // 2), entry, fill=INK, font=font, anchor="lm")
    draw.text((line // 3, height + rows * line + line // 2), note, fill=INK, font=font, anchor="lm")
    return sheet


def percent(share: float) -> str:
    """A share as people read it."""
    return "<0.1 %" if share < 0.0005 else f"{100 * share:.1f} %"


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
