"""Trains the whole zoo on one GPU in pieces of under ten minutes: `make gpu-day`.

    python benchmarks/gpu_day.py train --plan benchmarks/gpu_day.yaml --data-root DATA/camvid --out build/gpu-day
    python benchmarks/gpu_day.py bench --data-root DATA/camvid

A plan lists jobs: a recipe, overrides, and teachers that other jobs train. Each job is a process of its own; several
share the GPU. What is not over when the minutes are is kept beside the results, and the same command goes on with it.
A job writes NAME.safetensors (its averaged weights) and NAME.csv (its curve). `bench` times steps of training.
"""

from __future__ import annotations

import argparse
import csv
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from captured_training import CapturedTraining, run_all

from kerbseg.train.recipe import Recipe
from kerbseg.train.recipe_file import read_any

BENCHED = ("mininet_v2_cpu", "mininet_v2", "erfnet", "liteseg_mobilenet_v2", "efficientseg", "erfnet_dg2_light")
LAYOUTS = {"channels_last": torch.channels_last, "contiguous": torch.contiguous_format}


@dataclass(frozen=True)
class Job:
    """One training of a plan."""

    name: str
    recipe: str
    overrides: tuple[str, ...] = ()
    teachers: tuple[str, ...] = ()  # names of jobs
    initial: str | None = None  # name of a job
    layout: str = "channels_last"

    @property
    def after(self) -> set[str]:
        """Jobs whose results it needs."""
        return {*self.teachers, *([self.initial] if self.initial else [])}


def read_plan(path: Path) -> list[Job]:
    """The jobs of a plan, in the order of their worth."""
    jobs = []
    for name, entry in yaml.safe_load(path.read_text())["jobs"].items():
        known = {key: tuple(value) if isinstance(value, list) else value for key, value in entry.items()}
        jobs.append(Job(name, **known))
    if unknown := {needed for job in jobs for needed in job.after} - {job.name for job in jobs}:
        raise SystemExit(f"{path}: no job is called {min(unknown)!r}")
    return jobs


def resolve(job: Job, out: Path, more: tuple[str, ...]) -> Recipe:
    """The job's recipe with its teachers' files."""
    overrides = [*job.overrides, *more]
    if job.teachers:
        files = ",".join(str(out / f"{teacher}.safetensors") for teacher in job.teachers)
        overrides.append(f"distill.teacher=[{files}]")
    recipe = read_any(job.recipe, overrides)
    assert isinstance(recipe, Recipe)
    return recipe


def train_one(job: Job, args: argparse.Namespace) -> bool:
    """Trains a job until it is over or the time is; whether it is over."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.backends.cudnn.benchmark = True
    torch.set_num_threads(2)
    recipe = resolve(job, args.out, tuple(args.override))
    initial = None if job.initial is None else args.out / f"{job.initial}.safetensors"
    training = CapturedTraining(recipe, device, args.data_root, initial, LAYOUTS[job.layout])
    kept = args.out / f"{job.name}.state"
    if kept.is_file():
        training.load_state(torch.load(kept, map_location=device, weights_only=True))
    before, began = training.step, time.monotonic()
    run_all({job.name: training}, lambda line: print(line, flush=True), args.until, args.validate_every)
    if training.over:
        result = training.validate()
        training.save(args.out / f"{job.name}.safetensors", result)
        kept.unlink(missing_ok=True)
        print(f"{job.name}: done, val mIoU {result.value:.4f}", flush=True)
    else:
        torch.save(training.state(), kept)
        print(f"{job.name}: kept at step {training.step} of {training.steps}", flush=True)
    seconds = time.monotonic() - began
    steps = training.step - before
    print(f"{job.name}: {steps} steps in {seconds:.0f} s, {1000 * seconds / max(steps, 1):.2f} ms a step", flush=True)
    with (args.out / f"{job.name}.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, ["step", "epoch", "loss", "val_miou"])
        table.writeheader()
        table.writerows(training.curve)
    return training.over


def train(args: argparse.Namespace) -> int:
    """All jobs of a plan, several at once, each when its teachers are there."""
    args.out.mkdir(parents=True, exist_ok=True)
    jobs = [job for job in read_plan(args.plan) if not args.only or job.name in args.only]
    deadline = time.monotonic() + 60 * args.minutes
    running: dict[str, subprocess.Popen[bytes]] = {}
    failed: set[str] = set()
    begun: set[str] = set()
    while True:
        for name, process in list(running.items()):
            if process.poll() is not None:
                del running[name]
                if process.returncode:
                    failed.add(name)
        over = {job.name for job in jobs if (args.out / f"{job.name}.safetensors").is_file()}
        waiting = [job for job in jobs if job.name not in over | begun]
        if not running and (not waiting or time.monotonic() > deadline or all(job.after - over for job in waiting)):
            break
        for job in waiting:
            if len(running) < args.at_once and not job.after - over and time.monotonic() < deadline - 30:
                begun.add(job.name)
                log = (args.out / f"{job.name}.log").open("ab")
                more = [f"--override={each}" for each in args.override]
                command = [sys.executable, __file__, "one", job.name, f"--plan={args.plan}", f"--out={args.out}"]
                command += [f"--data-root={args.data_root}", f"--until={deadline}", *more]
                command += [f"--validate-every={args.validate_every}"]
                running[job.name] = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        time.sleep(0.2)
    for job in jobs:
        log = args.out / f"{job.name}.log"
        lines = log.read_text(errors="replace").strip().splitlines() if log.is_file() else ["not begun"]
        print(f"{job.name:32} {' | '.join(lines[-2:] if job.name not in failed else lines[-6:])}")
    return 1 if failed else 0


def one(args: argparse.Namespace) -> int:
    """One job of a plan."""
    job = next(job for job in read_plan(args.plan) if job.name == args.name)
    train_one(job, args)
    return 0


def bench(args: argparse.Namespace) -> int:
    """Milliseconds a step of training at the full size, captured, alone and several together."""
    torch.backends.cudnn.benchmark = True
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    whole = ["augment.progressive=[]", "augment.crop=[352,480]"]
    print(f"{torch.__version__} on {torch.cuda.get_device_name() if device.type == 'cuda' else 'a CPU'}")
    for name in args.networks or BENCHED:
        for precision in ("bfloat16", "float32"):
            for layout in LAYOUTS:
                recipe = read_any(f"zoo/{name}", [*whole, f"precision={precision}"])
                assert isinstance(recipe, Recipe)
                one = CapturedTraining(recipe, device, args.data_root, layout=LAYOUTS[layout])
                print(f"{name:22} {precision:9} {layout:14} {milliseconds([one], args.steps):7.2f} ms a step", flush=True)
                del one
    return 0


def milliseconds(trainings: list[CapturedTraining], steps: int) -> float:
    """Of a step of each, when all are queued."""
    for one in trainings:
        one.launch(8)
    _wait()
    began = time.perf_counter()
    for _ in range(steps // 4):
        for one in trainings:
            one.launch(4)
    _wait()
    return 1000 * (time.perf_counter() - began) / (steps // 4 * 4)


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def main() -> int:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    for command in (train, one, bench):
        sub = commands.add_parser(command.__name__, help=command.__doc__)
        sub.set_defaults(command=command)
        sub.add_argument("--data-root", type=Path, default=Path(os.environ.get("KERBSEG_DATA", ".")) / "camvid")
        if command is bench:
            sub.add_argument("--steps", type=int, default=48)
            sub.add_argument("--networks", nargs="*")
            continue
        sub.add_argument("--plan", type=Path, default=Path(__file__).with_suffix(".yaml"))
        sub.add_argument("--out", type=Path, required=True)
        sub.add_argument("--override", action="append", default=[], help="of every recipe, such as epochs=2")
        sub.add_argument("--validate-every", type=int, default=20, help="epochs")
        if command is one:
            sub.add_argument("name")
            sub.add_argument("--until", type=float, required=True, help="by the clock that counts from the boot")
        else:
            sub.add_argument("--minutes", type=float, default=9.5, help="what is not over then is kept")
            sub.add_argument("--at-once", type=int, default=8)
            sub.add_argument("--only", nargs="*", help="names of jobs")
    args: Any = parser.parse_args()
    return int(args.command(args))


if __name__ == "__main__":
    sys.exit(main())
