"""Names of classes on their regions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64, UInt8
from PIL import Image, ImageDraw

from kerbseg.core.labels import LabelSet
from kerbseg.predict.fonts import font_for, shown_names

GRID = 128  # cells along the longer side: where names go is looked for on so few
LARGE = 0.008  # share of the picture
LEGIBLE = 11  # pixels
FILLED = 0.97  # of a name's box that must be of its region


def with_names(
    drawn: UInt8[np.ndarray, "h w 3"], ids: UInt8[np.ndarray, "h w"], labels: LabelSet
) -> UInt8[np.ndarray, "h w 3"]:
    """An overlay with the class's name on each large region in which there is room for it; none on background."""
    height, width = ids.shape
    size = min(height, width) // 24
    if size < LEGIBLE:
        return drawn
    font = font_for("".join(labels.classes), size)
    names = shown_names(labels.classes, labels, font)
    cell = -(-max(height, width) // GRID)
    sheet = Image.fromarray(drawn)
    draw = ImageDraw.Draw(sheet)
    for region in _large_regions(ids[cell // 2 :: cell, cell // 2 :: cell], labels):
        text = names[labels.classes[region.train_id]]
        box = (font.size * 1.3 / cell, (font.getlength(text) + font.size * 0.6) / cell)
        place = region.room_for(int(np.ceil(box[0])), int(np.ceil(box[1])))
        if place is not None:
            x, y = (int(cell * each) for each in place)
            draw.text(
                (x, y),
                text,
                (255, 255, 255),
                font,
                anchor="mm",
                stroke_width=max(1, size // 8),
                stroke_fill=(20, 24, 30),
            )
    return np.array(sheet)


@dataclass(frozen=True)
class _Region:
    train_id: int
    mask: np.ndarray  # bool [h w], in cells

    def room_for(self, rows: int, columns: int) -> tuple[float, float] | None:
        """Middle (x, y) of the box of that size, in cells, that lies deepest in the region; None without room."""
        height, width = self.mask.shape
        if rows > height or columns > width:
            return None
        filled = _box_sums(self.mask, rows, columns) / (rows * columns)
        if filled.max() < FILLED:
            return None
        # of the places with room, the one with most of the region around, which is near its middle
        wide = _box_sums(np.pad(self.mask, ((rows, rows), (columns, columns))), 3 * rows, 3 * columns)
        y, x = np.unravel_index(np.where(filled >= FILLED, wide, -1).argmax(), filled.shape)
        return float(x + columns / 2), float(y + rows / 2)


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
