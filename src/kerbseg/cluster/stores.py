"""Object stores, by addresses such as s3://bucket/drive: the one place that imports fsspec."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from kerbseg.core.errors import DataError, KerbsegError, MissingExtra, did_you_mean

PRIVATE = ("memory",)
"""Schemes of stores that one process alone sees."""


def _fsspec() -> Any:
    try:
        import fsspec
    except ImportError as error:
        raise MissingExtra("fsspec", "ray") from error
    return fsspec


class Store:
    """A place in a store, and the files under it; each is written whole, or not at all.

    Raises DataError, which names the address, where the store cannot be used, MissingExtra without the package that
    fsspec needs for it.
    """

    def __init__(self, address: str) -> None:
        fsspec, scheme = _fsspec(), address.partition("://")[0]
        if scheme not in fsspec.available_protocols():
            raise KerbsegError(
                f"{address} is in no store that is known; {did_you_mean(scheme, fsspec.available_protocols())}"
            )
        self.address = address
        with self._told("opened"):
            self._files, self._root = fsspec.core.url_to_fs(address)

    def listed(self, recursive: bool = False) -> list[tuple[str, str]]:
        """The files that the address names: itself, those right in it, with `recursive` all under it, or a glob's.

        Of each the address, and its name as seen from there. Raises DataError where there is none.
        """
        with self._told("listed"):
            self._files.invalidate_cache()
            if any(sign in self._root for sign in "*?["):
                paths = [(path, PurePosixPath(path).name) for path in self._files.glob(self._root)]
            elif self._files.isfile(self._root):
                paths = [(self._root, PurePosixPath(self._root).name)]
            else:
                found = self._files.find(self._root, maxdepth=None if recursive else 1)
                paths = [(path, str(PurePosixPath(path).relative_to(self._root))) for path in found]
        if not paths:
            raise DataError(f"{self.address} is no file, and no folder or glob with files in it; check the address")
        return [(self._files.unstrip_protocol(path), name) for path, name in sorted(paths)]

    def fetch(self, path: Path) -> None:
        """Copies the file of this address to a path."""
        with self._told("read"):
            self._files.get_file(self._root, str(path))

    def names(self, under: str) -> list[str]:
        """The names of the files right in a subfolder; none where there is none."""
        with self._told("listed"):
            self._files.invalidate_cache()  # workers write, too
            with suppress(FileNotFoundError):
                entries = self._files.ls(self._path(under), detail=True)
                return sorted(PurePosixPath(each["name"]).name for each in entries if each["type"] == "file")
        return []

    def read(self, name: str) -> bytes | None:
        """The content of a file under it; None where there is none."""
        with self._told("read"), suppress(FileNotFoundError):
            content: bytes = self._files.cat_file(self._path(name))
            return content
        return None

    def read_all(self, names: Sequence[str]) -> list[bytes]:
        """The content of several files that are there, many at a time."""
        if not names:
            return []
        with self._told("read"):
            contents = self._files.cat([self._path(name) for name in names])
            return list(contents.values())

    def write(self, name: str, content: bytes) -> None:
        """Writes a file under it, or replaces it."""
        self._write(name, BytesIO(content))

    def put(self, name: str, path: Path) -> None:
        """Writes a file that lies here."""
        with path.open("rb") as file:
            self._write(name, file)

    def remove(self, name: str) -> None:
        """Removes a file under it."""
        with self._told("written to"), suppress(FileNotFoundError):
            self._files.rm_file(self._path(name))

    def _write(self, name: str, content: BinaryIO) -> None:
        with self._told("written to"):
            path = self._path(name)
            with suppress(NotImplementedError):  # object stores have no folders
                self._files.makedirs(path.rpartition("/")[0], exist_ok=True)
            with self._files.transaction, self._files.open(path, "wb") as file:  # it appears when the block ends well
                shutil.copyfileobj(content, file)

    def _path(self, name: str) -> str:
        return f"{self._root.rstrip('/')}/{name}"

    @contextmanager
    def _told(self, doing: str) -> Iterator[None]:
        """Whatever a store raises (each has errors of its own) as one line that names the address."""
        try:
            yield
        except (KerbsegError, MemoryError):
            raise
        except FileNotFoundError as error:
            raise DataError(f"{self.address} does not exist; check the address") from error
        except ImportError as error:
            raise MissingExtra(self._package(), None) from error
        except Exception as error:  # of botocore, aiohttp, paramiko, ...
            reason = str(error) or type(error).__name__
            raise DataError(
                f"{self.address} cannot be {doing}: {reason}; check the address, your keys and the network"
            ) from error

    def _package(self) -> str:
        """The package that this store needs, such as s3fs."""
        from fsspec.registry import known_implementations

        known = known_implementations.get(self.address.partition("://")[0], {})
        return str(known.get("class", "its package")).partition(".")[0]


def fetched(address: str, folder: Path) -> Path:
    """A copy of a stored file, in a folder; it keeps its name. Raises DataError where it cannot be read."""
    path = folder / (PurePosixPath(address.partition("?")[0]).name or "file")
    Store(address).fetch(path)
    return path
