"""Overlays of drawn scenes for the documentation: usual, at night, and at 4K (made so, and stored smaller).

    python benchmarks/overlays.py --out docs/images

The classes are the scenes' own, so that the pictures show how overlays look, not how well a network does.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

from kerbseg.data.scenes import Scenes
from kerbseg.predict import Prediction

SIZE, LARGE, STORED_PX = (360, 480), (2160, 3840), 1280
NIGHT = 0.22  # of the light


def scene(index: int, size: tuple[int, int], light: float = 1.0) -> Prediction:
    """A drawn street with its own classes, at some part of its light."""
    scenes = Scenes("val", size=size)
    sample = scenes[index]
    return Prediction(sample.mask, scenes.labels, picture=(sample.image * light).astype(np.uint8))


def smaller(picture: Image.Image) -> Image.Image:
    """The picture at the width at which it is stored."""
    return picture.resize((STORED_PX, picture.height * STORED_PX // picture.width), Image.Resampling.LANCZOS)


def main() -> None:
    """Writes the pictures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("docs/images"), help="folder for the pictures")
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    pictures = {
        "overlay.png": scene(1, SIZE).overlay(),
        "overlay-night.png": scene(1, SIZE, NIGHT).overlay(),
        "overlay-4k.jpg": smaller(scene(2, LARGE).overlay()),
    }
    for name, picture in pictures.items():
        picture.save(out / name, optimize=True, quality=88, subsampling=0)


if __name__ == "__main__":
    main()
