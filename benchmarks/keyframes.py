"""How good keyframes are on real films of which some frames are degraded, by labels, beside plain rules.

    python benchmarks/keyframes.py --data DATA/camvid --out benchmarks/results/keyframes.json
    python benchmarks/keyframes.py --data DATA/camvid --films 0016E5 --pictures DATA/sequences/kitti_grey_51
    python benchmarks/keyframes.py --films --colmap DATA/sequences/fox_50

Of each film 30 % of the frames are blurred (linear motion of 9 to 21 pixels), darkened (gain 0.15 to 0.35) or
over-exposed (gain 2 to 3), drawn anew for each seed. The network sees the degraded frames; what frames show is taken
from the labels. Frames are due by the flow between the frames as they were (`clean`), and between the degraded ones.
No mIoU is computed. `--colmap` needs pycolmap, which kerbseg does not.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from PIL import Image

from kerbseg import Predictor, open_dataset
from kerbseg.apps.sending import jpeg
from kerbseg.bundle import versions
from kerbseg.data.pictures import read_rgb
from kerbseg.keyframes import (
    FrameScores,
    Options,
    QualityMeter,
    Scorer,
    Selector,
    Semantics,
    Transmitter,
    coverage,
    dynamic_programming,
    measure,
    open_sequence,
    quality_of,
    select,
    semantics_of,
)
from kerbseg.keyframes.figures import served
from kerbseg.keyframes.motion import Motion, MotionMeter, analyzed, thumbnail
from kerbseg.keyframes.quality import RECENT
from kerbseg.keyframes.stream import target_ids
from kerbseg.profiling.machine import processor_name

DEGRADED_SHARE = 0.3
KINDS = ("blur", "dark", "over")
TARGET = ("pedestrian", "bicyclist")
EVERY = 8
BEGINNINGS = 13  # frames that are left out at a film's begin, 0 to 12: where windows begin is chance
BUDGET_SHARE = 0.12  # of the bytes of all frames
ORB_MATCHES = 30  # that fit one geometry (epipolar, to within 3 pixels): the same place
SAME_INSTANCE = 0.3  # IoU of a region with one that the flow carries on


@dataclass(frozen=True)
class Film:
    """Frames that follow each other, and when they are due."""

    name: str
    pictures: Sequence[np.ndarray]
    labels: Sequence[np.ndarray] | None
    fps: float
    options: Options


@dataclass(frozen=True)
class Trial:
    """One film degraded by one seed: what the network and the program see of it."""

    bad: np.ndarray
    scores: list[FrameScores]
    sizes: list[int]  # bytes of each frame as it would be sent


FILMS = {  # of CamVid: split, frames a second, step in px, longest time in s
    "0016E5": ("val", 15, 48, 1),
    "Seq05VD": ("test", 1, 96, 15),
    "0001TP": ("test", 1, 96, 15),
}


def degrade(picture: np.ndarray, kind: str, chance: np.random.Generator) -> np.ndarray:
    """The picture blurred by motion, too dark or over-exposed."""
    if kind == "blur":
        length, angle = int(chance.integers(9, 22)), chance.uniform(0, 180)
        line = np.zeros((length, length), np.float32)
        line[length // 2] = 1
        middle = (length - 1) / 2
        line = cv2.warpAffine(line, cv2.getRotationMatrix2D((middle, middle), angle, 1), (length, length))
        return cv2.filter2D(picture, -1, line / line.sum())
    gain = chance.uniform(0.15, 0.35) if kind == "dark" else chance.uniform(2, 3)
    return np.clip(picture.astype(np.float32) * gain, 0, 255).astype(np.uint8)


def degraded(pictures: Sequence[np.ndarray], seed: int) -> Iterator[tuple[np.ndarray, str]]:
    """Each picture, some of them degraded, and how; always the same of one seed."""
    chance = np.random.default_rng(seed)
    bad = chance.random(len(pictures)) < DEGRADED_SHARE
    kinds = chance.choice(KINDS, len(pictures))
    for picture, spoiled, kind in zip(pictures, bad, kinds, strict=True):
        yield (degrade(picture, kind, chance), str(kind)) if spoiled else (picture, "")


def camvid(root: Path, name: str) -> Film:
    """One of CamVid's films, in order."""
    split, fps, step, longest = FILMS[name]
    data = open_dataset("camvid", split, root)
    samples = [data[i] for i, each in enumerate(data.names) if each.startswith(name)]
    if not samples:
        raise SystemExit(f"{root} holds no pictures of {name}")
    options = Options(step_px=step, longest_s=longest)
    return Film(name, [each.image for each in samples], [each.mask for each in samples], fps, options)


def pictures_of(folder: Path) -> Film:
    """A sequence without labels, at most 480 wide."""
    sequence = open_sequence(folder)
    pictures = [at_most(frame.picture, 480) for frame in sequence.source]
    rate = next(iter(sequence.source)).rate
    return Film(folder.name, pictures, None, float(rate), Options())


def at_most(picture: np.ndarray, width: int) -> np.ndarray:
    """The picture no wider than that."""
    height, now = picture.shape[:2]
    if now <= width:
        return picture
    return cv2.resize(picture, (width, round(height * width / now)), interpolation=cv2.INTER_AREA)


# ---- what is seen


def clean_motion(film: Film) -> list[Motion]:
    """Between the frames as they were."""
    meter = MotionMeter()
    return [meter.add(gray, thumbnail(gray)) for gray in map(analyzed, film.pictures)]


def trials(film: Film, predictor: Predictor, seeds: int, target: Sequence[str] = TARGET) -> Iterator[Trial]:
    """The film degraded by each seed."""
    undegraded: dict[int, np.ndarray] = {}
    for seed in range(seeds):
        scorer = Scorer(target_ids(target, predictor.labels))
        bad, scores, sizes = [], [], []
        for i, (picture, kind) in enumerate(degraded(film.pictures, seed)):
            if kind or i not in undegraded:
                ids = predictor(picture).ids
                if not kind:
                    undegraded[i] = ids
            scores.append(scorer.add(picture, ids if kind else undegraded[i], round(i * 1e9 / film.fps)))
            sizes.append(len(jpeg(picture)))
            bad.append(bool(kind))
        yield Trial(np.array(bad), scores, sizes)


def as_it_moved(scores: Sequence[FrameScores], motion: Sequence[Motion]) -> list[FrameScores]:
    """The same scores, due by the motion of the frames as they were."""
    return [replace(each, motion=m.pixels, cut=m.cut) for each, m in zip(scores, motion, strict=True)]


def choices(scores: list[FrameScores], options: Options) -> dict[str, list[int]]:
    """The frames that each rule chooses; those for a whole sequence as many as the window rule."""
    online = {
        rule: [each.scores.index for each in select(scores, replace(options, rule=rule))]
        for rule in ("first", "window", "gate", "middle")
    }
    count = len(online["window"])
    return online | {
        "uniform": [round(i) for i in np.linspace(0, len(scores) - 1, count)],
        "dp": dynamic_programming(scores, count),
        "coverage": coverage(scores, count),
    }


def sending(trial: Trial, fps: float) -> dict[str, list[int]]:
    """The frames that are sent within a budget: by price, whenever they fit, and every eighth without any."""
    rate = BUDGET_SHARE * sum(trial.sizes) / (len(trial.sizes) / fps)
    by_price, bucket = Transmitter(rate), Transmitter(rate).bucket
    fitting = []
    for scores, size in zip(trial.scores, trial.sizes, strict=True):
        bucket.look(scores.time_ns, size)
        if bucket.take(size):
            fitting.append(scores.index)
    offers = [by_price.offer(scores, size) for scores, size in zip(trial.scores, trial.sizes, strict=True)]
    return {
        "price": [each.index for each in offers if each.sent],
        "whenever it fits": fitting,
        f"every {EVERY}th": list(range(0, len(trial.scores), EVERY)),
    }


# ---- figures


@dataclass(frozen=True)
class Judge:
    """What is known of a film without its degradation."""

    film: Film
    shown: list[Semantics] | None  # by the labels
    instances: list[set[int]] | None  # seen whole in each frame
    moved: np.ndarray
    features: list[Any]
    known: dict[tuple[int, int], bool]  # whether two frames show the same place

    @classmethod
    def of(cls, film: Film, motion: Sequence[Motion], places: bool = True) -> Judge:
        """By labels and flow; with `places` also by tracks and ORB features, which takes longer."""
        moved = np.cumsum([each.pixels for each in motion])
        ids = target_ids(TARGET, open_labels())
        shown = None if film.labels is None else [semantics_of(labels, ids) for labels in film.labels]
        instances = None if film.labels is None or not places else tracked(film, ids)
        return cls(film, shown, instances, moved, features_of(film.pictures) if places else [], {})

    def figures(self, chosen: Sequence[int], bad: np.ndarray) -> dict[str, float | None]:
        """Of the chosen frames: degraded share, target, gaps, instances and places that are kept."""
        index = np.array(sorted(chosen))
        step = (self.moved[-1] - self.moved[0]) / len(index)
        result: dict[str, float | None] = {"keyframes": float(len(index)), "degraded": float(bad[index].mean())}
        if len(index) > 1:
            result["largest gap (steps)"] = float(np.diff(self.moved[index]).max() / max(1e-9, step))
        if self.features:
            result["place kept"] = self._places(index, bad)
        if self.shown is not None:
            whole = np.array([each.whole for each in self.shown])
            part = np.array([each.part for each in self.shown])
            near = served(self.moved, index, 1.0 - bad[index], float(step))
            result["target ratio"] = ratio(whole[index].mean(), whole.mean())
            result["part share"] = ratio(part[index].sum(), (part + whole)[index].sum())
            result["target coverage"] = ratio((whole * near).sum(), whole.sum())
        if self.instances is not None:
            kept = set().union(*(self.instances[i] for i in index.tolist() if not bad[i]))
            result["instances kept"] = ratio(len(kept), len(set().union(*self.instances)))
        return result

    def _places(self, index: np.ndarray, bad: np.ndarray) -> float:
        """Share of the frames with enough ORB matches in the keyframe nearest by motion that is not degraded."""
        good = index[~bad[index]]
        if not len(good):
            return 0.0
        nearest = [int(good[np.argmin(np.abs(self.moved[good] - moved))]) for moved in self.moved]
        for pair in enumerate(nearest):
            if pair not in self.known:
                self.known[pair] = same_place(*(self.features[i] for i in pair))
        return sum(self.known[pair] for pair in enumerate(nearest)) / len(nearest)


def same_place(one: Any, other: Any) -> bool:
    """Whether enough ORB features of two pictures match under one epipolar geometry."""
    if one[1] is None or other[1] is None:
        return False
    matches = cv2.BFMatcher(cv2.NORM_HAMMING, crossCheck=True).match(one[1], other[1])
    if len(matches) < ORB_MATCHES:
        return False
    here, there = (
        np.float32([each[0][i].pt for i in indices])
        for each, indices in ((one, [m.queryIdx for m in matches]), (other, [m.trainIdx for m in matches]))
    )
    _, inliers = cv2.findFundamentalMat(here, there, cv2.FM_RANSAC, 3.0, 0.99)
    return inliers is not None and int(inliers.sum()) >= ORB_MATCHES


def ratio(one: float, other: float) -> float | None:
    """None where there is nothing to compare with."""
    return float(one / other) if other > 0 else None


def open_labels() -> Any:
    """CamVid's classes."""
    from kerbseg.core.labels import label_set

    return label_set("camvid")


def features_of(pictures: Sequence[np.ndarray]) -> list[Any]:
    """ORB features of each picture, and their descriptors."""
    orb = cv2.ORB.create(500)
    return [orb.detectAndCompute(analyzed(picture), None) for picture in pictures]


def tracked(film: Film, ids: Sequence[int]) -> list[set[int]]:
    """The instances that each frame shows whole: regions that the flow carries from frame to frame."""
    flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    seen: list[set[int]] = []
    number, before = 0, None
    assert film.labels is not None
    for picture, labels in zip(film.pictures, film.labels, strict=True):
        gray, mask = analyzed(picture), np.isin(labels, list(ids)).astype(np.uint8)
        count, regions = cv2.connectedComponents(mask, connectivity=8)
        tracks = np.full(regions.shape, -1)
        carried = None if before is None else carry(before[1], flow.calc(gray, before[0], None))
        whole = set()
        for region in range(1, count):
            here = regions == region
            track = -1 if carried is None else same_instance(here, carried)
            if track < 0:
                track, number = number, number + 1
            tracks[here] = track
            if semantics_of(here.astype(np.uint8), (1,)).whole > 0:
                whole.add(track)
        seen.append(whole)
        before = gray, tracks
    return seen


def carry(tracks: np.ndarray, flow: np.ndarray) -> np.ndarray:
    """The tracks of the frame before at the pixels of this one."""
    rows, columns = np.indices(tracks.shape)
    at_row = np.rint(rows + flow[..., 1]).astype(int).clip(0, tracks.shape[0] - 1)
    at_column = np.rint(columns + flow[..., 0]).astype(int).clip(0, tracks.shape[1] - 1)
    return tracks[at_row, at_column]


def same_instance(here: np.ndarray, carried: np.ndarray) -> int:
    """The track whose carried region overlaps most, where it does enough; else -1."""
    best, most = -1, SAME_INSTANCE
    for track in np.unique(carried[here]):
        there = carried == track
        overlap = float((here & there).sum() / (here | there).sum())
        if track >= 0 and overlap > most:
            best, most = int(track), overlap
    return best


def mean(rows: Sequence[dict[str, float | None]]) -> dict[str, float | None]:
    """The mean of each figure over the seeds that have it."""
    result: dict[str, float | None] = {}
    for key in rows[0]:
        values = [value for row in rows if (value := row.get(key)) is not None]
        result[key] = round(float(np.mean(values)), 3) if values else None
    return result


def auc(good: Sequence[float], bad: Sequence[float]) -> float:
    """How often a good frame has the larger value."""
    one, other = np.array(good)[:, None], np.array(bad)[None]
    return float((one > other).mean() + (one == other).mean() / 2)


def separation(film: Film, seeds: int) -> dict[str, dict[str, float]]:
    """AUC of good against degraded frames, of each measure and kind of degradation."""
    names = ("Q", "Q judged again", "gradient", "sharpness", "not clipped")
    values: dict[str, dict[str, list[float]]] = {name: {each: [] for each in ("", *KINDS)} for name in names}
    for seed in range(seeds):
        meter, all_seen = QualityMeter(), []
        for picture, kind in degraded(film.pictures, seed):
            seen = measure(analyzed(picture))
            all_seen.append((kind, seen, meter.add(seen)))
        early = [seen for _, seen, _ in all_seen[:RECENT]]
        for i, (kind, seen, quality) in enumerate(all_seen):
            values["Q"][kind].append(quality)
            values["Q judged again"][kind].append(quality_of(seen, early) if i < RECENT else quality)
            values["gradient"][kind].append(seen.gradient)
            values["sharpness"][kind].append(seen.sharpness)
            values["not clipped"][kind].append(-seen.dark - seen.bright)
    return {
        name: {kind: round(auc(by_kind[""], by_kind[kind]), 3) for kind in KINDS if by_kind[kind] and by_kind[""]}
        for name, by_kind in values.items()
    }


def cost_ms(film: Film, ids: np.ndarray, frames: int = 60) -> float:
    """CPU time a frame of all but the network, JPEG and the decision to send included; one core."""
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        scorer, selector, transmitter = Scorer(target_ids(TARGET, open_labels())), Selector(), Transmitter(1e5)
        started = time.thread_time()
        for i in range(frames):
            picture = film.pictures[i % len(film.pictures)]
            scores = scorer.add(picture, ids, round(i * 1e9 / film.fps))
            list(selector.add(scores))
            transmitter.offer(scores, len(jpeg(picture)))
        return 1000 * (time.thread_time() - started) / frames
    finally:
        cv2.setNumThreads(threads)


def by_beginnings(film: Film, trial: Trial, motion: Sequence[Motion], shown: Sequence[Semantics]) -> list[float]:
    """The target ratio of the window rule where the film begins 0, 1, 2 ... frames later."""
    moved, whole = as_it_moved(trial.scores, motion), np.array([each.whole for each in shown])
    ratios = []
    for begin in range(min(BEGINNINGS, len(moved) // 4)):  # of a short film fewer
        scores = [replace(each, index=i) for i, each in enumerate(moved[begin:])]
        chosen = [begin + each.scores.index for each in select(scores, film.options)]
        ratios.append(ratio(whole[chosen].mean(), whole[begin:].mean()) or 0.0)
    return ratios


def measured(film: Film, predictor: Predictor, seeds: int, places: bool = True) -> dict[str, Any]:
    """All figures of a film by its labels; those of `Judge.of` that take longer only with `places`."""
    motion = clean_motion(film)
    judge = Judge.of(film, motion, places)
    rows: dict[str, dict[str, list[dict[str, float | None]]]] = {}
    beginnings: list[list[float]] = []
    for trial in trials(film, predictor, seeds):
        if judge.shown is not None:
            beginnings.append(by_beginnings(film, trial, motion, judge.shown))
        frames = {
            "due by clean flow": choices(as_it_moved(trial.scores, motion), film.options),
            "due by degraded flow": choices(trial.scores, film.options),
            "sent": {rule: sent for rule, sent in sending(trial, film.fps).items() if sent},
        }
        for name, rules in frames.items():
            for rule, chosen in rules.items():
                rows.setdefault(name, {}).setdefault(rule, []).append(judge.figures(chosen, trial.bad))
    means = {name: {rule: mean(each) for rule, each in rules.items()} for name, rules in rows.items()}
    of_beginnings = np.mean(beginnings, 0) if beginnings else np.zeros(0)
    return {
        "frames": len(film.pictures),
        "target ratio by beginnings": [round(float(each), 3) for each in of_beginnings],
        **means,
    }


# ---- reconstruction, where pycolmap is installed


def reconstruction(folder: Path, count: int, seed: int = 0) -> dict[str, Any]:
    """Registered pictures and points of COLMAP from chosen frames of a folder, some of them degraded."""
    try:
        import pycolmap
    except ImportError as error:
        raise SystemExit("pycolmap is not installed; run: pip install pycolmap") from error
    files = sorted(each for each in folder.iterdir() if each.suffix.lower() in (".jpg", ".png"))
    pictures = [read_rgb(each) for each in files]
    spoiled = [picture for picture, _ in degraded(pictures, seed)]
    scorer = Scorer(())
    nothing = [np.zeros(each.shape[:2], np.uint8) for each in spoiled]
    scores = [scorer.add(p, ids, i * 10**9) for i, (p, ids) in enumerate(zip(spoiled, nothing, strict=True))]
    rules = {
        "uniform": [round(i) for i in np.linspace(0, len(files) - 1, count)],
        "coverage": coverage(scores, count),
        "dp": dynamic_programming(scores, count),
    }
    result = {}
    for rule, chosen in rules.items():
        with tempfile.TemporaryDirectory() as place:
            images = Path(place) / "images"
            images.mkdir()
            for i in chosen:
                Image.fromarray(spoiled[i]).save(images / f"{i:04}.png")
            database = Path(place) / "database.db"
            pycolmap.extract_features(database, images)
            pycolmap.match_exhaustive(database)
            models = pycolmap.incremental_mapping(database, images, Path(place))
            best = max(models.values(), key=lambda model: model.num_reg_images(), default=None)
            result[rule] = {
                "registered": best.num_reg_images() if best else 0,
                "points": best.num_points3D() if best else 0,
                "of": len(chosen),
            }
    return result


def table(rows: dict[str, dict[str, float | None]]) -> str:
    """The figures of several rules as text."""
    columns = list(dict.fromkeys(key for row in rows.values() for key in row))
    lines = [f"{'':17}" + " ".join(f"{key[:12]:>12}" for key in columns)]
    for rule, row in rows.items():
        cells = ("–" if row.get(key) is None else f"{row[key]:.2f}" for key in columns)
        lines.append(f"{rule:17}" + " ".join(f"{cell:>12}" for cell in cells))
    return "\n".join(lines)


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder of CamVid")
    parser.add_argument("--films", nargs="*", default=list(FILMS), choices=FILMS, help="films of CamVid")
    parser.add_argument("--pictures", type=Path, nargs="*", default=[], help="folders of sequences without labels")
    parser.add_argument("--model", default="mininet_v2_cpu-camvid", help="network that sees the target")
    parser.add_argument("--seeds", type=int, default=5, help="times that frames are degraded")
    parser.add_argument("--colmap", type=Path, help="folder of pictures to reconstruct with pycolmap")
    parser.add_argument("--count", type=int, default=18, help="keyframes for the reconstruction")
    parser.add_argument("--out", type=Path, help="JSON file for the figures; those of other networks stay")
    arguments = parser.parse_args()
    result: dict[str, Any] = {
        "protocol": {
            "model": arguments.model,
            "seeds": arguments.seeds,
            "target": TARGET,
            "degraded share": DEGRADED_SHARE,
            "budget share": BUDGET_SHARE,
            "regions": "of each class by itself",
            "processor": processor_name(),
            "threads": torch.get_num_threads(),
            "versions": versions() | {"opencv": cv2.__version__},
        }
    }
    if arguments.films and arguments.data is None:
        parser.error("--data names the folder of CamVid; or leave the films out with --films alone")
    films = [camvid(arguments.data, name) for name in arguments.films]
    predictor = Predictor(arguments.model)
    for film in [*films, *map(pictures_of, arguments.pictures)]:
        figures = measured(film, predictor, arguments.seeds)
        figures["auc"] = separation(film, arguments.seeds)
        figures["ms a frame beside the network"] = round(cost_ms(film, predictor(film.pictures[0]).ids), 1)
        result[film.name] = figures
        print(f"\n{film.name}: {figures['frames']} frames; AUC {figures['auc']}")
        for name in ("due by clean flow", "due by degraded flow", "sent"):
            print(f"{name}\n{table(figures[name])}")
        if ratios := figures["target ratio by beginnings"]:
            print(f"window, {len(ratios)} beginnings: target ratio {np.mean(ratios):.3f} +- {np.std(ratios):.3f}")
        print(f"{figures['ms a frame beside the network']} ms of CPU a frame beside the network")
    if arguments.colmap is not None:
        result["reconstruction"] = reconstruction(arguments.colmap, arguments.count)
        print(result["reconstruction"])
    if arguments.out is not None:
        every = json.loads(arguments.out.read_text()) if arguments.out.exists() else {}
        arguments.out.write_text(json.dumps(every | {arguments.model: result}, indent=1) + "\n")


if __name__ == "__main__":
    main()
