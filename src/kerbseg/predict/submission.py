"""Predictions as a benchmark's server takes them: labelIds at the pictures' own size, one PNG a picture.

The servers of Cityscapes and Minicity match a file to a picture by `<city>_<sequence>_<frame>` at its beginning; they
want a zip with the pictures alone in it.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from kerbseg.core.errors import KerbsegError
from kerbseg.core.files import atomic_write
from kerbseg.core.labels import LabelSet
from kerbseg.predict.inputs import expand
from kerbseg.predict.predictor import Predictor

PICTURE = "_leftImg8bit"  # what a picture's name has behind the part that the servers look at

Submit = Callable[[str, UInt8[np.ndarray, "h w"]], None]  # takes a picture's name and its train ids


@contextmanager
def submission(path: Path, labels: LabelSet) -> Iterator[Submit]:
    """What writes each prediction into a folder, or into a `.zip` that appears when all are in it.

    Raises KerbsegError where the label set's benchmark has no ids of its own.
    """
    if not labels.submission_ids:
        raise KerbsegError(f"label set {labels.name!r} has no server that takes predictions; use --save for pictures")
    table = np.array(labels.submission_ids, np.uint8)

    def picture(ids: UInt8[np.ndarray, "h w"]) -> Image.Image:
        return Image.fromarray(table[ids])

    if path.suffix.lower() != ".zip":

        def write(name: str, ids: UInt8[np.ndarray, "h w"]) -> None:
            with atomic_write(path / _file(name)) as temporary:
                picture(ids).save(temporary)

        yield write
        return
    with atomic_write(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:

        def add(name: str, ids: UInt8[np.ndarray, "h w"]) -> None:
            content = io.BytesIO()
            picture(ids).save(content, "PNG")
            archive.writestr(_file(name), content.getvalue())

        yield add


def submit_files(
    predictor: Predictor,
    inputs: Sequence[str | Path],
    path: Path,
    progress: Callable[[Any], Iterable[Any]] = iter,
    recursive: bool = False,
) -> int:
    """Writes the submission of pictures, folders or globs; returns how many.

    Raises KerbsegError for names alike, DataError at the first picture that cannot be read: a server wants all.
    """
    given = expand(inputs, recursive=recursive, leave_out=path)
    for error in given.failures.values():
        raise error
    sources = given.sources
    names = [_file(Path(source.name).name) for source in sources]
    for i, (source, name) in enumerate(zip(sources, names, strict=True)):
        if source.path is None or source.kind != "picture":
            raise KerbsegError(f"{source} is a {source.kind}; servers take predictions of picture files")
        if name in names[:i]:
            raise KerbsegError(f"{source} and {sources[names.index(name)]} would both be {name}; submit one of them")
    with submission(path, predictor.labels) as submit:
        for source in progress(sources):
            submit(Path(source.name).name, predictor(source.path).ids)
    return len(sources)


def _file(name: str) -> str:
    return f"{name.removesuffix(PICTURE)}.png"
