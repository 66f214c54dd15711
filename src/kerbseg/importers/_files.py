"""What all importers ask of a file before they read it."""

from __future__ import annotations

from pathlib import Path

from kerbseg.core.errors import BundleError


def require_file(path: Path, hint: str = "") -> None:
    """Raises BundleError, with the hint, where there is no file, or something that is read once at most."""
    try:
        if path.is_file():
            return
        problem = "is a folder, a pipe or a device, not a file" if path.exists() else "does not exist"
    except OSError as error:  # a name that is too long, a folder that is closed to us
        problem = f"cannot be read ({error.strerror or error})"
    raise BundleError(f"{path} {problem}{hint}")
