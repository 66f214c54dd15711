"""A made-up CamVid, and pictures and masks of which other made-up data sets are."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image


def write_camvid(root: Path) -> None:
    """Writes one in SegNet's layout: 4 / 2 / 2 pictures of 32x48 with all ids, void included."""
    for seed, (split, n) in enumerate({"train": 4, "val": 2, "test": 2}.items()):
        for i in range(n):
            picture, ids = noise(seed * 100 + i, (32, 48), range(12))
            write(root / split / f"{split}_{i:03}.png", picture)
            write(root / f"{split}annot" / f"{split}_{i:03}.png", ids)


def noise(seed: int, size: tuple[int, int], ids: Iterable[int]) -> tuple[np.ndarray, np.ndarray]:
    """A random picture, and a mask of 4x4 blocks that holds each id at least once."""
    generator = np.random.default_rng(seed)
    height, width = size
    blocks = generator.choice(np.array(list(ids)), height * width // 16)
    blocks[: len(list(ids))] = list(ids)
    mask = blocks.reshape(height // 4, width // 4).repeat(4, 0).repeat(4, 1)
    return generator.integers(0, 256, (height, width, 3), np.uint8), mask.astype(np.uint8)


def write(path: Path, pixels: np.ndarray) -> None:
    """Writes a picture or mask, with the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
