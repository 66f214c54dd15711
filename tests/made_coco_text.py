"""A made-up COCO-Text of five noise pictures, in the layouts of labels v1 and v2; counts follow from the outlines.

picture 7 (train): a rectangle of 200 pixels and a triangle of 140 (its box: 280) are text, 40 pixels are illegible;
9 (train): handwritten, 200 pixels; 11 (val): text of 30x20 that sticks out, 112 pixels inside, and one without area;
13 (val): an illegible strip of 128 pixels, which v1's `imgToAnns` lacks; 15 (test): no labels.
"""

import json
from pathlib import Path

import numpy as np
from PIL import Image

SETS = {7: ("train", 64, 48), 9: ("train", 48, 64), 11: ("val", 64, 48), 13: ("val", 64, 48), 15: ("test", 32, 32)}
TRIANGLE = [20, 30, 40, 30, 30, 44]


def ring(x, y, width, height):
    return [x, y, x + width, y, x + width, y + height, x, y + height]


MARKS = [  # picture, box, polygon where it is no box, legibility, class
    (7, (10, 10, 20, 10), None, "legible", "machine printed"),
    (7, (40, 5, 10, 4), None, "illegible", "machine printed"),
    (7, (20, 30, 20, 14), TRIANGLE, "Legible ", "Machine Printed"),
    (9, (5.0, 5.0, 20.0, 10.0), None, "legible", "handwritten"),
    (11, (50, 40, 30, 20), None, "legible", "machine printed"),
    (11, (10, 10, 10, 0), [10, 10, 20, 10], "legible", "machine printed"),
    (13, (0, 0, 64, 2), None, "illegible", "machine printed"),
]


def file_name(number: int) -> str:
    return f"COCO_train2014_{number:012d}.jpg"


def labels(version: str = "v2", marks=MARKS, sets=SETS) -> dict:
    """What a label file holds; v1 knows boxes alone."""
    anns, by_picture = {}, {}
    for number, (picture, box, outline, legibility, kind) in enumerate(marks, 1):
        polygon = outline if outline is not None and version == "v2" else ring(*box)
        each = {"id": number, "image_id": picture, "bbox": list(box), "area": box[2] * box[3], "language": "english"}
        each |= {"legibility": legibility, "class": kind, {"v2": "mask", "v1": "polygon"}[version]: polygon}
        if legibility != "illegible":
            each["utf8_string"] = "A"
        anns[str(number)] = each
        if not (version == "v1" and picture == 13):
            by_picture.setdefault(str(picture), []).append(number)
    imgs = {
        str(number): {"id": number, "set": split, "width": width, "height": height, "file_name": file_name(number)}
        for number, (split, width, height) in sets.items()
    }
    return {"info": {}, "cats": {}, "imgs": imgs, "anns": anns, "imgToAnns": by_picture}


def write_pictures(folder: Path, sets=SETS) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number, (_, width, height) in sets.items():
        noise = np.random.default_rng(number).integers(0, 256, (height, width, 3), np.uint8)
        Image.fromarray(noise).save(folder / file_name(number))


def make(root: Path, versions=("v2", "v1")) -> Path:
    """The whole of it, with one label file of each version."""
    write_pictures(root / "train2014")
    for version in versions:
        name = {"v2": "cocotext.v2.json", "v1": "COCO_Text.json"}[version]
        (root / name).write_text(json.dumps(labels(version)))
    return root


def make_to_train(root: Path, size: tuple[int, int]) -> None:
    """Four pictures to train on and one to validate on, each with a word."""
    sets = {i: ("val" if i == 5 else "train", size[1], size[0]) for i in range(1, 6)}
    marks = [(i, (8, 8, size[1] // 2, size[0] // 2), None, "legible", "machine printed") for i in sets]
    write_pictures(root / "train2014", sets)
    (root / "cocotext.v2.json").write_text(json.dumps(labels("v2", marks, sets)))
