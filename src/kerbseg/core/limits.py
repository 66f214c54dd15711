"""Bounds on what a file, a recipe or an option may ask of the machine."""

from __future__ import annotations

MOST_PIXELS = 2**23  # of what a network looks at: a 4K picture, which takes a gigabyte
MOST_PARAMETERS = 2**28  # 1 GB in float32; the largest network of a paper here has 0.21 * 10^9
MOST_OUTPUTS = 256  # ids are uint8, of which one is void: 255 classes, and an output that is none
MOST_THREADS = 1024  # engines end the whole process where they get no more


def network_pixels(size: tuple[int, int]) -> tuple[int, int]:
    """The height and width. Raises ValueError for a picture that no network here is given."""
    height, width = size
    if min(size) < 1 or height * width > MOST_PIXELS:
        raise ValueError(f"{height}x{width} (HxW) pixels; a network is given 1 to {MOST_PIXELS:,}")
    return size
