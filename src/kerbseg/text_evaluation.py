"""What `evaluate` measures beside the usual where the classes are background and text."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, UInt8

from kerbseg.core.labels import label_set
from kerbseg.core.resize import resize_ids, resize_picture
from kerbseg.core.types import VOID, Dataset, Sample
from kerbseg.data.coco_text import CocoText
from kerbseg.metrics.text import (
    TEXT,
    PresenceCounter,
    TextFigures,
    TextReport,
    Threshold,
    ThresholdCurve,
    WordCounter,
    text_confusion,
)
from kerbseg.runtime import Fit, InputSizePolicy, Runtime, SupportsConfidence, segment_with_confidence


class TextCounter:
    """Counts what evaluation sees, its probabilities, and pictures stretched to the network's size, as the paper's."""

    def __init__(self, runtime: Runtime, dataset: Dataset, input_size: InputSizePolicy, fit: Fit) -> None:
        self._runtime, self._dataset, self._input_size, self._fit = runtime, dataset, input_size, fit
        self._size = _stretched_size(runtime, input_size)
        self._own, self._stretched = np.zeros((2, 2), np.int64), np.zeros((2, 2), np.int64)
        self._curve, self._stretched_curve = ThresholdCurve(), ThresholdCurve()
        self._presence, self._words = PresenceCounter(), WordCounter()
        self._pixels = self._void = 0

    def update(self, index: int, sample: Sample, ids: UInt8[np.ndarray, "h w"]) -> None:
        """Counts one picture, of which evaluation has the class ids at its own size."""
        truth = sample.mask
        self._own += text_confusion(ids, truth)
        self._presence.update(ids, truth)
        self._pixels += truth.size
        self._void += int(np.count_nonzero(truth == VOID))
        if isinstance(self._dataset, CocoText):
            self._words.update(ids, self._dataset.words(index))
        picture, small_truth = resize_picture(sample.image, self._size)[None], resize_ids(truth, self._size)
        if isinstance(self._runtime, SupportsConfidence):
            confident = segment_with_confidence(self._runtime, sample.image, self._input_size, self._fit)
            self._curve.update(probability_of_text(*confident), truth)
            small_ids, confidence = self._runtime.with_confidence(picture)
            self._stretched_curve.update(probability_of_text(small_ids[0], confidence[0]), small_truth)
        else:
            small_ids = self._runtime(picture)
        self._stretched += text_confusion(small_ids[0], small_truth)

    def compute(self) -> TextReport:
        """The figures until now."""
        words = self._dataset if isinstance(self._dataset, CocoText) else None
        return TextReport(
            TextFigures.of(self._own),
            TextFigures.of(self._stretched),
            self._size,
            self._presence.compute(),
            labels="" if words is None else words.described,
            whole=words is not None and words.whole,
            void_share=self._void / max(self._pixels, 1),
            threshold=_threshold(self._curve),
            stretched_threshold=_threshold(self._stretched_curve),
            words=None if words is None else self._words.compute(),
        )


def text_counter(runtime: Runtime, dataset: Dataset, input_size: InputSizePolicy, fit: Fit) -> TextCounter | None:
    """What counts text, where the classes are background and text; None elsewhere."""
    if dataset.labels.classes != label_set("text").classes:
        return None
    return TextCounter(runtime, dataset, input_size, fit)


def probability_of_text(
    ids: UInt8[np.ndarray, "h w"], confidence: Float[np.ndarray, "h w"]
) -> Float[np.ndarray, "h w"]:
    """The probability of text, from that of each pixel's class: there are only two."""
    return np.where(ids == TEXT, confidence, 1 - confidence)


def _stretched_size(runtime: Runtime, input_size: InputSizePolicy) -> tuple[int, int]:
    if runtime.size is not None:
        return runtime.size
    if isinstance(input_size, str):
        return runtime.card.input_size
    return input_size[0], input_size[1]


def _threshold(curve: ThresholdCurve) -> Threshold | None:
    best = curve.best()
    return None if best is None else Threshold(*best)
