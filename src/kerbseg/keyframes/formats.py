"""Chosen frames in the layouts that SLAM systems and reconstruction read.

What readers insist on: ORB-SLAM2 skips exactly three lines of a TUM list, whatever they hold, and none of its
associations; EuRoC's stamps are integers, with the pictures named after them; KITTI's pictures are numbered without
gaps; COLMAP takes a list of names.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from kerbseg.core.errors import DataError, KerbsegWarning
from kerbseg.core.files import atomic_write
from kerbseg.keyframes.sequences import FrameSequence, lines_of


@dataclass(frozen=True)
class Written:
    """One frame that was written."""

    index: int  # in the sequence
    time_ns: int
    stamp: str  # the time as its sequence writes it
    name: str  # of its file, as lists name it
    file: str  # that it comes from; empty for a video's


@dataclass(frozen=True)
class Format:
    """One layout: where a picture goes, and the lists beside the pictures."""

    picture: Callable[[Written], str]  # path in the folder, without its suffix
    lists: Callable[[list[Written]], dict[str, str]]  # texts by path
    png: bool = False  # whatever the source's files are
    in_place: bool = False  # files of a folder stay where they are
    slam: bool = False  # read by SLAM systems, which expect pictures of one size


def seconds(time_ns: int) -> str:
    """Seconds with six digits, as TUM has them."""
    whole, rest = divmod(abs(time_ns), 10**9)
    return f"{'-' if time_ns < 0 else ''}{whole}.{rest // 1000:06d}"


def _tum(frames: list[Written], title: str = "color images") -> dict[str, str]:
    head = [f"# {title}", "# written by kerbseg keyframes", "# timestamp filename"]
    return {"rgb.txt": _text([*head, *(f"{_tum_stamp(each)} {each.name}" for each in frames)])}


def _tum_stamp(frame: Written) -> str:
    return frame.stamp if "." in frame.stamp else seconds(frame.time_ns)


def _euroc(frames: list[Written]) -> dict[str, str]:
    rows = [f"{each.time_ns},{Path(each.name).name}" for each in frames]
    return {
        "mav0/cam0/data.csv": _text(["#timestamp [ns],filename", *rows]),
        "timestamps.txt": _text([str(each.time_ns) for each in frames]),
    }


def _kitti(frames: list[Written]) -> dict[str, str]:
    times = [f"{each.time_ns / 1e9:.9e}" for each in frames]
    back = [f"{number},{each.index},{each.time_ns},{_cell(each.file)}" for number, each in enumerate(frames)]
    return {"times.txt": _text(times), "map.csv": _text(["number,index,time_ns,file", *back])}


def _colmap(frames: list[Written]) -> dict[str, str]:
    return {"image_list.txt": _text([each.name for each in frames])}


def _nothing(frames: list[Written]) -> dict[str, str]:
    return {}


FORMATS: dict[str, Format] = {
    "frames": Format(lambda frame: f"frames/{Path(frame.file).stem or f'{frame.index:06d}'}", _nothing),
    "tum": Format(lambda frame: f"rgb/{_tum_stamp(frame)}", _tum, slam=True),
    "euroc": Format(lambda frame: f"mav0/cam0/data/{frame.time_ns}", _euroc, png=True, slam=True),
    "kitti": Format(lambda frame: f"image_0/{frame.name}", _kitti, png=True, slam=True),
    "colmap": Format(lambda frame: f"images/{Path(frame.file).stem or f'{frame.index:06d}'}", _colmap, in_place=True),
}
"""Layouts by name; a new one is one entry."""


def places_of(name: str) -> tuple[list[str], list[str]]:
    """The folders and the lists that a layout writes, which a sequence that is already there may have too."""
    layout = FORMATS[name]
    folder = Path(layout.picture(Written(0, 0, "0", "0", "0"))).parts[0]
    lists = [*layout.lists([])]
    beside = {"tum": (["depth"], ["associations.txt"]), "kitti": ([], ["poses.txt"])}
    more_folders, more_lists = beside.get(name, ([], []))
    return [folder, *more_folders], lists + more_lists


class FormatWriter:
    """Writes frames into a folder as they are chosen, and the lists of them at the end.

    What a sequence has beside its pictures is read before the first of them: a fault there costs no run. Raises
    DataError for it.
    """

    def __init__(self, name: str, out: Path, sequence: FrameSequence) -> None:
        self._format, self._out, self._sequence = FORMATS[name], out, sequence
        self._in_place = self._format.in_place and bool(sequence.entries)
        self.frames: list[Written] = []
        self._names: set[str] = set()
        self._sizes: set[tuple[int, int]] = set()  # (height, width)
        self._poses: list[str] = []
        self._depth: dict[str, tuple[str, str]] = {}
        if sequence.given is not None and name == "kitti" and (listing := sequence.given / "poses.txt").is_file():
            self._poses = poses(listing, len(sequence.entries))
        if sequence.given is not None and name == "tum" and (listing := sequence.given / "associations.txt").is_file():
            self._depth = associations(listing)

    def add(self, index: int, time_ns: int, picture: UInt8[np.ndarray, "h w 3"]) -> Written:
        """Writes a frame of the sequence. Raises KerbsegError where it cannot be written."""
        self._sizes.add((picture.shape[0], picture.shape[1]))
        entry = self._sequence.entries[index] if self._sequence.entries else None
        stamp = seconds(time_ns) if entry is None or entry.stamp == "0" else entry.stamp
        file = "" if entry is None else str(entry.file)
        frame = Written(index, time_ns, stamp, f"{len(self.frames):06d}", file)
        if entry is not None and self._in_place:
            root = self._sequence.root or entry.file.parent
            self.frames.append(Written(index, time_ns, stamp, os.path.relpath(entry.file, root), file))
            return self.frames[-1]
        as_it_is = entry is not None and (not self._format.png or entry.file.suffix == ".png")
        suffix = entry.file.suffix if entry is not None and as_it_is else ".png"
        name = self._format.picture(frame) + suffix
        if name in self._names:  # of a picture in another folder
            name = f"{self._format.picture(frame)}_{index:06d}{suffix}"
        self._names.add(name)
        with atomic_write(self._out / name) as temporary:
            if entry is not None and as_it_is:
                temporary.write_bytes(entry.file.read_bytes())
            else:
                Image.fromarray(picture).save(temporary)
        self.frames.append(Written(index, time_ns, stamp, name.removeprefix("images/"), file))
        return self.frames[-1]

    def finish(self, listed: list[Written] | None = None) -> list[str]:
        """Writes the lists, of all frames or of some; the names of what lies in the folder."""
        if self._format.slam and len(self._sizes) > 1:
            sizes = ", ".join(f"{width}x{height}" for height, width in sorted(self._sizes)[:4])
            warnings.warn(
                KerbsegWarning(
                    f"{self._out} holds pictures of {len(self._sizes)} sizes ({sizes}), and a SLAM system expects one;"
                    " give pictures of one camera"
                ),
                stacklevel=2,
            )
        frames = self.frames if listed is None else listed
        texts = self._format.lists(frames)
        for name, text in texts.items():
            with atomic_write(self._out / name) as temporary:
                temporary.write_text(text, encoding="utf-8")
        prefix = "images/" if self._format.in_place else ""
        pictures = [] if self._in_place else [f"{prefix}{each.name}" for each in self.frames]
        beside = {"rgb.txt": self._write_associations, "map.csv": self._write_poses}
        more = [name for listing, write in beside.items() if listing in texts for name in write(frames)]
        return [*texts, *pictures, *more]

    def _write_poses(self, frames: list[Written]) -> list[str]:
        """Poses beside the frames, one a line, as a KITTI sequence has them; none where it does not."""
        if not self._poses:
            return []
        with atomic_write(self._out / "poses.txt") as temporary:
            temporary.write_text(_text([self._poses[each.index] for each in frames]), encoding="utf-8")
        return ["poses.txt"]

    def _write_associations(self, frames: list[Written]) -> list[str]:
        """Depth pictures beside the frames, as an RGB-D sequence associates them; none where it does not."""
        given = self._sequence.given
        if given is None or not self._depth:
            return []
        rows, names = [], []
        for frame in frames:
            if frame.stamp not in self._depth:
                continue
            time, file = self._depth[frame.stamp]
            name = f"depth/{time}{Path(file).suffix}"
            with atomic_write(self._out / name) as temporary:
                temporary.write_bytes((given / file).read_bytes())
            rows.append(f"{_tum_stamp(frame)} {frame.name} {time} {name}")
            names.append(name)
        with atomic_write(self._out / "associations.txt") as temporary:
            temporary.write_text(_text(rows), encoding="utf-8")
        return ["associations.txt", *names]


def poses(listing: Path, count: int) -> list[str]:
    """The lines of so many poses. Raises DataError for another number of them."""
    lines = [" ".join(words) for _, words in lines_of(listing)]
    if len(lines) != count:
        raise DataError(f"{listing} has {len(lines)} poses for {count} pictures; each picture needs one")
    return lines


def associations(listing: Path) -> dict[str, tuple[str, str]]:
    """Time and file of the depth picture by the time of the color picture. Raises DataError for another file."""
    depth = {}
    for number, words in lines_of(listing):
        if len(words) != 4:
            raise DataError(f"line {number} of {listing} is no 'time color time depth'")
        if not (listing.parent / words[3]).is_file():
            raise DataError(f"{listing} lists {words[3]}, which is not there; is the data set whole?")
        depth[words[0]] = (words[2], words[3])
    return depth


def _text(lines: list[str]) -> str:
    return "".join(f"{line}\n" for line in lines)


def _cell(text: str) -> str:
    """A cell of a CSV file."""
    return '"' + text.replace('"', '""') + '"' if any(each in text for each in ',"\n') else text
