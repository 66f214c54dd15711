"""The legend below overlays: all classes in the label set's order, in the same place for every picture of a size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont

from kerbseg.core.display import display_palette
from kerbseg.core.labels import Color, LabelSet
from kerbseg.core.types import VOID
from kerbseg.predict.fonts import NOTE, font_for, shown_names

INK, PALE, PAPER = (30, 36, 44), (168, 174, 182), (255, 255, 255)

SMALLEST = 12  # pixels of a letter's height that can be read
LETTERS = 56  # a legend's text is so many times smaller than the picture is wide

NARROWEST = 480
"""Pixels of a legend's width: below a smaller picture it goes beyond it, rather than being one high column."""

SMALL, SMALL_LONG = 160, 640
"""Pixels of a shorter and a longer side: a smaller picture is shown in whole times its size above a legend."""


def with_legend(drawn: UInt8[np.ndarray, "h w 3"], shares: Mapping[str, float], labels: LabelSet) -> Image.Image:
    """A picture above the names and colors of all classes, with their shares; those that are not there are pale.

    Where each stands and how large the sheet is follow from the classes and the picture's size alone, and from whether
    unknown pixels have a share.
    """
    times = max(1, min(SMALL // min(drawn.shape[:2]), SMALL_LONG // max(drawn.shape[:2])))
    height, width = (times * side for side in drawn.shape[:2])
    unknown = unknown_name(labels)
    entries = (*labels.classes, unknown) if unknown in shares else labels.classes
    legend = _legend(labels, entries, (height, width), shares)
    sheet = Image.new("RGB", (max(width, legend.width), height + legend.height), PAPER)
    step = max(1, 2**20 // width)  # in bands: Pillow takes four bytes a pixel
    for top in range(0, len(drawn), step):
        band = drawn[top : top + step]
        sheet.paste(Image.fromarray(band.repeat(times, 0).repeat(times, 1) if times > 1 else band), (0, times * top))
    sheet.paste(legend, (0, height))
    return sheet


def legend_strip(labels: LabelSet, height: int, width: int, unknown: bool = False) -> UInt8[np.ndarray, "n width 3"]:
    """A legend without shares and without background, exactly as wide as frames of that size."""
    painted = [name for name in labels.classes if name not in labels.background]
    painted += [unknown_name(labels)] * unknown
    legend = _legend(labels, painted, (height, width), None)
    if legend.width > width:
        legend = legend.resize((width, max(1, legend.height * width // legend.width)), Image.Resampling.LANCZOS)
    return np.array(legend)


def unknown_name(labels: LabelSet) -> str:
    """What pixels of no class are called beside the classes: void, where a class is called unknown."""
    return "void" if "unknown" in labels.classes else "unknown"


def percent(share: float) -> str:
    """A share as people read it."""
    return "<0.1 %" if share < 0.0005 else f"{100 * share:.1f} %"


@dataclass(frozen=True)
class _Grid:
    """Where the entries of a legend stand: down the columns, in pixels."""

    font: ImageFont.FreeTypeFont
    names: Mapping[str, str]  # as they can be drawn
    note: str
    rows: int
    line: int  # height of an entry
    entry: int  # width of an entry
    width: int

    @classmethod
    def of(cls, labels: LabelSet, classes: Sequence[str], size: tuple[int, int], figures: bool) -> _Grid:
        height, width = size
        font = font_for("".join(classes), max(SMALLEST, min(width, 3 * height // 2) // LETTERS))
        names = shown_names(classes, labels, font)
        line = int(1.6 * font.size)
        note = NOTE if any(names[name] != name for name in classes) else ""
        figure = font.getlength(percent(1)) + font.size / 2 if figures else 0
        entry = int(line + max(font.getlength(name) for name in names.values()) + figure)
        gap = int(0.8 * font.size)
        most = max(1, (max(width, NARROWEST) - line // 2) // (entry + gap))
        rows = -(-len(classes) // most)
        columns = -(-len(classes) // rows)
        widest = max(columns * (entry + gap), int(font.getlength(note)) + line)
        return cls(font, names, note, rows, line, entry, max(width, widest + line // 2))

    @property
    def height(self) -> int:
        return (self.rows + bool(self.note) + 1) * self.line

    def corner(self, n: int, count: int) -> tuple[int, int]:
        """Left and upper end of the n-th entry; columns share the width equally."""
        columns = -(-count // self.rows)
        column, row = divmod(n, self.rows)
        step = min((self.width - self.line // 2) // columns, 3 * self.entry // 2)
        return self.line // 2 + column * step, self.line // 2 + row * self.line


def _legend(
    labels: LabelSet, classes: Sequence[str], size: tuple[int, int], shares: Mapping[str, float] | None
) -> Image.Image:
    grid = _Grid.of(labels, classes, size, shares is not None)
    colors = display_palette(labels)
    sheet = Image.new("RGB", (grid.width, grid.height), PAPER)
    draw = ImageDraw.Draw(sheet)
    for n, name in enumerate(classes):
        left, top = grid.corner(n, len(classes))
        there = shares is None or shares.get(name, 0) > 0
        red, green, blue = colors[labels.classes.index(name) if name in labels.classes else VOID].tolist()
        color = (red, green, blue) if there else _paler((red, green, blue))
        _swatch(draw, (left, top), grid, None if name in labels.background else color)
        middle, ink = top + grid.line / 2, INK if there else PALE
        draw.text((left + grid.line, middle), grid.names[name], fill=ink, font=grid.font, anchor="lm")
        if shares is not None and there:
            figure = percent(shares[name])
            draw.text((left + grid.entry, middle), figure, fill=ink, font=grid.font, anchor="rm")
    foot = grid.line // 2 + grid.rows * grid.line + grid.line // 2
    draw.text((grid.line // 2, foot), grid.note, fill=INK, font=grid.font, anchor="lm")
    return sheet


def _swatch(draw: ImageDraw.ImageDraw, corner: tuple[int, int], grid: _Grid, color: Color | None) -> None:
    """A rounded square of a color, or an empty one for what is not painted."""
    side, pen = int(grid.font.size), max(1, int(grid.font.size) // 12)
    left, top = corner[0], corner[1] + (grid.line - side) // 2
    outline = PALE if color is None else color
    draw.rounded_rectangle(
        (left, top, left + side, top + side), side // 4, PAPER if color is None else color, outline, pen
    )


def _paler(color: Color) -> Color:
    red, green, blue = ((value + 3 * 255) // 4 for value in color)
    return red, green, blue
