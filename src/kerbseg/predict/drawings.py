"""The pictures that can be made of a prediction: the one table of what is drawn, for `save` and for the command."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from PIL import Image

from kerbseg.core.errors import InputError

if TYPE_CHECKING:
    from kerbseg.predict.prediction import Prediction


@dataclass(frozen=True)
class Style:
    """How overlays look."""

    alpha: float = 0.5  # weight of the classes' colors: 0 is the picture alone, 1 the colors alone
    legend: bool | None = None  # None: below pictures, and not below the frames of videos

    def __post_init__(self) -> None:
        check_alpha(self.alpha)

    @property
    def of_pictures(self) -> tuple[float, bool]:
        """What `Prediction.overlay` takes."""
        return self.alpha, self.legend is not False


def check_alpha(alpha: float) -> None:
    """Raises InputError for what is no weight."""
    if not 0 <= alpha <= 1:
        raise InputError(f"alpha is {alpha:g}; give 0 (the picture alone) to 1 (the colors alone)")


@dataclass(frozen=True)
class Drawing:
    """One picture of a prediction, and the ending of its file behind the input's name."""

    ending: str
    draw: Callable[[Prediction, Style], Image.Image]


DRAWINGS: dict[str, Drawing] = {
    "ids": Drawing("_ids.png", lambda prediction, style: Image.fromarray(prediction.ids)),
    "palette": Drawing("_palette.png", lambda prediction, style: prediction.palette()),
    "color": Drawing("_color.png", lambda prediction, style: prediction.color()),
    "overlay": Drawing("_overlay.png", lambda prediction, style: prediction.overlay(*style.of_pictures)),
    "side": Drawing("_side.png", lambda prediction, style: prediction.side(*style.of_pictures)),
    "confidence": Drawing("_confidence.png", lambda prediction, style: prediction.confidence_gray()),
}
