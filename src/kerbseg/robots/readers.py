"""rosbags' readers, and of a file that was cut off what is whole: a robot's power goes before a file's end."""

from __future__ import annotations

import os
import struct
from collections import Counter, defaultdict
from collections.abc import Collection, Generator, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, ClassVar

import apsw
from rosbags.interfaces import Connection
from rosbags.rosbag1 import Reader as Ros1Reader
from rosbags.rosbag1 import ReaderError as Ros1Error
from rosbags.rosbag1.reader import ChunkInfo, Header, IndexData, RecordType, read_bytes, read_uint32
from rosbags.rosbag2 import Reader, ReaderError
from rosbags.rosbag2.metadata import ReaderMetadata
from rosbags.rosbag2.reader import DirectoryReader, zstd
from rosbags.rosbag2.storage_mcap import McapReader
from ruamel.yaml.error import YAMLError

from kerbseg.robots.sqlite_reader import WholeRows

MAGIC = b"\x89MCAP0\r\n"
HEADER, FOOTER = 1, 2
FOOTER_BYTES = 9 + 20 + len(MAGIC)

DAMAGE = (  # what the readers raise for files that are cut off, damaged or foreign
    Ros1Error,
    ReaderError,
    apsw.Error,
    YAMLError,
    zstd.ZstdError,
    struct.error,
    AssertionError,
    EOFError,
    LookupError,
    MemoryError,  # of a length that is wrong
    RuntimeError,  # lz4's
    TypeError,
    ValueError,
    OSError,
)


class WholeRecords(McapReader):
    """An MCAP file; of one that is cut off, the records up to the last that is whole."""

    connections: list[Connection]
    cut = False

    def _open(self) -> None:
        assert self.bio is not None
        if ends_well(self.bio):
            super()._open()
            return
        self.data_start = _after_header(self.bio, self.path)
        self.data_end = whole_end(self.bio, self.data_start)
        self.cut = True
        self.meta_scan()
        self.bio.seek(self.data_start)
        statistics = self.statistics
        assert statistics is not None
        counts = statistics.channel_message_counts
        self.connections = [each._replace(msgcount=counts.get(each.id, 0)) for each in self.connections]
        if statistics.message_count:
            first, last = statistics.start_time, statistics.end_time
            count = statistics.message_count
            self.metadata = ReaderMetadata(last - first + 1, first, last + 1, count, None, None, None, None)

    def messages(
        self, connections: Collection[Connection], start: int | None = None, stop: int | None = None
    ) -> Generator[tuple[Connection, int, bytes], None, None]:
        """The messages; of a file that is cut off in the order of the file, for its index is lost."""
        if self.cut:
            yield from self.messages_scan(connections, start, stop)
        else:
            yield from super().messages(connections, start, stop)


class WholeChunks(Ros1Reader):
    """A ROS 1 bag; of one without its index, which is written last, the chunks that are whole."""

    cut = False

    def open(self) -> None:
        """Opens it, looking through all chunks where there is no index."""
        try:
            super().open()
        except Ros1Error as error:
            if "ind" not in str(error):  # not indexed, or its index is damaged
                raise
            self.cut = True
            self._look_through()

    def _look_through(self) -> None:
        self.bio = self.path.open("rb")
        size = self.path.stat().st_size
        self.bio.readline()  # its version, which was looked at
        connections: dict[int, Connection] = {}
        indexes: dict[int, list[IndexData]] = defaultdict(list)
        while True:
            place = self.bio.tell()
            try:
                kind = Header.read(self.bio).get_uint8("op")
                end = self.bio.tell() + 4 + read_uint32(self.bio)
            except Ros1Error:
                break
            if end > size:
                break
            if kind == RecordType.CHUNK:
                self.bio.seek(place)
                self._look_into_chunk(place, connections, indexes)
            self.bio.seek(end)
        self.indexes = {each: sorted(indexes[each]) for each in connections}
        self.connections = [each._replace(msgcount=len(indexes[number])) for number, each in connections.items()]

    def _look_into_chunk(
        self, place: int, connections: dict[int, Connection], indexes: dict[int, list[IndexData]]
    ) -> None:
        assert self.bio is not None
        chunk = self.chunks[place] = self.read_chunk()
        self.bio.seek(chunk.datapos)
        content = BytesIO(chunk.decompressor(read_bytes(self.bio, chunk.datasize)))
        counts, times = Counter[int](), []
        file, end = self.bio, len(content.getbuffer())
        while (offset := content.tell()) < end:
            header = Header.read(content)
            after = content.tell() + 4 + read_uint32(content)
            number = header.get_uint32("conn")
            if header.get_uint8("op") == RecordType.CONNECTION:
                content.seek(offset)
                self.bio = content
                try:
                    connections.setdefault(number, self.read_connection())
                finally:
                    self.bio = file
            else:
                times.append(header.get_time("time"))
                indexes[number].append(IndexData(times[-1], place, offset))
                counts[number] += 1
            content.seek(after)
        if times:
            self.chunk_infos.append(ChunkInfo(place, min(times), max(times) + 1, dict(counts)))


class FolderReader(DirectoryReader):
    """A rosbag2 folder whose files may be cut off."""

    STORAGE_PLUGINS: ClassVar[Any] = {"mcap": WholeRecords, "sqlite3": WholeRows}


class _BySuffix(dict[str, Any]):
    """Readers by the suffix of a file, in small letters or large ones."""

    def get(self, key: str, default: Any = None) -> Any:
        return super().get(key.lower(), default)


class Ros2Reader(Reader):
    """A rosbag2 folder, or one of the files in it."""

    STORAGE_PLUGINS: ClassVar[Any] = _BySuffix({"dir": FolderReader, ".mcap": WholeRecords, ".db3": WholeRows})

    @property
    def cut(self) -> bool:
        """Whether a file ends too early."""
        storages = getattr(self.storage, "storages", [self.storage])
        return any(getattr(storage, "cut", False) for storage in storages)


def ends_well(file: BinaryIO) -> bool:
    """Whether an MCAP file has its end; the place in the file stays."""
    place = file.tell()
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - FOOTER_BYTES))
    end = file.read()
    file.seek(place)
    return end[:1] == bytes([FOOTER]) and end.endswith(MAGIC)


def whole_end(file: BinaryIO, start: int) -> int:
    """Where the last whole record ends, of those from `start` on."""
    size = file.seek(0, os.SEEK_END)
    end = start
    for opcode, after in _records(file, start):
        if after > size or opcode == FOOTER:
            break
        end = after
    return end


def _records(file: BinaryIO, start: int) -> Iterator[tuple[int, int]]:
    """The kind of each record, and where it ends."""
    while True:
        file.seek(start)
        head = file.read(9)
        if len(head) < 9:
            return
        opcode, length = struct.unpack("<BQ", head)
        start += 9 + length
        yield opcode, start


def _after_header(file: BinaryIO, path: Path) -> int:
    """Where the records begin, behind a header of ROS 2."""
    file.seek(0)
    if file.read(len(MAGIC)) != MAGIC:
        raise ReaderError("it is no MCAP file" if path.stat().st_size else "it is empty")
    opcode, length, characters = struct.unpack("<BQI", file.read(13))
    profile = file.read(min(characters, 100)).decode(errors="replace")
    if opcode != HEADER or profile != "ros2":
        raise ReaderError(f"its profile is {profile!r}, not 'ros2'")
    return len(MAGIC) + 9 + int(length)


def open_reader(path: Path) -> WholeChunks | Ros2Reader:
    """The reader that a path needs, not yet open."""
    return WholeChunks(path) if path.suffix.lower() == ".bag" else Ros2Reader(path)
