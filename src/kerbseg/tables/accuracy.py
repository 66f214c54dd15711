"""Accuracies with their data: those that papers print of our networks, and those of the weights that kerbseg brings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from kerbseg.bundle import locate, read_card, shipped
from kerbseg.core.text import counted
from kerbseg.tables.schema import SCALES, Accuracy, Size, list_papers, load_paper, number_in

SPLITS = ("train", "val", "test")


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


@dataclass(frozen=True)
class ShippedAccuracy:
    """An mIoU of weights that come with kerbseg, as their card tells it."""

    weights: str
    model: str
    miou: float  # 0..1
    data: str
    split: str
    size: Size  # height, width of the network's pictures
    protocol: str  # in words; sizes are width x height, as papers print them


@cache
def shipped_accuracies() -> tuple[ShippedAccuracy, ...]:
    """Of all weights that come with kerbseg, on each split that they were evaluated on, without test-time changes."""
    return tuple(each for name in shipped() for each in _of_weights(name))


def _of_weights(name: str) -> Iterator[ShippedAccuracy]:
    card = read_card(locate(name))
    for scores in (card.scores, *(card.scores.get(split, {}) for split in SPLITS)):
        if "miou" not in scores or "protocol" not in scores:
            continue
        protocol = scores["protocol"]
        if protocol.get("tta", "none") != "none" or protocol.get("limit") or protocol.get("names"):
            continue  # not the network alone, or not the whole split
        height, width = protocol.get("input_size", card.input_size)
        words = _in_words(name, scores, protocol, (height, width))
        yield ShippedAccuracy(
            name, card.model, scores["miou"], protocol["data"], protocol["split"], (height, width), words
        )


def _in_words(name: str, scores: Mapping[str, Any], protocol: Mapping[str, Any], size: Size) -> str:
    """Such as 'Ours: weights x, camvid test (233 pictures), labels at 480x360, no test-time augmentation.'"""
    pictures = f" ({counted(scores['images'], 'picture')})" if "images" in scores else ""
    height, width = protocol.get("label_size", size)
    inputs = "" if size == (height, width) else f", pictures at {size[1]}x{size[0]}"
    return (
        f"Ours: weights {name}, {protocol['data']} {protocol['split']}{pictures}, labels at {width}x{height}{inputs},"
        f" no test-time augmentation. How they were trained: kerbseg info {name}."
    )
