"""Our figures beside a paper's printed ones: counts, shapes, times; what is left out says why."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import ROUND_HALF_UP, Decimal
from functools import cache, partial
from typing import Any

import torch
from torch import nn

import kerbseg.models as models
from kerbseg.core.outline import outlines
from kerbseg.profiling.conventions import COUNTINGS, Counted, parameters_by, tf_megabytes
from kerbseg.profiling.latency import Budget, Latency, Skipped, interleaved, timed
from kerbseg.tables.accuracy import ShippedAccuracy, shipped_accuracies
from kerbseg.tables.schema import SCALES, TIMES, Column, Row, Size, Table, number_in

TABLE_S = 40.0  # for the times of one table
EACH = Budget(seconds=1.0, runs=50)  # for one network


@dataclass(frozen=True)
class Cell:
    """One printed figure beside ours."""

    row: Row
    column: Column
    printed: str
    model: str | None = None
    ours: Decimal | str | None = None  # in the column's unit; the text of a resolution
    true: str = ""  # the true count, where a paper counts otherwise
    reason: str = ""  # why there is no figure of ours
    protocol: str = ""  # of an accuracy of ours

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


@dataclass(frozen=True)
class Network:
    """How to make a network; costs are kept under it."""

    model: str
    classes: int
    options: tuple[tuple[str, Any], ...] = ()

    def build(self, device: str = "meta") -> nn.Module:
        """The network with fresh weights, for inference; on torch's meta device it has shapes only."""
        with outlines() if device == "meta" else torch.device(device):
            return models.create_model(self.model, self.classes, **dict(self.options)).eval()


def compare(table: Table, measure: bool, times: NetworkTimes | None = None, paper: str = "") -> tuple[Cell, ...]:
    """Every printed figure of a table beside ours, column by column.

    Without `measure` only parameters and memory are counted, which is quick. Accuracies are those of the weights that
    come with kerbseg. Networks that `paper` proposes are timed before others.
    """
    asked = [
        Cell(row, column, row.printed[index], row.models.get(column.name, row.model))
        for index, column in enumerate(table.columns)
        for row in table.rows
        if column.is_figure(row.printed[index]) or (table.unprinted and not column.text)
    ]
    times = times or NetworkTimes()
    # the paper's own first, then the cheapest, so that what the time limit leaves out is another's or the dearest
    order = (
        sorted(range(len(asked)), key=lambda index: _rank(table, asked[index], paper)) if measure else range(len(asked))
    )
    filled = {index: _fill(table, asked[index], measure, times) for index in order}
    return _with_accuracies(table, [filled[index] for index in range(len(asked))])


def _rank(table: Table, cell: Cell, paper: str) -> tuple[bool, float]:
    """The less, the earlier a cell is filled."""
    others = cell.model is None or models.card(cell.model).paper != paper
    return others, _macs(table, cell)


def _with_accuracies(table: Table, cells: Sequence[Cell]) -> tuple[Cell, ...]:
    """The cells, those of accuracies with what our weights reach; each weights' stands where the size is nearest."""
    filled = list(cells)
    for ours in sorted(shipped_accuracies(), key=lambda each: each.miou):  # of two at one place the better stays
        sizes = {index: _accuracy_size(table, cell, ours) for index, cell in enumerate(cells)}
        places = {index: size for index, size in sizes.items() if size is not None}
        if places:
            index = min(places, key=lambda place: abs(math.log(math.prod(places[place]) / math.prod(ours.size))))
            figure = Decimal(str(ours.miou)) * (100 if cells[index].column.unit == "%" else 1)
            height, width = places[index]
            other = "" if (height, width) == ours.size else f" The printed figure is of pictures at {width}x{height}."
            filled[index] = replace(cells[index], ours=figure, reason="", protocol=ours.protocol + other)
    return tuple(filled)


def _accuracy_size(table: Table, cell: Cell, ours: ShippedAccuracy) -> Size | None:
    """The size of the pictures of a cell that prints an accuracy of our weights' network, data and split; else None."""
    where, row = cell.column.miou or cell.row.miou, cell.row
    if where is None or cell.model != ours.model or row.options or row.pretrained:
        return None
    if (where.data.casefold(), where.split) != (ours.data.casefold(), ours.split):
        return None
    return row.size or where.size or table.size


class NetworkTimes:
    """Latencies of the networks of one table; each network is timed once.

    A network that would not end within the table's time, judged by the speed of the one before it, is left out.
    """

    def __init__(self, table_s: float = TABLE_S, each: Budget = EACH) -> None:
        self.table_s = table_s
        self.each = each
        self._known: dict[tuple[Network, Size, str], Latency | Skipped] = {}
        self._s_per_mac = dict.fromkeys(("cpu", "cuda"), 0.0)  # of the last network
        self._started = time.perf_counter()

    def latency(self, net: Network, size: Size, where: str) -> Latency | Skipped:
        """On this machine's `where` (gpu, cpu), or the reason why it was not taken."""
        device = device_for(where)
        key = (net, size, device)
        if key not in self._known:
            self._known[key] = self._take(*key)
        return self._known[key]

    def _take(self, net: Network, size: Size, device: str) -> Latency | Skipped:
        macs = _counted(net, size, "true").operations
        left_s = self.table_s - (time.perf_counter() - self._started)
        if max(4 * macs * self._s_per_mac[device], self.each.limit_s) > left_s:
            return Skipped(f"past the {self.table_s:.0f} s for a table")
        latency = network_latency(net, size, device, self.each)
        self._s_per_mac[device] = latency.median_ms / 1e3 / macs
        return latency


def network_latency(net: Network, size: Size, device: str, budget: Budget) -> Latency:
    """From a float32 picture on the device to logits at its size: batch 1, fresh weights, no compilation."""
    model, picture = net.build(device), torch.rand(1, 3, *size, device=device)
    call = torch.inference_mode()(partial(model, picture))
    return interleaved([timed(call, torch.cuda.synchronize if picture.is_cuda else None)], budget)[0]


def device_for(where: str) -> str:
    """The torch device that stands for a paper's gpu or cpu: the processor where there is no GPU."""
    return "cuda" if where == "gpu" and torch.cuda.is_available() else "cpu"


def _fill(table: Table, cell: Cell, measure: bool, times: NetworkTimes) -> Cell:
    row, column = cell.row, cell.column
    if column.reason:
        return replace(cell, reason=column.reason)
    if cell.model is None:
        return replace(cell, reason="no network of kerbseg")
    net, size = _network(table, cell), _size(table, cell)
    match column.measure:
        case "parameters":
            return _count_parameters(cell, net)
        case "megabytes":
            return replace(cell, ours=Decimal(str(_megabytes(net))))
        case _ if not measure:
            return replace(cell, reason="use --measure")
        case "operations":
            return _count_operations(cell, net, size)
        case "milliseconds" | "fps":
            return _time(table, cell, times)
        case _:
            return replace(cell, ours=_shapes(net, size)[row.module][str(column.measure)])


def _time(table: Table, cell: Cell, times: NetworkTimes) -> Cell:
    column = cell.column
    if column.where == "gpu" and device_for("gpu") == "cpu" and any(each.where == "cpu" for each in table.columns):
        return replace(cell, reason="no GPU here")
    taken = times.latency(_network(table, cell), _size(table, cell), column.where)
    if isinstance(taken, Skipped):
        return replace(cell, reason=taken.reason)
    figure = taken.median_ms if column.measure == "milliseconds" else 1000 / taken.median_ms
    return replace(cell, ours=Decimal(str(figure)) / SCALES[column.unit])


def _count_parameters(cell: Cell, net: Network) -> Cell:
    ours = Decimal(_parameters(net, cell.row.convention or cell.column.convention))
    return replace(cell, ours=ours / SCALES[cell.column.unit], true=f"{_parameters(net, 'true'):,}")


def _count_operations(cell: Cell, net: Network, size: Size) -> Cell:
    ours = _counted(net, size, cell.row.convention or cell.column.convention).operations
    exact = _counted(net, size, "true").operations
    return replace(cell, ours=Decimal(str(ours)) / SCALES[cell.column.unit], true=f"{exact / 1e9:.3f} G MACs")


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
def _parameters(net: Network, convention: str) -> int:
    return parameters_by(convention, net.build())


@cache
def _megabytes(net: Network) -> float:
    return tf_megabytes(net.build())


@cache
def _shapes(net: Network, size: Size) -> dict[str, dict[str, Decimal | str]]:
    """Of every part of the network: channels, resolution (width x height), both, and widest dilation."""
    built = net.build()
    shapes: dict[str, dict[str, Decimal | str]] = {}
    for name, module in built.named_modules():
        module.register_forward_hook(partial(_note_shape, shapes, name))
    with torch.no_grad():
        built(torch.empty(1, 3, *size, device="meta"))
    return shapes


def _note_shape(shapes: dict[str, dict[str, Decimal | str]], name: str, part: nn.Module, _: Any, result: Any) -> None:
    if not isinstance(result, torch.Tensor) or result.ndim != 4:
        return
    _, channels, height, width = result.shape
    dilations = (max(m.dilation) for m in part.modules() if isinstance(m, nn.Conv2d))
    shapes[name] = {
        "channels": Decimal(channels),
        "resolution": f"{width}x{height}",
        "shape": f"{width}x{height}x{channels}",
        "dilation": Decimal(max(dilations, default=1)),
    }
