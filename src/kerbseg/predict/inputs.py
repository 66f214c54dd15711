"""What the inputs of a prediction name: files, folders, globs and streams; and what of a folder is left out."""

from __future__ import annotations

import glob
import os
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from kerbseg.core.classes import CLASSES
from kerbseg.core.errors import DataError, KerbsegError, KerbsegWarning
from kerbseg.predict.sinks import endings_of_results
from kerbseg.predict.sources import BagSource, RawFrames, Source, find_source, input_suffixes, open_source
from kerbseg.predict.sources.streams import takes_raw


@dataclass(frozen=True)
class Inputs:
    """The sources that inputs name, each once, and why others name none."""

    sources: list[Source]
    failures: dict[str, KerbsegError] = field(default_factory=dict)


def expand(
    inputs: Sequence[str | Path],
    raw: RawFrames | None = None,
    recursive: bool = False,
    leave_out: Path | None = None,
    topics: Sequence[str] = (),
) -> Inputs:
    """The sources that inputs name.

    Of a folder they are the pictures and videos right in it, or with `recursive` those in its subfolders too, whose
    names then begin with the subfolder; hidden files, our own results and the folder `leave_out` do not count. A
    KerbsegWarning counts what else is left out. Of a bag each of `topics` is a source. Raises KerbsegError where
    nothing is asked for.
    """
    if not inputs:
        raise KerbsegError("nothing to predict: name a picture, a folder, a glob, a video or a stream")
    if raw is not None and not any(map(takes_raw, inputs)):
        raise KerbsegError("raw frames come from the standard input (-) or a named pipe, and no input is one")
    sources: dict[Source, None] = {}
    failures: dict[str, KerbsegError] = {}
    for given in inputs:
        try:
            for source in _expanded(given, raw, recursive, leave_out, failures, topics):
                each = source.each() if isinstance(source, BagSource) else [source]
                sources.update(dict.fromkeys(each))
        except DataError as error:
            failures[str(given)] = error
    if topics and not failures and not any(isinstance(source, BagSource) for source in sources):
        raise KerbsegError("--topic names pictures in a bag, and no input is one; leave it out")
    return Inputs(list(sources), failures)


def _expanded(
    given: str | Path,
    raw: RawFrames | None,
    recursive: bool,
    leave_out: Path | None,
    failures: dict[str, KerbsegError],
    topics: Sequence[str],
) -> list[Source]:
    source = find_source(given, raw, topics)
    if source is not None:
        return [source]
    path = Path(given)
    if path.is_dir():
        groups = list(_folders(path, recursive, leave_out, failures))
    else:
        groups = [(Path(), sorted(map(Path, glob.glob(str(given), recursive=True))))]
    sources: list[Source] = []
    skipped: list[str] = []
    for subfolder, names in groups:
        inputs, left_out = _sorted_out(names)
        skipped += left_out
        for name in inputs:
            try:
                opened = open_source(name, raw, topics)
                sources.append(replace(opened, name=str(subfolder / opened.name)))
            except DataError as error:
                failures[str(name)] = error
    if not sources and not failures:
        only = f", only {_counted(skipped)}" if skipped else ""
        raise DataError(f"{given} is no file, and no folder or glob with pictures or videos in it{only}")
    if skipped:
        total = len(skipped) + len(sources)
        message = f"{given}: left out {len(skipped)} of {total} that are no pictures or videos that kerbseg reads"
        warnings.warn(KerbsegWarning(f"{message}: {_counted(skipped)}"), stacklevel=2)
    return sources


def _folders(
    top: Path, recursive: bool, leave_out: Path | None, failures: dict[str, KerbsegError]
) -> Iterator[tuple[Path, list[Path]]]:
    """A folder (as seen from the top) and what is right in it, then its subfolders; links lead in no circle."""

    def unreadable(error: OSError) -> None:
        failures[str(error.filename)] = DataError(
            f"folder {error.filename} cannot be read: {error.strerror}; check its rights"
        )

    seen: set[str] = set()
    for here, folders, files in os.walk(top, onerror=unreadable, followlinks=True):
        folder, real = Path(here), os.path.realpath(here)
        names = [folder / name for name in sorted([*files, *(() if recursive else folders)])]
        results = _results(names)
        inside = sorted(name for name in folders if not name.startswith(".") and folder / name not in results)
        folders[:] = [name for name in inside if recursive and real not in seen and not _is(folder / name, leave_out)]
        if real not in seen:
            yield folder.relative_to(top), names
        seen.add(real)


def _is(folder: Path, other: Path | None) -> bool:
    return other is not None and os.path.realpath(folder) == os.path.realpath(other)


def _sorted_out(names: Sequence[Path]) -> tuple[list[Path], list[str]]:
    """Those that are inputs, and what the others are; of hidden files and our own results nobody needs a word."""
    results = _results(names)
    visible = [name for name in names if not name.name.startswith(".") and name not in results]
    visible = [name for name in visible if name.name != CLASSES]
    inputs = [name for name in visible if _is_input(name)]
    return inputs, [_kind(name) for name in visible if name not in set(inputs)]


def _results(names: Iterable[Path]) -> set[Path]:
    """What predictions into the same folder have made of its inputs."""
    inputs = [name for name in names if _is_input(name)]
    endings = endings_of_results()
    starts = [name.with_name(start) for name in inputs for start in (name.stem, name.name)]
    return {start.with_name(start.name + ending) for start in starts for ending in endings}


def _is_input(path: Path) -> bool:
    return path.suffix.lower() in input_suffixes() and path.is_file()


def _kind(path: Path) -> str:
    if path.is_dir():
        return "subfolder(s) (--recursive looks into them)"
    return path.suffix.lower() or "without an ending"


def _counted(skipped: Sequence[str]) -> str:
    return ", ".join(f"{count} {kind}" for kind, count in Counter(skipped).most_common())
