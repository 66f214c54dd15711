"""Frames per second of `kerbseg predict` on a video: stages that overlap, against the same stages one after another.

Both ways decode, segment, draw and encode the same video with the same stages and threads; they take turns, so that
what else the machine does hits both. A figure is the median over the turns; the ratio is that of each turn's pair.
Example: python benchmarks/video.py run/best.safetensors --turns 5
Give trained or imported weights: random ones can fill a network with denormals.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import av

from kerbseg.data.scenes import drive
from kerbseg.predict import SINKS, Predictor, Style
from kerbseg.predict.pipeline import Stage, ThreadedPipeline
from kerbseg.predict.sources import Source, open_source
from kerbseg.predict.temporal.flicker import FlickerMeter
from kerbseg.predict.videos import stages
from kerbseg.profiling.latency import Latency, timed
from kerbseg.profiling.machine import this_machine

Way = Callable[[Iterator[Any], Sequence[Stage]], int]


def overlapped(source: Iterator[Any], work: Sequence[Stage]) -> int:
    """The number of frames that went through all stages, each in its own thread."""
    return sum(1 for _ in ThreadedPipeline(source, *work))


def in_turn(source: Iterator[Any], work: Sequence[Stage]) -> int:
    """The number of frames that went through all stages, one after another."""
    count = 0
    for item in source:
        for stage in work:
            item = stage(item)
        count += 1
    return count


@contextmanager
def opened(predictor: Predictor, video: Path, folder: Path, flicker: bool) -> Iterator[tuple[Source, list[Stage]]]:
    """A video and the stages that make its overlay."""
    source, mp4 = open_source(video), SINKS["mp4"]
    meter = FlickerMeter() if flicker else None
    with (
        mp4.open(folder / "out.mp4", source, predictor.labels, Style()) as add,
        stages(predictor, [mp4], [add], meter=meter) as work,
    ):
        yield source, work


def timed_s(way: Way, predictor: Predictor, video: Path, folder: Path, flicker: bool) -> float:
    """Seconds a frame, the writing of the file included."""
    frames: list[int] = []

    def once() -> None:
        with opened(predictor, video, folder, flicker) as (source, work):
            frames.append(way(iter(source), work))

    return timed(once)(1)[0] / frames[0]


def stage_costs_ms(predictor: Predictor, video: Path, folder: Path, flicker: bool) -> dict[str, float]:
    """Median milliseconds of each stage by itself."""
    spent: dict[str, list[float]] = {}

    def clocked(name: str, stage: Callable[..., Any]) -> Callable[..., Any]:
        def run(*item: Any) -> Any:
            started = time.perf_counter()
            result = stage(*item)
            spent.setdefault(name, []).append(time.perf_counter() - started)
            return result

        return run

    with opened(predictor, video, folder, flicker) as (source, work):
        frames = iter(source)
        names = ["segment", "flicker", "draw", "encode"] if flicker else ["segment", "draw", "encode"]
        decoded = iter(clocked("decode", lambda: next(frames, None)), None)
        in_turn(decoded, [clocked(name, stage) for name, stage in zip(names, work, strict=True)])
    return {name: Latency.of(seconds).median_ms for name, seconds in spent.items()}


def write_drive(path: Path, size: tuple[int, int], count: int) -> None:
    """A drive through drawn scenes, as a camera would record it."""
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", rate=25, options={"preset": "veryfast", "crf": "20"})
        stream.height, stream.width, stream.pix_fmt = *size, "yuv420p"
        for picture, _ in itertools.islice(drive(0, size), count):
            file.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        file.mux(stream.encode(None))


def main() -> None:
    """Prints what was measured, and writes it where `--json` says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="a bundle or an exported model")
    parser.add_argument("--video", type=Path, help="instead of a drawn drive")
    parser.add_argument("--size", default="360x480", help="HEIGHTxWIDTH of the drawn drive")
    parser.add_argument("--frames", type=int, default=150, help="of the drawn drive")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--threads", type=int, help="of the runtime; all without it")
    parser.add_argument("--runtime")
    parser.add_argument("--flicker", action="store_true", help="with the flicker figure")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    predictor = Predictor(given.model, engine=given.runtime, threads=given.threads)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        video = given.video or folder / "drive.mp4"
        if given.video is None:
            height, width = map(int, given.size.split("x"))
            write_drive(video, (height, width), given.frames)
        result = compare(predictor, video, folder, given.turns, given.flicker)
    result["protocol"]["video"] = str(given.video or f"drawn drive, {given.size}")
    show(result)
    if given.json is not None:
        given.json.write_text(json.dumps(result, indent=1) + "\n")


def compare(predictor: Predictor, video: Path, folder: Path, turns: int, flicker: bool) -> dict[str, Any]:
    """Both ways by turns, after one turn that warms up."""
    ways: dict[str, Way] = {"in_turn": in_turn, "overlapped": overlapped}
    costs_ms = stage_costs_ms(predictor, video, folder, flicker)
    spent: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(turns):
        for name in list(ways)[:: 1 if turn % 2 else -1]:
            spent[name].append(timed_s(ways[name], predictor, video, folder, flicker))
    ratios = [one / other for one, other in zip(spent["in_turn"], spent["overlapped"], strict=True)]
    runtime = predictor.runtime
    machine = this_machine(runtime.device).to_dict()
    return {
        "frames_per_second": {name: 1 / statistics.median(each) for name, each in spent.items()},
        "ratio": statistics.median(ratios),
        "ratios": ratios,
        "stage_ms": costs_ms,
        "protocol": {
            "model": runtime.card.model,
            "runtime": runtime.name,
            "device": runtime.device,
            "precision": runtime.precision,
            "threads": runtime.threads,
            "turns": turns,
            **machine,
            "versions": {**machine["versions"], "av": av.__version__},
        },
    }


def show(result: dict[str, Any]) -> None:
    """Prints the figures."""
    for name, speed in result["frames_per_second"].items():
        print(f"{name:12}{speed:8.1f} frames/s")
    print(f"ratio       {result['ratio']:8.2f} ({min(result['ratios']):.2f} to {max(result['ratios']):.2f})")
    print("stages      " + ", ".join(f"{name} {cost:.1f} ms" for name, cost in result["stage_ms"].items()))
    print(json.dumps(result["protocol"]))


if __name__ == "__main__":
    main()
