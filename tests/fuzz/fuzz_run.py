"""Spoils files and runs kerbseg's commands on them: `python tests/fuzz/fuzz_run.py --seed 1` (see `--help`)."""

from __future__ import annotations

import argparse
import json
import shlex
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from random import Random
from threading import local

sys.path.insert(0, str(Path(__file__).parent))

import fuzz_inputs
import fuzz_models
from fuzz_judge import LIMIT_MB, LIMIT_S, VERDICTS, Outcome, Runner, Verdict, environment, judge
from fuzz_kinds import Command, Kind

KINDS = {kind.name: kind for kind in (*fuzz_models.KINDS, *fuzz_inputs.KINDS)}


@dataclass(frozen=True)
class Finding:
    """What one command did on one mutated file."""

    kind: str
    number: int
    label: str
    argv: tuple[str, ...]
    outcome: Outcome
    verdict: Verdict


class Fuzzer:
    """Mutated files of one seed in a folder, which holds the whole examples too."""

    def __init__(self, seed: int, root: Path, limit_s: float = LIMIT_S) -> None:
        self._seed, self._root, self._limit_s = seed, root, limit_s
        self._runners = local()
        self._opened: list[Runner] = []
        self._truths: dict[tuple[str, ...], str] = {}
        self._shared = root / "whole" / "shared"

    def prepare(self, names: Sequence[str]) -> None:
        """Makes the whole examples, where an earlier run has not."""
        builders = {name: partial(KINDS[name].build, shared=self._shared) for name in names}
        for name, build in {"shared": make_shared, **builders}.items():
            folder = self._root / "whole" / name
            if not folder.is_dir():
                half = self._root / "half" / name  # a run that was stopped here begins it anew
                shutil.rmtree(half, ignore_errors=True)
                half.parent.mkdir(parents=True, exist_ok=True)
                build(half)
                folder.parent.mkdir(exist_ok=True)
                half.rename(folder)

    def spoil(self, kind: Kind, number: int, folder: Path) -> tuple[str, list[tuple[Command, str]]]:
        """Puts the mutated files of one number into a folder; says what was done, and each command with its meaning."""
        draw = Random(f"{self._seed}/{kind.name}/{number}")
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(self._root / "whole" / kind.name, folder, symlinks=True)
        commands = kind.commands(draw, folder)
        mutation = kind.spoil(draw, folder)
        meaning = mutation.meaning
        return mutation.label, [(each, meaning if each.result else "any") for each in mutation.commands or commands]

    def case(self, kind: Kind, number: int) -> list[Finding]:
        """Runs the commands of one number; the folder of one that fails stays."""
        folder = self._root / "cases" / f"{kind.name}-{number}"
        folder.parent.mkdir(parents=True, exist_ok=True)
        label, commands = self.spoil(kind, number, folder)
        findings = []
        for command, meaning in commands:
            outcome = self._run(kind, command, folder)
            verdict = judge(
                outcome,
                meaning,  # type: ignore[arg-type]
                lambda command=command, outcome=outcome: self._result(command, folder, outcome),
                lambda command=command: self._truth(kind, command),
                command.batch,
            )
            findings.append(Finding(kind.name, number, label, command.argv, outcome, verdict))
        if all(each.verdict.name == "fine" for each in findings):
            shutil.rmtree(folder)
        for said in folder.parent.glob(f"{folder.name}.std*"):
            said.unlink()
        return findings

    def _run(self, kind: Kind, command: Command, folder: Path) -> Outcome:
        runners = self._runners.__dict__.setdefault("by_preload", {})
        if kind.preload not in runners:
            env = environment(self._root / "home")
            runners[kind.preload] = Runner("kerbseg.cli:main", kind.preload, env)
            self._opened.append(runners[kind.preload])
        return runners[kind.preload](command.argv, folder, self._limit_s, LIMIT_MB)

    def _result(self, command: Command, folder: Path, outcome: Outcome) -> str:
        try:
            return command.result(folder, outcome.stdout) if command.result else ""
        except (OSError, ValueError, KeyError) as error:
            return f"no result: {error}"

    def _truth(self, kind: Kind, command: Command) -> str:
        """What the command makes of the files as they were."""
        key = (kind.name, *command.argv)
        if key not in self._truths:
            folder = Path(tempfile.mkdtemp(dir=self._root)) / "truth"
            shutil.copytree(self._root / "whole" / kind.name, folder, symlinks=True)
            outcome = self._run(kind, command, folder)
            self._truths[key] = self._result(command, folder, outcome) if outcome.status == 0 else outcome.stderr
            shutil.rmtree(folder.parent)
        return self._truths[key]

    def close(self) -> None:
        """Ends the servers."""
        for runner in self._opened:
            runner.close()


def make_shared(folder: Path) -> None:
    """What the kinds share: a picture, a small CamVid, bundles, exported files."""
    import numpy as np
    import torch
    from PIL import Image

    from kerbseg.bundle import Bundle, load, random_bundle, save
    from kerbseg.core.labels import LabelSet
    from kerbseg.data import open_dataset
    from kerbseg.export import export

    torch.set_num_threads(1)
    folder.mkdir(parents=True)
    scenes = open_dataset("scenes", "val")
    for number, split in enumerate(("train", "train", "train", "train", "val", "val", "test", "test")):
        sample = scenes[number]
        picture = Image.fromarray(sample.image).resize((96, 64))
        ids = np.random.default_rng(number).integers(0, 12, (8, 12)).astype(np.uint8).repeat(8, 0).repeat(8, 1)
        for image, name in ((picture, split), (Image.fromarray(ids), f"{split}annot")):
            (folder / "camvid" / name).mkdir(parents=True, exist_ok=True)
            image.save(folder / "camvid" / name / f"{number:03}.png")
    picture.save(folder / "picture.png")
    bundle = load("mininet_v2_cpu-camvid")
    small = Bundle(bundle.model, replace(bundle.card, input_size=(64, 96)))
    save(small, folder / "model.safetensors")
    labels = LabelSet("park", ("path", "grass", "water"), ((128, 64, 128), (0, 255, 0), (9, 9, 200)))
    save(random_bundle("mininet_v2_cpu", labels, seed=1), folder / "park.safetensors")
    for suffix in ("onnx", "xml"):
        export(small, folder / f"model.{suffix}")


def numbers(kind: Kind, scale: float) -> range:
    """The numbers of a kind's files; at least one."""
    return range(max(1, round(kind.count * scale)))


def fuzz(fuzzer: Fuzzer, chosen: Sequence[tuple[Kind, int]], jobs: int = 1) -> Iterator[Finding]:
    """Findings of all numbers, as they come."""
    with ThreadPoolExecutor(jobs) as pool:
        for findings in pool.map(lambda one: fuzzer.case(*one), chosen):
            yield from findings


def table(findings: Sequence[Finding]) -> str:
    """Files, commands and verdicts by kind."""
    lines = [f"{'kind':<11}{'files':>6}{'runs':>6}" + "".join(f"{name:>10}" for name in VERDICTS)]
    kinds = list(dict.fromkeys(each.kind for each in findings))
    for name in [*kinds, "all"]:
        own = [each for each in findings if name in (each.kind, "all")]
        counts = Counter(each.verdict.name for each in own)
        files = len({(each.kind, each.number) for each in own})
        lines.append(f"{name:<11}{files:>6}{len(own):>6}" + "".join(f"{counts[each]:>10}" for each in VERDICTS))
    return "\n".join(lines)


def tell(finding: Finding, seed: int) -> str:
    """A failure as a line, with the command that shows it again."""
    command = shlex.join(["kerbseg", *finding.argv])
    again = f"python tests/fuzz/fuzz_run.py --seed {seed} --case {finding.kind}:{finding.number}"
    return f"{finding.verdict.name}: {finding.label}: {command}: {finding.verdict.detail[:300]}  [{again}]"


def main() -> int:
    """Runs what the command line asks for; 1 where anything failed."""
    parser = argparse.ArgumentParser(description="Runs kerbseg's commands on spoiled files.")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--scale", type=float, default=1.0, help="of the number of files (1: all, more than 1,000)")
    parser.add_argument("--only", default=",".join(KINDS), help="kinds, with commas")
    parser.add_argument("--skip", type=int, default=0, help="number of files that an earlier run has done")
    parser.add_argument("--case", help="KIND:NUMBER, one file alone; it is kept, and its output shown")
    parser.add_argument("--out", type=Path, default=Path(tempfile.gettempdir()) / "kerbseg-fuzz")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--limit", type=float, default=LIMIT_S, help="seconds for a command")
    asked = parser.parse_args()
    if asked.case:
        name, number = asked.case.split(":")
        chosen = [(KINDS[name], int(number))]
    else:
        kinds = [KINDS[name] for name in asked.only.split(",")]
        chosen = [(kind, number) for kind in kinds for number in numbers(kind, asked.scale)]
        chosen.sort(key=lambda one: one[1] / one[0].count)  # all kinds advance alike, for those who stop it early
        chosen = chosen[asked.skip :]
    fuzzer = Fuzzer(asked.seed, asked.out.resolve(), asked.limit)
    fuzzer.prepare(list(dict.fromkeys(kind.name for kind, _ in chosen)))
    start, findings, failures = time.monotonic(), [], 0
    with (asked.out / f"failures-{asked.seed}.txt").open("a") as log, (asked.out / "all.jsonl").open("a") as every:
        for finding in fuzz(fuzzer, chosen, asked.jobs):
            findings.append(finding)
            told = {"label": finding.label, "argv": finding.argv, "verdict": finding.verdict.name}
            took = {"status": finding.outcome.status, "seconds": finding.outcome.seconds, "mb": finding.outcome.peak_mb}
            case = {"case": f"{finding.kind}:{finding.number}"}
            said = finding.outcome.stderr[-2000:]
            every.write(json.dumps({**case, **told, **took, "detail": finding.verdict.detail, "stderr": said}) + "\n")
            every.flush()
            if finding.verdict.name != "fine":
                failures += 1
                print(tell(finding, asked.seed), flush=True)
                print(tell(finding, asked.seed), file=log, flush=True)
            if asked.case:
                print(finding.outcome.stdout + finding.outcome.stderr, finding.verdict)
    fuzzer.close()
    print(table(findings))
    print(f"{time.monotonic() - start:.0f} s; failures and their files: {asked.out}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
