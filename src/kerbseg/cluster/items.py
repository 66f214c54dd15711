"""What there is to do: the files that inputs name, here or in a store, and shards of them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from kerbseg.cluster.stores import Store
from kerbseg.core.classes import CLASSES
from kerbseg.core.errors import DataError, KerbsegError
from kerbseg.core.text import ADDRESS, redact
from kerbseg.data.pictures import SUFFIXES
from kerbseg.predict import SinkKind, Source
from kerbseg.predict.files import plan_results
from kerbseg.predict.inputs import expand
from kerbseg.predict.sinks import endings_of_results
from kerbseg.predict.sources import BagSource, input_suffixes
from kerbseg.predict.sources.bags import BAG_SUFFIXES
from kerbseg.predict.sources.frame import Kind

LARGEST = 64
"""Pictures of a shard at most: what is lost with a worker, and the rows of a Parquet file."""
ROUNDS = 4
"""Shards that each worker gets at least, where there is work for them: none waits long for the last one."""


@dataclass(frozen=True)
class Item:
    """A file to segment."""

    address: str  # an absolute path, or an address
    name: str  # the beginning of its results' names
    topics: tuple[str, ...] = ()  # of a bag
    alone: bool = False  # a video or a bag: a shard of its own

    @property
    def key(self) -> str:
        """What it is known by in records; no password stands in it."""
        shown = " ".join([redact(self.address), *self.topics])
        return shown if redact(self.address) == self.address else f"{shown} {_digest(self.address)[:8]}"


@dataclass(frozen=True)
class Shard:
    """Items that one worker does together: all, or each again."""

    items: tuple[Item, ...]

    @property
    def id(self) -> str:
        """Sixteen hexadecimal digits; the same items give the same."""
        return _digest("\n".join(item.key for item in self.items))[:16]


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def shards_of(items: Sequence[Item], workers: int, largest: int = LARGEST) -> list[Shard]:
    """The items in shards: videos and bags alone and first, since they take longest, then pictures in order."""
    pictures = [item for item in items if not item.alone]
    size = max(1, min(largest, -(-len(pictures) // (ROUNDS * workers))))
    groups = [pictures[at : at + size] for at in range(0, len(pictures), size)]
    return [Shard((item,)) for item in items if item.alone] + [Shard(tuple(group)) for group in groups]


def find_items(
    inputs: Sequence[str],
    out: str,
    *,
    recursive: bool = False,
    topics: Sequence[str] = (),
    sinks: Sequence[SinkKind] | None = None,
) -> tuple[list[Item], dict[str, KerbsegError]]:
    """The files that paths and addresses name, by the rules of `predict_files`; and why some inputs name none.

    Raises KerbsegError where two results would have one name, for streams, and where nothing is asked for.
    """
    stored = [each for each in inputs if ADDRESS.match(each)]
    local = [each for each in inputs if not ADDRESS.match(each)]
    sources: list[Source] = []
    failures: dict[str, KerbsegError] = {}
    if local or not stored:
        leave_out = None if ADDRESS.match(out) else Path(out)
        given = expand(local, recursive=recursive, leave_out=leave_out, topics=topics)
        sources, failures = given.sources, given.failures
    for each in stored:
        try:
            sources += _stored(each, out, recursive)
        except DataError as error:
            failures[redact(each)] = error
    for source in sources:
        if source.path is None:
            raise KerbsegError(f"{source} is a stream, which one machine alone sees; leave it or --engine out")
    names = sources if sinks is not None and not sinks else plan_results(sources, out, sinks)
    items = [_item(source, topics) for source in names]
    return list({item.key: item for item in items}.values()), failures


def _item(source: Source, topics: Sequence[str]) -> Item:
    if ADDRESS.match(source.origin):
        is_bag = PurePosixPath(source.origin).suffix.lower() in BAG_SUFFIXES
        return Item(source.origin, source.name, tuple(topics) if is_bag else (), source.kind == "video")
    own = source.topics if isinstance(source, BagSource) else ()
    return Item(os.path.abspath(source.path or source.origin), source.name, own, source.kind == "video")


def _stored(address: str, out: str, recursive: bool) -> Iterator[Source]:
    """The files of a store that are inputs: by their suffix, without hidden ones and our own results."""
    listed = Store(address).listed(recursive)
    starts = [start for _, name in listed for start in (name, str(PurePosixPath(name).with_suffix("")))]
    results = {f"{start}{ending}" for start in starts for ending in endings_of_results()}
    inputs = [
        (each, PurePosixPath(name))
        for each, name in listed
        if PurePosixPath(name).suffix.lower() in input_suffixes()
        and name not in results
        and PurePosixPath(name).name != CLASSES
        and not any(part.startswith(".") for part in PurePosixPath(name).parts)
        and not each.startswith(f"{out.rstrip('/')}/")
    ]
    if not inputs:
        raise DataError(f"{address} has no pictures, videos or bags among its {len(listed)} file(s); check the address")
    for each, name in inputs:
        kind: Kind = "picture" if name.suffix.lower() in SUFFIXES else "video"
        yield Source(str(name.with_suffix("")), lambda: iter(()), each, kind, Path(each))
