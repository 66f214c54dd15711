"""Reads TensorFlow checkpoints (version 2: `prefix.index`, `prefix.data-00000-of-00001`) without TensorFlow.

The index is a sorted string table as in LevelDB (doc/table_format.md there), its values protocol buffers of
tensorflow/core/protobuf/tensor_bundle.proto; the data files hold the tensors' bytes one after another.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kerbseg.core.errors import BundleError
from kerbseg.importers._files import require_file

FOOTER = 48  # bytes: two block handles, padding, the magic number
MAGIC = 0xDB4775248B80FB57
DTYPES: dict[int, np.dtype[Any]] = {
    1: np.dtype("<f4"),
    2: np.dtype("<f8"),
    3: np.dtype("<i4"),
    9: np.dtype("<i8"),
}  # of types.proto
LARGEST = 8 << 20  # bytes of an index, and of a tensor; a MiniNet's largest has 0.3 MB
POLYNOMIAL = 0x82F63B78  # CRC-32C, reflected


class Damaged(ValueError):
    """Bytes that are no checkpoint; becomes a BundleError where the file is known."""


@dataclass(frozen=True)
class Entry:
    """Where the bytes of one tensor stand, and what they are (BundleEntryProto)."""

    dtype: int
    shape: tuple[int, ...]
    shard: int
    offset: int
    size: int
    crc: int
    whole: bool  # not one of the slices of a partitioned variable


class Checkpoint(Mapping[str, np.ndarray]):
    """Tensors of a checkpoint by name, each read from disk and checked against its checksum when asked for."""

    def __init__(self, source: Path) -> None:
        self._prefix = re.sub(r"\.(index|meta|data-\d{5}-of-\d{5})$", "", str(source))
        self._index = Path(f"{self._prefix}.index")
        require_file(self._index, "; name an .npz file or the prefix of a TensorFlow checkpoint")
        try:
            if self._index.stat().st_size > LARGEST:
                raise Damaged(f"it is larger than {LARGEST:,} bytes")
            entries = read_table(self._index.read_bytes())
            self._shards = _shards(entries.pop(b""))
            # the slices of a partitioned variable have entries of their own, whose binary names begin with a zero
            self._entries = {key.decode(): _entry(value) for key, value in entries.items() if key[0]}
            for name, entry in self._entries.items():
                if entry.shard >= self._shards:
                    raise Damaged(f"{name!r} stands in data file {entry.shard} of {self._shards}")
        except KeyError as error:
            raise BundleError(f"{self._index} is no index of a TensorFlow checkpoint: it has no header") from error
        except (OSError, ValueError) as error:
            raise BundleError(f"{self._index} is damaged or foreign ({error}); copy it again") from error
        for path in self.files:
            require_file(path, f"; it belongs to {self._index}: copy it beside that", empty=True)

    @property
    def files(self) -> list[Path]:
        """The index and the data files."""
        return [self._index, *(self._shard(number) for number in range(self._shards))]

    def __getitem__(self, name: str) -> np.ndarray:
        entry = self._entries[name]
        path = self._shard(entry.shard)
        try:
            return _read(path, entry)
        except (OSError, ValueError, OverflowError) as error:
            raise BundleError(f"{path}: {name!r} cannot be read ({error}); copy the file again") from error

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def _shard(self, number: int) -> Path:
        return Path(f"{self._prefix}.data-{number:05d}-of-{self._shards:05d}")


def read_table(data: bytes) -> dict[bytes, bytes]:
    """Every key and value of a sorted string table. Raises Damaged."""
    if len(data) < FOOTER or int.from_bytes(data[-8:], "little") != MAGIC:
        raise Damaged("it does not end as an index does")
    offset, size, at = _handle(data, len(data) - FOOTER)
    _block(data, offset, size)  # the meta-index: it is empty, only its checksum counts
    offset, size, _ = _handle(data, at)
    table: dict[bytes, bytes] = {}
    for handle in _block(data, offset, size).values():
        table |= _block(data, *_handle(handle, 0)[:2])
    return table


def _block(data: bytes, offset: int, size: int) -> dict[bytes, bytes]:
    """Entries of one block: keys share a prefix with the key before them, restart points stand at the end."""
    if offset + size + 5 > len(data):
        raise Damaged("a block reaches beyond the end")
    block, kind = data[offset : offset + size], data[offset + size]
    if masked_crc32c(data[offset : offset + size + 1]) != _uint32(data, offset + size + 1):
        raise Damaged(f"the block at byte {offset} does not match its checksum")
    if kind != 0:
        raise Damaged(f"the block at byte {offset} is compressed, which TensorFlow's own indices never are")
    restarts = _uint32(block, len(block) - 4)
    end = len(block) - 4 * (restarts + 1)
    entries: dict[bytes, bytes] = {}
    key, at = b"", 0
    while at < end:
        shared, at = _varint(block, at)
        unshared, at = _varint(block, at)
        length, at = _varint(block, at)
        if shared > len(key) or at + unshared + length > end:
            raise Damaged(f"the block at byte {offset} holds a false length")
        key = key[:shared] + block[at : at + unshared]
        entries[key] = block[at + unshared : at + unshared + length]
        at += unshared + length
    return entries


def _shards(header: bytes) -> int:
    """Number of data files (BundleHeaderProto)."""
    fields = dict(_fields(header))
    if fields.get(2, 0) != 0:
        raise Damaged("it is big-endian; save it again on a little-endian machine")
    shards = fields.get(1, 0)
    if not isinstance(shards, int) or not 0 < shards < 100_000:
        raise Damaged(f"it names {shards!r} data files")
    return shards


def _entry(value: bytes) -> Entry:
    fields = dict(_fields(value))
    dtype, shard, offset, size, crc = (_integer(fields.get(number, 0)) for number in (1, 3, 4, 5, 6))
    shape = tuple(
        _integer(dict(_fields(_message(dim))).get(1, 0))
        for number, dim in _fields(_message(fields.get(2, b"")))
        if number == 2
    )
    return Entry(dtype, shape, shard, offset, size, crc, whole=7 not in fields)


def _read(path: Path, entry: Entry) -> np.ndarray:
    if not entry.whole:
        raise Damaged("it is saved in slices; save it whole")
    if entry.dtype not in DTYPES:
        raise Damaged(f"its type is number {entry.dtype} of TensorFlow's, neither float nor integer")
    dtype = DTYPES[entry.dtype]
    if entry.size != math.prod(entry.shape) * dtype.itemsize:
        raise Damaged(f"shape {list(entry.shape)} does not fit its {entry.size} bytes")
    if entry.size > LARGEST:
        raise Damaged(f"it is larger than {LARGEST:,} bytes")
    if entry.offset + entry.size > path.stat().st_size:
        raise Damaged("the file ends before it")
    with path.open("rb") as file:
        file.seek(entry.offset)
        data = file.read(entry.size)
    if masked_crc32c(data) != entry.crc:
        raise Damaged("it does not match its checksum")
    return np.frombuffer(data, dtype).reshape(entry.shape)


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Field numbers and values of a protocol buffer; groups are not in use here."""
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        value: int | bytes
        match tag & 7:
            case 0:
                value, at = _varint(message, at)
            case 1:
                value, at = message[at : at + 8], at + 8
            case 2:
                length, at = _varint(message, at)
                value, at = message[at : at + length], at + length
            case 5:
                value, at = _uint32(message, at), at + 4
            case kind:
                raise Damaged(f"an entry holds a field of unknown kind {kind}")
        if at > len(message):
            raise Damaged("an entry is cut off")
        yield tag >> 3, value


def _integer(value: int | bytes) -> int:
    if not isinstance(value, int):
        raise Damaged("an entry holds bytes in the place of a number")
    return value


def _message(value: int | bytes) -> bytes:
    if not isinstance(value, bytes):
        raise Damaged("an entry holds a number in the place of a shape")
    return value


def _handle(data: bytes, at: int) -> tuple[int, int, int]:
    """Offset and size of a block, and where the handle ends."""
    offset, at = _varint(data, at)
    size, at = _varint(data, at)
    return offset, size, at


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            break
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise Damaged("a number is cut off or too long")


def _uint32(data: bytes, at: int) -> int:
    if at < 0 or at + 4 > len(data):
        raise Damaged("a number is cut off")
    value: int = struct.unpack_from("<I", data, at)[0]
    return value


def masked_crc32c(data: bytes) -> int:
    """The checksum as TensorFlow stores it: rotated and shifted, since the data may hold checksums itself."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _TABLE[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    crc ^= 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def _crc_of_byte(byte: int) -> int:
    for _ in range(8):
        byte = byte >> 1 ^ (POLYNOMIAL if byte & 1 else 0)
    return byte


_TABLE = [_crc_of_byte(byte) for byte in range(256)]
