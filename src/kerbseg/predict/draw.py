"""Pictures of predictions: colours, overlays with a legend, confusion matrices."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont

from kerbseg.core.labels import LabelSet
from kerbseg.core.types import Prediction
from kerbseg.metrics import Metrics

INK, PAPER = (30, 36, 44), (255, 255, 255)


def colorize(ids: UInt8[np.ndarray, "h w"], labels: LabelSet) -> UInt8[np.ndarray, "h w 3"]:
    """The colour of every pixel's class; VOID is black."""
    return labels.palette[ids]


def overlay(
    picture: UInt8[np.ndarray, "h w 3"], prediction: Prediction, alpha: float = 0.5, legend: bool = True
) -> Image.Image:
    """The picture under its classes' colours, borders of regions drawn dark; a legend of what is there below it."""
    colors = colorize(prediction.ids, prediction.labels)
    mixed = picture * (1 - alpha) + colors * alpha
    mixed[_borders(prediction.ids)] *= 0.45
    drawn = Image.fromarray(mixed.round().astype(np.uint8))
    return _with_legend(drawn, prediction) if legend else drawn


def _borders(ids: UInt8[np.ndarray, "h w"]) -> np.ndarray:
    """Bool [h w]: pixels whose right or lower neighbour is of another class."""
    borders = np.zeros(ids.shape, bool)
    borders[:, :-1] |= ids[:, :-1] != ids[:, 1:]
    borders[:-1] |= ids[:-1] != ids[1:]
    return borders


def _with_legend(drawn: Image.Image, prediction: Prediction) -> Image.Image:
    """The picture above its classes and their shares, the largest first."""
    counts = np.bincount(prediction.ids.ravel(), minlength=256)[: len(prediction.labels)]
    present = [int(i) for i in np.argsort(-counts, kind="stable") if counts[i]]
    entries = [f"{prediction.labels.classes[i]}  {_percent(counts[i] / prediction.ids.size)}" for i in present]
    font = _font(max(11, min(20, drawn.height // 28)))
    line = int(font.size * 1.6)
    column = int(max((font.getlength(entry) for entry in entries), default=0)) + 2 * line
    columns = max(1, drawn.width // column)
    rows = -(-len(entries) // columns)
    width = max(drawn.width, column)
    sheet = Image.new("RGB", (width, drawn.height + rows * line + line // 2), PAPER)
    sheet.paste(drawn, (0, 0))
    draw = ImageDraw.Draw(sheet)
    for n, (class_id, entry) in enumerate(zip(present, entries, strict=True)):
        x, y = n % columns * column + line // 3, drawn.height + n // columns * line + line // 4
        swatch = (x, y + line // 5, x + int(font.size), y + line // 5 + int(font.size))
        draw.rectangle(swatch, fill=prediction.labels.colors[class_id], outline=INK)
        draw.text((x + line, y + line // 2), entry, fill=INK, font=font, anchor="lm")
    return sheet


def _percent(share: float) -> str:
    return "<0.1 %" if share < 0.0005 else f"{100 * share:.1f} %"


def confusion_picture(scores: Metrics, labels: LabelSet) -> Image.Image:
    """Where each class's pixels went: rows are the truth, columns the prediction, in percent of the row."""
    confusion = scores.confusion.double().numpy()
    shares = 100 * confusion / np.maximum(confusion.sum(1, keepdims=True), 1)
    font, small = _font(15), _font(13)
    cell = 38
    margin = int(max(font.getlength(name) for name in labels.classes)) + 16
    k = len(labels)
    caption = "rows: truth, columns: prediction, in % of the row"
    width = max(margin + k * cell, int(small.getlength(caption))) + 12
    sheet = Image.new("RGB", (width, margin + k * cell + 36), PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.text((width - 12, margin + k * cell + 18), caption, fill=INK, font=small, anchor="rm")
    for row, name in enumerate(labels.classes):
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
    """From white to full colour: blue on the diagonal, red beside it."""
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


def _font(size: int) -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(size)
    assert isinstance(font, ImageFont.FreeTypeFont)
    return font
