"""Writing files so that nothing is lost: to a temporary name first, renamed when whole."""

from __future__ import annotations

import errno
import os
import platform
import re
import secrets
import shutil
import stat
import sys
import tempfile
import time
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import takewhile
from pathlib import Path

from kerbseg.core.errors import KerbsegError

Special = Path | int  # what is written through: a device, a pipe, or the number of an open file

LONGEST_SUFFIX = 16  # characters that a temporary name keeps; writers know no longer ones
FORGOTTEN = 24 * 3600  # seconds after which what another machine was writing is left over
NO_RENAME = {errno.EBUSY, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM}  # of mount points, and of mounted buckets
NO_FSYNC = {errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM, errno.EACCES}
STANDARD = {"/dev/stdout": 1, "/dev/stderr": 2}
_TEMPORARY = re.compile(r"\.kerbseg-(?P<machine>[0-9a-f]{8})-(?P<process>\d+)-[0-9a-f]{16}\.tmp(\..*)?")
_writing: set[str] = set()  # the temporary names of this process


@contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """A temporary path that replaces `path` when the block ends well; else the old file stays.

    It lies beside the file and keeps the suffix, since many writers choose their format by it. Folders are made,
    and go again if nothing comes into them; symbolic links are followed. What cannot be replaced (a device, a pipe,
    /dev/stdout) is written through at the end. Raises KerbsegError where `path` cannot be written or the disk is
    full.
    """
    path = Path(path)
    temporary, special = None, None
    made: tuple[Path, ...] = ()
    try:
        target, special = _target(path)
        folder = target.parent if special is None else Path(tempfile.gettempdir())
        made = _make(folder)
        temporary, mode = _create(folder, path.suffix)
        yield temporary
        if special is None:
            _replace(temporary, target, mode)
        else:
            _pour(temporary, special)
        made = ()
    except OSError as error:
        if isinstance(error, BrokenPipeError) and isinstance(special, int):
            raise  # whoever read our standard output has seen enough, such as `head`
        raise _unwritable(path, error) from error
    finally:
        if temporary is not None:
            with suppress(OSError):  # the folder is gone, say: the error above tells it better
                temporary.unlink(missing_ok=True)
            _writing.discard(temporary.name)
        _remove_empty(made)


@contextmanager
def folder_beside(path: Path) -> Iterator[Path]:
    """A new folder where `path` is to lie, for writers of several files; at the end it goes with what is left in it.

    Raises KerbsegError where none can be made.
    """
    folder = path.parent / f".kerbseg-{_machine()}-{os.getpid()}-{secrets.token_hex(8)}.tmp"
    try:
        made = _make(path.parent)
        folder.mkdir()
    except OSError as error:
        raise _unwritable(path, error) from error
    _writing.add(folder.name)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        _writing.discard(folder.name)
        _remove_empty(made)


def _make(folder: Path) -> tuple[Path, ...]:
    """Makes a folder, and those above it; gives those that were not there, the lowest first."""
    missing = tuple(takewhile(lambda each: not each.exists(), (folder, *folder.parents)))
    folder.mkdir(parents=True, exist_ok=True)
    return missing


def _remove_empty(folders: Iterable[Path]) -> None:
    for folder in folders:
        with suppress(OSError):  # something lies in it
            folder.rmdir()


def check_writable(path: str | Path) -> None:
    """Raises KerbsegError where `atomic_write` would, as far as it can be known before the work and without a trace."""
    path = Path(path)
    try:
        target, special = _target(path)
        place = target if special is not None else target.parent
        while special is None and not os.path.lexists(place):
            place = place.parent  # folders are made
        if special is None and not place.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, f"{place} is no folder")
        if not isinstance(special, int) and not os.access(place, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        raise _unwritable(path, error) from error


def check_replaces(path: str | Path, kind: str, beginnings: bytes) -> None:
    """Raises KerbsegError for a file that is there and begins otherwise than its kind: a slip would lose it."""
    path = Path(path)
    if path.as_posix() in STANDARD or not path.is_file():
        return
    with path.open("rb") as file:
        begins = file.read(1024).lstrip()[:1]
    if begins and begins not in beginnings:
        raise KerbsegError(f"{path} is no {kind}; name another file, so that it is not lost")


def remove_leftovers(folder: Path) -> None:
    """Removes what `atomic_write` and `folder_beside` were writing into the folder when its process was killed."""
    for path in folder.glob(".kerbseg-*"):
        match = _TEMPORARY.fullmatch(path.name)
        if match and path.name not in _writing:
            with suppress(OSError):  # gone meanwhile, or another user's
                if match["machine"] == _machine():
                    over = int(match["process"]) == os.getpid() or not _runs(int(match["process"]))
                else:
                    over = time.time() - path.stat().st_mtime > FORGOTTEN
                if over and path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path)
                elif over:
                    path.unlink()


def _target(path: Path) -> tuple[Path, Special | None]:
    """Where symbolic links lead, and what is there to be written through rather than replaced."""
    if "\0" in str(path):
        raise OSError(errno.EINVAL, "its name has a zero character")
    for _ in range(40):  # as many links as Linux follows
        folder = Path(os.path.realpath(path.parent))  # resolve() raises no OSError for links in a circle
        # an open file goes by its number: opened again by its name it would lose what others wrote to it
        if path.as_posix() in STANDARD:
            return path, STANDARD[path.as_posix()]
        if folder.as_posix() in ("/dev/fd", f"/proc/{os.getpid()}/fd") and path.name.isdecimal():
            return path, int(path.name)
        if not path.is_symlink():
            break
        path = folder / os.readlink(path)
    else:
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return path, None
    if stat.S_ISDIR(mode):
        raise OSError(errno.EISDIR, "it is a folder")
    return path, None if stat.S_ISREG(mode) else path


def _create(folder: Path, suffix: str) -> tuple[Path, int]:
    """A new empty file under a name that nobody can foresee, and its mode."""
    kept = suffix if len(suffix) <= LONGEST_SUFFIX else ""
    path = folder / f".kerbseg-{_machine()}-{os.getpid()}-{secrets.token_hex(8)}.tmp{kept}"
    descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
    _writing.add(path.name)
    try:
        return path, os.fstat(descriptor).st_mode
    finally:
        os.close(descriptor)


def _replace(temporary: Path, target: Path, mode: int) -> None:
    try:
        with temporary.open("rb+") as file:  # the rename must not overtake the data
            os.fsync(file.fileno())
    except OSError as error:
        if error.errno not in NO_FSYNC:
            raise
    if temporary.stat().st_mode != mode:  # some writers make files that only their owner can read
        with suppress(OSError):  # not every file system has modes
            temporary.chmod(stat.S_IMODE(mode))
    try:
        temporary.replace(target)
    except OSError as error:
        if error.errno not in NO_RENAME:
            raise
        _pour(temporary, target)


def _pour(source: Path, target: Special) -> None:
    """Copies the content into what cannot be replaced."""
    for stream in (sys.stdout, sys.stderr):  # what was printed before comes before
        if stream is not None:
            stream.flush()
    with source.open("rb") as content, open(target, "wb", closefd=not isinstance(target, int)) as file:
        shutil.copyfileobj(content, file)


def remedy(error: OSError) -> str | None:
    """What helps against an error of the system, where more can be said than to choose another place."""
    return {
        errno.ENOSPC: "free space, or choose another place",
        errno.EDQUOT: "free space, or choose another place",
        errno.ENAMETOOLONG: "choose a shorter name",
        errno.EISDIR: "name a file in it",
    }.get(error.errno or 0)


def _unwritable(path: Path, error: OSError) -> KerbsegError:
    return KerbsegError(f"cannot write {path}: {error.strerror or error}; {remedy(error) or 'choose another place'}")


def _machine() -> str:
    """What tells this machine, and the container in it, from others whose process numbers mean something else."""
    try:
        space = os.readlink("/proc/self/ns/pid")
    except OSError:  # not Linux
        space = ""
    return f"{zlib.crc32(f'{platform.node()} {space}'.encode()):08x}"


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's
        return True
    return True
