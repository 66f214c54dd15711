"""TensorFlow checkpoints: what was written is read; every damage is noticed and gets one line."""

import struct
from pathlib import Path

import numpy as np
import pytest

from kerbseg.core.errors import BundleError
from kerbseg.importers.tf_checkpoint import Checkpoint, masked_crc32c


def tensors() -> dict[str, np.ndarray]:
    draw = np.random.default_rng(0)
    return {
        **{f"conv2d_{i}/kernel": draw.normal(size=(3, 3, 2, i + 1)).astype(np.float32) for i in range(12)},
        **{f"conv2d_{i}/kernel/Adam": draw.normal(size=i + 1) for i in range(12)},
        "global_step": np.array(2**40 + 3),
        "count": np.array([-1, 2, -(2**31)], np.int32),
        "empty": np.zeros((0, 4), np.float32),
        "z" * 300: np.ones((1, 1, 1, 1), np.float32),  # lengths above 127 take two bytes
    }


def equal(read: dict, expected: dict) -> bool:
    return read.keys() == expected.keys() and all(
        read[name].dtype == expected[name].dtype
        and read[name].shape == expected[name].shape
        and np.array_equal(read[name], expected[name])
        for name in expected
    )


@pytest.fixture
def prefix(tmp_path, write_checkpoint):
    write_checkpoint(tmp_path / "model.ckpt", tensors(), shards=2)
    return tmp_path / "model.ckpt"


def message(source) -> str:
    """The one line that answers a checkpoint that cannot be read, names or tensors."""
    with pytest.raises(BundleError) as caught:
        dict(Checkpoint(source))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_checksum_is_the_standards():
    # RFC 3720 B.4, masked as in LevelDB
    for data, crc in ((bytes(32), 0x8A9136AA), (b"\xff" * 32, 0x62A8AB43), (bytes(range(32)), 0x46DD794E)):
        assert masked_crc32c(data) == ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


@pytest.mark.parametrize("shards", [1, 3])
@pytest.mark.parametrize("entries_a_block", [1, 5, 1000])
@pytest.mark.parametrize("restart_interval", [1, 16])
def test_what_was_written_is_read(tmp_path, write_checkpoint, shards, entries_a_block, restart_interval):
    write_checkpoint(
        tmp_path / "m", tensors(), shards, entries_a_block=entries_a_block, restart_interval=restart_interval
    )
    assert equal(dict(Checkpoint(tmp_path / "m")), tensors())


@pytest.mark.parametrize("ending", ["", ".index", ".meta", ".data-00000-of-00002"])
def test_any_of_its_files_names_a_checkpoint(prefix, ending):
    checkpoint = Checkpoint(prefix.with_name(prefix.name + ending))
    assert len(checkpoint) == len(tensors())
    endings = (".index", ".data-00000-of-00002", ".data-00001-of-00002")
    assert [path.name for path in checkpoint.files] == [f"model.ckpt{ending}" for ending in endings]


TENSORFLOWS = Path(__file__).parent / "checkpoint" / "small"  # written by TensorFlow itself: see make_checkpoint.py


def test_what_tensorflow_wrote_is_read():
    checkpoint = Checkpoint(TENSORFLOWS)
    assert [path.name for path in checkpoint.files[1:]] == [f"small.data-0000{n}-of-00003" for n in range(3)]
    expected = {
        "conv2d/kernel": np.arange(-27, 27, dtype=np.float32).reshape(3, 3, 3, 2) / 8,
        "conv2d/kernel/Adam": np.full((3, 3, 3, 2), 0.5, np.float32),
        "batch_normalization/gamma": np.array([1.0, -0.25], np.float32),
        "batch_normalization/moving_variance": np.array([0.1, 3e-38], np.float32),
        "statistics": np.array([[1 / 3, -1e300]]),
        "counts": np.array([-1, 2, -(2**31)], np.int32),
        "global_step": np.array(2**40 + 3),
        "nothing": np.zeros((0, 4), np.float32),
    }
    assert checkpoint.keys() == expected.keys() | {"embedding", "half"}
    assert equal({name: checkpoint[name] for name in expected}, expected)


@pytest.mark.parametrize(
    ("name", "says"), [("embedding", "saved in slices; save it whole"), ("half", "its type is number 14")]
)
def test_what_tensorflow_wrote_otherwise_is_named(name, says):
    with pytest.raises(BundleError, match=f"'{name}' cannot be read .*{says}"):
        Checkpoint(TENSORFLOWS)[name]


def test_missing_files_are_named(prefix, tmp_path):
    assert "none.index does not exist; name an .npz file or the prefix" in message(tmp_path / "none")
    assert "does not exist" in message(tmp_path)
    shard = prefix.with_name("model.ckpt.data-00001-of-00002")
    shard.unlink()
    assert f"{shard} does not exist; it belongs to {prefix}.index" in message(prefix)


@pytest.mark.parametrize("ending", ["index", "data-00001-of-00002"])
def test_truncated_file_is_noticed(prefix, ending):
    path = prefix.with_name(f"model.ckpt.{ending}")
    data = path.read_bytes()
    for kept in {*range(0, len(data), 29), len(data) - 1}:
        path.write_bytes(data[:kept])
        assert str(path) in message(prefix)


def error_of(source) -> str | None:
    """What a changed checkpoint is answered with; None where the tensors are as they were."""
    try:
        read = dict(Checkpoint(source))
    except BundleError as error:
        return str(error)
    assert equal(read, tensors())
    return None


@pytest.mark.parametrize("ending", ["index", "data-00000-of-00002"])
def test_changed_byte_is_noticed_or_does_not_matter(prefix, ending):
    path = prefix.with_name(f"model.ckpt.{ending}")
    data = path.read_bytes()
    padding = set(range(len(data) - 42, len(data) - 8)) if ending == "index" else set()  # between handles and magic
    for position in {*range(0, len(data), 37), *range(len(data) - 80, len(data))}:
        changed = bytearray(data)
        changed[position] ^= 0x41
        path.write_bytes(changed)
        error = error_of(prefix)
        assert str(path) in str(error) or (error is None and position in padding)


@pytest.mark.parametrize("seed", range(5))
def test_random_bytes_are_refused(tmp_path, seed):
    (tmp_path / "m.index").write_bytes(np.random.default_rng(seed).bytes(3000))
    assert "does not end as an index does" in message(tmp_path / "m")


def test_compressed_blocks_are_refused(tmp_path, write_checkpoint):
    write_checkpoint(tmp_path / "m", tensors(), kind=1)
    assert "is compressed" in message(tmp_path / "m")


LITTLE = b"\x08\x01"  # a header of one data file
ENORMOUS = b"\x08\x01\x12\x08\x12\x06\x08\x80\x80\x80\x80\x10\x28\x80\x80\x80\x80\x40"  # float [2^32]
ENDLESS = b"\x08\x01\x12\x10\x12\x02\x08\x00\x12\x0a\x08" + b"\xff" * 8 + b"\x7f" + b"\x28\x00"  # float [0 2^63-1]
FLOAT = b"\x08\x01\x12\x04\x12\x02\x08\x02\x28\x08"  # float [2], 8 bytes from the beginning


@pytest.mark.parametrize(
    ("header", "entry", "named"),
    [
        (None, FLOAT, "no header"),
        (b"\x08\x01\x10\x01", FLOAT, "big-endian"),
        (b"", FLOAT, "names 0 data files"),
        (b"\x0a\x01x", FLOAT, "names b'x' data files"),
        (LITTLE, b"\x08\x07\x28\x08", "type is number 7"),
        (LITTLE, b"\x08\x01\x12\x04\x12\x02\x08\x03\x28\x08", "shape [3] does not fit its 8 bytes"),
        (LITTLE, FLOAT + b"\x20\x01", "ends before it"),
        (LITTLE, ENORMOUS, "larger than 8,388,608 bytes"),
        (LITTLE, ENDLESS, "cannot be read"),
        (LITTLE, FLOAT + b"\x20" + b"\xff" * 9 + b"\x01", "ends before it"),
        (LITTLE, FLOAT + b"\x35\x00\x00\x00\x00", "does not match its checksum"),
        (LITTLE, FLOAT + b"\x3a\x00", "in slices"),
        (LITTLE, FLOAT + b"\x18\x07", "'weight' stands in data file 7 of 1"),
        (LITTLE, b"\x0a\x01x", "bytes in the place of a number"),
        (LITTLE, b"\x10\x01", "a number in the place of a shape"),
        (LITTLE, b"\x08", "cut off"),
        (LITTLE, b"\x12\x7f", "cut off"),
        (LITTLE, b"\x0b", "unknown kind 3"),
        (LITTLE, b"\x08" + b"\xff" * 11, "cut off or too long"),
    ],
)
def test_false_entries_are_named(tmp_path, write_index, header, entry, named):
    entries = {b"": header, b"weight": entry}
    write_index(tmp_path / "m", {key: value for key, value in entries.items() if value is not None})
    (tmp_path / "m.data-00000-of-00001").write_bytes(struct.pack("<2f", 1, 2))
    assert named in message(tmp_path / "m")
