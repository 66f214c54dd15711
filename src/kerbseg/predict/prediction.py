"""What a predictor says of one picture, and what can be asked of it."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float32, Int32, UInt8
from PIL import Image

from kerbseg.core.display import display_palette
from kerbseg.core.errors import InputError, did_you_mean
from kerbseg.core.files import atomic_write
from kerbseg.core.labels import Color, LabelSet
from kerbseg.predict.draw import Paint, blend_overlay, draw_names, percent, with_legend
from kerbseg.predict.drawings import DRAWINGS, Style, check_alpha
from kerbseg.predict.opencv import cv2_module
from kerbseg.predict.shares import shares, shares_document
from kerbseg.predict.viewer import show_picture

ENDINGS = (DRAWINGS["ids"].ending, DRAWINGS["overlay"].ending)  # of the files that `save` writes unasked
SHARES = "_shares.json"
GAP = 4  # pixels between a picture and its overlay


@dataclass(frozen=True, eq=False, repr=False)
class Prediction:
    """Class ids of one picture, at the picture's own size; a notebook shows it as its overlay."""

    ids: UInt8[np.ndarray, "h w"]  # train ids: a class's position in `names`
    labels: LabelSet
    confidence: Float32[np.ndarray, "h w"] | None = None  # how sure each pixel's class is, where it was asked for
    picture: UInt8[np.ndarray, "h w 3"] | None = None  # RGB, where it is known
    unknown: float | None = None  # the confidence below which ids are 255, where that was asked for
    region: tuple[slice, slice] | None = None  # rows and columns that alone were looked at; None: all
    _blends: dict[float, UInt8[np.ndarray, "h w 3"]] = field(default_factory=dict, init=False)  # overlays by weight

    @property
    def names(self) -> tuple[str, ...]:
        """The name of every class that the model knows, by id, whether it is in the picture or not."""
        return self.labels.classes

    @property
    def colors(self) -> tuple[Color, ...]:
        """The color (RGB, 0..255) that the data set gives every class, by id; overlays show others, farther apart."""
        return self.labels.colors

    def shares(self) -> dict[str, float]:
        """The share of the pixels (0..1) of every class, the largest first; classes that are not there have 0.

        Where unsure pixels are unknown, the share of these is among them; where a region alone was looked at, they are
        shares of its pixels.
        """
        return dict(self._shares)

    @cached_property
    def _shares(self) -> dict[str, float]:
        return shares(self.ids[self.region or ...], self.labels, self.unknown is not None)

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

    def color(self, display: bool = False) -> Image.Image:
        """Every pixel in its class's color: the data set's own (`colors`), or the one that overlays show."""
        palette = display_palette(self.labels) if display else self.labels.palette
        return Image.fromarray(palette[self.ids])

    def palette(self) -> Image.Image:
        """The ids as a palette picture (mode P): numpy and Pillow see the train ids, a viewer the colors.

        **OpenCV, imageio, scikit-image and matplotlib give colors instead of ids, without an error**; for them there
        are the gray pixels of `ids`.
        """
        picture = Image.fromarray(self.ids).copy()  # with pixels of its own: a palette is set on them
        picture.putpalette(self.labels.palette.tobytes())
        return picture

    def overlay(self, alpha: float = 0.5, legend: bool = True, names: bool = True) -> Image.Image:
        """The picture under its classes' colors, with names on large regions; below it a legend with their shares.

        Background classes stay unpainted. Raises InputError where the picture is not known.
        """
        return self._sheet(self.blend(alpha), legend, names)

    def side(self, alpha: float = 0.5, legend: bool = True) -> Image.Image:
        """The picture, and beside it its overlay; below both a legend. Raises InputError where it is not known."""
        return self._sheet(self.beside(alpha), legend, left=self.ids.shape[1] + GAP)

    def beside(self, alpha: float = 0.5) -> UInt8[np.ndarray, "h w 3"]:
        """The pixels of the picture and of its overlay, side by side, without a legend."""
        blended, picture = self.blend(alpha), self.picture
        assert picture is not None, "there is no overlay without it"
        gap = np.full((len(picture), GAP, 3), 255, np.uint8)
        return np.concatenate([picture, gap, blended], 1)

    def confidence_gray(self) -> Image.Image:
        """How sure each pixel's class is, gray: 0 is not at all, 255 is certain. Raises InputError without it."""
        if self.confidence is None:
            raise InputError("this prediction has no confidence; ask for it: predictor(picture, confidence=True)")
        return Image.fromarray((self.confidence * 255).round().astype(np.uint8))

    @property
    def blended(self) -> UInt8[np.ndarray, "h w 3"]:
        """The overlay's pixels, without a legend."""
        return self.blend(0.5)

    def blend(self, alpha: float, paint: Paint | None = None) -> UInt8[np.ndarray, "h w 3"]:
        """The same with the colors at that weight; drawn once, for all that show or write them (`paint`: how)."""
        if alpha not in self._blends:
            self._blends[alpha] = self._blend(alpha, paint)
        return self._blends[alpha]

    def show(self, alpha: float = 0.5, legend: bool = True) -> None:
        """Opens the overlay (the colors, where the picture is not known) in this system's viewer of pictures.

        Raises KerbsegError where there is no display, or no viewer.
        """
        show_picture(self.color() if self.picture is None else self.overlay(alpha, legend))

    def save(
        self, stem: str | Path, what: str | Sequence[str] | None = None, style: Style | None = None
    ) -> tuple[Path, ...]:
        """Writes files whose names begin with `stem`, and says which: of `what` (one or several), or the usual ones.

        Those are `<stem>_ids.png` (train ids) and, where the picture is known, `<stem>_overlay.png`. Words are ids,
        palette, color, overlay, side, confidence and json (the shares). Raises InputError for another word, for what
        this prediction lacks, and where the stem names a folder: a prediction does not know its picture's name.
        """
        if str(stem).endswith(("/", os.sep)) or not Path(stem).name or Path(stem).is_dir():
            raise InputError(
                f"{stem} is a folder; add the beginning of the files' names, such as {Path(stem) / 'street'}"
            )
        usual = ("ids",) if self.picture is None else ("ids", "overlay")
        words = usual if what is None else [what] if isinstance(what, str) else list(what)
        for word in words:
            if word not in (*DRAWINGS, "json"):
                raise InputError(f"{word!r} is nothing that can be saved; {did_you_mean(word, (*DRAWINGS, 'json'))}")
        drawn = {word: DRAWINGS[word].draw(self, style or Style()) for word in words if word != "json"}
        paths = []
        for word in words:
            path = Path(f"{stem}{DRAWINGS[word].ending if word in DRAWINGS else SHARES}")
            with atomic_write(path) as temporary:
                if word in drawn:
                    drawn[word].save(temporary)
                else:
                    temporary.write_text(shares_document(str(stem), self), encoding="utf-8")
            paths.append(path)
        return tuple(paths)

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
        return {name: share for name, share in self.shares().items() if share or name not in self.names}

    def _sheet(self, drawn: UInt8[np.ndarray, "h w 3"], legend: bool, names: bool = True, left: int = 0) -> Image.Image:
        sheet = with_legend(drawn, self._present(), self.labels) if legend else Image.fromarray(drawn)
        if names:
            draw_names(sheet, self.ids, self.labels, left)
        return sheet

    def _id(self, name: str) -> int:
        if name not in self.names:
            raise InputError(f"the model knows no class {name!r}; {did_you_mean(str(name), self.names)}")
        return self.names.index(name)

    def _blend(self, alpha: float, paint: Paint | None) -> UInt8[np.ndarray, "h w 3"]:
        if self.picture is None:
            raise InputError(
                "this prediction does not know its picture, so there is nothing to lay colors over; use color()"
            )
        check_alpha(alpha)
        if self.region is None:
            return blend_overlay(self.picture, self.ids, self.labels, alpha, paint)
        blended = self.picture.copy()  # as it is, where nobody looked
        inside = blend_overlay(self.picture[self.region], self.ids[self.region], self.labels, alpha, paint)
        blended[self.region] = inside
        return blended
