"""The papers' tables beside our own figures: what is printed, what our networks come to, the difference.

`papers/*.yaml` holds only what the papers print and which network a row is; every figure of ours is computed.
"""

from __future__ import annotations

import json
import platform
import re
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from dataclasses import dataclass as plain_dataclass
from dataclasses import replace
from decimal import ROUND_HALF_UP, Decimal
from functools import cache, partial
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, Literal

import torch
import yaml
from pydantic import ConfigDict, Field, TypeAdapter, model_validator
from pydantic.dataclasses import dataclass
from torch import nn

import kerbseg.models as models
from kerbseg.core.errors import UserError, did_you_mean
from kerbseg.profiling.conventions import CONVENTIONS, Convention, Counted, tf_megabytes, true

Size = tuple[int, int]  # height, width
Count = Literal["parameters", "operations", "megabytes"]
Time = Literal["milliseconds", "fps"]
Shape = Literal["channels", "resolution", "shape", "dilation"]  # of a row's `module`

TIMES = ("milliseconds", "fps")
SCALES = {"": 1, "%": 1, "k": 10**3, "M": 10**6, "G": 10**9}
WIDEST = 180  # characters of a table that stays as it is
NOTHING = ("", "-", "—", "n/a", "nan")  # how papers print it

_STRICT = ConfigDict(extra="forbid", strict=True)


@dataclass(frozen=True, config=_STRICT)
class Column:
    """One figure of a table: how to compute it, or the reason why nobody here can."""

    name: str
    measure: Count | Time | Shape | None = None
    convention: str = "true"  # a name of CONVENTIONS, or flops: twice the MACs
    unit: Literal["", "k", "M", "G", "%"] = ""
    size: Size | None = None
    where: Literal["gpu", "cpu"] = "gpu"  # where the paper took the time
    device: str = ""  # by name
    reason: str = ""  # why it is not measured
    text: bool = False  # describes the row; there is nothing to measure

    @model_validator(mode="after")
    def _complete(self) -> Column:
        if sum((self.measure is not None, bool(self.reason), self.text)) != 1:
            raise ValueError(f"column {self.name!r} needs one of: measure, reason, text")
        if self.convention not in COUNTINGS:
            raise ValueError(f"unknown convention {self.convention!r}; {did_you_mean(self.convention, COUNTINGS)}")
        return self


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

    @model_validator(mode="after")
    def _rectangular(self) -> Table:
        names = {column.name for column in self.columns}
        for row in self.rows:
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


@plain_dataclass(frozen=True)
class Cell:
    """One printed figure beside ours."""

    row: Row
    column: Column
    printed: str
    model: str | None = None
    ours: Decimal | str | None = None  # in the column's unit; the text of a resolution
    true: str = ""  # the true count, where a paper counts otherwise
    reason: str = ""  # why there is no figure of ours

    @property
    def note(self) -> str:
        """What the paper's figure suffers from, if anything."""
        return self.row.notes.get(self.column.name, "")

    @property
    def difference(self) -> Decimal | None:
        """Ours, rounded to as many digits as are printed, less the printed figure."""
        printed = number_in(self.printed, self.column.measure)
        if printed is None or not isinstance(self.ours, Decimal):
            return None
        return self.ours.quantize(printed, ROUND_HALF_UP) - printed

    @property
    def met(self) -> bool:
        """Whether ours equals what is printed, to its digits."""
        return self.printed == self.ours if isinstance(self.ours, str) else self.difference == 0


def list_papers() -> list[str]:
    """Names of the papers whose tables are here."""
    return sorted(Path(file.name).stem for file in _folder().iterdir() if file.name.endswith(".yaml"))


@cache
def load_paper(name: str) -> Paper:
    """The tables of a paper. Raises UserError for an unknown one."""
    if name not in list_papers():
        raise UserError(f"unknown paper {name!r}; {did_you_mean(name, list_papers())}")
    raw = yaml.safe_load((_folder() / f"{name}.yaml").read_text(encoding="utf-8"))
    return TypeAdapter(Paper).validate_json(json.dumps(raw), strict=True)


def find_table(paper: str, number: str) -> Table:
    """A table by its number as we write it (1, 2 ...). Raises UserError for an unknown one."""
    by_number = {table.number: table for table in load_paper(paper).tables}
    if number not in by_number:
        raise UserError(f"{paper} has no table {number!r}; choose from: {', '.join(by_number)}")
    return by_number[number]


def render(paper: str, number: str | None, measure: bool) -> str:
    """A table of a paper (all of them without a number) as markdown: printed, ours, difference.

    Raises UserError for an unknown paper or table.
    """
    found = load_paper(paper)
    tables = found.tables if number is None else (find_table(paper, number),)
    return "\n\n".join(_markdown(found, table, compare(table, measure)) for table in tables)


def compare(table: Table, measure: bool) -> tuple[Cell, ...]:
    """Every printed figure of a table beside ours, column by column; nothing of ours without `measure`."""
    asked = [
        Cell(row, column, printed, row.models.get(column.name, row.model))
        for index, column in enumerate(table.columns)
        if not column.text
        for row in table.rows
        if (printed := row.printed[index]) not in NOTHING
        if column.reason or column.measure in ("resolution", "shape") or number_in(printed, column.measure)
    ]
    watch = Stopwatch()
    # the cheapest first, so that what the time limit leaves out is the dearest
    order = sorted(range(len(asked)), key=lambda index: _macs(table, asked[index]) if measure else 0)
    filled = {index: _fill(table, asked[index], measure, watch) for index in order}
    return tuple(filled[index] for index in range(len(asked)))


def number_in(printed: str, measure: str | None = None) -> Decimal | None:
    """The figure in a printed cell such as '20 (TXp), 11 (2080ti)': the first; None where there is none."""
    pattern = r"(?:dilated |rate=)(\d+)" if measure == "dilation" else r"(-?\d+(?:\.\d+)?)"
    found = re.search(pattern, printed)
    return Decimal(found.group(1)) if found else None


# ---- ours


@plain_dataclass(frozen=True)
class Network:
    """How to make a network; costs are kept under it."""

    model: str
    classes: int
    options: tuple[tuple[str, Any], ...] = ()

    def build(self, device: str = "meta") -> nn.Module:
        """The network with fresh weights, for inference; on torch's meta device it has shapes only."""
        with torch.device(device):
            return models.create_model(self.model, self.classes, **dict(self.options)).eval()


def _twice_macs(net: nn.Module, size: Size) -> Counted:
    counted = true(net, size)
    return Counted(counted.parameters, 2 * counted.operations)


COUNTINGS: dict[str, Convention] = {**CONVENTIONS, "flops": _twice_macs}


def _fill(table: Table, cell: Cell, measure: bool, watch: Stopwatch) -> Cell:
    row, column = cell.row, cell.column
    if column.reason:
        return replace(cell, reason=column.reason)
    if cell.model is None:
        return replace(cell, reason="no network of kerbseg")
    if not measure:
        return replace(cell, reason="use --measure")
    net, size = _network(table, cell), _size(table, cell)
    match column.measure:
        case "parameters" | "operations":
            return _count(cell, net, size)
        case "megabytes":
            return replace(cell, ours=Decimal(str(_megabytes(net))))
        case "milliseconds" | "fps":
            if column.where == "gpu" and device_for("gpu") == "cpu" and _has_processor_times(table):
                return replace(cell, reason="no GPU here")
            taken = watch.milliseconds(net, size, column.where)
            if isinstance(taken, str):
                return replace(cell, reason=taken)
            figure = taken if column.measure == "milliseconds" else 1000 / taken
            return replace(cell, ours=Decimal(str(figure)) / SCALES[column.unit])
        case _:
            return replace(cell, ours=_shapes(net, size)[row.module][str(column.measure)])


def _has_processor_times(table: Table) -> bool:
    return any(column.where == "cpu" for column in table.columns)


def _count(cell: Cell, net: Network, size: Size) -> Cell:
    counted = _counted(net, size, cell.row.convention or cell.column.convention)
    exact = _counted(net, size, "true")
    figure: float = counted.operations
    beside = f"{exact.operations / 1e9:.3f} G MACs"
    if cell.column.measure == "parameters":
        figure, beside = counted.parameters, f"{exact.parameters:,}"
    return replace(cell, ours=Decimal(str(figure)) / SCALES[cell.column.unit], true=beside)


def _network(table: Table, cell: Cell) -> Network:
    return Network(str(cell.model), cell.row.classes or table.classes, tuple(cell.row.options.items()))


def _size(table: Table, cell: Cell) -> Size:
    return cell.column.size or cell.row.size or table.size


def _macs(table: Table, cell: Cell) -> float:
    if cell.model is None or cell.column.measure not in TIMES:
        return 0
    return _counted(_network(table, cell), _size(table, cell), "true").operations


@cache
def _counted(net: Network, size: Size, convention: str) -> Counted:
    return COUNTINGS[convention](net.build(), size)


@cache
def _megabytes(net: Network) -> float:
    return tf_megabytes(net.build())


@cache
def _shapes(net: Network, size: Size) -> dict[str, dict[str, Decimal | str]]:
    """Of every part of the network: channels, resolution (width x height), both, and widest dilation."""
    built = net.build()
    found: dict[str, dict[str, Decimal | str]] = {}
    for name, module in built.named_modules():
        module.register_forward_hook(partial(_note_shape, found, name))
    with torch.no_grad():
        built(torch.empty(1, 3, *size, device="meta"))
    return found


def _note_shape(found: dict[str, dict[str, Decimal | str]], name: str, part: nn.Module, _: Any, result: Any) -> None:
    if not isinstance(result, torch.Tensor) or result.ndim != 4:
        return
    _, channels, height, width = result.shape
    dilations = (max(m.dilation) for m in part.modules() if isinstance(m, nn.Conv2d))
    found[name] = {
        "channels": Decimal(channels),
        "resolution": f"{width}x{height}",
        "shape": f"{width}x{height}x{channels}",
        "dilation": Decimal(max(dilations, default=1)),
    }


class Stopwatch:
    """Times from a float32 picture on the device to logits at its size: batch 1, fresh weights, no compilation.

    One warm-up, then the median of 3 to 50 runs in about a second. A network that would not end within the table's
    time, judged by the speed of the one before it, is left out.
    """

    def __init__(self, budget_s: float = 40.0, each_s: float = 1.0) -> None:
        self.budget_s = budget_s
        self.each_s = each_s
        self._taken: dict[tuple[Network, Size, str], float | str] = {}
        self._s_per_mac = dict.fromkeys(("cpu", "cuda"), 0.0)  # of the last network
        self._started = time.perf_counter()

    def milliseconds(self, net: Network, size: Size, where: str) -> float | str:
        """The median time on this machine's `where` (gpu, cpu), or the reason why it was not taken."""
        device = device_for(where)
        key = (net, size, device)
        if key not in self._taken:
            self._taken[key] = self._take(*key)
        return self._taken[key]

    def _take(self, net: Network, size: Size, device: str) -> float | str:
        macs = _counted(net, size, "true").operations
        left = self.budget_s - (time.perf_counter() - self._started)
        if max(4 * macs * self._s_per_mac[device], self.each_s) > left:
            return f"past the {self.budget_s:.0f} s for a table"
        model, picture = net.build(device), torch.rand(1, 3, *size, device=device)
        with torch.inference_mode():
            _seconds(model, picture)
            times, end = [_seconds(model, picture) for _ in range(3)], time.perf_counter() + self.each_s
            while len(times) < 50 and time.perf_counter() < end:
                times.append(_seconds(model, picture))
        self._s_per_mac[device] = statistics.median(times) / macs
        return statistics.median(times) * 1000


def _seconds(model: nn.Module, picture: torch.Tensor) -> float:
    start = time.perf_counter()
    model(picture)
    if picture.is_cuda:
        torch.cuda.synchronize()
    return time.perf_counter() - start


def device_for(where: str) -> str:
    """The torch device that stands for a paper's gpu or cpu: the processor where there is no GPU."""
    return "cuda" if where == "gpu" and torch.cuda.is_available() else "cpu"


def device_name(device: str) -> str:
    """What the device is called, and its threads."""
    if device == "cuda":
        return torch.cuda.get_device_name()
    facts = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*:\s*(.+)", facts.read_text()) if facts.exists() else None
    name = found.group(1) if found else platform.processor() or platform.machine()
    return f"{name}, {torch.get_num_threads()} thread(s)"


# ---- markdown


def _markdown(paper: Paper, table: Table, cells: Sequence[Cell]) -> str:
    parts = [f"## {paper.title}, table {table.number}: {table.title}", table.protocol, "As printed:"]
    parts.append(_as_printed(table))
    notes: list[str] = []
    shown = [cell for cell in cells if cell.ours is not None or (cell.model and not cell.column.reason)]
    if shown:
        parts.append("Beside ours:")
        parts.append(_grid(_HEAD, [_line(cell, notes) for cell in shown], {0, 1, 2}))
    parts += [f"[{index}] {note}" for index, note in enumerate(notes, 1)]
    parts += _clock(table, cells)
    if reasons := list(_left_out(table, [cell for cell in cells if cell not in shown])):
        parts.append("Not measured:\n\n" + "\n".join(f"- {line}" for line in reasons))
    return "\n\n".join(parts)


def _as_printed(table: Table) -> str:
    """The table as the paper has it, or turned by a quarter where it is wider than a terminal."""
    words = {index for index, column in enumerate(table.columns, 1) if column.text or column.measure == "dilation"}
    head = [table.label, *(column.name for column in table.columns)]
    lines = [[row.name, *row.printed] for row in table.rows]
    grid = _grid(head, lines, {0} | words)
    if grid.index("\n") <= WIDEST:
        return grid
    turned = [list(line) for line in zip(head, *lines, strict=True)]
    return _grid(turned[0], turned[1:], {0})


_HEAD = ["figure", "row", "network", "printed", "ours", "difference", "true count"]


def _line(cell: Cell, notes: list[str]) -> list[str]:
    ours = f"not measured: {cell.reason}" if cell.ours is None else _ours(cell)
    mark = ""
    if cell.note:
        if cell.note not in notes:
            notes.append(cell.note)
        mark = f" [{notes.index(cell.note) + 1}]"
    options = ", ".join(f"{key}={value}" for key, value in cell.row.options.items())
    network = f"{cell.model}({options})" if options else str(cell.model)
    return [cell.column.name, cell.row.name, network, cell.printed, ours, _difference(cell) + mark, cell.true]


def _ours(cell: Cell) -> str:
    printed = number_in(cell.printed, cell.column.measure)
    if isinstance(cell.ours, str) or cell.ours is None or printed is None:
        return str(cell.ours)
    digits = -int(printed.as_tuple().exponent)
    if cell.column.measure in TIMES:
        return f"{cell.ours:.{max(1, digits)}f}"
    return f"{cell.ours:.{digits + 2 if digits else 0}f}"


def _difference(cell: Cell) -> str:
    printed = number_in(cell.printed)
    if cell.column.measure in TIMES:
        return f"{cell.ours / printed:.2f} x" if isinstance(cell.ours, Decimal) and printed else ""
    if isinstance(cell.ours, str):
        return "0" if cell.met else "differs"
    if cell.difference is None:
        return ""
    return f"{cell.difference:+f}" if cell.difference else f"{abs(cell.difference):f}"


def _clock(table: Table, cells: Iterable[Cell]) -> Iterator[str]:
    """Where our times come from."""
    timed = {cell.column.where for cell in cells if cell.column.measure in TIMES and cell.ours is not None}
    if not timed:
        return
    here = "; ".join(_here(where) for where in sorted(timed))
    there = ", ".join(dict.fromkeys(column.device for column in table.columns if column.device))
    yield (
        f"Our times: {here}; torch {torch.__version__} eager, float32, batch 1, fresh weights, from a picture on the"
        f" device to logits at its size; one warm-up, median of 3 to 50 runs. The paper's: {there}. As the devices are"
        " not the same, the difference of times is ours divided by the printed one and says nothing about a network."
    )


def _here(where: str) -> str:
    device = device_for(where)
    return device_name(device) + (" (no GPU here)" if where == "gpu" and device == "cpu" else "")


def _left_out(table: Table, cells: Sequence[Cell]) -> Iterator[str]:
    """Why figures are missing: column by column where nothing of it is ours, else row by row."""
    for column in table.columns:
        odd = [f"{cell.row.name}: {cell.note}" for cell in cells if cell.column == column and cell.note]
        if column.reason:
            yield "; ".join([f"{column.name}: {column.reason}", *odd]) + "."
    if names := dict.fromkeys(cell.row.name for cell in cells if not cell.column.reason):
        yield f"{', '.join(names)}: no network of kerbseg."


def _grid(head: Sequence[str], lines: Iterable[Sequence[str]], left: Set[int]) -> str:
    """A markdown table that is aligned on a terminal too; columns of `left` to the left, figures to the right."""
    grid = [list(head), *map(list, lines)]
    widths = [max(3, *(len(line[index]) for line in grid)) for index in range(len(head))]
    rule = ["-" * width if index in left else "-" * (width - 1) + ":" for index, width in enumerate(widths)]
    pads: list[Callable[[str, int], str]] = [str.ljust if index in left else str.rjust for index in range(len(head))]
    padded = [[pad(cell, width) for pad, cell, width in zip(pads, line, widths, strict=True)] for line in grid]
    return "\n".join(f"| {' | '.join(line)} |" for line in (padded[0], rule, *padded[1:]))


def _folder() -> Traversable:
    return files("kerbseg") / "papers"
