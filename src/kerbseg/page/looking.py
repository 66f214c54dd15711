"""A picture as every model of a page sees it, and the mask that was given with it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Unpack

import numpy as np
from jaxtyping import UInt8

from kerbseg.core.errors import DataError, KerbsegError
from kerbseg.core.labels import LabelSet
from kerbseg.core.text import printable
from kerbseg.core.types import VOID
from kerbseg.data.masks import check_sizes, id_mask, refuse_unknown
from kerbseg.data.pairs import is_picture
from kerbseg.page.classes import PageClasses
from kerbseg.predict.prediction import Prediction
from kerbseg.predict.predictor import Predictor
from kerbseg.predict.sources import open_source
from kerbseg.runtime import Fit, IdsOnly, RuntimeKeywords


@dataclass(frozen=True)
class Given:
    """A picture that was given to the page, and its mask if there is one."""

    picture: Path
    mask: Path | None = None

    @property
    def name(self) -> str:
        """Of the picture's file."""
        return self.picture.name

    @property
    def key(self) -> str:
        """Sixteen hexadecimal digits that tell one picture from another in a browser."""
        return hashlib.sha256(os.fsencode(self.picture)).hexdigest()[:16]


@dataclass(frozen=True, eq=False)
class Look:
    """What the models say of one picture; the page shows it in many ways."""

    given: Given
    picture: UInt8[np.ndarray, "h w 3"]  # RGB
    predictions: tuple[Prediction, ...]  # of each model, in its own ids
    ids: tuple[UInt8[np.ndarray, "h w"], ...]  # the same in the page's
    truth: UInt8[np.ndarray, "h w"] | None = None  # of the mask, in the page's ids


class Models:
    """The models of a page by their names; each looks at a picture as `kerbseg predict` does.

    Browsers, and pictures, videos and cameras of one, take each model by turns.
    """

    def __init__(self, names: Sequence[str], predictors: Sequence[Predictor]) -> None:
        self.names, self.predictors = tuple(names), tuple(each.one_at_a_time() for each in predictors)
        self.classes = PageClasses.of([each.labels for each in self.predictors])
        self._confident = [True] * len(self.predictors)  # until a model says that it has no confidence

    @property
    def labels(self) -> LabelSet:
        """The first model's: masks that are given have its ids, and so have corrections."""
        return self.predictors[0].labels

    def look(self, given: Given) -> Look:
        """What every model sees. Raises KerbsegError, in the command line's words, for a bad picture or mask."""
        with called_by_name(given.picture, given.mask):
            picture = read_picture(given.picture)
            truth = None
            if given.mask is not None:
                mask = read_mask(given.mask, self.labels)
                check_sizes(picture, mask, given.picture, given.mask)
                truth = self.classes.lookups[0][mask]
            predictions = tuple(self._predict(number, picture) for number in range(len(self.predictors)))
        pairs = zip(self.classes.lookups, predictions, strict=True)
        return Look(given, picture, predictions, tuple(lookup[each.ids] for lookup, each in pairs), truth)

    def _predict(self, number: int, picture: UInt8[np.ndarray, "h w 3"]) -> Prediction:
        if self._confident[number]:
            try:
                return self.predictors[number](picture, channels="rgb", confidence=True)
            except IdsOnly:
                self._confident[number] = False
        return self.predictors[number](picture, channels="rgb")


def read_picture(path: Path) -> UInt8[np.ndarray, "h w 3"]:
    """The pixels of a picture, RGB. Raises DataError for what is none, as `kerbseg predict` does, and for a video."""
    source = open_source(path)
    if source.kind == "video":
        raise DataError(f"{path} holds frames that follow each other; give it under Video")
    return next(iter(source)).picture


def read_mask(path: Path, labels: LabelSet) -> UInt8[np.ndarray, "h w"]:
    """Train ids of a mask, whose ids are those that the label set has in files. Raises DataError for what is none."""
    if not labels.file_ids:  # nothing is said of files: they hold train ids
        file_ids = {train_id: train_id for train_id in range(len(labels))}
        labels = replace(labels, file_ids=file_ids, ignored_file_ids=frozenset({VOID}))
    mask = id_mask(path, labels)
    refuse_unknown(mask, path, labels)
    return mask.ids


def pair(pictures: Sequence[Path], masks: Sequence[Path]) -> tuple[list[Given], list[str]]:
    """The pictures by name, each with the mask of its name without suffix, and what is said of files left out.

    A single picture takes a single mask, whatever that is called. Raises KerbsegError where there is no picture.
    """
    shown = [path for path in pictures if is_picture(path) or len(pictures) == 1]
    if not shown:
        raise KerbsegError("no picture is among these files; give PNG, JPEG, WebP, TIFF, BMP or PPM")
    notes = []
    if left_out := len(pictures) - len(shown):
        notes.append(f"left out {left_out} of {len(pictures)} files that are no pictures")
    if len(shown) == len(masks) == 1:
        return [Given(shown[0], masks[0])], notes
    by_stem = {path.stem: path for path in masks}
    if alone := sorted(by_stem.keys() - {path.stem for path in shown}):
        notes.append(f"{len(alone)} of {len(masks)} masks have no picture of their name, such as {alone[0]}")
    return [Given(path, by_stem.get(path.stem)) for path in sorted(shown, key=lambda path: path.name)], notes


@contextmanager
def called_by_name(*paths: Path | None) -> Iterator[None]:
    """Within it errors call files by their names, as a user knows them, not by where an upload lies for a while."""
    try:
        yield
    except KerbsegError as error:
        text = str(error)
        for path in paths:
            if path is not None:
                text = text.replace(printable(str(path)), printable(path.name))
        raise KerbsegError(text) from error


def open_models(models: Sequence[str], fit: Fit = "letterbox", **options: Unpack[RuntimeKeywords]) -> Models:
    """The models of files, run folders or names. Raises KerbsegError as `open_runtime` does."""
    return Models(models, [Predictor(model, fit=fit, **options) for model in models])
