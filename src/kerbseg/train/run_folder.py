"""A run's folder belongs to one training at a time, and is there only if something was saved in it."""

from __future__ import annotations

import errno
import os
import shlex
import shutil
import signal
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

from kerbseg.core.distributed import Rank
from kerbseg.core.errors import Interrupted, KerbsegError, KerbsegWarning

try:
    import fcntl
except ImportError:  # Windows has none
    fcntl = None  # type: ignore[assignment]

LOCK = ".lock"
SAVED = ("last.ckpt", "best.safetensors")
LOGS = ("tensorboard", "wandb", "mlflow")  # folders of loggers
BEGUN = ("recipe.yaml", LOCK, *LOGS)  # what stands there of a training that has not saved anything yet
_held: set[int] = set()  # files whose lock this process holds


def check_free(run: Path, data_root: str | Path | None = None) -> None:
    """Raises KerbsegError, with the command that continues it, where a folder holds a run already."""
    if any((run / name).is_file() for name in SAVED):
        raise KerbsegError(
            f"{run} holds a run already; continue it with: {resume_command(run, data_root)}; or choose another --out"
        )


@contextmanager
def claim(run: Path, rank: Rank, data_root: str | Path | None = None) -> Iterator[None]:
    """Makes the folder and keeps it for this training while the block runs; the first process does, for all.

    The kernel ends the claim when the process dies, however it dies. Where the block fails before anything is saved,
    what it has put there goes again; Ctrl-C says the command that goes on, with `data_root`. Raises KerbsegError where
    another training holds the folder, which names its process, or where the folder cannot be written.
    """
    if rank.index > 0 or fcntl is None:
        yield
        return
    made = [folder for folder in (run, *run.parents) if not folder.exists()]
    own = [run / name for name in BEGUN if not (run / name).exists()]
    try:
        run.mkdir(parents=True, exist_ok=True)
        file = _lock(run)
    except OSError as error:
        for folder in made:
            with suppress(OSError):
                folder.rmdir()
        raise KerbsegError(f"cannot write into {run}: {error.strerror or error}; choose another --out") from error
    try:
        yield
    except BaseException as error:
        if not any((run / name).exists() for name in SAVED):
            _remove(own, made)
        if isinstance(error, KeyboardInterrupt):
            signum = getattr(error, "signum", signal.SIGINT)
            raise Interrupted(signum, _after_interrupt(run, data_root)) from error
        raise
    finally:
        (run / LOCK).unlink(missing_ok=True)  # while it is still held
        _held.discard(file)
        os.close(file)


def _after_interrupt(run: Path, data_root: str | Path | None) -> str:
    if not (run / SAVED[0]).exists():
        return "interrupted before the end of the first epoch; nothing is kept"
    return f"interrupted; what was finished is kept: {resume_command(run, data_root)}"


def resume_command(run: Path, data_root: str | Path | None) -> str:
    """The command that goes on with a run."""
    data = "" if data_root is None else f" --data-root {shlex.quote(str(data_root))}"
    return f"kerbseg train --resume --out {shlex.quote(str(run))}{data}"


def _lock(run: Path) -> int:
    """The open lock file; who holds it stands in it."""
    path = run / LOCK
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            _take(file, run)
        except BaseException:
            os.close(file)
            raise
        if path.exists() and os.path.samestat(os.fstat(file), path.stat()):
            break
        os.close(file)  # the training that held it has just removed it
    os.truncate(file, 0)
    os.pwrite(file, f"{os.getpid()}\n".encode(), 0)
    _watch_forks()
    _held.add(file)
    return file


def _take(file: int, run: Path) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        holder = os.pread(file, 32, 0).decode(errors="replace").strip()
        raise KerbsegError(
            f"process {holder or '(unknown)'} is training into {run}; wait for its end, or choose another --out"
        ) from error
    except OSError as error:
        if error.errno not in (errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK, errno.ENOSYS, errno.EINVAL):
            raise
        what = f"{run}: this file system knows no locks; start no second training into it"
        warnings.warn(KerbsegWarning(what), stacklevel=2)


@cache
def _watch_forks() -> None:
    os.register_at_fork(after_in_child=_forget)


def _forget() -> None:
    """In a process that reads pictures: it must not hold the folder when its training has died."""
    while _held:
        with suppress(OSError):
            os.close(_held.pop())


def _remove(own: Sequence[Path], made: Sequence[Path]) -> None:
    """Takes away what a training that has saved nothing leaves: its files, and the folders that it made."""
    for path in own:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    for folder in made:
        with suppress(OSError):  # something else has come into it
            folder.rmdir()
