"""`train(recipe, out)`: the one run, of whatever a recipe trains."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import torch
from lightning.pytorch.callbacks import Callback
from torch import nn
from torch.utils.data import DataLoader

import kerbseg.models as models
from kerbseg.bundle import locate
from kerbseg.compress.grouping import fade, make_dense
from kerbseg.core.distributed import Rank
from kerbseg.core.errors import KerbsegError
from kerbseg.train.auto_precision import choose_precision
from kerbseg.train.builders import alpha_of
from kerbseg.train.checkpoint import read_checkpoint, threads_of
from kerbseg.train.classification import Classifying
from kerbseg.train.ending import TimeLimit, check_hours, ended_early
from kerbseg.train.engine import (
    Device,
    callbacks_for,
    check_compiling,
    check_folder,
    plain_errors,
    prepare,
    run_to_end,
    this_rank,
    threads_as_before,
    training_device,
)
from kerbseg.train.grouping import GradualGrouping
from kerbseg.train.initial import load_initial_weights
from kerbseg.train.loggers import logger_names
from kerbseg.train.machine import Machine
from kerbseg.train.matching import Target
from kerbseg.train.own import OWN, OwnPlan, is_own, plan
from kerbseg.train.recipe import AnyRecipe, Recipe
from kerbseg.train.recipe_file import read_any, resume_recipe
from kerbseg.train.recorder import RunRecorder, ValidationResult
from kerbseg.train.run_folder import claim, resume_command
from kerbseg.train.segmentation import Segmentation
from kerbseg.train.split import Cache
from kerbseg.train.task import TrainingTask
from kerbseg.train.workers import check_workers

_LOG = logging.getLogger(__name__)


class Problem(Protocol):
    """What a run trains, measures and saves."""

    init: str | tuple[str, ...]  # prefixes of the weights that initial ones are taken for

    def create(self) -> nn.Module: ...

    def target(self) -> Target: ...

    def loaders(self) -> tuple[DataLoader[Any], DataLoader[Any]]: ...

    def task(self, net: nn.Module, steps_per_epoch: int) -> TrainingTask: ...

    def measure(self, task: Any) -> ValidationResult: ...

    def save(self, net: nn.Module, path: Path, epoch: int, result: ValidationResult) -> None: ...


def train(
    recipe: AnyRecipe | OwnPlan | str | Path | None,
    out: str | Path | None = None,
    *,
    overrides: Sequence[str] = (),
    data: str | Path | None = None,
    data_root: str | Path | None = None,
    initial: str | Path | None = None,
    resume: bool = False,
    device: Device = "auto",
    devices: int = 1,
    workers: int = 0,
    cache: Cache = "auto",
    compile: bool = False,
    hours: float | None = None,
    loggers: Sequence[str] = ("tensorboard",),
    quiet: bool = False,
    callbacks: Sequence[Callback] = (),
) -> Path:
    """Trains as a recipe says, and returns the file of the best weights by the figure of validation.

    `recipe` is one, a YAML file, or the name of a shipped one, with `key.path=value` overrides; None with `resume` is
    that of the run in `out`. Writes there: recipe.yaml, metrics.csv, tensorboard/, last.ckpt (after each epoch),
    best.safetensors, last.safetensors. A run that was cut off goes on with `resume` and ends with the same weights.
    Several devices share each batch of the recipe, and give the result of one. `initial` is a bundle, a classifier, a
    run's folder or the name of shipped weights, of which all is taken that fits, or what `model.init` says.
    `train("own", data=folder)` makes a recipe of the data, as `own.plan` does; `out` is runs/NAME then, if it is not
    given. With `hours` this start ends after the last epoch for which they last; a resumed run has them anew. `loggers`
    are some of tensorboard, wandb and mlflow. With `quiet` nothing is printed but warnings.
    Raises KerbsegError for data, recipes or folders that cannot be used; Interrupted, a KeyboardInterrupt which says
    how the run goes on, after Ctrl-C or SIGTERM.
    """
    started, note = time.monotonic(), ""
    check_hours(hours)
    loggers = logger_names(loggers)
    if is_own(recipe) and not resume:
        folder = data if data is not None or recipe == OWN else str(recipe)
        recipe = plan(folder, data_root=data_root, initial=initial, overrides=overrides)
        overrides, initial = (), None
    elif data is not None:
        raise KerbsegError("data is for train('own', data=...); another recipe names its data itself, at data_root")
    if isinstance(recipe, OwnPlan):
        out, note, data_root, recipe = out or recipe.run, recipe.note, recipe.data.root, recipe.recipe
    if out is None:
        raise KerbsegError("missing out, the folder of the run; such as out='runs/first'")
    run = Path(out)
    if isinstance(recipe, str | Path):
        recipe = read_any(recipe, overrides)
    elif overrides:
        raise KerbsegError(
            f"overrides {list(overrides)} change a recipe that is read from a file; replace its fields instead"
        )
    elif recipe is None:
        recipe = resume_recipe(run)
    if resume and recipe.precision == "auto":  # what was chosen when the run began stands in its recipe
        recipe = replace(recipe, precision=resume_recipe(run).precision)
    rank = this_rank(devices, recipe)
    place = training_device(device, recipe, rank)
    if compile:
        check_compiling(place, rank)
    if initial is not None and resume:
        raise KerbsegError(
            f"a resumed run goes on with its own weights, and {initial} would be others; leave --init out"
        )
    if initial is None and isinstance(recipe, Recipe) and not resume:  # a checkpoint has them already
        initial = recipe.model.weights
    if initial is not None:
        locate(initial)  # before any data is read
    check_folder(run, recipe, resume, rank)
    machine = Machine(place, rank, data_root, workers, cache, compile, quiet)
    with claim(run, rank, data_root), plain_errors():
        check_folder(run, recipe, resume, rank)  # again: now nobody else can begin
        if recipe.precision == "auto":
            chosen, why = choose_precision(recipe, machine)
            if rank.index == 0:
                _LOG.info(f"precision: {chosen} ({why})")
            recipe = replace(recipe, precision=chosen)
        limit = [] if hours is None else [TimeLimit(hours, started, resume_command(run, data_root), quiet)]
        _train(recipe, run, machine, initial, resume, note, loggers, [*limit, *callbacks])
    best = run / "best.safetensors"
    if rank.index == 0 and not best.is_file():
        raise KerbsegError(f"no validation of {run} had a finite loss, so there is no {best.name}; lower optim.lr")
    return best


def _train(
    recipe: AnyRecipe,
    run: Path,
    machine: Machine,
    initial: str | Path | None,
    resume: bool,
    note: str,
    loggers: Sequence[str],
    callbacks: Sequence[Callback],
) -> None:
    rank = machine.rank
    problem: Problem = Segmentation(recipe, machine) if isinstance(recipe, Recipe) else Classifying(recipe, machine)
    loaders = problem.loaders()
    check_workers(loaders)
    torch.manual_seed(recipe.seed)
    net = problem.create()
    groups = {} if recipe.grouping is None else make_dense(net, recipe.grouping.select)
    if initial is not None:
        _begin(net, initial, problem, rank)
    fade(net, groups)
    net = models.channels_last(net)
    task = problem.task(net, len(loaders[0]))
    grouping = GradualGrouping(net, alpha_of(recipe, len(loaders[0])))
    recorder = RunRecorder(
        run,
        measure=lambda: problem.measure(task),
        save=lambda path, epoch, result: problem.save(net, path, epoch, result),
        eligible=grouping.fully_grouped,
        recipe=recipe.to_dict(),
    )
    threads = None
    if resume:
        content = read_checkpoint(run / "last.ckpt", recipe, task, len(loaders[0]))
        if why := ended_early(content, recipe):
            if rank.index == 0 and not machine.quiet:
                print(why, flush=True)
            return
        threads = threads_of(content)
    prepare(run, recipe, rank, note)
    wanted = [*callbacks_for(recipe, net, grouping, recorder, machine), *callbacks]
    with threads_as_before(threads, machine):
        run_to_end(task, recipe, run, loaders, wanted, device=machine.device, rank=rank, resume=resume, loggers=loggers)


def _begin(net: nn.Module, initial: str | Path, problem: Problem, rank: Rank) -> None:
    """Takes the initial weights, and says what is fresh."""
    by_rule = not any((problem.init,) if isinstance(problem.init, str) else problem.init)
    more = (problem.target(),) if by_rule else ()
    start = load_initial_weights(net, initial, problem.init, *more)
    if start is not None and start.line and rank.index == 0:
        _LOG.info(start.line)
