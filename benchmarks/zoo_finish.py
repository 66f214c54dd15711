"""From finished trainings to the zoo: takes their weights, measures them, and writes cards, tables and drawings.

One command does all that is still to do; what was measured for the same weights is not measured again, so that it can
be ended and started at any time. The test split is looked at once for each set of weights: `--again test` is needed to
do it twice, and the results keep a list of every look.

Steps, each for all weights before the next begins:
float16      rounds kernels to float16 if that costs less than 0.0005 mIoU on val; measures val
calibrate    fits the temperature on val, and stores it in the card
test         mIoU and calibration on test, 480x360, without test-time augmentation
int8         exports OpenVINO int8, calibrated on train; its mIoU on val beside that of float32
latency      times float32 and int8 of all networks by turns; do it on a machine without other work
corruptions  mIoU on corrupted pictures, severity 3, on every n-th picture of test (--every)
flip_scales  mIoU on test with flip and three scales averaged

Example: python benchmarks/zoo_finish.py --take build/gpu-day/erfnet.safetensors --data-root DATA/camvid
"""

from __future__ import annotations

import argparse
import copy
import csv
import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import zoo_pages
from kerbnet import instructions
from zoo_pages import ROOT, read

from kerbseg.bundle import Bundle, digest, load, locate, save
from kerbseg.calibrate import calibrate as fit_temperature
from kerbseg.core.files import atomic_write
from kerbseg.core.half import round_to_half
from kerbseg.core.types import Dataset, Sample
from kerbseg.data import open_dataset
from kerbseg.evaluate import evaluate
from kerbseg.export import export
from kerbseg.export.int8 import CALIBRATION_PICTURES
from kerbseg.export.int8_report import export_int8
from kerbseg.profiling.latency import Budget
from kerbseg.profiling.workers import drawn_street, time_models
from kerbseg.runtime import RuntimeOptions, open_runtime
from kerbseg.runtime.engines import size_bytes

MOST_LOST = 0.0005  # mIoU on val that float16 in the file may cost
MOST_LOST_INT8 = 0.006  # likewise for int8; layers go back to float until it is kept
SEVERITY, CORRUPTIONS = 3, "zoo"
IN_CARD = (
    "float16",
    "calibration",
    "test",
    "test_flip_scales",
    "corruptions",
    "int8",
)  # entries of results that a card's scores hold
CURVE_COLUMNS = ("epoch", "loss", "val_loss", "val_miou")
CURVE_ROWS = 150  # at most, of a curve that is kept


@dataclass(frozen=True)
class Job:
    """What all steps work with."""

    root: Path  # of the repository
    work: Path  # for exported files
    data: str
    data_root: Path | None
    limit: int | None
    every: int
    calibration: int
    threads: int | None
    device: str

    def file(self, name: str) -> Path:
        """Of a set of weights."""
        return self.root / zoo_pages.WEIGHTS / f"{name}.safetensors"

    def split(self, name: str) -> Dataset:
        """A split of the data."""
        return open_dataset(self.data, name, self.data_root)

    def report(self, model: Bundle, dataset: Dataset, **how: Any) -> dict[str, Any]:
        """An evaluation as JSON holds it."""
        runtime = open_runtime(model, device=self.device, threads=self.threads)
        return evaluate(runtime, dataset, limit=self.limit, **how).to_dict()


class EveryNth:
    """Every n-th sample of a data set, from its first."""

    def __init__(self, dataset: Dataset, n: int) -> None:
        self.name, self.split, self.labels = dataset.name, dataset.split, dataset.labels
        self._dataset, self._indices = dataset, range(0, len(dataset), n)

    @property
    def names(self) -> Sequence[str]:
        """Of the samples that are left."""
        return [self._dataset.names[index] for index in self._indices]

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, index: int) -> Sample:
        return self._dataset[self._indices[index]]


Entries = dict[str, dict[str, Any]]  # what a step has measured, by name of the entry
Step = Callable[[Job, str], Entries]


def float16(job: Job, name: str) -> Entries:
    """Val, and the file with its kernels rounded where that costs next to nothing."""
    bundle, val = load(job.file(name)), job.split("val")
    rounded = Bundle(copy.deepcopy(bundle.model), bundle.card)
    round_to_half(rounded.model)
    full = half = job.report(rounded, val)
    if digest(rounded.model.state_dict()) != digest(bundle.model.state_dict()):
        full = job.report(bundle, val)
    used = full["miou"] - half["miou"] < MOST_LOST
    if used:
        save(rounded, job.file(name))
    storage = {"miou_float32": full["miou"], "miou_float16": half["miou"], "used": used, "most_lost": MOST_LOST}
    return {"val": half if used else full, "float16": storage | {"protocol": full["protocol"]}}


def calibrate(job: Job, name: str) -> Entries:
    """The temperature, in the card."""
    made = fit_temperature(
        job.file(name),
        job.split("val"),
        out=job.file(name),
        limit=job.limit,
        device=job.device,
        threads=job.threads,
    )
    return {"calibration": made.bundle.card.scores["calibration"]}


def test(job: Job, name: str) -> Entries:
    """Test as it is, with calibration."""
    return {"test": job.report(load(job.file(name)), job.split("test"), calibration=True)}


def flip_scales(job: Job, name: str) -> Entries:
    """Test with flip and scales averaged."""
    return {"test_flip_scales": job.report(load(job.file(name)), job.split("test"), tta="flip_scales")}


def corruptions(job: Job, name: str) -> Entries:
    """Corrupted pictures of test."""
    some = EveryNth(job.split("test"), job.every)
    report = job.report(load(job.file(name)), some, corrupt=CORRUPTIONS, severity=SEVERITY)
    protocol = report["protocol"] | {"every": job.every}
    return {"corruptions": report["corruptions"] | {"images": report["images"], "protocol": protocol}}


def int8(job: Job, name: str) -> Entries:
    """The exported network in float32 and int8; its files stay in the work folder to be timed."""
    bundle = load(job.file(name))
    job.work.mkdir(parents=True, exist_ok=True)
    export(bundle, job.work / f"{name}.xml", size=bundle.card.input_size)
    report = export_int8(
        bundle,
        job.work / f"{name}-int8.xml",
        calibration=job.split("train"),
        calibration_pictures=job.calibration,
        eval_set=job.split("val"),
        max_drop=MOST_LOST_INT8,
        limit=job.limit,
        threads=job.threads,
    )
    made = report.to_dict()
    for side in ("float32", "int8"):  # on a machine that may have other work; the step latency times them by turns
        del made[side]["latency_ms"]
    del made["verdict"], made["obstacles"]
    return {"int8": made | {"miou_drop": report.miou_drop}}


def latencies(job: Job, names: Sequence[str]) -> dict[str, Entries]:
    """Milliseconds a picture, all networks and both precisions by turns."""
    load_before = os.getloadavg()[0]
    models, pictures = [], []
    for name in names:
        models += [str(job.work / f"{name}.xml"), str(job.work / f"{name}-int8.xml")]
        pictures += [drawn_street(load(job.file(name)).card.input_size)] * 2
    options = [RuntimeOptions("openvino", threads=job.threads or 2)] * len(models)
    timings = time_models(models, options, pictures, Budget(runs=job.limit or 50))
    made: dict[str, Entries] = {}
    for number, name in enumerate(names):
        float32, of_int8 = timings[2 * number : 2 * number + 2]
        protocol = of_int8.facts.to_dict() | {"load": load_before, "by_turns": len(models)}
        protocol["instructions"] = instructions()
        latency = {"float32": float32.call.to_dict(), "int8": of_int8.call.to_dict(), "protocol": protocol}
        made[name] = {"latency": latency}
    return made


STEPS: dict[str, Step | None] = {  # each writes the entry of its name, or those of WRITES; None: for all names at once
    "float16": float16,
    "calibrate": calibrate,
    "test": test,
    "int8": int8,
    "latency": None,
    "corruptions": corruptions,
    "flip_scales": flip_scales,
}
WRITES = {"calibrate": "calibration", "flip_scales": "test_flip_scales"}
LOOKS = ("test", "corruptions", "flip_scales")  # steps that look at the test split


def weights_of(job: Job, name: str) -> str:
    """The digest of a set of weights, whatever its card says."""
    return digest(load(job.file(name)).model.state_dict())


class Results:
    """The file of results: an entry is of the weights that it names, and of no others."""

    def __init__(self, path: Path) -> None:
        self.path, self.all = path, read(path)

    def network(self, name: str) -> dict[str, Any]:
        """What is known of a set of weights."""
        entry: dict[str, Any] = self.all["networks"].setdefault(name, {})
        return entry

    def has(self, name: str, step: str, weights: str) -> bool:
        """Whether a step was done for these weights."""
        return self.network(name).get(WRITES.get(step, step), {}).get("weights") == weights

    def put(self, job: Job, name: str, step: str, entries: Entries) -> None:
        """Keeps what a step has measured; entries of other weights go."""
        network, weights = self.network(name), weights_of(job, name)
        for key in [key for key, value in network.items() if isinstance(value, dict) and "weights" in value]:
            if network[key]["weights"] != weights:
                del network[key]
        card = load(job.file(name)).card
        network |= {"model": card.model, "size_bytes": size_bytes(job.file(name))}
        network |= {key: short(entry) | {"weights": weights} for key, entry in entries.items()}
        if step in LOOKS:
            looks = network.setdefault("looks_at_test", [])
            looks.append({"step": step, "weights": weights, "date": datetime.now(UTC).strftime("%Y-%m-%d")})
        self.write()

    def merge(self, job: Job, other: Path, names: Sequence[str]) -> None:
        """Takes what another file of results knows of the same weights, and this one does not."""
        theirs = read(other)["networks"]
        for name in names:
            network, weights = self.network(name), weights_of(job, name)
            new = {
                key: entry
                for key, entry in theirs.get(name, {}).items()
                if key not in network and isinstance(entry, dict) and entry.get("weights") == weights
            }
            made = theirs.get(name, {}).get("looks_at_test", [])
            looks = [look for look in made if WRITES.get(look["step"], look["step"]) in new]
            network |= new
            if looks:
                network["looks_at_test"] = [*network.get("looks_at_test", []), *looks]
        self.write()

    def keep_not_shipped(self, other: Path, names: Sequence[str]) -> None:
        """What another file of results knows of weights that were tested and are not shipped: for the plot."""
        theirs = read(other)["networks"]
        known = {name: theirs[name] for name in names if name in theirs}
        if known:
            self.all["not_shipped"] = self.all.get("not_shipped", {}) | known
            self.write()

    def write(self) -> None:
        """As JSON."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(self.path) as temporary:
            temporary.write_text(json.dumps(self.all, indent=1, sort_keys=True) + "\n")


def put_into_card(job: Job, results: Results, name: str) -> None:
    """The card with all figures of its weights; weights stay bit for bit."""
    bundle, network = load(job.file(name)), results.network(name)
    scores = {key: value for key, value in bundle.card.scores.items() if key not in IN_CARD}
    scores |= {key: short(network[key], ("weights",)) for key in IN_CARD if key in network}
    if "val" in network:
        scores |= short(network["val"], ("weights", "calibration"))
    if "int8" in scores and "latency" in network:
        timed = network["latency"]
        sides = {side: scores["int8"][side] | {"latency_ms": timed[side]} for side in ("float32", "int8")}
        protocol = scores["int8"]["protocol"] | {"latency": timed["protocol"]}
        scores["int8"] = scores["int8"] | sides | {"protocol": protocol}
    save(Bundle(bundle.model, replace(bundle.card, scores=scores)), job.file(name))
    network["size_bytes"] = size_bytes(job.file(name))
    network["parameters"] = sum(each.numel() for each in bundle.model.parameters())
    results.write()


def short(entry: Mapping[str, Any], left_out: Sequence[str] = ("confusion", "bins", "category_iou")) -> dict[str, Any]:
    """An entry without what is long, at every level."""
    return {
        key: short(value, left_out) if isinstance(value, Mapping) else value
        for key, value in entry.items()
        if key not in left_out
    }


def take(job: Job, run: Path) -> str:
    """Takes the weights of a finished run, or a bundle, and their curve; the name that they have from now on."""
    source = locate(run)
    card = load(source).card
    name = f"{card.model}-{card.labels.name}"
    job.file(name).parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(job.file(name)) as temporary:
        shutil.copyfile(source, temporary)
    for table in (source.parent / "metrics.csv", source.with_suffix(".csv")):  # of a run's folder; of gpu_day.py
        if table.is_file():
            keep_curve(table, job.file(name).with_suffix(".csv"))
    return name


def keep_curve(source: Path, target: Path) -> None:
    """The figures of a curve, in few bytes: validated epochs, and of those every n-th where they are many."""
    with source.open(newline="") as file:
        rows = list(csv.DictReader(file))
    rows = [row for row in rows if row.get("val_miou")] or rows
    step = -(-len(rows) // CURVE_ROWS)
    kept = rows[::-step][::-1]  # the last one is
    with atomic_write(target) as temporary, temporary.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        columns = [column for column in CURVE_COLUMNS if any(row.get(column) for row in kept)]
        writer.writerow(columns)
        writer.writerows([_short(row.get(column)) for column in columns] for row in kept)


def _short(text: str | None) -> str:
    return f"{float(text):.5g}" if text else ""


def finish(job: Job, results: Results, names: Sequence[str], steps: Sequence[str], again: Sequence[str]) -> None:
    """Does what is still to do."""
    for step in steps:
        due = [name for name in names if step in again or not results.has(name, step, weights_of(job, name))]
        for name in due if STEPS[step] is not None else ():
            print(f"{step}: {name}", flush=True)
            act = STEPS[step]
            assert act is not None
            results.put(job, name, step, act(job, name))
        if STEPS[step] is None and due:
            ready = [name for name in names if (job.work / f"{name}-int8.xml").is_file()]
            if missing := sorted(set(names) - set(ready)):
                print(f"not timed: {', '.join(missing)}, whose exported files are gone; add --again int8", flush=True)
            print(f"{step}: {', '.join(ready)}", flush=True)
            for name, entries in latencies(job, ready).items() if ready else ():
                results.put(job, name, step, entries)
    for name in names:
        put_into_card(job, results, name)


def main() -> None:
    """Reads the arguments, does what is still to do, and writes cards and pages."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--names", nargs="*", help="which of the weights; all if left out")
    parser.add_argument(
        "--take", nargs="*", type=Path, default=[], help="folders of finished runs, or bundles (of gpu_day.py)"
    )
    parser.add_argument("--steps", nargs="*", choices=list(STEPS), default=list(STEPS))
    parser.add_argument("--again", nargs="*", choices=list(STEPS), default=[], help="steps to do once more")
    parser.add_argument("--merge", nargs="*", type=Path, default=[], help="results of another machine, as JSON")
    parser.add_argument(
        "--not-shipped", nargs="*", default=[], help="weights of --merge whose figures are kept, and no file"
    )
    parser.add_argument("--data", default="camvid")
    parser.add_argument("--data-root", type=Path)
    parser.add_argument("--limit", type=int, help="pictures of each split, for a trial; needs another --root")
    parser.add_argument("--every", type=int, default=6, help="of the test pictures that are corrupted")
    parser.add_argument("--calibration", type=int, default=CALIBRATION_PICTURES, help="pictures of train for int8")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--device", default="cpu", help="for evaluation")
    parser.add_argument("--root", type=Path, default=ROOT, help="of the repository")
    parser.add_argument("--work", type=Path, default=Path("build/zoo"), help="for exported files")
    parser.add_argument("--no-pages", action="store_true", help="results and cards only")
    arguments = parser.parse_args()
    if arguments.limit and arguments.root.resolve() == ROOT.resolve():
        parser.error("figures of a few pictures belong into no card: give --limit together with --root COPY")
    job = Job(
        arguments.root,
        arguments.work,
        arguments.data,
        arguments.data_root,
        arguments.limit,
        arguments.every,
        arguments.calibration,
        arguments.threads,
        arguments.device,
    )
    taken = [take(job, run) for run in arguments.take]
    if len(set(taken)) < len(taken):
        parser.error(f"several of the runs to take have one name: {', '.join(sorted(taken))}; take one of them")
    there = sorted(path.stem for path in (job.root / zoo_pages.WEIGHTS).glob("*.safetensors"))
    names = arguments.names or taken or there
    if not names:
        parser.error(f"there are no weights in {job.root / zoo_pages.WEIGHTS}; give finished runs: --take RUN")
    if unknown := sorted(set(names) - set(there)):
        parser.error(f"there are no weights {unknown[0]!r} in {job.root / zoo_pages.WEIGHTS}")
    results = Results(job.root / zoo_pages.RESULTS)
    for other in arguments.merge:
        results.merge(job, other, names)
        results.keep_not_shipped(other, arguments.not_shipped)
    if lost := sorted(set(arguments.not_shipped) - set(results.all.get("not_shipped", {}))):
        parser.error(f"no results of --merge know {lost[0]!r}")
    finish(job, results, names, arguments.steps, arguments.again)
    if not arguments.no_pages:
        zoo_pages.make(job.root)


if __name__ == "__main__":
    main()
