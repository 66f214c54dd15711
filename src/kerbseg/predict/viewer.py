"""The system's own viewer of pictures and videos, started and left alone."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

from kerbseg.core.errors import KerbsegError

OPENERS = ("xdg-open", "gio")  # of Linux; the first that is there


def why_not() -> str | None:
    """Why nothing can be shown here; None where something can."""
    if sys.platform in ("darwin", "win32"):
        return None
    if not os.environ.get("DISPLAY") and not os.environ.get("WAYLAND_DISPLAY"):
        return "there is no display here (neither DISPLAY nor WAYLAND_DISPLAY is set)"
    if not any(map(shutil.which, OPENERS)):
        return f"there is no program that opens pictures here ({' or '.join(OPENERS)})"
    return None


def open_file(path: str | Path) -> None:
    """Opens a file in the viewer that the system has for its kind, and does not wait for it.

    Raises KerbsegError where nothing can be shown.
    """
    reason, path = why_not(), Path(path).resolve()
    if reason is not None:
        raise KerbsegError(f"{reason}; look at {path} on another machine")
    if sys.platform == "win32":
        os.startfile(path)
        return
    command = ["open"] if sys.platform == "darwin" else _linux_command()
    try:
        subprocess.Popen(  # lives on when we end, and hears no Ctrl-C of ours
            [*command, str(path)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    except OSError as error:
        raise KerbsegError(f"{command[0]} cannot be started: {error.strerror}; look at {path} yourself") from error


def show_picture(picture: Image.Image) -> None:
    """Opens a picture in the system's viewer; its file stays among the temporary ones, since the viewer reads it later.

    Raises KerbsegError where nothing can be shown.
    """
    if (reason := why_not()) is not None:
        raise KerbsegError(f"{reason}; save the picture and look at it on another machine")
    descriptor, name = tempfile.mkstemp(suffix=".png", prefix="kerbseg-")
    with os.fdopen(descriptor, "wb") as file:
        picture.save(file, "PNG")
    open_file(name)


def _linux_command() -> list[str]:
    opener = next(name for name in OPENERS if shutil.which(name))
    return [opener, "open"] if opener == "gio" else [opener]
