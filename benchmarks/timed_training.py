"""Runs `kerbseg train` of whatever source tree Python is told of, and writes what its steps and validations took.

    PYTHONPATH=TREE/src python benchmarks/timed_training.py TIMES.json train RECIPE KEY=VALUE ... --out RUN

`train_throughput.py --against` starts it. All that a training does is timed, from one step's beginning to the next.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback


class Watch(Callback):
    """When each step and each validation began and ended, in seconds, by epoch; and the mean loss of each epoch."""

    def __init__(self) -> None:
        self.steps: dict[int, list[float]] = {}
        self.validations: list[list[float]] = []
        self.losses: list[float] = []

    def on_train_batch_start(self, trainer: L.Trainer, task: L.LightningModule, batch: Any, index: int) -> None:
        self.steps.setdefault(trainer.current_epoch, []).append(time.perf_counter())

    def on_validation_start(self, trainer: L.Trainer, task: L.LightningModule) -> None:
        self.validations.append([time.perf_counter()])

    def on_validation_end(self, trainer: L.Trainer, task: L.LightningModule) -> None:
        self.validations[-1].append(time.perf_counter())

    def on_train_epoch_end(self, trainer: L.Trainer, task: L.LightningModule) -> None:
        self.losses.append(float(trainer.callback_metrics["loss"]))


def main() -> None:
    times, *arguments = sys.argv[1:]
    watch, made = Watch(), L.Trainer.__init__

    def watched(self: L.Trainer, *positional: Any, callbacks: Any = (), **named: Any) -> None:
        made(self, *positional, callbacks=[*callbacks, watch], **named)

    L.Trainer.__init__ = watched  # type: ignore[method-assign] # trees differ in how they take callbacks
    import kerbseg
    from kerbseg.cli import main as kerbseg_main

    try:
        kerbseg_main(arguments)
    finally:
        content = {
            "tree": str(Path(kerbseg.__file__).parents[1]),
            "steps": watch.steps,
            "validations": watch.validations,
            "losses": watch.losses,
        }
        Path(times).write_text(json.dumps(content) + "\n")


if __name__ == "__main__":
    main()
