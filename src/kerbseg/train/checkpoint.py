"""`last.ckpt`, looked at before a training goes on from it: whole, of this training, and nothing but numbers."""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any
from zipfile import ZIP_STORED, BadZipFile, ZipFile

import lightning as L
import torch
from torch import Tensor
from torch.optim import Optimizer

from kerbseg.core.errors import KerbsegError, RecipeError
from kerbseg.core.limits import MOST_THREADS
from kerbseg.train.recipe import AnyRecipe
from kerbseg.train.recipe_file import checked, first_difference

MOVING = ("params", "lr", "initial_lr")  # of an optimizer's group, while a network trains
MEANS = ("fused", "foreach")  # by which it computes: a run goes on with those that it began with
DAMAGED = (  # what Python's and torch's readers raise for bytes that they did not write
    BadZipFile, UnpicklingError, RuntimeError, OSError, EOFError, ValueError, LookupError, AttributeError, TypeError,
    ImportError, AssertionError, ArithmeticError, MemoryError, struct.error,
)  # fmt: skip


def read_checkpoint(path: Path, recipe: AnyRecipe, task: L.LightningModule, steps_per_epoch: int) -> dict[str, Any]:
    """The content of a checkpoint that a training of this recipe, network and data can go on from, bit for bit.

    Its bytes are compared with the checksums that torch writes beside each tensor, and does not look at when it reads.
    Raises KerbsegError, which says what is wrong, for any other file.
    """
    try:
        content = _content(path)
        _check_progress(content, recipe, steps_per_epoch)
        wanted = task.state_dict()
        _check_weights(_at(content, "state_dict", kind=Mapping), wanted)
        if recipe.ema is not None:  # the weights above are the averaged ones
            _check_weights(_at(content, "current_model_state", kind=Mapping), wanted)
            _at(content, "averaging_state", "n_averaged", kind=Tensor)
        configured: Any = task.configure_optimizers()
        _check_optimizer(content, configured["optimizer"])
    except _Misfit as misfit:
        raise KerbsegError(
            f"{path} is damaged or of another training ({misfit}); copy it again, or begin another run: --init"
            f" {path.parent} --out elsewhere takes its best weights"
        ) from misfit
    return content


class _Misfit(Exception):
    """What is wrong with a checkpoint, in words."""


def _content(path: Path) -> dict[str, Any]:
    try:
        with ZipFile(path) as file:
            if any(entry.compress_type != ZIP_STORED for entry in file.infolist()):  # torch's are not; bombs are
                raise BadZipFile("it is compressed")
            if damaged := file.testzip():
                raise BadZipFile(f"{damaged} is not what was written")
        content = torch.load(path, map_location="cpu", weights_only=True)
    except DAMAGED as error:
        raise _Misfit(str(error).strip().split("\n")[0][:200] or type(error).__name__) from error
    if not isinstance(content, dict):
        raise _Misfit(f"it holds {type(content).__name__}")
    return content


def _check_progress(content: Mapping[str, Any], recipe: AnyRecipe, steps_per_epoch: int) -> None:
    """How far it had come, which stands in several places."""
    epoch, step = _at(content, "epoch"), _at(content, "global_step")
    _at(content, "pytorch-lightning_version", kind=str)
    if not 0 <= epoch < recipe.epochs:
        raise _Misfit(f"epoch {epoch + 1} of {recipe.epochs}")
    loop = ("loops", "fit_loop")
    steps = ("epoch_loop.automatic_optimization.optim_progress", "optimizer", "step", "total", "completed")
    if _at(content, *loop, "epoch_progress", "current", "completed") != epoch or _at(content, *loop, *steps) != step:
        raise _Misfit("its counters contradict each other")
    batches = _at(content, *loop, "epoch_loop.batch_progress", "total", "completed")
    if batches != (epoch + 1) * steps_per_epoch:
        raise _Misfit(
            f"it has taken {batches} batches in {epoch + 1} epochs, and an epoch has {steps_per_epoch} now: have the"
            " pictures changed?"
        )
    recorder = ("callbacks", "RunRecorder")
    rows, best = _at(content, *recorder, "rows", kind=list), _at(content, *recorder, "best", kind=float)
    seconds = _at(content, *recorder, "seconds", kind=float)
    if len(rows) != epoch + 1 or any(_at(row, "epoch") != i for i, row in enumerate(rows, 1)):
        raise _Misfit("its figures are not those of its epochs")
    if math.isnan(best) or not 0 <= seconds < math.inf:
        raise _Misfit("its figures are no numbers")
    if recipe.patience is not None:
        waited, best_epoch = (_at(content, "callbacks", "Patience", key) for key in ("waited", "best_epoch"))
        _at(content, "callbacks", "Patience", "best", kind=float)
        if not (0 <= waited <= epoch + 1 and 0 <= best_epoch <= epoch + 1):
            raise _Misfit("its count of validations is not that of its epochs")
    state = _at(content, *recorder, kind=Mapping)
    if "threads" in state and not 1 <= _at(state, "threads") <= MOST_THREADS:
        raise _Misfit(f"{state['threads']} threads")
    if "recipe" in state:
        try:
            written = checked(_at(state, "recipe", kind=Mapping), "its recipe")
        except RecipeError as error:
            raise _Misfit(str(error)) from error
        if difference := first_difference(written, recipe):
            raise _Misfit(f"its recipe is not recipe.yaml: {difference}")


def threads_of(content: Mapping[str, Any]) -> int | None:
    """How many threads the training had; older checkpoints do not say."""
    threads: int | None = content["callbacks"]["RunRecorder"].get("threads")
    return threads


def _check_weights(state: Mapping[str, Any], wanted: Mapping[str, Tensor]) -> None:
    for key in [*wanted, *state]:
        if key not in state or key not in wanted:
            raise _Misfit(f"{'lacks' if key not in state else 'unknown'} {str(key)[:100]!r}")
        _check_tensor(state[key], wanted[key], repr(key))


def _check_tensor(value: Any, wanted: Tensor, name: str) -> None:
    if not isinstance(value, Tensor) or value.shape != wanted.shape or value.dtype != wanted.dtype:
        given = [value.dtype, list(value.shape)] if isinstance(value, Tensor) else type(value).__name__
        raise _Misfit(f"{name} is {given}, not {[wanted.dtype, list(wanted.shape)]}")
    stored = value.layout == torch.strided and not value.is_meta and value.untyped_storage().nbytes()
    if not stored or stored < value.numel() * value.element_size():  # sparse, or one number for many
        raise _Misfit(f"{name} does not hold each of its numbers")
    if not torch.isfinite(value).all():
        raise _Misfit(f"{name} holds NaN or infinite values")


def _check_optimizer(content: Mapping[str, Any], fresh: Optimizer) -> None:
    """The one optimizer has the groups and settings of a fresh one, a state of its weights, and finite rates."""
    saved, schedulers = _at(content, "optimizer_states", kind=list), _at(content, "lr_schedulers", kind=list)
    if len(saved) != 1 or len(schedulers) != 1:
        raise _Misfit(f"{len(saved)} optimizers and {len(schedulers)} schedules, not one of each")
    groups, state = _at(saved[0], "param_groups", kind=list), _at(saved[0], "state", kind=Mapping)
    wanted = fresh.state_dict()["param_groups"]
    if [_at(group, "params", kind=list) for group in groups] != [group["params"] for group in wanted]:
        raise _Misfit("its optimizer moves other weights")
    for group, expected in zip(groups, wanted, strict=True):
        for key, value in expected.items():
            given = group.get(key, value)
            if key in MEANS and (given is None or isinstance(given, bool)):
                continue
            if key not in MOVING and given != value and not (key == "weight_decay" and given == 0):
                raise _Misfit(f"its optimizer's {key} is {str(given)[:100]}")
    rates = [*_at(schedulers[0], "base_lrs", kind=list), *(_at(group, "lr", kind=float) for group in groups)]
    if not all(isinstance(rate, float) and 0 <= rate < math.inf for rate in rates):
        raise _Misfit(f"a learning rate of {str(rates)[:100]}")
    if _at(schedulers[0], "last_epoch") != content["global_step"]:
        raise _Misfit("its schedule is not at its step")
    if len(state) != content["callbacks"]["RunRecorder"].get("moments", len(state)):  # older ones do not say
        raise _Misfit(f"its optimizer has a state of {len(state)} weights")
    weights = [parameter for group in fresh.param_groups for parameter in group["params"]]
    for index, parts in state.items():
        if not isinstance(index, int) or not 0 <= index < len(weights) or not isinstance(parts, Mapping):
            raise _Misfit("its optimizer's state is of other weights")
        if not parts or parts.keys() != next(iter(state.values())).keys():
            raise _Misfit(f"its optimizer remembers {str(list(parts))[:100]} of a weight")
        for name, value in parts.items():
            if value is not None or name != "momentum_buffer" or any(group.get("momentum") for group in groups):
                like = torch.zeros(()) if name == "step" else weights[index].detach()
                _check_tensor(value, like, f"the optimizer's {name}")
            if name == "step" and not 0 < value <= content["global_step"]:
                raise _Misfit(f"its optimizer's step is {float(value)}")


def _at(content: Any, *keys: str, kind: type = int) -> Any:
    """The value under these keys."""
    for key in keys:
        if not isinstance(content, Mapping) or key not in content:
            raise _Misfit(f"it lacks {'.'.join(keys)}")
        content = content[key]
    if not isinstance(content, kind) or isinstance(content, bool):
        raise _Misfit(f"{'.'.join(keys)} is {type(content).__name__}")
    return content
