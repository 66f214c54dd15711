"""A sqlite3 file of rosbag2; of one that was cut off, the messages up to the first that is not whole.

SQLite itself refuses a file that is shorter than its header says ("database disk image is malformed"). Its tables are
trees of pages, and a message that is longer than a page goes on in further pages; all are written one behind another as
the recording grows, so that what lies before the cut still hangs together. The format: https://sqlite.org/fileformat2.html
"""

from __future__ import annotations

import struct
from array import array
from collections import Counter
from collections.abc import Collection, Generator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import apsw
import numpy as np
from rosbags.interfaces import Connection, ConnectionExtRosbag2, MessageDefinition, MessageDefinitionFormat
from rosbags.rosbag2 import ReaderError
from rosbags.rosbag2.metadata import ReaderMetadata, parse_qos
from rosbags.rosbag2.storage_sqlite3 import Sqlite3Reader

MAGIC = b"SQLite format 3\0"
HEADER_BYTES = 100

FORMATS = {"ros2msg": MessageDefinitionFormat.MSG, "ros2idl": MessageDefinitionFormat.IDL}


class WholeRows(Sqlite3Reader):
    """A sqlite3 file; of one that is cut off, the messages up to the first that is not whole, in order of time."""

    dbconn: apsw.Connection | None
    cut = False

    def __init__(self, path: Path) -> None:
        super().__init__(Path(quote(str(path))))  # it becomes a part of an address
        self._file = path

    def _open(self) -> None:
        whole = whole_pages(self._file)
        if whole is None:
            super()._open()
            return
        self.cut = True
        assert self.dbconn is not None
        self.dbconn.close()
        self._vfs = _WholePages(f"kerbseg-{id(self)}", whole)  # known by its name as long as it lives
        self.dbconn = apsw.Connection(
            f"file:{self.path}?immutable=1",
            flags=apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI,
            vfs=self._vfs.name,
        )
        try:
            self.dbconn.execute("PRAGMA writable_schema=ON")  # then the header's count of pages is not insisted on
            topics, definitions = self._rows_of("topics"), self._rows_of("message_definitions")
            self.dbconn.execute("SELECT id, topic_id, timestamp, data FROM messages LIMIT 0")
        except apsw.Error as error:
            raise ReaderError("it is cut off inside its first tables") from error
        self._scan({topic["id"] for topic in topics})
        self.connections = [self._connection(topic, definitions) for topic in topics]

    def _rows_of(self, table: str) -> list[dict[str, Any]]:
        """A small table, with the columns that this version of rosbag2 gave it; one that is not there is empty."""
        assert self.dbconn is not None
        if not self.dbconn.execute("SELECT 1 FROM sqlite_schema WHERE name = ?", (table,)).fetchall():
            return []
        cursor = self.dbconn.execute(f"SELECT * FROM {table} ORDER BY id")
        return [dict(zip((name for name, _ in cursor.get_description()), row, strict=True)) for row in cursor]

    def _scan(self, topics: Collection[int]) -> None:
        """Reads every message once, to know which are whole: only then their number and the last time are known."""
        assert self.dbconn is not None
        rows = array("q")
        try:
            for row, topic, time_ns, _ in self.dbconn.execute(
                "SELECT id, topic_id, timestamp, data FROM messages NOT INDEXED ORDER BY id"
            ):
                if topic in topics:
                    rows.extend((time_ns, row, topic))
        except apsw.CorruptError:
            pass  # the first message that is not whole; any other error is none of a file that was cut off
        table = np.frombuffer(rows, np.int64).reshape(-1, 3)
        self._whole = table[np.lexsort((table[:, 1], table[:, 0]))]
        self._counts = Counter(table[:, 2].tolist())
        if count := len(table):
            first, last = int(self._whole[0, 0]), int(self._whole[-1, 0])
            self.metadata = ReaderMetadata(last - first + 1, first, last + 1, count, None, None, None, None)

    def _connection(self, topic: dict[str, Any], definitions: list[dict[str, Any]]) -> Connection:
        text = MessageDefinition(MessageDefinitionFormat.NONE, "")
        for each in definitions:
            if each["topic_type"] == topic["type"]:
                text = MessageDefinition(FORMATS[each["encoding"]], each["encoded_message_definition"])
                break
        quality = topic.get("offered_qos_profiles")
        return Connection(
            topic["id"],
            topic["name"],
            topic["type"],
            text,
            topic.get("type_description_hash", ""),
            self._counts[topic["id"]],
            ConnectionExtRosbag2(topic["serialization_format"], [] if quality is None else parse_qos(quality)),
            self,
        )

    def messages(
        self, connections: Collection[Connection], start: int | None = None, stop: int | None = None
    ) -> Generator[tuple[Connection, int, bytes], None, None]:
        """The messages in order of time; of a file that is cut off, those that are whole."""
        if not self.cut:
            yield from super().messages(connections, start, stop)
            return
        assert self.dbconn is not None
        wanted = {each.id: each for each in connections}
        for time_ns, row, topic in map(np.ndarray.tolist, self._whole):
            if topic not in wanted or (start is not None and time_ns < start) or (stop is not None and time_ns >= stop):
                continue
            ((data,),) = self.dbconn.execute("SELECT data FROM messages WHERE id = ?", (row,))
            yield wanted[topic], time_ns, data


class _WholePages(apsw.VFS):
    """Files as they are, but without the page at their end that is cut: SQLite would fill it with zeros."""

    def __init__(self, name: str, size: int) -> None:
        super().__init__(name, "")
        self.name, self._size = name, size

    def xOpen(self, name: Any, flags: list[int]) -> apsw.VFSFile:
        return _WholePagesFile(name, flags, self._size)


class _WholePagesFile(apsw.VFSFile):
    def __init__(self, name: Any, flags: list[int], size: int) -> None:
        super().__init__("", name, flags)
        self._size = size

    def xFileSize(self) -> int:
        return self._size

    def xRead(self, amount: int, offset: int) -> bytes:
        return super().xRead(max(0, min(amount, self._size - offset)), offset)


def whole_pages(path: Path) -> int | None:
    """Of a file that is cut off, how many bytes of it are whole pages; None for one that is not, or no database."""
    with path.open("rb") as file:
        head = file.read(HEADER_BYTES)
    if len(head) < HEADER_BYTES or not head.startswith(MAGIC):
        return None
    (page,) = struct.unpack_from(">H", head, 16)
    page = 65536 if page == 1 else page
    changes, pages = struct.unpack_from(">II", head, 24)
    (valid_for,) = struct.unpack_from(">I", head, 92)
    if page < 512 or page & (page - 1):
        return None
    size = path.stat().st_size
    counted = pages > 0 and changes == valid_for  # else SQLite itself goes by the size of the file
    is_whole = size >= pages * page if counted else size % page == 0
    return None if is_whole else size - size % page
