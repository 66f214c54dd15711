"""What the tests of the readers share: pictures, and an outline's pixels found another way than kerbseg finds them."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from kerbseg.core.types import VOID
from kerbseg.data.formats import read_source

SIZE = (30, 40)  # of most pictures: height, width
HOUSE = [(4.2, 10.7), (15.0, 2.3), (27.6, 9.9), (24.1, 26.4), (7.5, 25.2)]  # no point on a pixel's center
DOOR = [(12.3, 14.6), (19.8, 15.1), (18.7, 22.9), (11.6, 22.2)]  # lies in it
PARTLY_OUT = [(30.4, -8.1), (52.7, 11.3), (33.3, 19.6)]


def picture(path: Path, size: tuple[int, int] = SIZE, seed: int = 0) -> Path:
    """Writes a picture of noise, with the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def write(path: Path, content: Any) -> Path:
    """Writes text, or what is no text as JSON, with the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def inside(points: Sequence[Sequence[float]], size: tuple[int, int] = SIZE) -> np.ndarray:
    """Pixel by pixel, whether a ray to the right from its center crosses the outline an odd number of times."""
    result = np.zeros(size, bool)
    for row in range(size[0]):
        for column in range(size[1]):
            x, y = column + 0.5, row + 0.5
            for (x0, y0), (x1, y1) in zip(points, [*points[1:], points[0]], strict=True):
                if (y0 <= y) != (y1 <= y) and x < x0 + (y - y0) / (y1 - y0) * (x1 - x0):
                    result[row, column] ^= True
    return result


def painted(layers: Sequence[tuple[np.ndarray, int]], rest: int = 0) -> np.ndarray:
    """A mask of regions with their values, the later over the earlier."""
    mask = np.full(layers[0][0].shape, rest, np.uint8)
    for region, value in layers:
        mask[region] = value
    return mask


def masks(format: str, root: Path, classes: Sequence[str]) -> dict[str, np.ndarray]:
    """The mask of each picture, by its name, with classes by their place in a list; VOID where they are not in it."""
    source = read_source(format, root)
    train_ids = {each.name: VOID if each.void else list(classes).index(each.name) for each in source.classes}
    assert [each.name for each in source.classes if not each.void] == list(classes)
    return {entry.name: entry.marks.mask(entry.size or SIZE, train_ids) for entry in source.entries}


def left_out(format: str, root: Path) -> Mapping[str, int]:
    """What a reader left out."""
    return {what: count for what, count in read_source(format, root).left_out.items() if count}


def runs_by_column(mask: np.ndarray) -> list[int]:
    """Counted one pixel after the other, down the columns."""
    lengths, value = [0], False
    for pixel in mask.T.ravel().tolist():
        if pixel != value:
            lengths.append(0)
            value = pixel
        lengths[-1] += 1
    return lengths
