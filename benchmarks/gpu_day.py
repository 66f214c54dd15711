"""Trains the whole zoo on one GPU in pieces of under ten minutes: `make gpu-day`.

    python benchmarks/gpu_day.py pack --data-root DATA/camvid --out packed
    python benchmarks/gpu_day.py train --plan benchmarks/gpu_day.yaml --data-root DATA/camvid --out build/gpu-day
    python benchmarks/gpu_day.py bench --data-root DATA/camvid

A plan lists jobs: a recipe, overrides, and teachers that other jobs train. Several share the GPU, a stream each. What
is not over when the minutes are is kept beside the results, and the same command goes on with it.
`pack` makes train and val small enough to be sent to such a machine (42 MB, JPEG of quality 95 in full color).
A job writes NAME.safetensors (its averaged weights) and NAME.csv (its curve). `bench` times steps of training.
"""

from __future__ import annotations

import argparse
import csv
import functools
import os
import sys
import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from captured_training import CapturedTraining
from PIL import Image

from kerbseg.train import segmentation
from kerbseg.train.recipe import Recipe
from kerbseg.train.recipe_file import read_any

BENCHED = (
    "mininet_v2_cpu",
    "mininet_v2",
    "erfnet",
    "liteseg_mobilenet_v2",
    "efficientseg",
    "erfnet_dg2_light",
    "kerbnet_s",
    "kerbnet_m",
)
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
    priority: int = 0  # of its work on the device; lower goes first

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


class Running:
    """A job that trains: begun anew, or gone on with from what is kept beside the results."""

    def __init__(self, job: Job, args: argparse.Namespace) -> None:
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        recipe = resolve(job, args.out, tuple(args.override))
        initial = None if job.initial is None else args.out / f"{job.initial}.safetensors"
        self.job, self.out, self._every = job, args.out, args.validate_every
        self.training = CapturedTraining(
            recipe, device, args.data_root, initial, LAYOUTS[job.layout], args.compiler, job.priority
        )
        self._kept = args.out / f"{job.name}.state"
        if self._kept.is_file():
            self.training.load_state(torch.load(self._kept, map_location=device, weights_only=True))
        self._due = self.epoch + self._every
        self._before, self._began = self.training.step, time.monotonic()
        print(f"{job.name}: from epoch {self.epoch:.0f} of {recipe.epochs}", flush=True)

    @property
    def epoch(self) -> float:
        return self.training.step / self.training.per_epoch

    def go_on(self, steps: int) -> bool:
        """Queues some steps if the device wants more, and validates now and then; whether anything was done."""
        if not self.training.ready():
            return False
        self.training.launch(steps)
        if self.epoch >= self._due and not self.training.over:
            self._due += self._every
            self.training.validate()
            self._tell()
        return True

    def _tell(self) -> None:
        latest, seconds = self.training.curve[-1], time.monotonic() - self._began
        pace = 1000 * seconds / max(1, self.training.step - self._before)
        told = f"loss {latest['loss']:.4f}  val mIoU {latest['val_miou']:.4f}  {pace:.2f} ms a step"
        print(f"{self.job.name}: epoch {self.epoch:.0f} of {self.training.recipe.epochs}  {told}", flush=True)

    def end(self) -> None:
        """Writes the result, or what is needed to go on; the others go on where that fails."""
        epochs = self.training.recipe.epochs
        torch.save(self.training.state(), self._kept)  # first: what follows could fail
        try:
            result = self.training.validate()
            self._tell()
            with (self.out / f"{self.job.name}.csv").open("w", newline="") as file:
                table = csv.DictWriter(file, ["step", "epoch", "loss", "val_miou"])
                table.writeheader()
                table.writerows(self.training.curve)
            if self.training.over:
                self.training.save(self.out / f"{self.job.name}.safetensors", result)
                self._kept.unlink()
            else:
                print(f"{self.job.name}: kept at epoch {self.epoch:.0f} of {epochs}", flush=True)
        except Exception:  # noqa: BLE001 # minutes of a lent GPU are too dear to lose the others' too
            traceback.print_exc()
            print(f"{self.job.name}: not written; its state at epoch {self.epoch:.0f} of {epochs} is kept", flush=True)


def train(args: argparse.Namespace) -> int:
    """The jobs of a plan, several at once, each when its teachers are there."""
    torch.backends.cudnn.benchmark = True
    args.out.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + 60 * args.minutes
    waiting = [job for job in read_plan(args.plan) if not args.only or job.name in args.only]
    running: list[Running] = []
    while time.monotonic() < deadline:
        over = {path.stem for path in args.out.glob("*.safetensors")}
        waiting = [job for job in waiting if job.name not in over]
        ready = [job for job in waiting if not job.after - over]
        if len(running) < args.at_once and ready:
            waiting.remove(ready[0])
            running.append(Running(ready[0], args))
        if not running:
            break
        moved = [each.go_on(16) for each in running]
        for each in [each for each in running if each.training.over]:
            running.remove(each)
            each.end()
        if not any(moved):
            time.sleep(0.0002)
    for each in running:
        each.end()
    for job in waiting:
        print(f"{job.name}: not begun")
    return 0


def pack(args: argparse.Namespace) -> int:
    """CamVid's train and val as JPEG of quality 95 without subsampled color, and masks as they are."""
    for split in ("train", "val"):
        for folder in (split, f"{split}annot"):
            (args.out / folder).mkdir(parents=True, exist_ok=True)
            for path in sorted((args.data_root / folder).iterdir()):
                picture = Image.open(path)
                if folder == split:
                    picture.convert("RGB").save(args.out / folder / f"{path.stem}.jpg", quality=95, subsampling=0)
                else:
                    picture.save(args.out / folder / f"{path.stem}.png", optimize=True)
    size = sum(path.stat().st_size for path in args.out.rglob("*") if path.is_file())
    print(f"{args.out}: {size / 1e6:.1f} MB")
    return 0


def bench(args: argparse.Namespace) -> int:
    """Milliseconds a step of training at the full size, captured, alone and all at once."""
    torch.backends.cudnn.benchmark = True
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    print(f"{torch.__version__} on {torch.cuda.get_device_name() if device.type == 'cuda' else 'a CPU'}")
    for precision in args.precisions:
        for layout in args.layouts:
            together = []
            for name in args.networks or BENCHED:
                recipe = read_any(
                    f"zoo/{name}",
                    [
                        "augment.progressive=[]",
                        f"augment.crop=[{args.size[0]},{args.size[1]}]",
                        "data.limit=64",
                        f"precision={precision}",
                    ],
                )
                assert isinstance(recipe, Recipe)
                one = CapturedTraining(recipe, device, args.data_root, layout=LAYOUTS[layout], compiler=args.compiler)
                began = time.perf_counter()
                one.launch(8)
                _wait()
                first = time.perf_counter() - began
                alone = milliseconds([one], args.steps)
                loss = float(one.loss_sum) / max(1, one.step)
                told = f"{alone:7.2f} ms a step, first steps {first:.0f} s, loss {loss:.3f}"
                print(f"{name:22} {precision:9} {layout:14} {told}", flush=True)
                if args.together:
                    together.append(one)
            if together:
                print(f"all at once, {precision} {layout}: {milliseconds(together, args.steps):.2f} ms a step of each")
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
    for command in (train, pack, bench):
        sub = commands.add_parser(command.__name__, help=command.__doc__)
        sub.set_defaults(command=command)
        sub.add_argument("--data-root", type=Path, default=Path(os.environ.get("KERBSEG_DATA", ".")) / "camvid")
        if command is pack:
            sub.add_argument("--out", type=Path, required=True)
            continue
        sub.add_argument("--compiler", choices=["inductor", "aot_eager"], help="of torch; none without it")
        if command is bench:
            sub.add_argument("--steps", type=int, default=48)
            sub.add_argument("--networks", nargs="*")
            sub.add_argument("--precisions", nargs="*", default=["bfloat16", "float32"])
            sub.add_argument("--layouts", nargs="*", default=list(LAYOUTS))
            sub.add_argument("--size", type=int, nargs=2, default=[352, 480])
            sub.add_argument("--together", action="store_true", help="time all networks at once too")
            continue
        sub.add_argument("--plan", type=Path, default=Path(__file__).with_suffix(".yaml"))
        sub.add_argument("--out", type=Path, required=True)
        sub.add_argument("--override", action="append", default=[], help="of every recipe, such as epochs=2")
        sub.add_argument("--validate-every", type=int, default=20, help="epochs")
        sub.add_argument("--minutes", type=float, default=9.5, help="what is not over then is kept")
        sub.add_argument("--at-once", type=int, default=4)
        sub.add_argument("--only", nargs="*", help="names of jobs")
    args: Any = parser.parse_args()
    segmentation.open_split = functools.cache(segmentation.open_split)  # jobs share the pictures on the device
    return int(args.command(args))


if __name__ == "__main__":
    sys.exit(main())
