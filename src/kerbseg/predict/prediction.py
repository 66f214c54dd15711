"""What a predictor says of one picture, and what can be asked of it."""

from __future__ import annotations

import io
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float32, Int32, UInt8
from PIL import Image

from kerbseg.core.errors import InputError, did_you_mean
from kerbseg.core.files import atomic_write
from kerbseg.core.labels import Color, LabelSet
from kerbseg.predict.draw import blend_overlay, colorize, percent, with_legend
from kerbseg.predict.opencv import cv2_module
from kerbseg.predict.shares import shares

ENDINGS = ("_ids.png", "_overlay.png")  # of the files that `save` writes


@dataclass(frozen=True, eq=False, repr=False)
class Prediction:
    """Class ids of one picture, at the picture's own size; a notebook shows it as its overlay."""

    ids: UInt8[np.ndarray, "h w"]  # train ids: a class's position in `names`
    labels: LabelSet
    confidence: Float32[np.ndarray, "h w"] | None = None  # probability of each pixel's class, where it was asked for
    picture: UInt8[np.ndarray, "h w 3"] | None = None  # RGB, where it is known

    @property
    def names(self) -> tuple[str, ...]:
        """The name of every class that the model knows, by id, whether it is in the picture or not."""
        return self.labels.classes

    @property
    def colors(self) -> tuple[Color, ...]:
        """The color (RGB, 0..255) of every class, by id."""
        return self.labels.colors

    def shares(self) -> dict[str, float]:
        """The share of the pixels (0..1) of every class, the largest first; classes that are not there have 0."""
        return shares(self.ids, self.labels)

    def __getitem__(self, name: str) -> Bool[np.ndarray, "h w"]:
        """Where the class of that name is. Raises InputError, with the nearest name, for one that the model lacks."""
        return self.ids == self._id(name)

    __iter__ = None  # a mask is asked for by its class; without this Python would ask for 0, 1, 2

    def __contains__(self, name: str) -> bool:
        """Whether any pixel is of the class of that name; none is of one that the model lacks."""
        return name in self.names and bool(self[name].any())

    def polygons(self, name: str) -> list[Int32[np.ndarray, "n 2"]]:
        """The outlines of the class's regions as (column, row) of their corner pixels, the largest region first.

        Regions touch by an edge or a corner; holes in them are not cut out, a region inside a hole has its own outline.
        Raises MissingExtra without OpenCV.
        """
        cv2 = cv2_module()
        mask = self[name].astype(np.uint8)
        outlines, levels = cv2.findContours(mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
        outer = [outline[:, 0] for i, outline in enumerate(outlines) if levels[0, i, 3] < 0]  # no parent: no hole
        return sorted(outer, key=cv2.contourArea, reverse=True)

    def color(self) -> Image.Image:
        """Every pixel in its class's color."""
        return Image.fromarray(colorize(self.ids, self.labels))

    def overlay(self, alpha: float = 0.5, legend: bool = True) -> Image.Image:
        """The picture under its classes' colors, borders of regions drawn dark; below it a legend with their shares.

        Raises InputError where the picture is not known.
        """
        drawn = self.blended if alpha == 0.5 else self._blend(alpha)
        return with_legend(drawn, self._present(), self.labels) if legend else Image.fromarray(drawn)

    @cached_property
    def blended(self) -> UInt8[np.ndarray, "h w 3"]:
        """The overlay's pixels, without a legend; drawn once, for all that show or write them."""
        return self._blend(0.5)

    def save(self, stem: str | Path) -> tuple[Path, ...]:
        """Writes `<stem>_ids.png` (train ids) and, where the picture is known, `<stem>_overlay.png`; says which.

        Raises InputError where the stem names a folder: a prediction does not know its picture's name.
        """
        if str(stem).endswith(("/", os.sep)) or not Path(stem).name or Path(stem).is_dir():
            raise InputError(
                f"{stem} is a folder; add the beginning of the files' names, such as {Path(stem) / 'street'}"
            )
        stem = Path(stem)
        drawings = [Image.fromarray(self.ids)] if self.picture is None else [Image.fromarray(self.ids), self.overlay()]
        paths = tuple(stem.with_name(stem.name + ending) for ending in ENDINGS[: len(drawings)])
        for path, drawing in zip(paths, drawings, strict=True):
            with atomic_write(path) as temporary:
                drawing.save(temporary)
        return paths

    def __repr__(self) -> str:
        height, width = self.ids.shape
        shares = [f"{name} {percent(share)}" for name, share in self._present().items()]
        more = f", {len(shares) - 3} more" if len(shares) > 3 else ""
        return f"<Prediction {height}x{width}: {', '.join(shares[:3])}{more}>"

    def _repr_png_(self) -> bytes:
        content = io.BytesIO()
        (self.color() if self.picture is None else self.overlay()).save(content, "PNG")
        return content.getvalue()

    def _present(self) -> dict[str, float]:
        return {name: share for name, share in self.shares().items() if share}

    def _id(self, name: str) -> int:
        if name not in self.names:
            raise InputError(f"the model knows no class {name!r}; {did_you_mean(str(name), self.names)}")
        return self.names.index(name)

    def _blend(self, alpha: float) -> UInt8[np.ndarray, "h w 3"]:
        if self.picture is None:
            raise InputError(
                "this prediction does not know its picture, so there is nothing to lay colors over; use color()"
            )
        if not 0 <= alpha <= 1:
            raise InputError(f"alpha is {alpha:g}; give 0 (the picture alone) to 1 (the colors alone)")
        return blend_overlay(self.picture, self.ids, self.labels, alpha)
