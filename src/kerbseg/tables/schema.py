"""What the papers print, as `papers/*.yaml` holds it; a slip in a file is an error when it is read."""

from __future__ import annotations

import json
import re
from decimal import Decimal
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import ConfigDict, Field, TypeAdapter, model_validator
from pydantic.dataclasses import dataclass

from kerbseg.core.errors import KerbsegError, did_you_mean
from kerbseg.profiling.conventions import COUNTINGS

Size = tuple[int, int]  # height, width
Count = Literal["parameters", "operations", "megabytes"]
Time = Literal["milliseconds", "fps"]
Shape = Literal["channels", "resolution", "shape", "dilation"]  # of a row's `module`

TIMES = ("milliseconds", "fps")
SCALES = {"": 1, "%": 1, "k": 10**3, "M": 10**6, "G": 10**9}
NOTHING = ("", "-", "—", "n/a", "nan")  # how papers print it

_STRICT = ConfigDict(extra="forbid", strict=True)


@dataclass(frozen=True, config=_STRICT)
class Accuracy:
    """What a column or row of mIoU over all classes was measured on."""

    data: str
    split: Literal["train", "val", "test"]
    size: Size | None = None  # of the pictures that the network saw, where a row says no other; None: not said


@dataclass(frozen=True, config=_STRICT)
class Column:
    """One figure of a table: how to compute it, or the reason why nobody here can."""

    name: str
    measure: Count | Time | Shape | None = None
    convention: str = "true"  # a name of COUNTINGS
    unit: Literal["", "k", "M", "G", "%"] = ""
    size: Size | None = None
    where: Literal["gpu", "cpu"] = "gpu"  # where the paper took the time
    device: str = ""  # by name
    reason: str = ""  # why it is not measured
    text: bool = False  # describes the row; there is nothing to measure
    miou: Accuracy | None = None  # where the figure is one: of the network alone, without other pictures

    @model_validator(mode="after")
    def _complete(self) -> Column:
        if sum((self.measure is not None, bool(self.reason), self.text)) != 1:
            raise ValueError(f"column {self.name!r} needs one of: measure, reason, text")
        if self.convention not in COUNTINGS:
            raise ValueError(f"unknown convention {self.convention!r}; {did_you_mean(self.convention, COUNTINGS)}")
        return self

    def is_figure(self, printed: str) -> bool:
        """Whether a cell of this column prints something to compare with; a printed 0 is a figure like any other."""
        if self.text or printed in NOTHING:
            return False
        if self.reason or self.measure in ("resolution", "shape"):
            return True
        return number_in(printed, self.measure) is not None


@dataclass(frozen=True, config=_STRICT)
class Row:
    """What one row prints, and which registered network it is (of its columns, where each is another)."""

    name: str
    printed: tuple[str, ...]
    model: str | None = None
    models: dict[str, str] = Field(default_factory=dict)  # column -> name
    options: dict[str, Any] = Field(default_factory=dict)
    module: str = ""  # the part of the network that the row describes
    classes: int | None = None
    size: Size | None = None
    convention: str | None = None  # of operations, where the row counts otherwise than its column
    miou: Accuracy | None = None  # as a column's
    pretrained: bool = False  # on other pictures first, unlike the other rows
    notes: dict[str, str] = Field(default_factory=dict)  # column -> why the printed figure is not met, or what is odd


@dataclass(frozen=True, config=_STRICT)
class Table:
    """A table of a paper."""

    number: str
    title: str
    protocol: str
    label: str  # heading of the rows' names
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    classes: int = 19
    size: Size = (512, 1024)
    unprinted: bool = False  # of a network without a paper: rows print nothing, and every figure is ours

    @model_validator(mode="after")
    def _rectangular(self) -> Table:
        names = {column.name for column in self.columns}
        for row in self.rows:
            if self.unprinted and any(each not in NOTHING for each in row.printed):
                raise ValueError(f"row {row.name!r} prints figures in a table that is nowhere printed")
            if len(row.printed) != len(self.columns):
                raise ValueError(f"row {row.name!r} prints {len(row.printed)} cells for {len(self.columns)} columns")
            if unknown := (row.notes.keys() | row.models.keys()) - names:
                raise ValueError(f"row {row.name!r} names unknown columns: {', '.join(sorted(unknown))}")
        return self


@dataclass(frozen=True, config=_STRICT)
class Paper:
    """All tables of a paper."""

    paper: str
    title: str
    tables: tuple[Table, ...]


def list_papers() -> list[str]:
    """Names of the papers whose tables are here."""
    return sorted(Path(file.name).stem for file in _folder().iterdir() if file.name.endswith(".yaml"))


@cache
def load_paper(name: str) -> Paper:
    """The tables of a paper. Raises KerbsegError for an unknown one."""
    if name not in list_papers():
        raise KerbsegError(_unknown(name))
    raw = yaml.safe_load((_folder() / f"{name}.yaml").read_text(encoding="utf-8"))
    return TypeAdapter(Paper).validate_json(json.dumps(raw), strict=True)


def _unknown(name: str) -> str:
    """Why a paper has no tables: it is none, or one of which only networks are here."""
    import kerbseg.models as models  # and with it torch, which only this error needs

    facts = [models.card(each) for each in models.list_models()]
    if networks := [each.name for each in facts if name in (each.paper, each.name)]:
        of = models.card(networks[0]).paper
        if of not in list_papers():
            return (
                f"no tables of {of!r} are here, only its networks; compare them with: kerbseg benchmark {networks[0]}"
                f" (tables: {', '.join(list_papers())})"
            )
    return f"unknown paper {name!r}; {did_you_mean(name, list_papers())}"


def find_table(paper: str, number: str) -> Table:
    """A table by its number as we write it (1, 2 ...). Raises KerbsegError for an unknown one."""
    by_number = {table.number: table for table in load_paper(paper).tables}
    if number not in by_number:
        raise KerbsegError(f"{paper} has no table {number!r}; choose from: {', '.join(by_number)}")
    return by_number[number]


def number_in(printed: str, measure: str | None = None) -> Decimal | None:
    """The figure in a printed cell such as '20 (TXp), 11 (2080ti)': the first; None where there is none."""
    pattern = r"(?:dilated |rate=)(\d+)" if measure == "dilation" else r"(-?\d+(?:\.\d+)?)"
    figure = re.search(pattern, printed)
    return Decimal(figure.group(1)) if figure else None


def _folder() -> Traversable:
    return files("kerbseg") / "papers"
