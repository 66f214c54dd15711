"""What of a run is finished: a small record for each shard, written when all of its results are.

Results count by their record alone. A shard that is done again writes the same files, so that whoever ends it first,
and however often, nothing is there twice.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from kerbseg.cluster.folders import Folder
from kerbseg.cluster.task import Outcome
from kerbseg.core.errors import DataError, KerbsegError

RUN = "_kerbseg/run.json"
DONE = "_kerbseg/done"
FAILURES = "_kerbseg/failures.json"
PARTS = "parts"
FORMAT = "kerbseg run 1"


class Records:
    """The records in a folder of results."""

    def __init__(self, folder: Folder) -> None:
        self._folder = folder

    def begin(self, settings: Mapping[str, Any]) -> None:
        """Notes by what results are made; KerbsegError where those in the folder were made by something else."""
        if not self.check(settings):
            self._folder.write(RUN, _json({"format": FORMAT, "settings": settings}))

    def check(self, settings: Mapping[str, Any]) -> bool:
        """Whether results are there, made in this way; KerbsegError where they were made in another."""
        content = self._folder.read(RUN)
        if content is None:
            return False
        document = _parsed(RUN, content)
        if document.get("format") != FORMAT:
            raise KerbsegError(f"{RUN} of the folder is not of this version of kerbseg; name another folder: -o OUT")
        before = document.get("settings", {})
        for name in sorted({*before, *settings}):
            if before.get(name) != settings.get(name):
                raise KerbsegError(
                    f"the results there were made with {name} {before.get(name)!r}, not {settings.get(name)!r}; name"
                    " another folder (-o OUT), or give the same options to go on"
                )
        return True

    def finished(self) -> set[str]:
        """The keys of all items that are finished; parts that no record names, of a killed run, are removed."""
        names = self._folder.names(DONE)
        records = [_parsed(name, content) for name, content in zip(names, self._folder.read_all(names), strict=True)]
        parts = {record.get("part") for record in records}
        for part in self._folder.names(PARTS):
            if part not in parts:
                self._folder.remove(part)
        return {key for record in records for key in record["done"]}

    def of(self, shard: str) -> Outcome | None:
        """What came of a shard that is finished; None for one that is not."""
        content = self._folder.read(f"{DONE}/{shard}.json")
        return None if content is None else _parsed(shard, content)

    def commit(self, shard: str, outcome: Outcome) -> None:
        """From now on the shard's results count."""
        self._folder.write(f"{DONE}/{shard}.json", _json(outcome))

    def note_failures(self, failures: Mapping[str, str]) -> None:
        """Lists what could not be segmented, and why."""
        self._folder.write(FAILURES, _json(failures))


def _json(document: Mapping[str, Any]) -> bytes:
    return f"{json.dumps(document, indent=1)}\n".encode()


def _parsed(name: str, content: bytes) -> dict[str, Any]:
    try:
        document = json.loads(content)
    except ValueError as error:
        raise DataError(f"{name} of the results is damaged; remove it, and what it was of is done again") from error
    if not isinstance(document, dict):
        raise DataError(f"{name} of the results is not of kerbseg; name another folder: -o OUT")
    return document
