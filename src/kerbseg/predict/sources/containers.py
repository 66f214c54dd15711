"""How many bytes a video file says it has, so that one that was cut off is known by it.

Some readers take the end of such a file for the end of the video and say nothing.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import BinaryIO

BOXES = frozenset({b"ftyp", b"moov", b"mdat", b"moof", b"mfra", b"free", b"skip", b"wide", b"sidx", b"styp", b"uuid"})
EBML, SEGMENT = b"\x1aE\xdf\xa3", b"\x18S\x80g"
RIFF_UNKNOWN = (0, 0xFFFFFFFF, 0x7FFFFFFF)  # lengths that a recorder could not fill in
Y4M = b"YUV4MPEG2"
Y4M_CHROMA = {  # planes of color beside the gray one, and how many pixels across and down one value is for
    "420": (2, 2, 2),
    "411": (2, 4, 1),
    "422": (2, 2, 1),
    "444alpha": (3, 1, 1),
    "444": (2, 1, 1),
    "mono": (0, 1, 1),
}
SYNC, PACKET = 0x47, 188  # of an MPEG transport stream


def truncated_bytes(path: Path) -> int:
    """How many bytes lack at the end of an MP4, Matroska, AVI, MPEG-TS or YUV4MPEG2 file; 0 where it says nothing."""
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(12)
        if head[4:8] in BOXES:
            return max(0, _end_of_boxes(file, size) - size)
        if head[:4] == EBML:
            return max(0, _end_of_segment(file) - size)
        if head[:9] == Y4M:
            return _lacking_of_y4m(file, size)
        if head[:4] == b"RIFF":
            return max(0, _end_of_riff(file, size) - size)
        if _is_transport_stream(file):
            return -size % PACKET
    return 0


def end_of_fragments(file: BinaryIO) -> int:
    """Where the last whole fragment of a fragmented MP4 ends; 0 where there is none."""
    size = file.seek(0, 2)
    at, end, opened = 0, 0, False
    while at + 8 <= size:
        file.seek(at)
        head = file.read(16)
        length = int.from_bytes(head[:4], "big")
        if length == 1:
            length = int.from_bytes(head[8:16], "big")
        at += length
        if length < 8 or at > size:
            break
        if head[4:8] == b"mdat" and opened:
            end = at
        opened = head[4:8] == b"moof"
    return end


def gif_frames(path: Path) -> int | None:
    """How many frames a GIF file holds, -1 where its blocks do not lead to its end; None of another file."""
    with path.open("rb") as file:
        head = file.read(13)
        if head[:3] != b"GIF":
            return None
        _skip_colors(file, head[10:11])
        frames = 0
        while (kind := file.read(1)) != b";":
            if kind == b",":
                _skip_colors(file, file.read(9)[8:])
                frames += 1
            elif kind != b"!":
                return -1
            file.read(1)  # the size of codes, or the kind of extension
            while length := file.read(1):
                if length == b"\0":
                    break
                if len(file.read(length[0])) < length[0]:
                    return -1
        return frames


def _skip_colors(file: BinaryIO, flags: bytes) -> None:
    if flags and flags[0] & 0x80:
        file.read(3 << (flags[0] & 7) + 1)


def _end_of_boxes(file: BinaryIO, size: int) -> int:
    """MP4, MOV: one box after another, each with its length; 0 is up to the end."""
    at = 0
    while at < size:
        file.seek(at)
        head = file.read(16)
        length = int.from_bytes(head[:4], "big")
        if length == 1:
            length = int.from_bytes(head[8:16], "big")
        if head[4:8] not in BOXES or length < 8:  # what follows the last box is nobody's concern
            break
        at += length
    return at


def _end_of_segment(file: BinaryIO) -> int:
    """Matroska, WebM: a head, then one segment of a length that may be unknown."""
    at = 0
    for name in (EBML, SEGMENT):
        file.seek(at)
        if file.read(len(name)) != name:
            return 0
        length, width = _variable_length(file)
        if length is None:
            return 0
        at += len(name) + width + length
    return at


def _variable_length(file: BinaryIO) -> tuple[int | None, int]:
    """EBML's number (None where it is 'unknown') and its bytes: one more than its first byte has leading zeros."""
    first = file.read(1)
    if not first or not first[0]:
        return None, 1
    width = 9 - first[0].bit_length()
    value = int.from_bytes(first + file.read(width - 1), "big") & ((1 << 7 * width) - 1)
    return (None if value == (1 << 7 * width) - 1 else value), width


def _end_of_riff(file: BinaryIO, size: int) -> int:
    """AVI: chunks of a gigabyte or so."""
    at = 0
    while at < size:
        file.seek(at)
        head = file.read(8)
        length = int.from_bytes(head[4:8], "little")
        if head[:4] != b"RIFF" or length in RIFF_UNKNOWN:
            break
        if length == size - at:  # some recorders count the head, too
            return size
        at += 8 + length + length % 2
    return at


def _lacking_of_y4m(file: BinaryIO, size: int) -> int:
    """YUV4MPEG2: frames of one size; 0 where its header does not say which."""
    file.seek(0)
    header = file.readline(1000)
    words = {word[:1]: word[1:] for word in header.decode("ascii", "replace").split()[1:]}
    colors = words.get("C", "420")
    chroma = next((each for kind, each in Y4M_CHROMA.items() if colors.startswith(kind)), None)
    if chroma is None or not (words.get("W", "").isdigit() and words.get("H", "").isdigit()):
        return 0
    width, height, (planes, across, down) = int(words["W"]), int(words["H"]), chroma
    values = width * height + planes * -(-width // across) * -(-height // down)
    deep = re.search(r"(?:p|mono)(9|1\d)$", colors) is not None
    return -(size - len(header)) % (len(b"FRAME\n") + values * (2 if deep else 1))


def _is_transport_stream(file: BinaryIO) -> bool:
    file.seek(0)
    head = file.read(4 * PACKET + 1)
    return len(head) > 4 * PACKET and all(head[i * PACKET] == SYNC for i in range(5))
