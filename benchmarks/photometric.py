"""A picture of what the photometric keys of a recipe do at several strengths, on drawn scenes.

    python benchmarks/photometric.py --out docs/images/photometric.png

A key's row shows the most changed of many draws; the last row shows draws of a recipe's whole augment section.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from kerbseg.data.augment import Color
from kerbseg.data.loading import Resized, channels_first
from kerbseg.data.scenes import Scenes
from kerbseg.train.builders import augmentation
from kerbseg.train.recipe import Augment
from kerbseg.train.recipe_file import read

STRENGTHS: dict[str, tuple[float, float, float]] = {
    "brightness": (0.2, 0.4, 0.8),
    "offset": (0.05, 0.1, 0.2),
    "contrast": (0.2, 0.4, 0.8),
    "mid_contrast": (1.13, 1.5, 2.0),  # and as much less: 1 / c
    "saturation": (0.25, 0.5, 1.0),
    "hue": (0.02, 0.05, 0.2),
    "gamma": (0.2, 0.4, 0.8),
    "channel_balance": (0.06, 0.12, 0.3),
    "gray": (0.25, 0.5, 1.0),
    "blur": (0.5, 1.0, 2.0),
    "noise": (0.015, 0.05, 0.15),
    "jpeg_quality": (60, 30, 10),
}
DRAWS = 32
Cell = tuple[str, UInt8[np.ndarray, "h w 3"]]  # its title, its picture


def most_changed(picture: Float[Tensor, "3 h w"], settings: Mapping[str, Any]) -> Float[Tensor, "3 h w"]:
    """Of many draws, the one that lies farthest from the picture."""
    image = picture.expand(DRAWS, -1, -1, -1).contiguous()
    changed = Color(**settings)(image)
    return changed[(changed - image).abs().mean((1, 2, 3)).argmax()]


def rows(picture: UInt8[np.ndarray, "h w 3"], recipe: str) -> Iterator[list[Cell]]:
    """The picture and a key's three strengths; last, four draws of a recipe."""
    raw = channels_first(torch.from_numpy(picture)[None])[0]
    for key, strengths in STRENGTHS.items():
        changed = [(f"{key}: {each}", most_changed(raw / 255, settings_of(key, each))) for each in strengths]
        yield [(title, _bytes(image)) for title, image in [("unchanged", raw / 255), *changed]]
    yield [(f"{recipe}, draw {i}", _bytes(image)) for i, image in enumerate(draws(raw, read(recipe).augment), 1)]


def settings_of(key: str, strength: float) -> dict[str, Any]:
    """What a recipe says for one strength of a key."""
    if key == "jpeg_quality":
        return {"jpeg": 1.0, key: (strength, strength)}
    return {key: (1 / strength, strength) if key == "mid_contrast" else strength}


def draws(raw: UInt8[Tensor, "3 h w"], settings: Augment) -> Float[Tensor, "4 3 h w"]:
    """The picture in a batch of four, as the last epoch of a training sees it."""
    image, mask = raw.expand(4, -1, -1, -1), torch.zeros(4, *raw.shape[1:], dtype=torch.uint8)
    whole = Augment(**{**vars(settings), "progressive": (), "crop": None})
    return augmentation(whole, epochs=1)({"image": image, "mask": mask, "name": []}, 0)[0]


def _bytes(image: Float[Tensor, "3 h w"]) -> UInt8[np.ndarray, "h w 3"]:
    pixels: np.ndarray = (image * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
    return pixels


def draw(out: Path, recipe: str, index: int) -> None:
    """Writes the picture."""
    from matplotlib.figure import Figure

    torch.manual_seed(0)
    drawn = Resized(Scenes("val", size=(480, 960)), (100, 200))  # smaller, since a drawn sensor's noise hides the added
    table = list(rows(drawn[index].image, recipe))
    figure = Figure(figsize=(8.6, 1.3 * len(table)), dpi=100, layout="constrained")
    for axes, (title, pixels) in zip(figure.subplots(len(table), 4).flat, chain.from_iterable(table), strict=True):
        axes.imshow(pixels, interpolation="nearest")
        axes.set_title(title, fontsize=9)
        axes.axis("off")
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, pil_kwargs={"optimize": True})


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--recipe", default="zoo/mininet_v2_cpu")
    parser.add_argument("--scene", type=int, default=3)
    options = parser.parse_args()
    draw(options.out, options.recipe, options.scene)


if __name__ == "__main__":
    main()
