"""Writing files so that nothing is lost: to a temporary name first, renamed when whole."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from kerbseg.core.errors import KerbsegError


@contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """A temporary path beside `path` that replaces it when the block ends well; else the old file stays.

    The temporary name keeps the suffix, since many writers choose their format by it. Folders are made.
    Raises KerbsegError where the folder cannot be written or the disk is full.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.tmp{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with temporary.open("rb+") as file:  # the rename must not overtake the data
            os.fsync(file.fileno())
        temporary.chmod(0o666 & ~_umask())  # some writers make files that only their owner can read
        temporary.replace(path)
    except OSError as error:
        raise KerbsegError(
            f"cannot write {path}: {error.strerror or error}; free space or choose another place"
        ) from error
    finally:
        with suppress(OSError):  # a file in the place of the folder, say: the error above tells it better
            temporary.unlink(missing_ok=True)


def remove_leftovers(folder: Path) -> None:
    """Removes what `atomic_write` was writing into the folder when its process was killed."""
    for path in folder.glob(".*.tmp.*"):
        if path.name.split(".")[-3].isdigit():
            path.unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
