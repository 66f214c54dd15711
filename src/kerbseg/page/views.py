"""The ways in which a page shows what a model says of a picture."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from kerbseg.apps.evaluation import error_map
from kerbseg.core.labels import LabelSet
from kerbseg.page.looking import Look
from kerbseg.predict.draw import blend_overlay, draw_names


@dataclass(frozen=True)
class Painting:
    """How classes are painted: those that are switched on, and the weight of their colors."""

    labels: LabelSet  # the page's
    painted: frozenset[str]
    alpha: float = 0.5

    def paint(
        self, picture: UInt8[np.ndarray, "h w 3"], ids: UInt8[np.ndarray, "h w"], names: bool = True
    ) -> Image.Image:
        """The picture under the colors of the classes that are switched on; `names` stand on large regions."""
        hidden = [i for i, name in enumerate(self.labels.classes) if name not in self.painted]
        if len(hidden) == len(self.labels):
            return Image.fromarray(picture)
        if hidden:  # as one class, or the borders between them would be painted
            lookup = np.arange(256, dtype=np.uint8)
            lookup[hidden] = hidden[0]
            ids = lookup[ids]
        shown = replace(self.labels, background=frozenset(self.labels.classes[i] for i in hidden))
        sheet = Image.fromarray(blend_overlay(picture, ids, shown, self.alpha))
        if names:
            draw_names(sheet, ids, shown)
        return sheet


@dataclass(frozen=True)
class View:
    """One way to show a look: of which looks there is one, and how it is drawn for a model."""

    there: Callable[[Look], bool]
    draw: Callable[[Look, int, Painting], Image.Image]


def _classes(look: Look, model: int, painting: Painting) -> Image.Image:
    return painting.paint(look.picture, look.ids[model])


def _confidence(look: Look, model: int, painting: Painting) -> Image.Image:
    return look.predictions[model].confidence_gray()


def _mask(look: Look, model: int, painting: Painting) -> Image.Image:
    assert look.truth is not None
    return painting.paint(look.picture, look.truth)


def _errors(look: Look, model: int, painting: Painting) -> Image.Image:
    assert look.truth is not None
    return Image.fromarray(error_map(look.picture, look.ids[model], look.truth))


def _differences(look: Look, model: int, painting: Painting) -> Image.Image:
    return Image.fromarray(error_map(look.picture, look.ids[model], look.ids[1 - model]))


VIEWS: dict[str, View] = {
    "Classes": View(lambda look: True, _classes),
    "Confidence": View(lambda look: all(each.confidence is not None for each in look.predictions), _confidence),
    "Mask": View(lambda look: look.truth is not None, _mask),
    "Errors": View(lambda look: look.truth is not None, _errors),
    "Differences": View(lambda look: len(look.ids) == 2, _differences),
}
"""Views by the names that the page gives them."""


def views_of(look: Look) -> list[str]:
    """The views that there are of a look; the first is always there."""
    return [name for name, view in VIEWS.items() if view.there(look)]
