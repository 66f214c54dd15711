"""`kerbseg train`, `recipes` and `recipe`."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from kerbseg.cli.app import app
from kerbseg.cli.options import DataRoot, Json
from kerbseg.cli.terminal import show, tell, write_json
from kerbseg.core.errors import KerbsegError, KerbsegWarning, check_installed

if TYPE_CHECKING:
    from kerbseg.train.recipe import AnyRecipe


@app.command
def train(
    recipe: str | None = None,
    *overrides: str,
    data_root: DataRoot = None,
    out: Path | None = None,
    init: str | None = None,
    resume: bool = False,
    devices: int = 1,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    workers: int = 0,
    cache: Literal["auto", "device", "ram", "none"] = "auto",
    compile: bool = False,
) -> None:
    """Train from a recipe (YAML).

    Writes recipe.yaml, metrics.csv, tensorboard/, last.ckpt, best.safetensors and last.safetensors.

    Examples: `kerbseg train camvid/mininet_v2_cpu epochs=2 --data-root data/camvid --out run`,
    `kerbseg train --resume --out run`

    Parameters
    ----------
    recipe
        YAML file, or the name of a shipped recipe (see: kerbseg recipes); not needed with --resume
    overrides
        Change values of the recipe, such as optim.lr=1e-3
    out
        Run folder to write to (default: runs/RECIPE)
    init
        Weights to start from: a bundle, a run folder, the name of shipped weights, or a classifier (for the part of
        the network that model.init names)
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
    """
    from kerbseg.train.recipe_file import read_any, resume_recipe
    from kerbseg.train.recipe_sense import check_names, remarks

    # a slip is named before torch is imported
    if recipe is not None and "=" in recipe:  # a key to change, where no recipe is named
        overrides, recipe = (recipe, *overrides), None
    if recipe is not None:
        settings, run = read_any(recipe, overrides), out or Path("runs") / Path(recipe).with_suffix("").name
    elif not resume or out is None:
        raise KerbsegError(
            "missing RECIPE; choose one from: kerbseg recipes; or continue a run with: --resume --out RUN"
        )
    elif overrides:
        raise KerbsegError(
            f"{overrides[0]!r} would change the recipe of a run; resume it without changes, or start another run"
        )
    else:
        settings, run = resume_recipe(out), out
    check_names(settings)
    for remark in remarks(settings):
        warnings.warn(KerbsegWarning(remark), stacklevel=2)
    check_installed("train", ("lightning", "kornia", "tensorboard"))

    from kerbseg.train.engine import this_rank
    from kerbseg.train.run import train as train_network

    best = train_network(
        settings,
        run,
        data_root=data_root,
        initial=init,
        resume=resume,
        devices=devices,
        device=device,
        workers=workers,
        cache=cache,
        compile=compile,
    )
    if this_rank(devices, settings).index == 0:
        tell(_outcome(best, settings))


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
    from kerbseg.train.recipe_sense import counted

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
def recipe(name: str, *overrides: str) -> None:
    """Check a recipe and print it in full (YAML).

    Examples: `kerbseg recipe camvid/mininet_v2_cpu optim.lr=1e-3`,
    `kerbseg recipe camvid/erfnet > mine.yaml`, then `kerbseg train mine.yaml`

    Parameters
    ----------
    name
        YAML file, or the name of a shipped recipe (see: kerbseg recipes)
    overrides
        Change values of the recipe, such as optim.lr=1e-3
    """
    from kerbseg.core.strict_yaml import dump_yaml
    from kerbseg.train.recipe_file import read_any
    from kerbseg.train.recipe_sense import check_names, remarks

    settings = read_any(name, overrides)
    check_names(settings)
    for remark in remarks(settings):
        print(f"# note: {remark}")  # YAML still
    print(dump_yaml(settings.to_dict()), end="")
