"""A paper's tables as markdown: as printed, beside ours, and why what is missing is missing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from decimal import Decimal
from textwrap import wrap

import torch

from kerbseg.core.text import counted
from kerbseg.profiling.machine import this_machine
from kerbseg.tables.measure import Cell, NetworkTimes, compare, device_for
from kerbseg.tables.schema import TIMES, Paper, Table, find_table, load_paper, number_in

WIDEST = 180  # characters of a table that stays as it is
LINE = 80  # of prose


def render(paper: str, number: str | None, measure: bool, times: NetworkTimes | None = None) -> str:
    """A table of a paper (all of them without a number) as markdown: printed, ours, difference.

    `times` takes the latencies, where this machine's are not wanted. Raises KerbsegError for an unknown paper or table.
    """
    of_paper = load_paper(paper)
    tables = of_paper.tables if number is None else (find_table(paper, number),)
    return "\n\n".join(_markdown(of_paper, table, compare(table, measure, times, paper)) for table in tables)


def _markdown(paper: Paper, table: Table, cells: Sequence[Cell]) -> str:
    parts = [f"## {paper.title}, table {table.number}: {table.title}", _wrapped(table.protocol)]
    if not table.unprinted:
        parts += ["As printed:", _as_printed(table)]
    notes: list[str] = []
    shown = [cell for cell in cells if cell.ours is not None or (cell.model and not cell.column.reason)]
    if shown:
        beside = ["ours"] if table.unprinted else ["printed", "ours", "difference"]
        head = ["figure", "row", "network", *beside, "true count"]
        parts += [] if table.unprinted else ["Beside ours:"]
        parts.append(_grid(head, [_line(cell, notes, table.unprinted) for cell in shown], {0, 1, 2}))
    parts += [_wrapped(f"[{index}] {note}") for index, note in enumerate(notes, 1)]
    parts += map(_wrapped, _protocol_of_times(table, cells))
    if reasons := list(_left_out(table, cells, shown)):
        parts.append("Not measured:\n\n" + "\n".join(_wrapped(f"- {line}", "  ") for line in reasons))
    return "\n\n".join(parts)


def _wrapped(text: str, indent: str = "") -> str:
    """Prose in lines that end at a word: a terminal would cut them anywhere."""
    lines = wrap(text, LINE, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
    return "\n".join(lines)


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


def _line(cell: Cell, notes: list[str], unprinted: bool) -> list[str]:
    ours = f"not measured: {cell.reason}" if cell.ours is None else _ours(cell)
    marks = ""
    for note in filter(None, (cell.note, cell.protocol)):
        if note not in notes:
            notes.append(note)
        marks += f" [{notes.index(note) + 1}]"
    options = ", ".join(f"{key}={value}" for key, value in cell.row.options.items())
    network = f"{cell.model}({options})" if options else str(cell.model)
    beside = [ours + marks] if unprinted else [cell.printed, ours, _difference(cell) + marks]
    return [cell.column.name, cell.row.name, network, *beside, cell.true]


def _ours(cell: Cell) -> str:
    printed = number_in(cell.printed, cell.column.measure)
    if isinstance(cell.ours, Decimal) and printed is None:
        return f"{cell.ours:.{1 if cell.column.measure in TIMES else 3}f}"
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


def _protocol_of_times(table: Table, cells: Iterable[Cell]) -> Iterator[str]:
    """Where our times come from."""
    timed = {cell.column.where for cell in cells if cell.column.measure in TIMES and cell.ours is not None}
    if not timed:
        return
    machines = "; ".join(_here(where) for where in sorted(timed))
    devices = ", ".join(dict.fromkeys(column.device for column in table.columns if column.device))
    threads = counted(torch.get_num_threads(), "thread")
    ours = (
        f"Our times: {machines}. Torch eager, float32, {threads}, batch 1, fresh weights,"
        " from a picture on the device to logits at its size; after a warm-up, median of 3 to 50 runs."
    )
    if table.unprinted:
        yield ours
        return
    yield (
        f"{ours} The paper's: {devices}. As the devices are not the same, the difference of times is ours divided by"
        " the printed one and says nothing about a network."
    )


def _here(where: str) -> str:
    device = device_for(where)
    return f"{this_machine(device)}{' (no GPU here)' if where == 'gpu' and device == 'cpu' else ''}"


def _left_out(table: Table, every: Sequence[Cell], shown: Sequence[Cell]) -> Iterator[str]:
    """Why figures are missing: column by column where its figures are not computed, else row by row."""
    cells = [cell for cell in every if cell not in shown]
    for column in table.columns:
        odd = [f"{cell.row.name}: {cell.note}" for cell in cells if cell.column == column and cell.note]
        if column.reason and any(cell.column == column for cell in cells):
            rest = " of other rows" if any(cell.column == column for cell in shown) else ""
            yield "; ".join([f"{column.name}{rest}: {column.reason}", *odd]) + "."
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
