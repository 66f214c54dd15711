"""`kerbseg.train`: a recipe, by name or as an object, becomes a run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from kerbseg.core.errors import UserError
from kerbseg.train.recipe import Classification, Recipe, read_any

if TYPE_CHECKING:
    from kerbseg.train.engine import Device
    from kerbseg.train.split import Cache


def train(
    recipe: str | Path | Recipe | Classification | None = None,
    overrides: Sequence[str] = (),
    *,
    out: str | Path | None = None,
    data_root: str | Path | None = None,
    initial: str | Path | None = None,
    resume: bool = False,
    device: Device = "auto",
    devices: int = 1,
    workers: int = 0,
    cache: Cache = "auto",
    compile: bool = False,
) -> Path:
    """The file of the best weights, OUT/best.safetensors, after training as a recipe says.

    The recipe is a YAML file or the name of a shipped one, with `key.path=value` overrides; without it, that of the
    run in `out`, which `resume` goes on with. Raises KerbsegError for data, recipes or folders that cannot be used.
    """
    settings = recipe_of(recipe, overrides, out if resume else None)
    run = run_folder(recipe, out)
    if isinstance(settings, Classification):
        from kerbseg.train.classify import fit_classifier

        return fit_classifier(
            settings,
            run,
            data_root=data_root,
            initial=initial,
            resume=resume,
            device=device,
            devices=devices,
            workers=workers,
            compile=compile,
        )
    from kerbseg.train.fit import fit

    fit(
        settings,
        run,
        data_root=data_root,
        initial=initial,
        resume=resume,
        device=device,
        devices=devices,
        workers=workers,
        cache=cache,
        compile=compile,
    )
    return run / "best.safetensors"


def recipe_of(
    recipe: str | Path | Recipe | Classification | None, overrides: Sequence[str] = (), run: str | Path | None = None
) -> Recipe | Classification:
    """The recipe asked for; without one, that of a run to go on with. Reads no more than YAML, and imports no torch."""
    if isinstance(recipe, Recipe | Classification):
        if overrides:
            raise UserError("overrides change a recipe that is read from a file; alter this one before")
        return recipe
    if recipe is not None:
        return read_any(recipe, overrides)
    if run is None:
        raise UserError("no recipe and no run to go on with; name a recipe, or the folder of a run")
    written = Path(run) / "recipe.yaml"
    if not written.is_file():
        raise UserError(f"nothing to resume: {written} does not exist; start with a recipe, without --resume")
    return read_any(written, overrides)


def run_folder(recipe: str | Path | Recipe | Classification | None, out: str | Path | None) -> Path:
    """Where a run is written: `out`, or runs/<recipe> for a recipe that has a name."""
    if out is not None:
        return Path(out)
    if recipe is None or isinstance(recipe, Recipe | Classification):
        raise UserError("missing --out: name the folder of the run")
    return Path("runs") / Path(recipe).with_suffix("").name
