"""How many bytes a video file says it has, so that one that was cut off is known by it.

Some readers take the end of such a file for the end of the video and say nothing.
"""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

BOXES = frozenset({b"ftyp", b"moov", b"mdat", b"moof", b"mfra", b"free", b"skip", b"wide", b"sidx", b"styp", b"uuid"})
EBML, SEGMENT = b"\x1aE\xdf\xa3", b"\x18S\x80g"
SYNC, PACKET = 0x47, 188  # of an MPEG transport stream


def truncated_bytes(path: Path) -> int:
    """How many bytes lack at the end of an MP4, Matroska, AVI or MPEG-TS file; 0 where it is whole or does not say."""
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(12)
        if head[4:8] in BOXES:
            return max(0, _end_of_boxes(file, size) - size)
        if head[:4] == EBML:
            return max(0, _end_of_segment(file) - size)
        if head[:4] == b"RIFF":
            return max(0, _end_of_riff(file, size) - size)
        if _is_transport_stream(file):
            return -size % PACKET
    return 0


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
    """AVI: chunks of a gigabyte or so; a length of 0 is one that the recorder could not fill in."""
    at = 0
    while at < size:
        file.seek(at)
        head = file.read(8)
        length = int.from_bytes(head[4:8], "little")
        if head[:4] != b"RIFF" or not length:
            break
        at += 8 + length + length % 2
    return at


def _is_transport_stream(file: BinaryIO) -> bool:
    file.seek(0)
    head = file.read(4 * PACKET + 1)
    return len(head) > 4 * PACKET and all(head[i * PACKET] == SYNC for i in range(5))
