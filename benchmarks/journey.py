"""The way from one's own pictures to a plain script, in each form that own pictures have, and its transcript.

    python benchmarks/journey.py --out docs/journey.md

Drawn streets with four classes are written as masks of ids, masks of colors, and as five labelling tools export them.
One command is typed for each; every other one is a line `next: ...` that a command before it printed.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import chdir, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import numpy as np
from jaxtyping import UInt8
from PIL import Image

from kerbseg.cli import main as kerbseg
from kerbseg.core.labels import label_set
from kerbseg.data.scenes import Scenes

CLASSES = {  # ours, of those that scenes have; what is left is background
    "road": ("road",),
    "sky": ("sky",),
    "vehicle": ("car", "truck", "bus", "train"),
    "person": ("person", "rider"),
}
COLORS = {"background": "#000000", "road": "#804080", "sky": "#4682b4", "vehicle": "#00008e", "person": "#dc143c"}
NAMES = list(COLORS)
SMALLEST = 12  # pixels of a region that is worth an outline
Points = list[tuple[float, float]]
Run = Callable[[list[str]], str]


@dataclass(frozen=True)
class Street:
    """A picture with its ids, and the outlines of what is on it, the largest first."""

    name: str
    picture: UInt8[np.ndarray, "h w 3"]
    ids: UInt8[np.ndarray, "h w"]
    outlines: list[tuple[str, Points]]


def streets(count: int, size: tuple[int, int]) -> Iterator[Street]:
    """Drawn streets with our classes."""
    theirs = label_set("cityscapes").classes
    table = np.zeros(256, np.uint8)
    for name, parts in CLASSES.items():
        table[[theirs.index(part) for part in parts]] = NAMES.index(name)
    scenes = Scenes("train", count, size)
    for index in range(count):
        ids = table[scenes[index].mask]
        yield Street(f"IMG_{2041 + index}", scenes[index].image, ids, _outlines(ids))


def _outlines(ids: UInt8[np.ndarray, "h w"]) -> list[tuple[str, Points]]:
    regions = []
    for number, name in enumerate(NAMES[1:], 1):
        contours, _ = cv2.findContours((ids == number).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
        for contour in contours:
            points = [(float(x) + 0.5, float(y) + 0.5) for x, y in contour[:, 0]]
            if (area := cv2.contourArea(contour)) >= SMALLEST:
                regions.append((area, name, points))
    return [(name, points) for _, name, points in sorted(regions, key=lambda region: -region[0])]


def write_ids(root: Path, each: list[Street]) -> None:
    """Pictures, masks of ids, and a line of classes."""
    _write_masks(root, each, [], f"split: 0.8\nclasses: [{', '.join(NAMES)}]\n")


def write_colors(root: Path, each: list[Street]) -> None:
    """Pictures, masks of colors, and which color is which class."""
    palette = [int(color[at : at + 2], 16) for color in COLORS.values() for at in (1, 3, 5)]
    lines = "".join(f'  - {{name: {name}, color: "{color}"}}\n' for name, color in COLORS.items())
    _write_masks(root, each, palette, f"masks: color\nsplit: 0.8\nclasses:\n{lines}")


def _write_masks(root: Path, each: list[Street], palette: list[int], document: str) -> None:
    (root / "masks").mkdir(parents=True)
    for street in each:
        mask = Image.fromarray(street.ids)
        if palette:
            mask.putpalette(palette)
            mask = mask.convert("RGB")
        mask.save(root / "masks" / f"{street.name}.png")
    (root / "dataset.yaml").write_text(document)


def write_coco(root: Path, each: list[Street]) -> None:
    """As many tools export: one JSON."""
    images, annotations = [], []
    for number, street in enumerate(each, 1):
        height, width = street.ids.shape
        images.append({"id": number, "file_name": f"{street.name}.jpg", "height": height, "width": width})
        for name, points in street.outlines:
            flat = [value for point in points for value in point]
            annotation = {"id": len(annotations) + 1, "image_id": number, "category_id": NAMES.index(name)}
            annotations.append({**annotation, "segmentation": [flat], "iscrowd": 0})
    categories = [{"id": number, "name": name} for number, name in enumerate(NAMES) if number]
    document = {"images": images, "annotations": annotations, "categories": categories}
    (root / "annotations").mkdir()
    (root / "annotations" / "instances_default.json").write_text(json.dumps(document))


def write_yolo(root: Path, each: list[Street]) -> None:
    """As Ultralytics has it: a folder a split, a text a picture, points as fractions."""
    for number, street in enumerate(each):
        split = "val" if number % 5 == 4 else "train"
        height, width = street.ids.shape
        lines = [
            " ".join([str(NAMES.index(name) - 1), *(f"{x / width:.6f} {y / height:.6f}" for x, y in points)])
            for name, points in street.outlines
        ]
        for folder in ("images", "labels"):
            (root / folder / split).mkdir(parents=True, exist_ok=True)
        (root / "images" / f"{street.name}.jpg").rename(root / "images" / split / f"{street.name}.jpg")
        (root / "labels" / split / f"{street.name}.txt").write_text("\n".join(lines) + "\n")
    names = ", ".join(NAMES[1:])
    splits = "train: images/train\nval: images/val\n"
    (root / "data.yaml").write_text(f"path: .\n{splits}nc: {len(NAMES) - 1}\nnames: [{names}]\n")


def write_labelme(root: Path, each: list[Street]) -> None:
    """A JSON beside each picture."""
    for street in each:
        height, width = street.ids.shape
        shapes = [{"label": name, "points": points, "shape_type": "polygon"} for name, points in street.outlines]
        document = {"version": "5.4.1", "shapes": shapes, "imagePath": f"{street.name}.jpg", "imageData": None}
        document |= {"imageHeight": height, "imageWidth": width}
        (root / "images" / f"{street.name}.json").write_text(json.dumps(document))


def write_cvat(root: Path, each: list[Street]) -> None:
    """CVAT for images 1.1."""
    labels = "".join(f"<label><name>{name}</name><type>polygon</type></label>" for name in NAMES[1:])
    images = []
    for number, street in enumerate(each):
        height, width = street.ids.shape
        shapes = (
            f'<polygon label="{name}" z_order="0" points="{";".join(f"{x:.2f},{y:.2f}" for x, y in points)}"></polygon>'
            for name, points in street.outlines
        )
        head = f'<image id="{number}" name="{street.name}.jpg" width="{width}" height="{height}">'
        images.append(f"{head}{''.join(shapes)}</image>")
    meta = f"<meta><job><labels>{labels}</labels></job></meta>"
    text = f"<annotations><version>1.1</version>{meta}{''.join(images)}</annotations>\n"
    (root / "annotations.xml").write_text(text)


def write_label_studio(root: Path, each: list[Street]) -> None:
    """One JSON of tasks, points in percent."""
    tasks = []
    for number, street in enumerate(each):
        height, width = street.ids.shape
        results = [
            {
                "type": "polygonlabels",
                "original_width": width,
                "original_height": height,
                "image_rotation": 0,
                "value": {
                    "points": [[100 * x / width, 100 * y / height] for x, y in points],
                    "polygonlabels": [name],
                    "closed": True,
                },
            }
            for name, points in street.outlines
        ]
        image = {"image": f"/data/upload/1/{street.name}.jpg"}
        tasks.append({"id": number, "data": image, "annotations": [{"id": number, "result": results}]})
    (root / "project-1.json").write_text(json.dumps(tasks))


FORMS: dict[str, Callable[[Path, list[Street]], None]] = {
    "ids": write_ids,
    "colors": write_colors,
    "coco": write_coco,
    "yolo": write_yolo,
    "labelme": write_labelme,
    "cvat": write_cvat,
    "label-studio": write_label_studio,
}
HEAD = """# The way from own pictures to a plain script

`{command}` wrote this page. Forty drawn streets of four classes, and the rest as background, are your pictures here.
One command is typed, `kerbseg doctor FOLDER`. All others are the lines `next: ...` that a command before printed; only
{more} was added to `kerbseg train own`, so that the page is quickly made (and its mIoU is low). The plain script runs
twice: with ONNX Runtime alone on the float file, and with OpenVINO alone on the int8 file.

The first form is shown whole, of the others the last lines of each command.
"""
STAGES = (
    *("convert", "doctor", "train", "evaluate", "predict"),
    *("export", "snippet", "python", "int8", "snippet", "python"),
)


def write_pictures(form: str, root: Path, count: int, size: tuple[int, int]) -> None:
    """Pictures of one's own, with marks in one form."""
    each = list(streets(count, size))
    (root / "images").mkdir(parents=True)
    for street in each:
        Image.fromarray(street.picture).save(root / "images" / f"{street.name}.jpg", quality=92)
    FORMS[form](root, each)


@dataclass
class Journey:
    """Commands that were run, each with what it printed; `offered` are the next ones that they named."""

    run: Run
    more: dict[str, Sequence[str]] = field(default_factory=dict)  # added to the command of a stage
    steps: list[tuple[str, list[str], str]] = field(default_factory=list)
    offered: list[list[str]] = field(default_factory=list)  # the last ones first

    def go(self, folder: str) -> Journey:
        """Types `kerbseg doctor FOLDER`, and then follows the lines that commands print, to the plain script."""
        self._step("doctor", ["kerbseg", "doctor", folder])
        for stage in STAGES:
            if command := next((each for each in self.offered if stage_of(each) == stage), None):
                self._step(stage, [*command, *self.more.get(stage, ())])
        return self

    def _step(self, stage: str, command: list[str]) -> None:
        printed = self.run(command)
        self.steps.append((stage, command, printed))
        named = [line.removeprefix("next: ") for line in printed.splitlines() if line.startswith("next: ")]
        self.offered[:0] = [shlex.split(line) for line in named]


def stage_of(command: list[str]) -> str:
    """What a command does on the way."""
    if command[0] == "python":
        return "python"
    return "int8" if "--int8" in command else command[1]


def run_here(command: list[str]) -> str:
    """Runs a command and gives what it printed; kerbseg's in this process. A doctor may refuse, and name the remedy."""
    if command[0] == "python":
        return subprocess.run([sys.executable, *command[1:]], text=True, check=True, stdout=subprocess.PIPE).stdout
    printed = StringIO()
    try:
        with redirect_stdout(printed), redirect_stderr(printed):
            kerbseg(command[1:])
    except SystemExit as left:
        if left.code and (left.code, command[1]) != (2, "doctor"):
            raise SystemExit(f"{shlex.join(command)} left with {left.code}:\n{printed.getvalue()}") from left
    return printed.getvalue()


def main() -> None:
    """Goes all ways and writes the transcript."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("journey.md"))
    parser.add_argument("--forms", nargs="+", choices=FORMS, default=list(FORMS))
    parser.add_argument("--pictures", type=int, default=40)
    parser.add_argument("--size", type=int, nargs=2, default=(192, 320), metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--train", nargs="*", default=(), metavar="KEY=VALUE", help="added to the train command")
    arguments = parser.parse_args()
    out, text = arguments.out.resolve(), []
    os.environ["COLUMNS"] = "80"
    options = ["--size", *map(str, arguments.size), *(["--train", *arguments.train] if arguments.train else [])]
    more = ", ".join(f"`{each}`" for each in arguments.train) or "nothing"
    head = HEAD.format(command=shlex.join(["python", "benchmarks/journey.py", *options]), more=more)
    for form in arguments.forms:
        with TemporaryDirectory() as folder, chdir(folder):
            name = "my_streets" if form in ("ids", "colors") else "my_labels"
            write_pictures(form, Path(name), arguments.pictures, tuple(arguments.size))
            journey = Journey(run_here, {"train": arguments.train}).go(name)
            text.append(section(form, journey, whole=not text))
            out.write_text("\n".join([head, *text]), encoding="utf-8")
            print(f"{form}: {len(journey.steps)} commands", flush=True)


def section(form: str, journey: Journey, whole: bool) -> str:
    """One way as Markdown: all that was printed, or the commands with the lines that say how it went."""
    lines = [f"## {form}", ""]
    for _, command, printed in journey.steps:
        shown = [line.rstrip() for line in printed.rstrip().splitlines()]
        lines += ["```", f"$ {shlex.join(command)}", *(shown if whole else shown[-3:]), "```", ""]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
