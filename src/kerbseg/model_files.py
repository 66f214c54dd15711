"""Where the file of a model is: a path, a run's folder, shipped weights, or a hub. Looked up without torch."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from kerbseg.core.errors import BundleError, did_you_mean
from kerbseg.core.text import ADDRESS
from kerbseg.hub.addresses import Address, is_address

BEST = "best.safetensors"  # of a run's folder


def shipped() -> list[str]:
    """Names of the weights that come with kerbseg."""
    return sorted(path.stem for path in shipped_root().glob("*.safetensors"))


def locate(model: str | Path) -> Path:
    """The file of a model: a path, a run's folder (its best weights), or the name of weights that come with kerbseg.

    Or an address on a hub, `hf://owner/name` or `hf://owner/name@revision`, whose weights are fetched where that is
    needed. Every command and function that takes a model follows this one rule. Raises BundleError, with the nearest
    name, where there is no such file, and as `kerbseg.hub.fetch.fetch`.
    """
    if not isinstance(model, str | Path):
        raise BundleError(f"a model is a path or a name, not {type(model).__name__}; write: load('model.safetensors')")
    if is_address(model):
        from kerbseg.hub.fetch import fetch

        return fetch(str(model))
    if ADDRESS.match(str(model)):
        raise BundleError(f"model {model} is an address; download the file, and give its path")
    path = Path(model)
    try:
        for candidate in (path, path / BEST):
            if candidate.is_file():
                return candidate
        if str(model) in shipped():
            return shipped_root() / f"{model}.safetensors"
        if path.is_dir():
            raise BundleError(f"model {model} is a folder without {BEST}; name a run's folder, or the file itself")
        if path.exists():
            raise BundleError(f"model {model} is a pipe or a device, which cannot be read twice; copy it to a file")
    except OSError as error:  # a name that is too long, a folder that is closed to us
        raise BundleError(f"model {model} cannot be read ({error.strerror or error}); check its name") from error
    if not path.suffix:
        from kerbseg.models import list_models  # and with it torch, which only this error needs

        if str(model) in list_models():
            raise BundleError(f"model {model} is a network without weights; name a bundle of it, or a run's folder")
    hint = "" if path.suffix else f"; of the weights that come with kerbseg, {did_you_mean(str(model), shipped())}"
    raise BundleError(f"model {model} does not exist{hint}")


def title_of(model: str | Path, file: Path) -> str:
    """What a model is called that was found in this file: as weights, repository, run or file are."""
    if is_address(model):
        return Address.parse(str(model)).name
    if str(model) in shipped():
        return str(model)
    return file.absolute().parent.name if file.name == BEST else file.stem


def shipped_root() -> Path:
    """The folder of the weights that come with kerbseg."""
    return Path(str(files("kerbseg") / "weights"))
