"""Seconds from the command to the result: `kerbseg predict` of one picture, a new process each time.

Two versions of kerbseg take turns, so that what else the machine does hits both; a figure is the median over the
rounds, the ratio that of the medians. Files lie in memory after a first round that is not counted: a machine that was
just switched on reads them from its disk, too. `first run` has no kernels in numba's cache, as after an installation.
Example: python benchmarks/start.py --before ../kerbseg-b105025/src --rounds 7 --json start.json
Without `--before` this version is timed alone. Each version runs the files that it exports itself; `--files FOLDER`
keeps them for the next time.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from kerbseg.data import open_dataset
from kerbseg.profiling.machine import this_machine

BUNDLE = "mininet_v2_cpu-camvid"  # comes with kerbseg
HERE = Path(__file__).resolve().parents[1] / "src"
COMMAND = "from kerbseg.cli import main; main()"  # what the script `kerbseg` runs
SIZE = (360, 480)  # of the picture, which is that of the network
FEW = 4  # pictures that int8 is calibrated on; how long a start takes does not depend on what it says of them
EXPORTED = ("int8.xml", "float.xml", "float.onnx")


class Version:
    """One version of kerbseg, by the folder that is imported."""

    def __init__(self, name: str, source: Path) -> None:
        self.name, self.source = name, source

    def run(self, code: str, *arguments: str, **variables: str) -> float:
        """Seconds that a new process takes. Raises CalledProcessError where it fails, after its own words."""
        environment = {**os.environ, "PYTHONPATH": str(self.source), **variables}
        started = time.perf_counter()
        finished = subprocess.run(
            [sys.executable, "-c", code, *arguments], env=environment, capture_output=True, text=True
        )
        elapsed_s = time.perf_counter() - started
        if finished.returncode:
            print(finished.stderr, file=sys.stderr)
            finished.check_returncode()
        return elapsed_s

    def predict(self, model: str, picture: Path, out: Path, **variables: str) -> float:
        """Seconds of one prediction, its files written."""
        return self.run(COMMAND, "predict", model, str(picture), "-o", str(out), **variables)


def export(version: Version, folder: Path) -> None:
    """A float and an int8 file for OpenVINO and one for ONNX Runtime, in a folder of the version, where missing."""
    data, own = folder / "camvid", folder / version.name
    if not data.exists():
        write_camvid(data)
    own.mkdir(parents=True, exist_ok=True)
    for name in EXPORTED:
        int8 = ("--int8", "--calibration", "camvid", "--data-root", str(data), "--max-drop", "1")
        if not (own / name).exists():
            version.run(COMMAND, "export", BUNDLE, "-o", str(own / name), *(int8 if "int8" in name else ()))


def write_camvid(root: Path) -> None:
    """A data set of CamVid's form, of drawn scenes whose masks mean nothing."""
    for split in ("train", "val"):
        scenes = open_dataset("scenes", split)
        for folder in (root / split, root / f"{split}annot"):
            folder.mkdir(parents=True)
        for index in range(FEW):
            picture(scenes[index].image).save(root / split / f"{index}.png")
            Image.fromarray(np.full(SIZE, index, np.uint8)).save(root / f"{split}annot" / f"{index}.png")


def picture(pixels: np.ndarray) -> Image.Image:
    """At the network's size."""
    return Image.fromarray(pixels).resize(SIZE[::-1])


def by_turns(versions: Sequence[Version], once: Callable[[Version], float], rounds: int) -> dict[str, list[float]]:
    """Seconds of each version in each round, the order reversed from round to round."""
    seconds: dict[str, list[float]] = {version.name: [] for version in versions}
    for turn in range(rounds):
        for version in versions[:: 1 if turn % 2 else -1]:
            seconds[version.name].append(once(version))
    return seconds


def compare(
    versions: Sequence[Version], files: Path | None, out: Path, rounds: int, wanted: Sequence[str] | None = None
) -> dict[str, Any]:
    """All rows: of each model a cold process, of the int8 file also one without a cache, and the bare import."""
    street = out / "street.png"
    picture(open_dataset("scenes", "val")[0].image).save(street)

    def predict(name: str) -> Callable[[Version], float]:
        return lambda version: version.predict(str(files / version.name / name), street, out / version.name)

    def first_run(version: Version) -> float:
        with tempfile.TemporaryDirectory() as cache:
            model = str(files / version.name / EXPORTED[0])
            return version.predict(model, street, out / version.name, NUMBA_CACHE_DIR=cache)

    rows: dict[str, tuple[Callable[[Version], float], int]] = {
        "bundle": (lambda version: version.predict(BUNDLE, street, out / version.name), rounds)
    }
    if files is not None:
        rows |= {name: (predict(name), rounds) for name in EXPORTED}
        rows[f"{EXPORTED[0]}, first run"] = first_run, min(2, rounds)
    rows["import kerbseg"] = (lambda version: version.run("import kerbseg"), rounds)
    measured = {}
    for name, (once, count) in rows.items():
        if wanted is not None and not any(name.startswith(word) for word in wanted):
            continue
        by_turns(versions, once, 1)
        measured[name] = by_turns(versions, once, count)
        print(row(name, measured[name]), flush=True)
    return measured


def row(name: str, seconds: dict[str, list[float]]) -> str:
    """Of the table."""
    medians = [statistics.median(each) for each in seconds.values()]
    ratio = f" | {medians[0] / medians[1]:.2f}" if len(medians) == 2 else ""
    return f"| {name} | {' | '.join(f'{median:.2f}' for median in medians)}{ratio} |"


def main() -> None:
    """Prints the table, a row when it is measured, and writes all seconds where `--json` says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", type=Path, help="folder src of an older version of kerbseg, to compare with")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only-bundle", action="store_true", help="without exported files")
    parser.add_argument("--rows", nargs="+", help="the first words of those to measure; all without it")
    parser.add_argument("--files", type=Path, help="folder to keep the exported files in")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    versions = [Version("now", HERE)]
    if given.before is not None:
        versions.insert(0, Version("before", given.before.resolve()))
    with tempfile.TemporaryDirectory() as temporary:
        files = None if given.only_bundle else given.files or Path(temporary, "files")
        if files is not None:
            for version in versions:
                export(version, files)
        names = [version.name for version in versions] + ["ratio"] * (len(versions) - 1)
        print(f"| predict one picture, s | {' | '.join(names)} |\n|---|{'---|' * len(names)}")
        measured = compare(versions, files, Path(temporary), given.rounds, given.rows)
    machine = this_machine()
    print(f"\n{machine}")
    if given.json is not None:
        figures = {"seconds": measured, "protocol": {"rounds": given.rounds, "size": SIZE, **machine.to_dict()}}
        given.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
