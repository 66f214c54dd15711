"""Everything that shows the zoo, made from its results: README's table, plot, curves, drawn scenes, cards, navigation.

`python benchmarks/zoo_pages.py` makes all of it again; `zoo_finish.py` does so at its end. Nothing is measured here.
Example: python benchmarks/zoo_pages.py --no-drawings
"""

from __future__ import annotations

import argparse
import csv
import functools
import json
import re
import textwrap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from marked import between
from PIL import Image, ImageDraw, ImageFont

from kerbseg.apps.info import card_facts
from kerbseg.apps.model_card import NOT_MEASURED, markdown
from kerbseg.bundle import load
from kerbseg.core.files import atomic_write
from kerbseg.core.labels import LabelSet, label_set
from kerbseg.core.types import VOID, Sample, samples
from kerbseg.data.scenes import Scenes
from kerbseg.predict.draw import blend_overlay
from kerbseg.runtime import open_runtime, segment

ROOT = Path(__file__).parents[1]
RESULTS, WEIGHTS = Path("benchmarks/results/zoo.json"), Path("src/kerbseg/weights")
DRAWINGS, PLOT = Path("docs/images/zoo"), Path("docs/images/zoo.png")
AIMS = {"mininet_v2_cpu": 0.62, "mininet_v2": 0.66, "erfnet": 0.66}  # mIoU on test that was aimed at
OTHER_AIM = 0.60  # likewise, of all others
ECE_AIM = 0.01  # on test, with the temperature, at most
PAPER = {"mininet_v2_cpu": 0.599, "mininet_v2": 0.661}  # mIoU on CamVid's test split that the papers print
SCENES, SCENE_SIZE, GAP = 12, (360, 480), 6
SHEET_PX = 1080  # width at which a drawing of scenes is stored
SEEN_AS = {  # classes of drawn scenes as CamVid names them; the others are left out
    "sky": "sky",
    "building": "building",
    "pole": "pole",
    "road": "road",
    "sidewalk": "pavement",
    "vegetation": "tree",
    "traffic sign": "sign_symbol",
    "traffic light": "sign_symbol",
    "fence": "fence",
    "car": "car",
    "person": "pedestrian",
    "rider": "bicyclist",
    "bicycle": "bicyclist",
}

Networks = Mapping[str, Mapping[str, Any]]  # results by the name of the weights


def read(path: Path) -> dict[str, Any]:
    """What is known of the zoo; nothing yet where there is no such file."""
    if path.is_file():
        results: dict[str, Any] = json.loads(path.read_text())
        return results
    return {"networks": {}}


def ranked(networks: Networks) -> list[str]:
    """The names, the best on test first; those without a figure last."""
    return sorted(networks, key=lambda name: (-(value(networks[name], "test", "miou") or 0.0), name))


def value(entry: Mapping[str, Any], *keys: str) -> float | None:
    """A figure within a network's results; None where it was not measured."""
    here: Any = entry
    for key in keys:
        here = here.get(key) if isinstance(here, Mapping) else None
    return here if isinstance(here, int | float) else None


def shown(figure: float | None, form: str) -> str:
    """A figure as a table has it."""
    return NOT_MEASURED if figure is None else format(figure, form)


# ---- tables


def readme_table(networks: Networks) -> str:
    """README's first table: accuracy, time and size of each set of weights."""
    rows = []
    for name in ranked(networks):
        entry = networks[name]
        miou = shown(value(entry, "test", "miou"), ".3f")
        latency = shown(value(entry, "latency", "int8", "median"), ".1f")
        size = shown(_mega(entry), ".1f")
        rows.append(f"| [`{name}`]({WEIGHTS}/{name}.md) | {miou} | {latency} | {size} |")
    return "\n".join(["| weights | mIoU | int8, ms | MB |", "|---|--:|--:|--:|", *rows])


def readme_part(networks: Networks) -> str:
    """The table with its protocol, and the plot where there is something to plot."""
    drawn = f"\n\n![Accuracy against time of these networks]({PLOT})" if points(networks) else ""
    return f"{readme_table(networks)}\n\n{protocol_words(networks)}{drawn}"


def _mega(entry: Mapping[str, Any]) -> float | None:
    size = value(entry, "size_bytes")
    return None if size is None else size / 1e6


def zoo_table(networks: Networks) -> str:
    """The table of docs/zoo.md: all figures of each set of weights, and what its paper prints."""
    head = (
        "weights",
        "val",
        "**test**",
        "flip, scales",
        "paper",
        "kept, corrupted",
        "ECE",
        "int8 loses",
        "int8, ms",
        "MB",
    )
    rows = [head, ("---", *["--:"] * (len(head) - 1))]
    for name in ranked(networks):
        entry = networks[name]
        paper = PAPER.get(str(entry.get("model")))
        drop = value(entry, "int8", "miou_drop")
        rows.append(
            (
                f"[`{name}`](../{WEIGHTS}/{name}.md)",
                shown(value(entry, "val", "miou"), ".4f"),
                f"**{shown(value(entry, 'test', 'miou'), '.4f')}**",
                shown(value(entry, "test_flip_scales", "miou"), ".4f"),
                "none" if paper is None else f"{paper:.3f}",
                shown(value(entry, "corruptions", "kept"), ".3f"),
                shown(value(entry, "test", "calibration", "ece"), ".4f"),
                shown(drop, ".4f"),
                shown(value(entry, "latency", "int8", "median"), ".1f"),
                shown(_mega(entry), ".1f"),
            )
        )
    return "\n".join("| " + " | ".join(cells) + " |" for cells in rows)


def zoo_part(networks: Networks) -> str:
    """The table of docs/zoo.md, and what was missed."""
    return "\n\n".join((zoo_table(networks), missed_words(networks), missed_ece_words(networks)))


def missed_words(networks: Networks) -> str:
    """Which networks stay below what was aimed at on test."""
    short = [
        f"`{name}` ({miou:.3f}; {aim:.2f})"
        for name in ranked(networks)
        if (miou := value(networks[name], "test", "miou")) is not None
        and miou < (aim := AIMS.get(str(networks[name].get("model")), OTHER_AIM))
    ]
    if not short:
        return "Every network that was tested reaches what was aimed at."
    words = f"Below what was aimed at on test (reached; aimed at): {', '.join(short)}. What was tried stands below."
    return textwrap.fill(words, 120, break_long_words=False, break_on_hyphens=False)


def missed_ece_words(networks: Networks) -> str:
    """Of which networks the confidence is farther from the truth on test than was aimed at."""
    over = [
        f"`{name}` ({ece:.3f})"
        for name in ranked(networks)
        if (ece := value(networks[name], "test", "calibration", "ece")) is not None and ece > ECE_AIM
    ]
    if not over:
        return f"The ECE of every network that was tested is at most {ECE_AIM}."
    words = (
        f"ECE above the {ECE_AIM} that was aimed at: {', '.join(over)}. The temperature was fitted on val, which is"
        " nearer to train than test is."
    )
    return textwrap.fill(words, 120, break_long_words=False, break_on_hyphens=False)


def protocol_words(networks: Networks) -> str:
    """How the figures of the tables were made, as far as the results say."""
    timed = [entry["latency"]["protocol"] for entry in networks.values() if "latency" in entry]
    time = "Time: not measured."
    if timed:
        how = timed[0]
        height, width = how["size"]
        turns = "all networks by turns" if all(each == how for each in timed) else "timed in several runs, of which one"
        time = (
            f"Time: OpenVINO int8 at {width}x{height} (WxH), from pixels to class ids, {how['threads']} threads of"
            f" {how['processor']}{vnni_words(how)}, median, {turns}; load of the machine {how['load']:.1f} when it"
            f" began, {how['date']}."
        )
    words = (
        "mIoU: CamVid's test split, 233 pictures at 480x360 (WxH), 11 classes, no test-time augmentation, one training"
        f" each, chosen without the test split. {time} MB: the file of weights."
    )
    return textwrap.fill(words, 120, break_long_words=False, break_on_hyphens=False)


def vnni_words(how: Mapping[str, Any]) -> str:
    """Whether the processor computes in 8-bit integers by instructions of its own, as far as the protocol says."""
    known = how.get("instructions")
    if known is None:
        return ""
    return " with VNNI" if any("vnni" in each for each in known) else " without VNNI"


def navigation(text: str, names: Sequence[str]) -> str:
    """mkdocs.yml with a line for the card of each set of weights, in place of those that are there."""
    line = re.compile(rf'^(\s*)- "Weights: [\w-]+": repository/{WEIGHTS}/[\w-]+\.md\n', re.MULTILINE)
    first = line.search(text)
    if first is None:
        raise SystemExit("mkdocs.yml has no line for the card of weights; add one by hand")
    new = "".join(f'{first[1]}- "Weights: {name}": repository/{WEIGHTS}/{name}.md\n' for name in names)
    return text[: first.start()] + new + line.sub("", text[first.end() :])


# ---- drawings


def points(networks: Networks) -> dict[str, tuple[float, float]]:
    """Milliseconds and mIoU of each network that is tested and timed."""
    pairs = {
        str(networks[name].get("model", name)): (
            value(networks[name], "latency", "int8", "median"),
            value(networks[name], "test", "miou"),
        )
        for name in ranked(networks)
    }
    return {model: (x, y) for model, (x, y) in pairs.items() if x is not None and y is not None}


def plot(networks: Networks, path: Path, not_shipped: Networks | None = None) -> None:
    """Accuracy against time of what is tested and timed; weights that are not shipped are hollow."""
    plt = _pyplot()
    figure, axes = plt.subplots(figsize=(7, 4.2))
    every = [*points(networks).values(), *points(not_shipped or {}).values()]
    width, height = (max(values) - min(values) for values in zip(*every, strict=True))
    for shipped, those in ((True, networks), (False, not_shipped or {})):
        for model, (x, y) in points(those).items():
            axes.plot(x, 100 * y, "o", ms=8, fillstyle="full" if shipped else "none")
            words = model if shipped else f"{model}\n(not shipped)"
            crowded = any(0 < right - x < 0.15 * width and abs(other - y) < 0.08 * height for right, other in every)
            side, shift = ("right", -7) if crowded else ("left", 7)
            axes.annotate(words, (x, 100 * y), xytext=(shift, 5), textcoords="offset points", ha=side)
    axes.set(xlabel="int8, milliseconds a picture of 480x360, two threads", ylabel="mIoU on CamVid's test split, %")
    axes.margins(x=0.22, y=0.15)
    axes.grid(alpha=0.3)
    _store(figure, path)


def curve(rows: Sequence[Mapping[str, str]], path: Path, title: str) -> None:
    """Loss of training and mIoU on val, by epoch."""
    plt = _pyplot()
    figure, axes = plt.subplots(figsize=(7, 3.2))
    other = axes.twinx()
    for column, where, color, words in (("loss", axes, "C1", "loss"), ("val_miou", other, "C0", "mIoU on val")):
        points = [(float(row["epoch"]), float(row[column])) for row in rows if row.get(column)]
        if points:
            where.plot(*zip(*points, strict=True), color=color, marker="." if len(points) < 100 else "")
        where.set_ylabel(words, color=color)
    axes.set(xlabel="epoch", title=title)
    axes.grid(alpha=0.3)
    _store(figure, path)


def _pyplot() -> Any:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    return plt


def _store(figure: Any, path: Path) -> None:
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    _pyplot().close(figure)


def scenes(weights: Path, path: Path) -> None:
    """The drawn scene that a network sees best and the one that it sees worst: picture, truth, prediction."""
    runtime = open_runtime(weights)
    labels = runtime.card.labels
    seen = []
    for sample in drawn_streets():
        truth = as_camvid(sample.mask, label_set("cityscapes"), labels)
        ids = segment(runtime, sample.image)
        known = truth != VOID
        seen.append((float((ids == truth)[known].mean()), sample.image, truth, ids))
    seen.sort(key=lambda one: -one[0])
    rows = [_row(name, one, labels) for name, one in (("best", seen[0]), ("worst", seen[-1]))]
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as temporary:
        sheet = Image.fromarray(np.concatenate(rows))
        small = sheet.resize((SHEET_PX, sheet.height * SHEET_PX // sheet.width), Image.Resampling.LANCZOS)
        small.save(temporary, format="JPEG", quality=85)


@functools.cache
def drawn_streets() -> list[Sample]:
    """The scenes that every network is shown."""
    return list(samples(Scenes("test", SCENES, SCENE_SIZE)))


def as_camvid(mask: np.ndarray, theirs: LabelSet, ours: LabelSet) -> np.ndarray:
    """Ids of a drawn scene as ids of other classes, by `SEEN_AS`; void where there is none."""
    table = np.full(256, VOID, np.uint8)
    for index, name in enumerate(theirs.classes):
        if SEEN_AS.get(name) in ours.classes:
            table[index] = ours.classes.index(SEEN_AS[name])
    return table[mask]


def _row(name: str, one: tuple[float, np.ndarray, np.ndarray, np.ndarray], labels: LabelSet) -> np.ndarray:
    share, picture, truth, ids = one
    tiles = [picture, blend_overlay(picture, truth, labels, 0.7), blend_overlay(picture, ids, labels, 0.7)]
    gap = np.full((picture.shape[0], GAP, 3), 255, np.uint8)
    joined = np.concatenate([tiles[0], gap, tiles[1], gap, tiles[2]], 1)
    head = Image.new("RGB", (joined.shape[1], 34), "white")
    words = (f"{name} of {SCENES}", "truth, as drawn", f"prediction: {share:.0%} of the pixels right")
    for number, text in enumerate(words):
        ImageDraw.Draw(head).text(
            (number * (picture.shape[1] + GAP) + 4, 4), text, fill="black", font=ImageFont.load_default(22)
        )
    return np.concatenate([np.asarray(head), joined])


# ---- all of it


def write(path: Path, change: Callable[[str], str]) -> None:
    """Changes a file as a whole, if it changes."""
    before = path.read_text()
    if (after := change(before)) != before:
        with atomic_write(path) as temporary:
            temporary.write_text(after)


def cards(root: Path, drawings: bool) -> list[str]:
    """Writes the card's page beside each set of weights, and its drawings; the names of all."""
    names = []
    for weights in sorted((root / WEIGHTS).glob("*.safetensors")):
        name = weights.stem
        names.append(name)
        table = weights.with_suffix(".csv")
        if drawings:
            if table.is_file():
                with table.open(newline="") as file:
                    curve(list(csv.DictReader(file)), root / DRAWINGS / f"{name}-curve.png", name)
            if load(weights).card.labels.name == "camvid":
                scenes(weights, root / DRAWINGS / f"{name}-scenes.jpg")
        with atomic_write(weights.with_suffix(".md")) as temporary:
            temporary.write_text(card_page(root, name))
    return names


def card_page(root: Path, name: str) -> str:
    """The page of one set of weights, with the drawings that there are."""
    files = {"curve": f"{name}-curve.png", "scenes": f"{name}-scenes.jpg"}
    pictures = {key: f"../../../{DRAWINGS}/{file}" for key, file in files.items() if (root / DRAWINGS / file).is_file()}
    return markdown(card_facts(root / WEIGHTS / f"{name}.safetensors"), name, pictures)


def make(root: Path = ROOT, drawings: bool = True) -> None:
    """All pages and, where asked for, all drawings."""
    results = read(root / RESULTS)
    networks = results["networks"]
    names = cards(root, drawings)
    if drawings and points(networks):
        plot(networks, root / PLOT, results.get("not_shipped"))
    write(root / "README.md", lambda text: between(text, "zoo", readme_part(networks)))
    write(root / "docs/zoo.md", lambda text: between(text, "zoo", zoo_part(networks)))
    write(root / "mkdocs.yml", lambda text: navigation(text, names))


def main() -> None:
    """Reads the arguments and makes everything."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, default=ROOT, help="of the repository")
    parser.add_argument("--no-drawings", action="store_true", help="texts only: drawings take a minute a network")
    arguments = parser.parse_args()
    make(arguments.root, not arguments.no_drawings)


if __name__ == "__main__":
    main()
