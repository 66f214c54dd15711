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
    hours: float | None = None,
) -> None:
    """Train from a recipe (YAML).

    Writes recipe.yaml, metrics.csv, tensorboard/, last.ckpt, best.safetensors and last.safetensors.

    Examples: `kerbseg train camvid/mininet_v2_cpu epochs=2 --data-root data/camvid --out run`,
    `kerbseg train --resume --out run`

    Parameters
    ----------
    recipe
        A YAML file, or the name of a shipped recipe (kerbseg recipes lists them); with --resume that of the run
    overrides
        Recipe keys to change, such as optim.lr=1e-3
    out
        Folder of the run (default: runs/RECIPE)
    init
        Weights to start from: a bundle, a run folder, the name of shipped weights, or a classifier for the part that
        model.init names
    resume
        Go on with the run in OUT; it ends with the weights of an unbroken run
    devices
        Number of GPUs, or of processes with --device cpu, that share each batch; torchrun sets it by itself
    device
        Where to train (default: a GPU if there is one)
    workers
        Number of processes that read pictures from disk
    cache
        Where decoded pictures are kept; auto: on the device or in memory, if they need less than a quarter of it
    compile
        Let torch compile the network: takes a minute or more at first, and pays in long runs
    hours
        Time limit of this start, such as 1.5: training stops after the last epoch that fits in, and --resume goes on
        (default: none)
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
            "missing RECIPE; kerbseg recipes lists them, and --resume --out RUN goes on with that of a run"
        )
    elif overrides:
        raise KerbsegError(
            f"{overrides[0]!r} would change the recipe of a run; resume it as it is, or begin another run"
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
        hours=hours,
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
    """List the shipped recipes: network, data set, epochs, and the figure that each is expected to reach.

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
    """Check a recipe and print it with all its keys, as YAML.

    Examples: `kerbseg recipe camvid/mininet_v2_cpu optim.lr=1e-3`,
    `kerbseg recipe camvid/erfnet > mine.yaml`, then `kerbseg train mine.yaml`

    Parameters
    ----------
    name
        A YAML file, or the name of a shipped recipe (kerbseg recipes lists them)
    overrides
        Recipe keys to change, such as optim.lr=1e-3
    """
    from kerbseg.core.strict_yaml import dump_yaml
    from kerbseg.train.recipe_file import read_any
    from kerbseg.train.recipe_sense import check_names, remarks

    settings = read_any(name, overrides)
    check_names(settings)
    for remark in remarks(settings):
        print(f"# note: {remark}")  # YAML still
    print(dump_yaml(settings.to_dict()), end="")
