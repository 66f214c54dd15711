"""How much of a picture each class covers, and how that is said in a line."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from jaxtyping import UInt8

from kerbseg.core.labels import LabelSet
from kerbseg.core.text import printable
from kerbseg.predict.draw import counts


def shares(ids: UInt8[np.ndarray, "h w"], labels: LabelSet) -> dict[str, float]:
    """The share of the pixels (0..1) of every class, the largest first; classes that are not there have 0."""
    return shares_of(counts(ids), labels)


def shares_of(pixels: np.ndarray, labels: LabelSet) -> dict[str, float]:
    """The same of the number of pixels of each id, of one picture or of many."""
    total = max(1, int(pixels.sum()))
    of_classes = pixels[: len(labels)]
    order = np.argsort(-of_classes, kind="stable").tolist()
    return {labels.classes[i]: float(of_classes[i] / total) for i in order}


def share_words(shares: Mapping[str, float], most: int) -> str:
    """As many of the largest shares as `most` characters hold, such as `road 24 %  car 6 %`; none below half a percent.

    The first is always there, its name cut where it is too long.
    """
    words = [f"{printable(name)} {100 * share:.0f} %" for name, share in shares.items() if share >= 0.005]
    line = ""
    for word in words:
        longer = f"{line}  {word}" if line else word
        if len(longer) > most and line:
            break
        line = longer
    if len(line) > most:
        name, figure, sign = words[0].rsplit(" ", 2)
        line = f"{name[: max(1, most - len(figure) - len(sign) - 3)]}… {figure} {sign}"
    return line
