"""What happens around the steps: seeds, averaged weights, the rate on a plateau, an end that takes its peers along."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback, WeightAveraging
from torch import Tensor
from torch.optim.lr_scheduler import ReduceLROnPlateau

from kerbseg.train.recorder import RunRecorder


class StepSeed(Callback):
    """Seeds each step by its number, so that augmentation and dropout of a resumed run are those of an unbroken one.

    All processes draw the same numbers, and each takes those of its own pictures.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def on_train_batch_start(self, trainer: L.Trainer, task: L.LightningModule, batch: Any, index: int) -> None:
        """Before anything of the step is drawn."""
        torch.manual_seed((self._seed * 1_000_003 + trainer.global_step) * 64)


class InterruptBetweenSteps(Callback):
    """Lets Ctrl-C end a training before the next step, where nothing is half done; a second one ends it at once.

    An exception that comes while a log is written can leave a lock taken for ever, and the process with it.
    """

    def __init__(self) -> None:
        self._asked = False

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Takes Ctrl-C while the block runs, where Python would raise KeyboardInterrupt for it."""
        before = signal.getsignal(signal.SIGINT)
        if before is not signal.default_int_handler or threading.current_thread() is not threading.main_thread():
            yield
            return
        signal.signal(signal.SIGINT, self._ask)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)

    def _ask(self, number: int, frame: Any) -> None:
        if self._asked:
            raise KeyboardInterrupt
        self._asked = True

    def _end_if_asked(self) -> None:
        if self._asked:
            raise KeyboardInterrupt

    def on_train_batch_start(self, trainer: L.Trainer, task: L.LightningModule, batch: Any, index: int) -> None:
        """Before a step of training."""
        self._end_if_asked()

    def on_validation_batch_start(
        self, trainer: L.Trainer, task: L.LightningModule, batch: Any, index: int, dataloader: int = 0
    ) -> None:
        """Before a step of validation."""
        self._end_if_asked()


class AveragedWeights(WeightAveraging):
    """Exponential average of the weights, used for validation and as the result; the decay grows to its value."""

    def __init__(self, decay: float) -> None:
        def average(averaged: list[Tensor], current: list[Tensor], updates: Tensor) -> None:
            """Of tensors of one type: some hundred calls of Python a step take as long as their arithmetic."""
            if not averaged[0].is_floating_point():
                torch._foreach_copy_(averaged, current)
                return
            seen = float(updates)  # young averages forget their first, random weights quickly
            torch._foreach_lerp_(averaged, current, 1 - min(decay, (1 + seen) / (10 + seen)))

        super().__init__(use_buffers=True, multi_avg_fn=average)


class KillPeersOnFailure(Callback):
    """Ends the processes that lightning has started where this one fails.

    They would wait for it for ever; and lightning's own watch, which finds them ended, would kill this one before it
    can tell why.
    """

    def on_exception(self, trainer: L.Trainer, task: L.LightningModule, exception: BaseException) -> None:
        """Takes them out of the sight of the watch first."""
        watched = getattr(trainer.strategy.launcher, "procs", [])
        started = list(watched)
        watched.clear()
        for process in started:
            process.kill()
            process.wait()


class WeightDecayCutoff(Callback):
    """Takes weight decay away after some epochs."""

    def __init__(self, until: float) -> None:
        self._until = until

    def on_train_epoch_start(self, trainer: L.Trainer, task: L.LightningModule) -> None:
        """A function of the epoch, so a resumed run needs no memory of it."""
        if trainer.current_epoch >= self._until:
            for group in trainer.optimizers[0].param_groups:
                group["weight_decay"] = 0.0


class Plateau(Callback):
    """Multiplies the learning rate by `factor` when nothing has become better for `patience` validations.

    It watches the figure of planned validations, or the loss in training, which a paper may mean (ERFNet, sec. IV-A).
    """

    def __init__(
        self,
        recorder: RunRecorder,
        factor: float,
        patience: int,
        watch: Literal["metric", "loss"],
        planned: Callable[[int], bool],  # whether the recipe validates after an epoch, counted from 1
    ) -> None:
        self._recorder, self._factor, self._patience, self._watch = recorder, factor, patience, watch
        self._planned = planned
        self._rule: ReduceLROnPlateau | None = None
        self._state: dict[str, Any] = {}

    def on_train_start(self, trainer: L.Trainer, task: L.LightningModule) -> None:
        """Watches the one optimizer."""
        mode: Literal["max", "min"] = "max" if self._watch == "metric" else "min"
        self._rule = ReduceLROnPlateau(trainer.optimizers[0], mode, self._factor, self._patience, eps=0)
        if self._state:
            self._rule.load_state_dict(self._state)

    def on_validation_end(self, trainer: L.Trainer, task: L.LightningModule) -> None:
        """One step of the rule, if it watches the validation's figure."""
        planned = not trainer.sanity_checking and self._planned(trainer.current_epoch + 1)
        if self._watch == "metric" and self._recorder.latest is not None and planned:
            self._step(trainer, self._recorder.latest.value)

    def on_train_epoch_end(self, trainer: L.Trainer, task: L.LightningModule) -> None:
        """One step of the rule, if it watches the loss; an epoch is known before its checkpoint is written."""
        if self._watch == "loss":
            self._step(trainer, float(trainer.callback_metrics["loss"]))

    def _step(self, trainer: L.Trainer, value: float) -> None:
        """The schedule's base rate moves, since the schedule sets the rate at each step."""
        assert self._rule is not None
        scheduler = trainer.lr_scheduler_configs[0].scheduler
        before = [group["lr"] for group in trainer.optimizers[0].param_groups]
        self._rule.step(value)
        after = [group["lr"] for group in trainer.optimizers[0].param_groups]
        scheduler.base_lrs = [
            base * new / old if old else 0.0 for base, new, old in zip(scheduler.base_lrs, after, before, strict=True)
        ]

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run must know."""
        return (
            {key: value for key, value in self._rule.state_dict().items() if key != "optimizer"} if self._rule else {}
        )

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """The reverse; taken when training starts."""
        self._state = state_dict
