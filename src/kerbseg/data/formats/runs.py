"""Run lengths as tools write them: COCO's, plain and as text, CVAT's, and Label Studio's brush."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Int

from kerbseg.core.errors import DataError


def run_lengths(lengths: Sequence[int], pixels: int, where: str) -> Int[np.ndarray, " n"]:
    """Run lengths that fill so many pixels. Raises DataError, which says `where`, for others."""
    if any(length < 0 for length in lengths):
        raise DataError(f"{where}: run lengths below 0; export it again")
    if sum(lengths) != pixels:
        raise DataError(f"{where}: run lengths for {sum(lengths)} pixels where the mask has {pixels}; export it again")
    return np.array(lengths, np.int64)


def coco_lengths(text: str, where: str) -> list[int]:
    """Run lengths of COCO's text: five bits a character, lowest first; from the fourth on, less the one two before.

    Raises DataError, which says `where`, for a text that ends too early or holds other characters.
    """
    lengths: list[int] = []
    value = shift = 0
    for character in text:
        code = ord(character) - 48
        if not 0 <= code < 64 or shift > 60:
            raise DataError(f"{where}: run lengths with {character!r}, which COCO's text never holds; export it again")
        value |= (code & 31) << shift
        shift += 5
        if code & 32:  # more of this number follows
            continue
        if code & 16:  # negative
            value -= 1 << shift
        lengths.append(value + (lengths[-2] if len(lengths) > 2 else 0))
        value = shift = 0
    if shift:
        raise DataError(f"{where}: run lengths that end within a number; export it again")
    return lengths


def lengths_of(mask: Bool[np.ndarray, "h w"]) -> Int[np.ndarray, " n"]:
    """The run lengths of a mask, row by row."""
    values = np.concatenate([[False], mask.ravel()])
    turns = np.flatnonzero(values[1:] != values[:-1])
    return np.diff(np.concatenate([[0], turns, [mask.size]]))


def brush_mask(data: Sequence[int], size: tuple[int, int], where: str) -> Bool[np.ndarray, "h w"]:
    """The pixels of a brush of Label Studio: bytes of a bit stream that holds an RGBA picture of height and width.

    The stream (rle-pack): 32 bits, how many values; 5 bits, length of a value less one; four times 4 bits, lengths
    less one that a count may have; then runs: a bit, whether one value repeats; 2 bits, which of the four lengths; the
    count less one; the value, or as many values. A pixel is painted where its alpha is at least half.

    Raises DataError, which says `where`, for a stream that ends too early or holds another number of values.
    """
    height, width = size
    if any(not 0 <= byte <= 255 for byte in data):
        raise DataError(f"{where}: a brush with values that are no bytes; export it again")
    bits = _Bits(bytes(data), where)
    count = bits.read(32)
    if count != height * width * 4:
        raise DataError(f"{where}: a brush of {count} values where {width}x{height} has {height * width * 4}")
    word = bits.read(5) + 1
    lengths = [bits.read(4) + 1 for _ in range(4)]
    if word > 8:
        raise DataError(f"{where}: a brush of {word} bits a value, where 8 are; export it again")
    values = np.zeros(count, np.uint8)
    start = 0
    while start < count:
        repeats = bits.read(1)
        end = start + bits.read(lengths[bits.read(2)]) + 1
        if end > count:
            raise DataError(f"{where}: a brush whose runs reach beyond the picture; export it again")
        if repeats:
            values[start:end] = bits.read(word)
        else:
            values[start:end] = bits.read_many(word, end - start)
        start = end
    return values.reshape(height, width, 4)[..., 3] >= 128


class _Bits:
    """A stream of bits, the highest of each byte first."""

    def __init__(self, data: bytes, where: str) -> None:
        self._bits, self._at, self._where = np.unpackbits(np.frombuffer(data, np.uint8)), 0, where

    def read(self, count: int) -> int:
        """The next `count` bits as a number."""
        value = 0
        for bit in self._take(count).tolist():
            value = value << 1 | bit
        return value

    def read_many(self, count: int, times: int) -> np.ndarray:
        """The next numbers of `count` bits each, at most 8."""
        bits = self._take(count * times).reshape(times, count)
        return np.packbits(bits, axis=1)[:, 0] >> (8 - count)

    def _take(self, count: int) -> np.ndarray:
        if self._at + count > len(self._bits):
            raise DataError(f"{self._where}: a brush that ends too early; export it again")
        self._at += count
        return self._bits[self._at - count : self._at]
