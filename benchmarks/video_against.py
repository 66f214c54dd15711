"""Frames per second of `kerbseg predict` on a video: this version against another one, in one run, by turns.

Each version is a process of its own that has everything open and warm; both write the same video with the same
network. A figure is the median over the turns, the ratio that of each turn's pair.
Example: python benchmarks/video_against.py net.xml --source ../older/src --turns 5
`--source` is the folder with the other version's package. Its exported file may need older names: `--model` gives it.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from video import write_drive

from kerbseg.profiling.machine import this_machine

WORKER = """
import json, os, sys, tempfile, time
from pathlib import Path
from kerbseg.predict import Predictor

model, video, engine, threads = sys.argv[1:]
options = {} if threads == "0" else {"threads": int(threads)}
try:
    from kerbseg.predict import segment_video
    predictor = Predictor(model, engine=engine or None, **options)
    run = lambda out: segment_video(video, predictor, out).frames
except ImportError:  # before segment_video
    from kerbseg.predict.streams import Stream
    from kerbseg.predict.video import Film
    predictor = Predictor(model, runtime=engine or None, **options)
    run = lambda out: sum(1 for _ in Film().steps(predictor, Stream("video", video), Path(out) / "video.mp4"))
for _ in sys.stdin:
    with tempfile.TemporaryDirectory() as out:
        started, cpu = time.perf_counter(), os.times()
        frames = run(out)
        spent, now = time.perf_counter() - started, os.times()
        size = sum(path.stat().st_size for path in Path(out).glob("*.mp4"))
    cpu_s = now.user - cpu.user + now.system - cpu.system
    print(json.dumps({"frames": frames, "s": spent, "cpu_s": cpu_s, "bytes": size}), flush=True)
"""
"""Runs with either version: segments the video once for each line that it is given."""


@contextmanager
def version(source: Path, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    """A process of one version, ready to segment."""
    command = [sys.executable, "-c", WORKER, *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(source.resolve())}
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        try:
            yield process
        finally:
            assert process.stdin is not None
            process.stdin.close()


def once(process: subprocess.Popen[str]) -> dict[str, Any]:
    """What one segmentation of the video took."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("\n")
    process.stdin.flush()
    line = process.stdout.readline()
    if not line:
        raise SystemExit("a version ended early; what it said stands above")
    result: dict[str, Any] = json.loads(line)
    return result


def compare(processes: Sequence[subprocess.Popen[str]], turns: int) -> dict[str, Any]:
    """Both by turns, after one turn that warms up; the first is the one that is compared with."""
    for process in processes:
        once(process)
    rounds = []
    for turn in range(turns):
        order = list(processes)[:: 1 if turn % 2 else -1]
        taken = {process.pid: once(process) for process in order}
        rounds.append([taken[process.pid] for process in processes])
    speeds = [[each["frames"] / each["s"] for each in one] for one in rounds]
    ratios = [new / old for old, new in speeds]
    return {
        "frames_per_second": dict(
            zip(("against", "this"), map(statistics.median, zip(*speeds, strict=True)), strict=True)
        ),
        "ratio": statistics.median(ratios),
        "ratios": ratios,
        "cpu_ms_a_frame": {
            name: statistics.median(1000 * one[place]["cpu_s"] / one[place]["frames"] for one in rounds)
            for place, name in enumerate(("against", "this"))
        },
        "bytes": {name: rounds[-1][place]["bytes"] for place, name in enumerate(("against", "this"))},
    }


def main() -> None:
    """Prints what was measured, and writes it where `--json` says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("network", type=Path, help="a bundle or an exported model")
    parser.add_argument("--source", type=Path, required=True, help="folder of the other version's package")
    parser.add_argument("--model", type=Path, help="the same network as the other version reads it")
    parser.add_argument("--video", type=Path, help="instead of a drawn drive")
    parser.add_argument("--size", default="360x480", help="HEIGHTxWIDTH of the drawn drive")
    parser.add_argument("--frames", type=int, default=300, help="of the drawn drive")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--engine", default="")
    parser.add_argument("--threads", type=int, default=0, help="of the network; all without it")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    here = Path(__file__).resolve().parents[1] / "src"
    with tempfile.TemporaryDirectory() as temporary:
        video = given.video or Path(temporary) / "drive.mp4"
        if given.video is None:
            height, width = map(int, given.size.split("x"))
            write_drive(video, (height, width), given.frames)
        how = (video.resolve(), given.engine, given.threads)
        with (
            version(given.source, given.model or given.network, *how) as other,
            version(here, given.network, *how) as this,
        ):
            result = compare([other, this], given.turns)
    result["protocol"] = {
        "network": given.network.name,
        "engine": given.engine or None,
        "threads": given.threads or None,
        "turns": given.turns,
        "video": str(given.video or f"drawn drive, {given.size}, {given.frames} frames"),
        **this_machine("cpu").to_dict(),
    }
    for name, speed in result["frames_per_second"].items():
        print(f"{name:12}{speed:8.1f} frames/s {result['cpu_ms_a_frame'][name]:8.1f} ms of CPU a frame")
    print(f"ratio       {result['ratio']:8.2f} ({min(result['ratios']):.2f} to {max(result['ratios']):.2f})")
    print(json.dumps(result["protocol"]))
    if given.json is not None:
        given.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
