"""The accuracies that papers print of our networks, each with the data set that it belongs to."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from kerbseg.tables.schema import SCALES, Accuracy, Size, list_papers, load_paper, number_in


@dataclass(frozen=True)
class PrintedAccuracy:
    """An mIoU as a paper prints it."""

    model: str
    miou: float  # 0..1
    data: str
    split: str
    size: Size | None  # height, width of the network's pictures; None where the paper does not say
    paper: str
    table: str
    row: str  # its name there

    @property
    def source(self) -> str:
        """Where it stands, in words."""
        return f"paper {self.paper}, table {self.table}"


@cache
def printed_accuracies(model: str) -> tuple[PrintedAccuracy, ...]:
    """All that the papers print of a registered network, in the order of papers and tables; empty where none does."""
    return tuple(each for each in _all() if each.model == model)


@cache
def _all() -> tuple[PrintedAccuracy, ...]:
    return tuple(each for paper in list_papers() for each in _of_paper(paper))


def _of_paper(name: str) -> Iterator[PrintedAccuracy]:
    for table in load_paper(name).tables:
        for row in table.rows:
            if row.options or row.pretrained:
                continue  # another width than the registered one's, or more pictures than the other networks had
            for column, printed in zip(table.columns, row.printed, strict=True):
                where: Accuracy | None = column.miou or row.miou
                model = row.models.get(column.name, row.model)
                figure = number_in(printed)
                if where is None or model is None or figure is None:
                    continue
                share = float(figure / 100 if column.unit == "%" else figure / SCALES[column.unit])
                size = (row.size or where.size) if where.size is not None else None
                yield PrintedAccuracy(model, share, where.data, where.split, size, name, table.number, row.name)
