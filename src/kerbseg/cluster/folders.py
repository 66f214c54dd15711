"""Where results go: a folder of this file system, or of an object store. A file is there whole, or not at all."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Protocol

from kerbseg.cluster.stores import Store
from kerbseg.core.errors import DataError
from kerbseg.core.files import atomic_write, remove_leftovers
from kerbseg.core.text import ADDRESS

LOCAL = "file://"


class Folder(Protocol):
    """A folder of results. Names are relative to it, with `/` between folders.

    Reading raises DataError, writing KerbsegError, where the place cannot be used.
    """

    def names(self, under: str) -> list[str]:
        """The files right in a subfolder; none where there is none."""

    def read(self, name: str) -> bytes | None:
        """A file's content; None where there is none."""

    def read_all(self, names: Sequence[str]) -> list[bytes]:
        """The content of several files that are there."""

    def write(self, name: str, content: bytes) -> None:
        """Writes a file, or replaces it."""

    def put(self, name: str, path: Path) -> None:
        """Writes a file that lies here."""

    def remove(self, name: str) -> None:
        """Removes a file that is there."""

    def tidy(self, folders: Iterable[str]) -> None:
        """Removes from subfolders what processes were writing when they were killed."""

    def filling(self) -> AbstractContextManager[Path]:
        """A local folder; what is written into it is in this one when the block ends."""


class LocalFolder:
    """A folder of this file system."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def names(self, under: str) -> list[str]:
        """The files right in a subfolder, without those that are being written."""
        folder = self.path / under
        try:
            files = sorted(each.name for each in folder.iterdir()) if folder.is_dir() else []
        except OSError as error:
            raise DataError(f"folder {folder} cannot be read: {error.strerror}; check its rights") from error
        return [f"{under}/{name}" for name in files if not name.startswith(".")]

    def read(self, name: str) -> bytes | None:
        """A file's content; None where there is none."""
        path = self.path / name
        try:
            return path.read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise DataError(f"{path} cannot be read: {error.strerror}; check its rights") from error

    def read_all(self, names: Sequence[str]) -> list[bytes]:
        """The content of several files that are there."""
        return [self.read(name) or b"" for name in names]

    def write(self, name: str, content: bytes) -> None:
        """Writes a file, or replaces it."""
        with atomic_write(self.path / name) as temporary:
            temporary.write_bytes(content)

    def put(self, name: str, path: Path) -> None:
        """Writes a file that lies here."""
        with atomic_write(self.path / name) as temporary:
            shutil.copyfile(path, temporary)

    def remove(self, name: str) -> None:
        """Removes a file."""
        (self.path / name).unlink(missing_ok=True)

    def tidy(self, folders: Iterable[str]) -> None:
        """Removes from subfolders what processes were writing when they were killed."""
        for folder in folders:
            remove_leftovers(self.path / folder)

    @contextmanager
    def filling(self) -> Iterator[Path]:
        """The folder itself: our sinks write each file whole, or not at all."""
        yield self.path


class StoredFolder:
    """A folder of an object store, by its address."""

    def __init__(self, address: str) -> None:
        self._store = Store(address)

    def names(self, under: str) -> list[str]:
        """The files right in a subfolder."""
        return [f"{under}/{name}" for name in self._store.names(under)]

    def read(self, name: str) -> bytes | None:
        """A file's content; None where there is none."""
        return self._store.read(name)

    def read_all(self, names: Sequence[str]) -> list[bytes]:
        """The content of several files that are there, many at a time."""
        return self._store.read_all(names)

    def write(self, name: str, content: bytes) -> None:
        """Writes a file, or replaces it."""
        self._store.write(name, content)

    def put(self, name: str, path: Path) -> None:
        """Sends a file that lies here."""
        self._store.put(name, path)

    def remove(self, name: str) -> None:
        """Removes a file."""
        self._store.remove(name)

    def tidy(self, folders: Iterable[str]) -> None:
        """Nothing: a store shows whole files alone."""

    @contextmanager
    def filling(self) -> Iterator[Path]:
        """A folder beside, whose files are sent when all are written."""
        with TemporaryDirectory(prefix="kerbseg-out-") as temporary:
            folder = Path(temporary)
            yield folder
            for path in sorted(each for each in folder.rglob("*") if each.is_file()):
                self.put(path.relative_to(folder).as_posix(), path)


def open_folder(out: str) -> Folder:
    """The folder of a path, or of an address such as s3://bucket/results."""
    if out.startswith(LOCAL):
        return LocalFolder(Path(out.removeprefix(LOCAL)))
    return StoredFolder(out) if ADDRESS.match(out) else LocalFolder(Path(out))
