"""What a kind of file is to the fuzzer: whole examples of it, ways to spoil one, commands that read it."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random

from fuzz_judge import Meaning

Result = Callable[[Path, str], str]
"""What a command made, in a word: of the case's folder and its standard output."""


@dataclass(frozen=True)
class Command:
    """A command line in the case's folder, and how its result is known."""

    argv: tuple[str, ...]
    result: Result | None = None  # None: it makes nothing that could be compared
    batch: bool = False  # may end with 1


@dataclass(frozen=True)
class Mutation:
    """What was done to the files, and what it asks of the commands."""

    label: str
    meaning: Meaning = "any"
    commands: tuple[Command, ...] | None = None  # instead of those of the kind


@dataclass(frozen=True)
class Kind:
    """One kind of file."""

    name: str
    count: int  # of mutated files in a whole run
    build: Callable[[Path, Path], None]  # whole examples into a folder, from that of what all kinds share
    spoil: Callable[[Random, Path], Mutation]  # spoils them in place
    commands: Callable[[Random, Path], tuple[Command, ...]]  # chosen before the files are spoiled
    preload: tuple[str, ...]  # imported once by the server of its commands


def command(line: str, result: Result | None = None, batch: bool = False) -> Command:
    """A command from a line without quotes."""
    return Command(tuple(line.split()), result, batch)


def rewrite(path: Path, data: bytes | str) -> None:
    """Puts other content into a file."""
    path.unlink(missing_ok=True)
    path.write_bytes(data if isinstance(data, bytes) else data.encode(errors="surrogatepass"))


def copy_shared(shared: Path, folder: Path, *names: str) -> None:
    """Files and folders that all kinds share, into the folder of one."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        source = shared / name
        if source.is_dir():
            shutil.copytree(source, folder / name)
        else:
            shutil.copy(source, folder / name)


def ids_of(folder: Path, stdout: str) -> str:
    """The class ids that predict wrote."""
    return _hash(
        (path.relative_to(folder).as_posix().encode() + path.read_bytes()) for path in _files(folder / "out", "*_ids*")
    )


def frames_of(folder: Path, stdout: str) -> str:
    """How many pictures of ids predict wrote of a video, and which."""
    files = _files(folder / "out", "*.png")
    return f"{len(files)} {_hash(path.read_bytes() for path in files)}"


def confusion_of(folder: Path, stdout: str) -> str:
    """What evaluate measured."""
    return json.dumps(json.loads((folder / "figures.json").read_text())["confusion"])


def printed(folder: Path, stdout: str) -> str:
    """What the command said."""
    return stdout


def weights_of(name: str) -> Result:
    """The tensors in a bundle; its card holds sums of the files it was made of."""

    def result(folder: Path, stdout: str) -> str:
        data = (folder / name).read_bytes()
        length = int.from_bytes(data[:8], "little")
        header = json.loads(data[8 : 8 + length])
        header.pop("__metadata__", None)
        return _hash([json.dumps(header, sort_keys=True).encode(), data[8 + length :]])

    return result


def _files(folder: Path, pattern: str) -> list[Path]:
    return sorted(path for path in folder.rglob(pattern) if path.is_file())


def _hash(parts: object) -> str:
    digest = hashlib.sha256()
    for part in parts:  # type: ignore[attr-defined]
        digest.update(part)
    return digest.hexdigest()[:16]
