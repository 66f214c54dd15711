"""Lightning's trainer as every kind of training here uses it: folders, devices, callbacks, and a run to its end."""

from __future__ import annotations

import errno
import logging
import os
import signal
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import takewhile
from pathlib import Path
from typing import Any, Literal

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.strategies import DDPStrategy
from lightning.pytorch.utilities import disable_possible_user_warnings
from torch import nn
from torch.utils.data import DataLoader

from kerbseg.core.compiler import check_compiler
from kerbseg.core.distributed import Rank
from kerbseg.core.errors import Interrupted, KerbsegError, KerbsegWarning, RecipeError
from kerbseg.core.files import atomic_write, remove_leftovers
from kerbseg.core.strict_yaml import dump_yaml
from kerbseg.train.board import Board
from kerbseg.train.callbacks import (
    AveragedWeights,
    InterruptBetweenSteps,
    KillPeersOnFailure,
    Plateau,
    StepSeed,
    WeightDecayCutoff,
)
from kerbseg.train.ending import LastValidation, Patience, is_planned
from kerbseg.train.finite import StopWhereNotFinite
from kerbseg.train.grouping import GradualGrouping
from kerbseg.train.loggers import open_loggers, plain_logger_errors
from kerbseg.train.machine import Machine
from kerbseg.train.norm import FrozenNorm
from kerbseg.train.progress import RunProgress
from kerbseg.train.recipe import AnyRecipe
from kerbseg.train.recipe_file import first_difference, resume_recipe
from kerbseg.train.recorder import RunRecorder
from kerbseg.train.run_folder import LOGS
from kerbseg.train.workers import of_worker

Device = Literal["auto", "cpu", "cuda"]

_PRECISION = {"float32": "32-true", "bfloat16": "bf16-mixed", "float16": "16-mixed"}
FILES = ("recipe.yaml", "metrics.csv", "last.ckpt", "best.safetensors", "last.safetensors")
UNFIT = (RuntimeError, KeyError, IndexError, TypeError, ValueError, AttributeError)  # lightning's, of odd checkpoints
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)


def this_rank(devices: int, recipe: AnyRecipe) -> Rank:
    """Which of a training's processes this is: of those that torchrun has started, or that lightning starts.

    Raises KerbsegError where the batch cannot be shared out.
    """
    if "TORCHELASTIC_RUN_ID" in os.environ:
        count, here = int(os.environ["WORLD_SIZE"]), int(os.environ["LOCAL_WORLD_SIZE"])
        if devices not in (1, here):
            raise KerbsegError(f"{devices} devices are asked for and torchrun has started {here}; leave --devices away")
        rank = Rank(int(os.environ["RANK"]), count, count // here)
    elif devices < 1:
        raise KerbsegError(f"{devices} devices cannot train; give 1 or more")
    else:
        # lightning starts the same command again, and tells it so
        rank = Rank(int(os.environ.get("LOCAL_RANK", 0)) if devices > 1 else 0, devices)
    if recipe.batch_size % rank.count:
        raise KerbsegError(
            f"batch_size={recipe.batch_size} is for all devices together and cannot be shared by {rank.count};"
            f" use a number of devices that divides it"
        )
    return rank


def check_folder(run: Path, recipe: AnyRecipe, resume: bool, rank: Rank) -> None:
    """Raises KerbsegError for a folder without a run to resume, of another recipe, or with a run that would be lost."""
    if rank.index > 0:  # the first process does, and takes the others along
        return
    written, checkpoint, best = run / "recipe.yaml", run / "last.ckpt", run / "best.safetensors"
    for path in (run / name for name in (*FILES, *LOGS)):
        is_own = path.is_dir() if path.name in LOGS else path.is_file()
        if os.path.lexists(path) and not is_own:  # a pipe would wait for ever, a link to nowhere is lost
            raise KerbsegError(f"{path} is not what a training writes there; move it away, or choose another --out")
    if resume and not checkpoint.is_file():
        remedy = f"--init {best} --out elsewhere takes its weights" if best.is_file() else "start without --resume"
        raise KerbsegError(f"nothing to resume: {checkpoint} does not exist; {remedy}")
    if resume and (difference := first_difference(resume_recipe(run), recipe)):
        raise RecipeError(
            f"{written} is not the recipe asked for: {difference}; resume with the same, or choose another --out"
        )
    if checkpoint.is_file() and not resume:
        raise KerbsegError(f"{run} holds a run already; go on with --resume, or choose another --out")
    if best.is_file() and not resume:
        raise KerbsegError(f"{best} would be lost, and has no checkpoint to go on from; choose another --out")


def prepare(run: Path, recipe: AnyRecipe, rank: Rank, note: str = "") -> None:
    """Puts the resolved recipe into the run's folder, and clears what a killed process left; the first process does.

    At the head of the file stands a comment, `note`, or else what stood there before.
    """
    if rank.index > 0:
        return
    path = run / "recipe.yaml"
    if not note and path.is_file():
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        note = "".join(takewhile(lambda line: line.startswith("#"), lines))
    with atomic_write(path) as temporary:
        temporary.write_text(note + dump_yaml(recipe.to_dict()), encoding="utf-8")
    remove_leftovers(run)


def training_device(device: Device, recipe: AnyRecipe, rank: Rank) -> torch.device:
    """Where this process trains. Raises KerbsegError where that is not there or lacks the recipe's precision."""
    if device == "cuda" and not torch.cuda.is_available():
        raise KerbsegError("device 'cuda' is not there; use --device cpu, or install a torch build for your GPU")
    if device != "cpu" and torch.cuda.is_available():
        if (wanted := rank.count // rank.nodes) > torch.cuda.device_count():
            raise KerbsegError(
                f"{wanted} GPUs are asked for and {torch.cuda.device_count()} are there; lower --devices"
            )
        return torch.device("cuda", rank.local_index)
    if recipe.precision == "float16":
        raise KerbsegError("a CPU does not train in float16; add precision=bfloat16 or precision=float32")
    return torch.device("cpu")


def check_compiling(device: torch.device, rank: Rank) -> None:
    """Raises KerbsegError where torch cannot compile a network."""
    if rank.count > 1:
        raise KerbsegError(f"--compile works on one device, not on {rank.count}; leave --compile or --devices away")
    check_compiler(device, "leave --compile away")


def run_to_end(
    task: L.LightningModule,
    recipe: AnyRecipe,
    run: Path,
    loaders: tuple[DataLoader[Any], DataLoader[Any]],
    callbacks: Sequence[Callback],
    *,
    device: torch.device,
    rank: Rank,
    resume: bool,
    loggers: Sequence[str],
) -> None:
    """Trains for the recipe's epochs. Raises Interrupted after Ctrl-C or SIGTERM, KerbsegError for a full disk."""
    interrupt, begun = InterruptBetweenSteps(), _Begun()
    with _quiet(), interrupt.listening(), plain_logger_errors(loggers):
        trainer = L.Trainer(
            max_epochs=recipe.epochs,
            accelerator="gpu" if device.type == "cuda" else "cpu",
            devices=rank.count // rank.nodes,
            num_nodes=rank.nodes,
            # statistics of the shared batch-norm are the same in all processes
            strategy="auto" if rank.count == 1 else DDPStrategy(broadcast_buffers=False),
            use_distributed_sampler=False,  # the loaders give each process its own
            precision=_PRECISION[recipe.precision],
            gradient_clip_val=recipe.optim.clip,
            check_val_every_n_epoch=recipe.validate_every,
            num_sanity_val_steps=0,
            enable_checkpointing=False,  # ours is written to a temporary name and renamed
            enable_progress_bar=False,
            enable_model_summary=False,
            logger=open_loggers(loggers, run) or False,
            log_every_n_steps=10,
            callbacks=[interrupt, begun, *callbacks],
        )
        checkpoint = str(run / "last.ckpt") if resume else None
        try:
            trainer.fit(task, *loaders, ckpt_path=checkpoint, weights_only=True)
        except UNFIT as error:
            if not resume or begun.yes:
                raise
            why = str(error).strip().split("\n")[0]
            raise KerbsegError(f"{checkpoint} is damaged or of another training ({why}); copy it again") from error
        except SystemExit:  # how lightning ends after a signal; a caller expects Python's own sign of it
            if trainer.interrupted or trainer.received_sigterm:
                raise Interrupted(signal.SIGTERM if trainer.received_sigterm else signal.SIGINT) from None
            raise
        except OSError as error:  # of a log; files of ours are reported by `atomic_write`
            if error.errno in _NO_ROOM:
                raise KerbsegError(
                    f"cannot write into {run}: {error.strerror}; free space, then go on with --resume"
                ) from error
            raise


class _Begun(Callback):
    """Whether a checkpoint has been taken whole, so that an error is not of it."""

    yes = False

    def on_train_start(self, trainer: L.Trainer, task: L.LightningModule) -> None:
        self.yes = True


def callbacks_for(
    recipe: AnyRecipe, net: nn.Module, grouping: GradualGrouping, recorder: RunRecorder, machine: Machine
) -> list[Callback]:
    """Callbacks that a recipe asks for, and the recorder after all that decides what is there to record."""
    rank, quiet = machine.rank, machine.quiet
    planned = partial(is_planned, recipe)
    wanted: list[Callback] = [KillPeersOnFailure(), StepSeed(recipe.seed), LastValidation()]
    if recipe.grouping is not None:
        wanted.append(grouping)
    if any(part.freeze_norm for part in recipe.optim.groups):
        wanted.append(FrozenNorm(net, recipe.optim.groups))
    if recipe.optim.weight_decay_until is not None:
        wanted.append(WeightDecayCutoff(recipe.optim.weight_decay_until))
    if recipe.schedule.name == "plateau":
        settings = recipe.schedule
        wanted.append(Plateau(recorder, settings.factor, settings.patience, settings.watch, planned))
    if recipe.patience is not None:
        wanted.append(Patience(recorder, recipe.patience, planned, quiet))
    grace = recipe.nonfinite_grace if recipe.precision == "float16" else 0
    wanted += [StopWhereNotFinite(grace, rank), recorder, Board(recorder, recipe.to_dict())]
    if recipe.ema is not None:
        wanted.append(AveragedWeights(recipe.ema))
    return wanted if quiet else [*wanted, RunProgress(recorder)]


@contextmanager
def threads_as_before(threads: int | None, machine: Machine) -> Iterator[None]:
    """A resumed training computes with as many CPU threads as before, or its last bits would be others.

    A number that the user has set in the environment stays, and the difference is said.
    """
    now = torch.get_num_threads()
    if threads is None or threads == now or machine.device.type != "cpu":
        yield
        return
    before = f"the run has had {threads} CPU thread(s), and here are {now}"
    if "OMP_NUM_THREADS" in os.environ:
        what = f"{before}: its last bits are not those of an unbroken run; for these set OMP_NUM_THREADS={threads}"
        warnings.warn(KerbsegWarning(what), stacklevel=2)
    else:
        torch.set_num_threads(threads)
        if machine.rank.index == 0 and not machine.quiet:
            print(f"{before}: it goes on with {threads}, for the same bits", flush=True)
    try:
        yield
    finally:
        torch.set_num_threads(now)


@contextmanager
def plain_errors() -> Iterator[None]:
    """Errors of torch that a user can mend, told as such: no memory, readers that died, a batch of one."""
    try:
        yield
    except KerbsegError as error:
        if (told := of_worker(error)) is error:
            raise
        raise told from error
    except (RuntimeError, MemoryError, ValueError) as error:
        remedy = next((text for sign, text in _REMEDIES.items() if sign in str(error)), None)
        if isinstance(error, torch.OutOfMemoryError | MemoryError):
            remedy = _LESS
        if remedy is None:
            raise
        raise KerbsegError(f"{(str(error).strip() or 'no memory').splitlines()[0]}: {remedy}") from error


_LESS = "lower batch_size, data.size or augment.crop"
_WORKERS = "use fewer --workers, or 0"
_REMEDIES = {
    "can't allocate memory": _LESS,
    "DataLoader timed out": f"pictures come too slowly or not at all; look at the disk, or {_WORKERS}",
    "DataLoader worker": _WORKERS,
    "unable to open shared memory": _WORKERS,
    "more than 1 value per channel": "batch-norm cannot average over one picture; raise batch_size",
}


@contextmanager
def _quiet() -> Iterator[None]:
    """Lightning's remarks on devices and workers stay out of the user's sight; its warnings do not."""
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            disable_possible_user_warnings()
            # how lightning itself uses torch is not for the user to mend
            warnings.filterwarnings(action="ignore", category=FutureWarning, module=r"lightning\.")
            yield
    finally:
        logger.setLevel(level)
