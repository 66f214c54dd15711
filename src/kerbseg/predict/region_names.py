"""Names of classes on their regions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64, UInt8
from PIL import Image, ImageDraw

from kerbseg.core.labels import LabelSet
from kerbseg.predict.fonts import font_for, shown_names
from kerbseg.predict.legend import INK, PAPER

GRID = 128  # cells along the longer side: where names go is looked for on so few
LARGE = 0.008  # share of the picture
LINES = 24  # of text would fill the picture
LEGIBLE = 11  # pixels
FILLED = 0.97  # of a name's box that must be of its region


def draw_names(sheet: Image.Image, ids: UInt8[np.ndarray, "h w"], labels: LabelSet, left: int = 0) -> None:
    """Writes the class's name on each large region in which there is room for it; none on background.

    `left` is where on the sheet the picture begins, at its top.
    """
    height, width = ids.shape
    size = min(height, width) // LINES
    if size < LEGIBLE:
        return
    font = font_for("".join(labels.classes), size)
    names = shown_names(labels.classes, labels, font)
    cell = -(-max(height, width) // GRID)
    draw = ImageDraw.Draw(sheet)
    for region in _large_regions(ids[cell // 2 :: cell, cell // 2 :: cell], labels):
        text = names[labels.classes[region.train_id]]
        rows, columns = 1.3 * size / cell, (font.getlength(text) + 0.6 * size) / cell
        place = region.room_for(int(np.ceil(rows)), int(np.ceil(columns)))
        if place is not None:
            x, y = (int(cell * each) for each in place)
            outline = 1 + size // 14
            draw.text((left + x, y), text, PAPER, font, anchor="mm", stroke_width=outline, stroke_fill=INK)


@dataclass(frozen=True)
class _Region:
    train_id: int
    mask: np.ndarray  # bool [h w], in cells

    def room_for(self, rows: int, columns: int) -> tuple[float, float] | None:
        """Middle (x, y) of a box of that size, in cells, as deep in the region as can be; None without room."""
        place = None
        height, width = self.mask.shape
        while rows <= height and columns <= width:
            filled = _box_sums(self.mask, rows, columns) / (rows * columns)
            y, x = np.nonzero(filled >= FILLED)
            if not len(y):
                break
            middle = ((y - y.mean()) ** 2 + (x - x.mean()) ** 2).argmin()
            place = float(x[middle] + columns / 2), float(y[middle] + rows / 2)
            rows, columns = rows + 2, columns + 2
        return place


def _box_sums(mask: np.ndarray, rows: int, columns: int) -> Int64[np.ndarray, "h w"]:
    """How many cells of each box of that size are of the mask, by the box's upper left cell."""
    total = np.pad(mask.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    return total[rows:, columns:] - total[:-rows, columns:] - total[rows:, :-columns] + total[:-rows, :-columns]


def _large_regions(cells: UInt8[np.ndarray, "h w"], labels: LabelSet) -> Iterator[_Region]:
    number = _connected(cells)
    pixels = np.bincount(number.ravel())
    for each in np.flatnonzero(pixels >= LARGE * cells.size):
        mask = number == each
        train_id = int(cells[mask][0])
        if train_id < len(labels) and labels.classes[train_id] not in labels.background:
            yield _Region(train_id, mask)


def _connected(cells: UInt8[np.ndarray, "h w"]) -> Int64[np.ndarray, "h w"]:
    """A number for each cell, the same for all cells of a region: that of its first cell."""
    number = np.arange(cells.size).reshape(cells.shape)
    below, beside = cells[1:] == cells[:-1], cells[:, 1:] == cells[:, :-1]
    while True:
        before = number.copy()
        for here, other, same in (
            (number[1:], number[:-1], below),
            (number[:-1], number[1:], below),
            (number[:, 1:], number[:, :-1], beside),
            (number[:, :-1], number[:, 1:], beside),
        ):
            np.minimum(here, other, out=here, where=same)
        number = number.ravel()[number]  # a cell's number is a cell, whose own may be smaller
        if (number == before).all():
            return number
