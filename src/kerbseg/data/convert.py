"""Writing a data set in the `folder` form from what another tool wrote; all of it or nothing."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from kerbseg.core.errors import DataError, KerbsegError
from kerbseg.core.labels import LabelSet
from kerbseg.core.types import VOID
from kerbseg.data.class_map import Mapped, map_classes
from kerbseg.data.doctor import Track, silent
from kerbseg.data.formats import read_source
from kerbseg.data.formats.source import Drawn, Entry
from kerbseg.data.marked import USUAL, divide, has_splits, left_out_lines, map_beside, sample_of

if TYPE_CHECKING:
    from rich.console import RenderableType


@dataclass(frozen=True)
class Conversion:
    """What was written."""

    out: Path
    labels: LabelSet
    pictures: Mapping[str, int]  # of each split
    pixels: Mapping[str, int]  # of each class
    void: int
    drawn: bool  # whether the split was drawn, not the source's
    left_out: Mapping[str, int]  # what a mask has no place for -> how many
    notes: tuple[str, ...]

    @property
    def warnings(self) -> list[str]:
        """What is not in the masks, and what one may not expect, a line each."""
        return [*left_out_lines(self.left_out), *(f"note: {note}" for note in self.notes)]

    @property
    def shares(self) -> dict[str, float]:
        """Of all pixels, by class."""
        total = sum(self.pixels.values()) + self.void
        return {name: count / total for name, count in self.pixels.items()}

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "out": str(self.out),
            "pictures": dict(self.pictures),
            "split": "drawn" if self.drawn else "the source's",
            "shares": self.shares,
            "void_share": self.void / (sum(self.pixels.values()) + self.void),
            "left_out": dict(self.left_out),
            "notes": list(self.notes),
        }


def convert(
    format: str,
    source: Path,
    out: Path,
    *,
    class_map: Path | None = None,
    share: float | None = None,
    seed: int = 0,
    track: Track = silent,
) -> Conversion:
    """Writes the pictures and marks of a source into a new folder: copies of the pictures, masks as palette PNG.

    The source's own splits stay, unless a share of pictures for training is given. Raises DataError for a source that
    cannot be read as it is, KerbsegError where `out` holds something or cannot be written; then nothing is left behind.
    """
    _check_free(out)
    read = read_source(format, source)
    class_map = map_beside(source) if class_map is None else class_map
    mapped = map_classes(read.classes, out.resolve().name, class_map)
    entries = divide(read.entries, share, seed)
    total = np.zeros(256, np.int64)
    with new_folder(out) as folder, ThreadPoolExecutor(min(os.cpu_count() or 1, 4)) as pool:
        try:  # decoding and encoding leave the interpreter free
            for counts in track(pool.map(lambda each: _write(each, folder, mapped), entries), "", len(entries)):
                total += counts
        finally:
            pool.shutdown(cancel_futures=True)
        labels = mapped.labels if class_map is not None else _present(mapped.labels, total, source)
        (folder / "dataset.yaml").write_text(dataset_yaml(labels), encoding="utf-8")
    counts = Counter(each.split or "" for each in entries)
    return Conversion(
        out,
        labels,
        {split: counts[split] for split in USUAL if counts[split]},
        {labels.classes[train_id]: int(total[file_id]) for file_id, train_id in labels.file_ids.items()},
        int(total[VOID]),
        share is not None or not has_splits(read.entries),
        read.left_out,
        (*read.notes, *_notes(entries, mapped.labels, labels, total)),
    )


def _present(labels: LabelSet, pixels: np.ndarray, source: Path) -> LabelSet:
    """The classes that have a pixel; ids in files stay. Raises DataError where that is one class or none.

    A tool lists all classes that it was set up with, and a network cannot learn those that were never drawn.
    """
    ids = [file_id for file_id in labels.file_ids if pixels[file_id]]
    if len(ids) < 2:
        only = f"only class {labels.classes[ids[0]]!r}" if ids else "no class"
        raise DataError(
            f"{source}: {only} has pixels, and two are needed; draw more, or map what is ignored to a class"
        )
    return LabelSet(
        labels.name,
        tuple(labels.classes[i] for i in ids),
        tuple(labels.colors[i] for i in ids),
        {file_id: train_id for train_id, file_id in enumerate(ids)},
        labels.ignored_file_ids,
        background=labels.background & {labels.classes[i] for i in ids},
    )


def _notes(entries: Sequence[Entry], listed: LabelSet, kept: LabelSet, pixels: np.ndarray) -> Iterator[str]:
    absent = [name for name, count in zip(listed.classes, pixels, strict=False) if not count]
    if absent:
        shown = ", ".join(absent[:8]) + (f" and {len(absent) - 8} more" if len(absent) > 8 else "")
        yield f"no pixel is of {shown}" + (": left out of the classes" if len(kept) < len(listed) else "")
    if empty := sum(isinstance(each.marks, Drawn) and not each.marks.marks for each in entries):
        yield f"{empty} picture(s) without a shape: all background"


def render(conversion: Conversion) -> RenderableType:
    """Pictures of each split and the share of each class, for a terminal."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text  # a name in brackets would be read as markup

    pictures = ", ".join(f"{count} {split}" for split, count in conversion.pictures.items())
    how = "a split that was drawn" if conversion.drawn else "the source's split"
    table = Table("id", "class", "share", box=SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for index, (name, share) in enumerate(conversion.shares.items()):
        table.add_row(str(index), Text(name), f"{share:.2%}")
    if conversion.void:
        table.add_row("", "no class", f"{1 - sum(conversion.shares.values()):.2%}")
    return Group(Text(f"{conversion.out}: {pictures} pictures ({how})"), table)


@contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """A folder beside `out` that takes its name when the block ends well, and is removed where it does not.

    Raises KerbsegError where `out` cannot be written.
    """
    temporary = None
    try:
        target = out.resolve()
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=".", suffix=".tmp", dir=target.parent))
        yield temporary
        (temporary / "mode").mkdir()  # what a new folder's is: that of a temporary one is private
        temporary.chmod((temporary / "mode").stat().st_mode)
        (temporary / "mode").rmdir()
        if target.is_dir():
            target.rmdir()  # empty, as was checked
        temporary.rename(target)
    except OSError as error:
        raise KerbsegError(
            f"cannot write {out}: {error.strerror or error}; free space or choose another place"
        ) from error
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)


def dataset_yaml(labels: LabelSet) -> str:
    """The text of a `dataset.yaml` for masks of the ids of a label set, one id a class."""

    def quoted(text: str) -> str:
        return json.dumps(text, ensure_ascii=False)  # which YAML reads as the same text

    lines = [
        f"  - {{name: {quoted(labels.classes[i])}, color: {list(labels.colors[i])}, ids: [{file_id}]"
        f"{', background: true' if labels.classes[i] in labels.background else ''}}}\n"
        for file_id, i in labels.file_ids.items()
    ]
    return f"classes:\n{''.join(lines)}ignore: [{VOID}]\n"


def _check_free(out: Path) -> None:
    if out.is_dir() and not any(out.iterdir()):
        return
    if out.exists() or out.is_symlink():
        raise KerbsegError(f"{out} is there already; choose another folder, or remove it first")


def _write(entry: Entry, folder: Path, mapped: Mapped) -> np.ndarray:
    """Copies a picture and writes its mask; gives the pixels of each train id."""
    mask = sample_of(entry, mapped).mask
    inside = PurePosixPath(entry.split or "", entry.name)
    # not with_suffix: a name may hold dots
    picture = folder / "images" / f"{inside}{entry.picture.suffix}"
    path = folder / "masks" / f"{inside}.png"
    for each in (picture, path):
        each.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(entry.picture, picture)
    image = Image.fromarray(mask)
    image.putpalette(mapped.labels.palette.tobytes())
    image.save(path)
    return np.bincount(mask.ravel(), minlength=256)
