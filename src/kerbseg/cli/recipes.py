"""`kerbseg train`, `recipes` and `recipe`."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from kerbseg.cli.app import app
from kerbseg.cli.next_steps import after_train
from kerbseg.cli.options import DataRoot, Json, Loggers, Whole
from kerbseg.cli.own import show_device, show_plan
from kerbseg.cli.terminal import is_quiet, show, tell, write_json
from kerbseg.core.errors import KerbsegError, KerbsegWarning, check_installed
from kerbseg.core.text import counted

if TYPE_CHECKING:
    from kerbseg.train.own import OwnPlan
    from kerbseg.train.recipe import AnyRecipe


@app.command
def train(
    recipe: str | None = None,
    *overrides: str,
    data: str | None = None,
    data_root: DataRoot = None,
    out: Path | None = None,
    init: str | None = None,
    resume: bool = False,
    devices: Whole = 1,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    workers: Whole = 0,
    cache: Literal["auto", "device", "ram", "none"] = "auto",
    compile: bool = False,
    hours: float | None = None,
    logger: Loggers = None,
) -> None:
    """Train from a recipe (YAML), or on your own pictures.

    Writes recipe.yaml, metrics.csv, tensorboard/, last.ckpt, best.safetensors and last.safetensors.

    Examples: `kerbseg train own --data my_streets`,
    `kerbseg train camvid/mininet_v2_cpu epochs=2 --data-root data/camvid --out run`,
    `kerbseg train --resume --out run`

    Parameters
    ----------
    recipe
        YAML file, or the name of a shipped recipe (see: kerbseg recipes); not needed with --resume. own: a recipe is
        made of --data, and starts from shipped weights; a folder is short for own --data FOLDER
    overrides
        Change values of the recipe, such as optim.lr=1e-3
    data
        Of own: a folder with dataset.yaml, or the form of --data-root, such as coco
    out
        Run folder to write to (default: runs/RECIPE, or runs/NAME of your data)
    init
        Weights to start from: a bundle, a run folder, the name of shipped weights, or a classifier. What does not fit
        the network or the classes stays fresh, and is listed
    resume
        Continue the run in --out; the result is the same as without the interruption
    devices
        Number of GPUs, or of processes with --device cpu; they share each batch (set by torchrun)
    device
        Device to train on (auto: a GPU if there is one)
    workers
        Number of processes that read pictures from disk
    cache
        Where to keep decoded pictures; auto: on the device or in memory, if they need less than a quarter of it
    compile
        Use torch.compile: a minute or more at the start, faster in long runs
    hours
        Time limit of this start, such as 1.5: training stops after the last epoch that fits in, and --resume goes on
        (default: none)
    """
    from kerbseg.train.recipe_sense import check_names, remarks

    # a slip is named before torch is imported
    if recipe is not None and "=" in recipe and not Path(recipe).exists():  # a key to change, where no recipe is named
        overrides, recipe = (recipe, *overrides), None
    settings, run, data_root, plan = _asked(recipe, overrides, data, data_root, out, init, resume)
    check_names(settings)
    for remark in remarks(settings):
        warnings.warn(KerbsegWarning(remark), stacklevel=2)
    check_installed("train", ("lightning", "kornia"))

    from kerbseg.train.allocator import SWITCH, keep_freed_memory

    keeps_memory = keep_freed_memory()  # before torch takes any

    from kerbseg.train.engine import this_rank, training_device
    from kerbseg.train.run import train as train_network

    first = this_rank(devices, settings).index == 0
    if plan is not None and first:
        show_device(training_device(device, settings, this_rank(devices, settings)))
    if keeps_memory and first:
        tell(f"freed memory is kept for the next step, which is faster ({SWITCH}=0: given back)")
    loggers = ["tensorboard"] if logger is None else logger
    best = train_network(
        settings if plan is None else plan,
        run,
        data_root=data_root,
        initial=init if plan is None else None,
        resume=resume,
        devices=devices,
        device=device,
        workers=workers,
        cache=cache,
        compile=compile,
        hours=hours,
        loggers=loggers,
        quiet=is_quiet(),
    )
    if first:
        tell(_outcome(best, settings))
        _say_next(best, settings, data_root)


def _asked(
    recipe: str | None,
    overrides: Sequence[str],
    data: str | None,
    data_root: Path | None,
    out: Path | None,
    init: str | None,
    resume: bool,
) -> tuple[AnyRecipe, Path, Path | None, OwnPlan | None]:
    """The recipe, the run's folder, the root of the data, and the plan where the recipe is made of data."""
    from kerbseg.train.own import OWN, is_own, plan, usual_run
    from kerbseg.train.own_data import check_there, form_of
    from kerbseg.train.recipe_file import read_any, resume_recipe
    from kerbseg.train.run_folder import check_free

    if recipe is not None and is_own(recipe):
        folder = data if recipe == OWN or data is not None else recipe
        reader, root = form_of(folder, data_root)
        run = out or usual_run(reader, root)
        if resume:
            _check_unchanged(overrides)
            if init is not None:
                raise KerbsegError("a resumed run goes on with its own weights; leave --init out")
            return resume_recipe(run), run, root, None
        check_free(run, root)
        made = plan(folder, data_root=data_root, initial=init, overrides=overrides)
        if "LOCAL_RANK" not in os.environ:  # one of several processes tells
            show_plan(made, run)
        return made.recipe, run, root, made
    if data is not None:
        raise KerbsegError("--data is for kerbseg train own; a recipe takes data.name=folder and --data-root FOLDER")
    if recipe is not None:
        settings, run = read_any(recipe, overrides), out or Path("runs") / Path(recipe).with_suffix("").name
    elif not resume or out is None:
        raise KerbsegError(
            "missing RECIPE; choose one from: kerbseg recipes; or train on your own pictures: kerbseg train own --data"
            " FOLDER; or continue a run with: --resume --out RUN"
        )
    else:
        _check_unchanged(overrides)
        settings, run = resume_recipe(out), out
    check_there(settings, data_root)
    return settings, run, data_root, None


def _check_unchanged(overrides: Sequence[str]) -> None:
    if overrides:
        raise KerbsegError(
            f"{overrides[0]!r} would change the recipe of a run; resume it without changes, or start another run"
        )


def _say_next(best: Path, recipe: AnyRecipe, data_root: Path | None) -> None:
    from kerbseg.train.recipe import Recipe

    if isinstance(recipe, Recipe):
        after_train(best, recipe.data.name, data_root, recipe.data.val, whole=not recipe.data.val_names)


def _outcome(best: Path, recipe: AnyRecipe) -> str:
    from kerbseg.bundle import read_card
    from kerbseg.train.recipe import Classification

    if isinstance(recipe, Classification):
        return f"classifier: {best}"
    figures = read_card(best).scores
    return f"best validation mIoU {figures['miou']:.4f} after epoch {figures['epoch']}: {best}"


@app.command
def recipes(*, json: Json = None) -> None:
    """List the recipes that come with kerbseg, with the result to expect from each.

    Example: `kerbseg recipes`, then `kerbseg recipe camvid/mininet_v2_cpu`
    """
    from rich.table import Table

    from kerbseg.train.recipe_header import shipped_recipes

    entries = shipped_recipes()
    if json is not None:
        write_json(json, [entry.to_dict() for entry in entries])
    table = Table("recipe", "what it trains, and what to expect", padding=(0, 1))
    table.columns[0].no_wrap = True
    for entry in entries:
        table.add_row(
            entry.name, f"{entry.network} on {entry.data}, {counted(entry.epochs, 'epoch')}\n{entry.expected}"
        )
    show(table)


@app.command
def recipe(
    name: str, *overrides: str, data: str | None = None, data_root: DataRoot = None, init: str | None = None
) -> None:
    """Check a recipe and print it in full (YAML).

    Examples: `kerbseg recipe camvid/mininet_v2_cpu optim.lr=1e-3`,
    `kerbseg recipe camvid/erfnet > mine.yaml`, then `kerbseg train mine.yaml`,
    `kerbseg recipe own --data my_streets`

    Parameters
    ----------
    name
        YAML file, or the name of a shipped recipe (see: kerbseg recipes); own: that which kerbseg train own would make
    overrides
        Change values of the recipe, such as optim.lr=1e-3
    data
        Of own: a folder with dataset.yaml, or the form of --data-root, such as coco
    init
        Of own: weights to start from, in place of shipped ones
    """
    from kerbseg.core.strict_yaml import dump_yaml
    from kerbseg.train.own import OWN, is_own, plan
    from kerbseg.train.recipe_file import read_any
    from kerbseg.train.recipe_sense import check_names, remarks

    if is_own(name):
        made = plan(
            data if name == OWN or data is not None else name, data_root=data_root, initial=init, overrides=overrides
        )
        print(made.note, end="")
        settings: AnyRecipe = made.recipe
    elif (data, data_root, init) != (None, None, None):
        raise KerbsegError("--data, --data-root and --init are for kerbseg recipe own; leave them away")
    else:
        settings = read_any(name, overrides)
    check_names(settings)
    for remark in remarks(settings):
        print(f"# note: {remark}")  # YAML still
    print(dump_yaml(settings.to_dict()), end="")
