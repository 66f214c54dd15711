"""LiteRT's converter, which lives in an environment of its own: it needs other versions than the rest of kerbseg.

`litert-torch` brings jax and a compiler, 2 GB in all. Nothing is installed without a word: `install` is called when a
user says so (`kerbseg export --install-converter`).
"""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from pathlib import Path

import torch

from kerbseg.core.errors import KerbsegError

PYTHON = "KERBSEG_LITERT_PYTHON"  # of an environment that somebody made, where there is one
REQUIREMENT = "litert-torch==0.10.0"
SECONDS = 1800  # that a conversion may take
SCRIPT = Path(__file__).with_name("_convert_to_tflite.py")


def home() -> Path:
    """The folder of the environment that kerbseg makes."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "kerbseg" / f"litert-torch{_torch_version()}"


def python() -> Path:
    """The interpreter of the converter's environment. Raises KerbsegError where there is none, with the remedy."""
    if own := os.environ.get(PYTHON):
        if not Path(own).is_file():
            raise KerbsegError(f"{PYTHON} names {own}, which is not there; name the python of that environment")
        return Path(own)
    made = _python_in(home())
    if not (home() / "ready").is_file():
        raise KerbsegError(
            "LiteRT's converter needs an environment of its own (2 GB): add --install-converter to make it in"
            f" {home()}, or make one (python -m venv DIR; DIR/bin/pip install {' '.join(_requirements())}) and set"
            f" {PYTHON}=DIR/bin/python"
        )
    return made


def install() -> Path:
    """Makes the environment where it is not there yet, and returns its interpreter.

    Raises KerbsegError where pip cannot install it. What was begun and not finished is made anew.
    """
    folder = home()
    if not (folder / "ready").is_file():
        venv.create(folder, clear=True, with_pip=True)
        command = [str(_python_in(folder)), "-m", "pip", "install", "--quiet", *_requirements()]
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
        if done.returncode:
            raise KerbsegError(f"{REQUIREMENT} could not be installed in {folder}: {_last_line(done.stderr)}")
        (folder / "ready").touch()
    return _python_in(folder)


def convert(source: Path, target: Path) -> None:
    """Turns a saved program of torch into a .tflite file. Raises KerbsegError where LiteRT cannot take it."""
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
    command = [str(python()), "-I", str(SCRIPT), str(source), str(target)]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=SECONDS, check=False, env=environment
        )
    except (subprocess.TimeoutExpired, OSError) as error:
        raise KerbsegError(f"LiteRT's converter did not finish ({error}); choose another engine") from error
    if done.returncode or not target.is_file():
        reasons = [line for line in done.stderr.splitlines() if line.startswith("refused: ")]
        reason = reasons[-1].removeprefix("refused: ") if reasons else _last_line(done.stderr)
        raise KerbsegError(f"LiteRT's converter cannot take this network: {reason}")


def _requirements() -> list[str]:
    """The torch of here, since it reads what this one saves."""
    return [f"torch=={_torch_version()}", REQUIREMENT]


def _torch_version() -> str:
    return torch.__version__.partition("+")[0]


def _python_in(folder: Path) -> Path:
    return folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:300] if lines else "it does not say why"
