"""Sequences that keyframes are chosen from: a video, a stream, or pictures with times, as robots' data sets lay them.

Known layouts: TUM RGB-D (`rgb.txt`), EuRoC MAV (`data.csv` beside `data/`), KITTI odometry (`times.txt`), and folders
of pictures whose names end with their time, or whose rate is told. Times are kept in whole nanoseconds.
"""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Literal

from kerbseg.core.errors import DataError, InputError
from kerbseg.data.pictures import SUFFIXES, read_rgb
from kerbseg.predict.sources import Frame, RawFrames, Source, find_source
from kerbseg.predict.sources.bags import find_bag

Layout = Literal["tum", "euroc", "kitti", "pictures", "video"]

SECOND = 1_000_000_000
LATEST = 2**63  # nanoseconds, from which on they have no place in 64 bits
STAMP = re.compile(r"[0-9]{1,19}")
STAMP_NS = re.compile(r"(?:.*[^0-9])?([0-9]{16,19})")  # at the end of a picture's name
STAMP_S = re.compile(r"(?:.*[^0-9])?([0-9]{1,10}\.[0-9]{1,9})")
EUROC_LISTS = ("data.csv", "cam0/data.csv", "mav0/cam0/data.csv")
KITTI_FOLDERS = ("image_0", "image_2", "image_1", "image_3", ".")


@dataclass(frozen=True)
class Entry:
    """One picture of a sequence of files."""

    file: Path
    time_ns: int
    stamp: str  # the time as the sequence writes it


@dataclass(frozen=True)
class FrameSequence:
    """Frames in order of time, and the files that they come from; a video has none."""

    source: Source
    layout: Layout
    given: Path | None = None  # the folder, where it is one
    root: Path | None = None  # the folder that the pictures lie in
    entries: tuple[Entry, ...] = ()

    @property
    def again(self) -> bool:
        """Whether it can be read a second time."""
        return bool(self.entries) or self.source.path is not None


def open_sequence(
    given: str | Path, fps: float | None = None, raw: RawFrames | None = None, topic: str | None = None
) -> FrameSequence:
    """The sequence that a folder, a glob of pictures, a video, a stream or a topic of a bag is.

    `fps` is the rate of a folder's pictures, whatever times their names tell. Raises DataError for what is none, for
    times that do not rise, and for a listed picture that is not there; InputError where a rate is missing, or told of
    what has times.
    """
    path = Path(given)
    if fps is not None and not 1e-6 <= fps <= 1e6:
        raise InputError(f"a rate of {fps:g} frames a second; it must be from 0.000001 to 1000000")
    bag = find_bag(str(given))
    if topic is not None and bag is None:
        raise InputError(f"--topic names pictures in a bag, and {given} is none; leave it out")
    if bag is not None:
        sequence = FrameSequence(bag.of_topics([] if topic is None else [topic]), "video")
    elif path.is_dir():
        sequence = _folder(path, fps)
    elif path.suffix.lower() in SUFFIXES - {".gif", ".webp", ".apng"} and path.is_file():
        sequence = _of_entries("pictures", path.parent, path.parent, [Entry(path, 0, "0")])
    elif not path.exists() and (files := _pictures(sorted(map(Path, glob.glob(str(given)))))):
        sequence = _named_pictures(files, Path(os.path.commonpath([each.parent for each in files])), fps)
    else:
        source = find_source(given, raw)
        if source is None:
            raise DataError(f"{given} is no folder, glob, video, bag or stream; check the path")
        sequence = FrameSequence(source, "video")
    if fps is not None and (sequence.layout != "pictures" or sequence.entries[0].stamp != "0"):
        raise InputError(f"{given} has times of its own; leave the rate (fps) out")
    return sequence


def _folder(folder: Path, fps: float | None) -> FrameSequence:
    if (folder / "rgb.txt").is_file():
        return _of_entries("tum", folder, folder, _tum(folder / "rgb.txt"))
    for name in EUROC_LISTS:
        if (folder / name).is_file():
            return _of_entries("euroc", folder, (folder / name).parent / "data", _euroc(folder / name))
    if (folder / "times.txt").is_file():
        return _kitti(folder)
    files = _pictures(sorted(folder.iterdir()))
    if not files:
        raise DataError(
            f"{folder} holds no pictures, and no rgb.txt (TUM), data.csv (EuRoC) or times.txt (KITTI);"
            " name a folder with pictures, or a video"
        )
    return _named_pictures(files, folder, fps)


def _pictures(paths: list[Path]) -> list[Path]:
    return [each for each in paths if each.suffix.lower() in SUFFIXES and each.is_file() and each.name[0] != "."]


def _named_pictures(files: list[Path], root: Path, fps: float | None) -> FrameSequence:
    """Pictures in the order of the times in their names, or of their names at the rate that is told."""
    for pattern, unit in ((STAMP_NS, 1), (STAMP_S, SECOND)):
        stamps = [pattern.fullmatch(each.stem) for each in files]
        if all(stamps) and fps is None:
            texts = [match[1] for match in stamps if match]
            entries = [Entry(f, int(Decimal(text) * unit), text) for f, text in zip(files, texts, strict=True)]
            return _of_entries("pictures", root, root, sorted(entries, key=lambda each: each.time_ns))
    if fps is None:
        if len(files) > 1:
            raise InputError(f"the names of the pictures in {root} tell no times; give their rate, such as --fps 15")
        fps = 1.0
    rate = Fraction(fps).limit_denominator(1_000_000)
    entries = [Entry(each, round(i * SECOND / rate), "0") for i, each in enumerate(files)]
    return _of_entries("pictures", root, root, entries)


def _tum(listing: Path) -> list[Entry]:
    entries = []
    for number, words in lines_of(listing):
        if len(words) < 2:
            raise DataError(f"line {number} of {listing} is no 'timestamp filename'")
        entries.append(Entry(listing.parent / words[1], nanoseconds_of(words[0], listing, number), words[0]))
    return entries


def _euroc(listing: Path) -> list[Entry]:
    entries = []
    for number, words in lines_of(listing, ","):
        if len(words) < 2 or not STAMP.fullmatch(words[0]):
            raise DataError(f"line {number} of {listing} is no 'timestamp [ns],filename'")
        entries.append(Entry(listing.parent / "data" / words[1], int(words[0]), words[0]))  # no float holds them
    return entries


def _kitti(folder: Path) -> FrameSequence:
    listing = folder / "times.txt"
    times = [(nanoseconds_of(words[0], listing, number), words[0]) for number, words in lines_of(listing)]
    folders = [folder / name for name in KITTI_FOLDERS if (folder / name).is_dir()]
    root = next((each for each in folders if _pictures(sorted(each.iterdir()))), folder)
    files = _pictures(sorted(root.iterdir()))
    if len(times) != len(files):
        raise DataError(f"{listing} has {len(times)} times, but {root} holds {len(files)} pictures; each needs one")
    entries = [Entry(file, time_ns, text) for file, (time_ns, text) in zip(files, times, strict=True)]
    return _of_entries("kitti", folder, root, entries)


def lines_of(listing: Path, separator: str | None = None) -> Iterator[tuple[int, list[str]]]:
    """Number and words of each line that is no comment."""
    try:
        text = listing.read_text(encoding="utf-8")
    except OSError as error:
        raise DataError(f"{listing} cannot be read: {error.strerror or error}; check it") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{listing} cannot be read as text: {error}; check it") from error
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip() and not line.lstrip().startswith("#"):
            yield number, [word.strip() for word in line.split(separator)]


def nanoseconds_of(text: str, listing: Path, number: int) -> int:
    """The time that a line begins with, less than 300 years from 0. Raises DataError for another text."""
    try:
        if (
            not -LATEST // SECOND < Decimal(text) < LATEST // SECOND
        ):  # before it has as many digits as its exponent says
            raise ValueError("too far from 0")
        return int((Decimal(text) * SECOND).to_integral_value())
    except (InvalidOperation, ValueError, OverflowError) as error:
        raise DataError(f"line {number} of {listing} begins with {text!r}, which is no time in seconds") from error


def _of_entries(layout: Layout, given: Path, root: Path, entries: list[Entry]) -> FrameSequence:
    if not entries:
        raise DataError(f"{given} lists no pictures")
    for before, after in pairwise(entries):
        if after.time_ns <= before.time_ns:
            raise DataError(f"{given}: {after.file.name} is not later than {before.file.name} before it; sort the list")
    if entries[-1].time_ns >= LATEST:
        raise DataError(f"{given}: {entries[-1].stamp} is no time; nanoseconds have 19 digits at most")
    missing = next((each.file for each in entries if not each.file.is_file()), None)
    if missing is not None:
        raise DataError(f"{given} lists {missing}, which is not there; is the data set whole?")
    steps = [after.time_ns - before.time_ns for before, after in pairwise(entries)]
    rate = Fraction(SECOND, round(median(steps))) if steps else Fraction(1)

    def frames() -> Iterator[Frame]:
        for index, entry in enumerate(entries):
            yield Frame(read_rgb(entry.file), index, entry.time_ns, rate=rate, origin=str(entry.file))

    source = Source(given.name or str(given), frames, str(given), "video", count=lambda: len(entries))
    return FrameSequence(source, layout, given, root, tuple(entries))
