"""Writing a data set in the `folder` form from what another tool wrote; all of it or nothing."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import takewhile
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from kerbseg.core.errors import DataError, KerbsegError
from kerbseg.core.labels import LabelSet
from kerbseg.core.types import VOID
from kerbseg.data.class_map import Mapped, map_classes
from kerbseg.data.doctor import Track, silent
from kerbseg.data.drives import draw_split
from kerbseg.data.formats import read_source
from kerbseg.data.formats.source import Drawn, Entry
from kerbseg.data.pictures import read_rgb

if TYPE_CHECKING:
    from rich.console import RenderableType

SHARE = 0.8  # of the pictures that are for training, where nobody says another


@dataclass(frozen=True)
class Conversion:
    """What was written."""

    out: Path
    labels: LabelSet
    pictures: Mapping[str, int]  # of each split
    pixels: tuple[int, ...]  # of each class
    void: int
    drawn: bool  # whether the split was drawn, not the source's
    left_out: Mapping[str, int]  # what a mask has no place for -> how many
    notes: tuple[str, ...]

    @property
    def warnings(self) -> list[str]:
        """What is not in the masks, and what one may not expect, a line each."""
        lines = [f"left out: {count} {what}" for what, count in self.left_out.items() if count]
        return [*lines, *(f"note: {note}" for note in self.notes)]

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        total = sum(self.pixels) + self.void
        return {
            "out": str(self.out),
            "pictures": dict(self.pictures),
            "split": "drawn" if self.drawn else "the source's",
            "shares": {name: n / total for name, n in zip(self.labels.classes, self.pixels, strict=True)},
            "void_share": self.void / total,
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
    mapped = map_classes(read.classes, out.resolve().name, class_map)
    entries = _named(_with_splits(_once(read.entries, kept=share is None), share, seed))
    drawn = share is not None or not _has_splits(read.entries)
    total = np.zeros(256, np.int64)
    with new_folder(out) as folder, ThreadPoolExecutor(min(os.cpu_count() or 1, 8)) as pool:
        try:  # decoding and encoding leave the interpreter free
            for counts in track(pool.map(lambda each: _write(each, folder, mapped), entries), "", len(entries)):
                total += counts
        finally:
            pool.shutdown(cancel_futures=True)
        (folder / "dataset.yaml").write_text(dataset_yaml(mapped.labels), encoding="utf-8")
    empty = sum(isinstance(each.marks, Drawn) and not each.marks.marks for each in entries)
    notes = (f"{empty} picture(s) without a shape: all background",) if empty else ()
    splits = Counter(each.split or "" for each in entries)
    return Conversion(
        out,
        mapped.labels,
        {split: splits[split] for split in ("train", "val", "test") if splits[split]},
        tuple(total[: len(mapped.labels)].tolist()),
        int(total[VOID]),
        drawn,
        read.left_out,
        (*read.notes, *notes),
    )


def render(conversion: Conversion) -> RenderableType:
    """Pictures of each split and the share of each class, for a terminal."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text  # a name in brackets would be read as markup

    pictures = ", ".join(f"{count} {split}" for split, count in conversion.pictures.items())
    how = "a split that was drawn" if conversion.drawn else "the source's split"
    table = Table("id", "class", "share", box=SIMPLE_HEAD, show_edge=False, pad_edge=False)
    total = sum(conversion.pixels) + conversion.void
    for index, (name, pixels) in enumerate(zip(conversion.labels.classes, conversion.pixels, strict=True)):
        table.add_row(str(index), Text(name), f"{pixels / total:.2%}")
    if conversion.void:
        table.add_row(str(VOID), "no class", f"{conversion.void / total:.2%}")
    return Group(Text(f"{conversion.out}: {pictures} pictures ({how})"), table)


@contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """A folder beside `out` that takes its name when the block ends well, and is removed where it does not.

    Raises KerbsegError where `out` cannot be written.
    """
    temporary = None
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=".", suffix=".tmp", dir=out.parent))
        yield temporary
        (temporary / "mode").mkdir()  # what a new folder's is: that of a temporary one is private
        temporary.chmod((temporary / "mode").stat().st_mode)
        (temporary / "mode").rmdir()
        if out.is_dir():
            out.rmdir()  # empty, as was checked
        temporary.rename(out)
    except OSError as error:
        raise KerbsegError(
            f"cannot write {out}: {error.strerror or error}; free space or choose another place"
        ) from error
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)


def dataset_yaml(labels: LabelSet) -> str:
    """The text of a `dataset.yaml` for masks of train ids."""

    def quoted(text: str) -> str:
        return json.dumps(text, ensure_ascii=False)  # which YAML reads as the same text

    lines = [
        f"  - {{name: {quoted(name)}, color: {list(color)}, ids: [{index}]}}\n"
        for index, (name, color) in enumerate(zip(labels.classes, labels.colors, strict=True))
    ]
    return f"classes:\n{''.join(lines)}ignore: [{VOID}]\n"


def _check_free(out: Path) -> None:
    if out.is_dir() and not any(out.iterdir()):
        return
    if out.exists() or out.is_symlink():
        raise KerbsegError(f"{out} is there already; choose another folder, or remove it first")


def _once(entries: Sequence[Entry], kept: bool) -> list[Entry]:
    """Each picture once. Raises DataError where it is marked in two places, or is in two splits that stay."""
    first: dict[Path, Entry] = {}
    for entry in entries:
        other = first.setdefault(entry.picture, entry)
        if other.where != entry.where:
            raise DataError(
                f"{entry.where}: its picture {entry.picture} is marked in {other.where} too; keep one of them"
            )
        if kept and other.split != entry.split:
            raise DataError(
                f"picture {entry.picture} is in both {other.split} and {entry.split}; draw a split: --split {SHARE:g}"
            )
    return list(first.values())


def _has_splits(entries: Iterable[Entry]) -> bool:
    return {"train", "val"} <= {entry.split for entry in entries}


def _with_splits(entries: Sequence[Entry], share: float | None, seed: int) -> list[Entry]:
    """The entries with a split each: the source's, or one that is drawn; what the source keeps for testing stays."""
    if share is None and _has_splits(entries) and all(entry.split for entry in entries):
        return list(entries)
    has_others = any(entry.split != "test" for entry in entries)
    tested = [entry for entry in entries if entry.split == "test" and has_others]
    others = _named([replace(entry, split=None) for entry in entries if entry.split != "test" or not has_others])
    training = draw_split([entry.name for entry in others], SHARE if share is None else share, seed)
    drawn = [replace(entry, split="train" if train else "val") for entry, train in zip(others, training, strict=True)]
    return [*drawn, *tested]


def _named(entries: Sequence[Entry]) -> list[Entry]:
    """The entries with names that do not repeat the folders which all of a split share.

    Raises DataError where two pictures of a split have one name.
    """
    folders: dict[str | None, tuple[str, ...]] = {}
    for entry in entries:
        parts = PurePosixPath(entry.name).parts[:-1]
        folders[entry.split] = _common(folders.get(entry.split, parts), parts)
    named: dict[tuple[str | None, str], Entry] = {}
    for entry in entries:
        name = "/".join(PurePosixPath(entry.name).parts[len(folders[entry.split]) :])
        other = named.setdefault((entry.split, name), replace(entry, name=name))
        if other.picture != entry.picture:
            raise DataError(f"{entry.picture} and {other.picture} would have one name, {name}; rename one of them")
    return list(named.values())


def _common(one: tuple[str, ...], other: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(a for a, _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))


def _write(entry: Entry, folder: Path, mapped: Mapped) -> np.ndarray:
    """Copies a picture and writes its mask; gives the pixels of each train id."""
    height, width = read_rgb(entry.picture).shape[:2]
    if entry.size is not None and entry.size != (height, width):
        raise DataError(
            f"{entry.where}: made for {entry.size[1]}x{entry.size[0]}, but {entry.picture} is {width}x{height}:"
            " put the marked picture there"
        )
    mask = entry.marks.mask((height, width), mapped.train_ids)
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
