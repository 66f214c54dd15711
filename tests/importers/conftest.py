"""Writers of authors' files: TensorFlow's checkpoints, so that the reader is tested without it, and PyTorch's."""

import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

DTYPES = {"float32": 1, "float64": 2, "int32": 3, "int64": 9}


def varint(value: int) -> bytes:
    out = b""
    while value >= 0x80:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def crc32c(data: bytes) -> int:
    """Bit by bit, as the polynomial is defined; masked as TensorFlow stores it."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    crc ^= 0xFFFFFFFF
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def block(entries: list[tuple[bytes, bytes]], restart_interval: int, kind: int = 0) -> bytes:
    """A block of sorted entries with its trailer."""
    out, restarts, before = b"", [], b""
    for number, (key, value) in enumerate(entries):
        shared = 0
        if number % restart_interval == 0:
            restarts.append(len(out))
        else:
            while shared < min(len(before), len(key)) and before[shared] == key[shared]:
                shared += 1
        out += varint(shared) + varint(len(key) - shared) + varint(len(value)) + key[shared:] + value
        before = key
    restarts = restarts or [0]
    out += struct.pack(f"<{len(restarts) + 1}I", *restarts, len(restarts)) + bytes([kind])
    return out + struct.pack("<I", crc32c(out))


def table(entries: Mapping[bytes, bytes], entries_a_block: int = 7, restart_interval: int = 3, kind: int = 0) -> bytes:
    """A sorted string table: data blocks, an empty meta-index block, the index block, the footer."""
    out, handles = b"", []

    def add(content: bytes) -> bytes:
        nonlocal out
        handle = varint(len(out)) + varint(len(content) - 5)
        out += content
        return handle

    ordered = sorted(entries.items())
    for start in range(0, len(ordered), entries_a_block):
        part = ordered[start : start + entries_a_block]
        handles.append((part[-1][0] + b"~", add(block(part, restart_interval, kind))))
    footer = add(block([], 1)) + add(block(handles, 1))
    return out + footer.ljust(40, b"\0") + struct.pack("<Q", 0xDB4775248B80FB57)


def field(number: int, value: int | bytes) -> bytes:
    if isinstance(value, bytes):
        return varint(number << 3 | 2) + varint(len(value)) + value
    return varint(number << 3) + varint(value) if value else b""  # zero is left out, as protobuf does


def entry(array: np.ndarray, shard: int, offset: int) -> bytes:
    data = array.tobytes()
    shape = b"".join(field(2, field(1, size)) for size in array.shape)
    return (
        field(1, DTYPES[array.dtype.name])
        + field(2, shape)
        + field(3, shard)
        + field(4, offset)
        + field(5, len(data))
        + varint(6 << 3 | 5)
        + struct.pack("<I", crc32c(data))
    )


def write(prefix: Path, tensors: Mapping[str, np.ndarray], shards: int = 1, **layout: int) -> None:
    """Writes PREFIX.index and PREFIX.data-*, the tensors dealt out to the shards in turn."""
    header = field(1, shards) + field(3, field(1, 1))
    entries, data = {b"": header}, [b""] * shards
    for number, (name, array) in enumerate(sorted(tensors.items())):
        shard = number % shards
        entries[name.encode()] = entry(array, shard, len(data[shard]))
        data[shard] += array.tobytes()
    Path(f"{prefix}.index").write_bytes(table(entries, **layout))
    for shard, content in enumerate(data):
        Path(f"{prefix}.data-{shard:05d}-of-{shards:05d}").write_bytes(content)


@pytest.fixture
def write_checkpoint() -> Callable[..., None]:
    """`write_checkpoint(prefix, {name: array}, shards=1)`"""
    return write


@pytest.fixture
def write_index() -> Callable[..., None]:
    """`write_index(prefix, {key: value})`: an index of these raw entries."""
    return lambda prefix, entries, **layout: Path(f"{prefix}.index").write_bytes(table(entries, **layout))


@pytest.fixture
def written(tmp_path: Path) -> Callable[[Any], Path]:
    """`written(content)`: the file that authors have saved it as with PyTorch."""

    def write(content: Any) -> Path:
        torch.save(content, tmp_path / "authors.pth")
        return tmp_path / "authors.pth"

    return write
