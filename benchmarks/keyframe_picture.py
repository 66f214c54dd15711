"""The picture of docs/keyframes.md: what the plain rule takes of a drawn film, and what is chosen instead.

    python benchmarks/keyframe_picture.py --out docs/images

A view glides along a drawn street; 30 % of its frames are blurred, dark or over-exposed. The classes are the street's
own, so that the picture shows how frames are chosen, not how well a network does.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from kerbseg.data.scenes import Scenes
from kerbseg.keyframes import Kept, Keyframe, Options, Scorer, Selector
from keyframes import degraded

STREET, SEED = 4, 1
SIZE, VIEW_PX = (360, 1600), 480
GLIDE_PX, STEP_PX = 8, 150
SHOWN_PX, GAP_PX = 220, 6
TARGET, COLOR = "person", np.array((255, 90, 0))


def film() -> tuple[list[np.ndarray], list[np.ndarray], int]:
    """Frames of the drawn film, their class ids, and the id of the target."""
    scenes = Scenes("val", size=SIZE)
    street = scenes[STREET]
    begins = range(0, SIZE[1] - VIEW_PX + 1, GLIDE_PX)
    pictures = [np.ascontiguousarray(street.image[:, each : each + VIEW_PX]) for each in begins]
    ids = [np.ascontiguousarray(street.mask[:, each : each + VIEW_PX]) for each in begins]
    return pictures, ids, scenes.labels.classes.index(TARGET)


def chosen() -> list[Keyframe]:
    """The keyframes of the drawn film."""
    pictures, ids, target = film()
    scorer, selector = Scorer([target]), Selector(Options(step_px=STEP_PX, longest_s=60))
    keyframes = []
    for i, ((picture, _), each) in enumerate(zip(degraded(pictures, SEED), ids, strict=True)):
        keyframes += selector.add(scorer.add(picture, each, round(i * 1e9 / 15)), Kept(picture, each))
    return [*keyframes, *selector.finish()]


def drawn(kept: Kept, boxes: tuple[tuple[int, int, int, int], ...], target: int) -> Image.Image:
    """A frame with its target painted, and a box round each person that is seen whole."""
    pixels = kept.picture.copy()
    where = kept.ids == target
    pixels[where] = (pixels[where] * 0.5 + COLOR * 0.5).astype(np.uint8)
    picture = Image.fromarray(pixels)
    for box in boxes:
        ImageDraw.Draw(picture).rectangle(box, outline=(255, 255, 255), width=3)
    return picture.resize((SHOWN_PX, SHOWN_PX * picture.height // picture.width), Image.Resampling.LANCZOS)


def sheet(keyframes: list[Keyframe], target: int) -> Image.Image:
    """Two rows: of each window the frame of the plain rule, and below it the chosen one."""
    rows = (
        [drawn(each.kept_plain, each.plain.semantics.boxes, target) for each in keyframes],
        [drawn(each.kept, each.scores.semantics.boxes, target) for each in keyframes],
    )
    height = rows[0][0].height + GAP_PX
    size = (len(keyframes) * (SHOWN_PX + GAP_PX) - GAP_PX, 2 * height - GAP_PX)
    picture = Image.new("RGB", size, (255, 255, 255))
    for row, frames in enumerate(rows):
        for column, frame in enumerate(frames):
            picture.paste(frame, (column * (SHOWN_PX + GAP_PX), row * height))
    return picture


def main() -> None:
    """Writes the picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("docs/images"), help="folder for the picture")
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    keyframes = chosen()
    for each in keyframes:
        plain, best = each.plain, each.scores
        print(
            f"window {each.window}: quality {plain.quality:.2f} -> {best.quality:.2f},"
            f" target {plain.sem:.3f} -> {best.sem:.3f}"
        )
    sheet(keyframes, film()[2]).save(out / "keyframes.jpg", quality=88, subsampling=0, optimize=True)


if __name__ == "__main__":
    main()
