"""What all importers ask of a file before they read it."""

from __future__ import annotations

import os
from collections.abc import Hashable, Iterable
from pathlib import Path
from typing import TypeVar

from kerbseg.core.errors import BundleError

Key = TypeVar("Key", bound=Hashable)

# before every name: of several GPUs (PyTorch, Paddle), and of a module that held network and loss
PREFIXES = ("module.", "_layers.", "model.")


def require_file(path: Path, hint: str = "", empty: bool = False) -> None:
    """Raises BundleError, with the hint, where there is no file, or something that is read once at most.

    One that may not be read, or is empty where that is not said to be right, is refused, too, with a remedy.
    """
    try:
        if path.is_file():
            if not os.access(path, os.R_OK):
                raise BundleError(f"{path} may not be read by you; change its permissions or copy it")
            if not empty and not path.stat().st_size:
                raise BundleError(f"{path} is empty; copy it again")
            return
        problem = "is a folder, a pipe or a device, not a file" if path.exists() else "does not exist"
    except OSError as error:  # a name that is too long, a folder that is closed to us
        problem = f"cannot be read ({error.strerror or error})"
    raise BundleError(f"{path} {problem}{hint}")


def bare_names(keys: Iterable[Key], where: Path) -> dict[Key, str]:
    """A file's keys -> the names in the network itself, without those of what it was wrapped in, however often.

    Raises BundleError where two keys are then one.
    """
    names: dict[Key, str] = {}
    seen: set[str] = set()
    for key in keys:
        name = str(key)
        while name.startswith(PREFIXES):
            name = name.partition(".")[2]
        if name in seen:
            raise BundleError(f"{where} holds {name!r} twice, once as {str(key)!r}; save one network alone")
        seen.add(name)
        names[key] = name
    return names
