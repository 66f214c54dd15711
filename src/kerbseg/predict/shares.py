"""How much of a picture each class covers, and how that is said in a line and in JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import UInt8
from rich.cells import cell_len, set_cell_size

from kerbseg.core.labels import LabelSet
from kerbseg.core.text import printable
from kerbseg.core.types import VOID
from kerbseg.predict.draw import counts
from kerbseg.predict.legend import unknown_name

if TYPE_CHECKING:
    from kerbseg.predict.prediction import Prediction


def shares(ids: UInt8[np.ndarray, "h w"], labels: LabelSet, unknown: bool = False) -> dict[str, float]:
    """The share of the pixels (0..1) of every class, the largest first; classes that are not there have 0.

    With `unknown`, and where there are any, pixels of no class (VOID) are a class of their own.
    """
    return shares_of(counts(ids), labels, unknown)


def shares_of(pixels: np.ndarray, labels: LabelSet, unknown: bool = False) -> dict[str, float]:
    """The same of the number of pixels of each id, of one picture or of many."""
    total = max(1, int(pixels.sum()))
    names, listed = list(labels.classes), pixels[: len(labels)]
    if unknown or pixels[VOID]:
        names, listed = [*names, unknown_name(labels)], np.append(listed, pixels[VOID])
    order = np.argsort(-listed, kind="stable").tolist()
    return {names[i]: float(listed[i] / total) for i in order}


def share_words(shares: Mapping[str, float], columns: int) -> str:
    """As many of the largest shares as there is room for, such as `road 24 %  car 6 %`; none below half a percent.

    The first is always there, its name cut where it is too long.
    """
    words = [(printable(name), f" {100 * share:.0f} %") for name, share in shares.items() if share > 0.005]
    line = ""
    for name, figure in words:
        longer = f"{line}  {name}{figure}" if line else f"{name}{figure}"
        if cell_len(longer) > columns:
            break
        line = longer
    if words and not line:
        name, figure = words[0]
        line = f"{set_cell_size(name, max(1, columns - len(figure) - 1)).rstrip()}…{figure}"
    return line


def shares_head(source: str, labels: LabelSet) -> str:
    """How a document of shares begins; frames follow, then `SHARES_END`."""
    return f'{{"source": {json.dumps(source)}, "labels": {json.dumps(labels.name)}, "frames": ['


SHARES_END = "\n]}\n"


def shares_figures(prediction: Prediction, index: int = 0, time_ns: int = 0) -> str:
    """What such a document says of one frame, on a line: its height and width, and the share of every class."""
    shares, (height, width) = prediction.shares(), prediction.ids.shape
    figures: dict[str, Any] = {
        "index": index,
        "time_ns": time_ns,
        "size": [height, width],
        "shares": {name: shares[name] for name in (*prediction.names, *(set(shares) - set(prediction.names)))},
    }
    return f"\n  {json.dumps(figures)}"


def shares_document(source: str, prediction: Prediction) -> str:
    """The document of one picture."""
    return shares_head(source, prediction.labels) + shares_figures(prediction) + SHARES_END
