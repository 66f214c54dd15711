"""Class ids of any picture, from any runtime, at the picture's own size."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack, overload

import numpy as np
from jaxtyping import UInt8

from kerbseg.core.errors import InputError
from kerbseg.core.labels import LabelSet
from kerbseg.core.types import VOID
from kerbseg.predict.prediction import Prediction
from kerbseg.predict.sources.arrays import Channels, Picture, Pictures, as_batch, as_rgb, checked_channels
from kerbseg.predict.temporal.vote import TemporalVote
from kerbseg.runtime import (
    ConfidenceKeywords,
    ConfidenceMeasure,
    Fit,
    InputSizePolicy,
    Runtime,
    RuntimeKeywords,
    open_runtime,
    segment_at_once,
)
from kerbseg.runtime.checks import checked_measure
from kerbseg.runtime.segment import checked_fit
from kerbseg.runtime.shared import CALLS, SharedRuntime, one_at_a_time, shared

if TYPE_CHECKING:
    from kerbseg.bundle import Bundle


class Predictor:
    """Turns pictures into class ids: `Predictor("best.safetensors")("street.jpg").ids`.

    A picture is looked at with the height that the network was trained on, its proportions kept; `input_size="own"`
    looks at it as it is, and a (height, width) at that size. The ids come back at the picture's own size. A picture of
    other proportions than that size, or than the only size that an exported file takes, keeps its own and is
    padded (`fit="letterbox"`), or is stretched to them (`fit="stretch"`).

    `channels` is the order of the channels in arrays and tensors. **OpenCV's frames are BGR: say `channels="bgr"`. One
    that was not marked kept 37 % of the right ids, without any error.** Other options are those of `open_runtime`:
    engine, device, threads, precision.

    With `unknown`, pixels of which the network is less sure than that (0 to 1) get the id 255, of no class. `measure`
    is how it says how sure it is: the "probability" of its class, 1 - "entropy" / log(classes), or the "margin" by
    which the probability is above that of the second class.
    """

    def __init__(
        self,
        model: str | Path | Bundle | Runtime,
        *,
        channels: Channels = "rgb",
        input_size: InputSizePolicy = "trained",
        fit: Fit = "letterbox",
        measure: ConfidenceMeasure = "probability",
        unknown: float | None = None,
        **options: Unpack[RuntimeKeywords],
    ) -> None:
        self.channels = checked_channels(channels)
        self.input_size = input_size
        self.fit = checked_fit(fit)
        checked_measure(measure)
        if unknown is not None and not 0 < unknown <= 1:
            raise InputError(f"unknown is {unknown:g}; give a confidence above 0 and at most 1, such as 0.5")
        self.measure, self.unknown = measure, unknown
        self.runtime = open_runtime(model, **options)
        self._shared: SharedRuntime | None = None

    @property
    def labels(self) -> LabelSet:
        """The classes of the ids."""
        return self.runtime.card.labels

    def for_frames(self, calls: int = CALLS) -> tuple[Predictor, int]:
        """One for frames that are decoded and written at the same time, and how many of them it takes at once.

        It shares out the threads among so many calls, where the engine can do that on this device; else it is this one.
        """
        if self._shared is None or self._shared.calls != calls:
            self._shared = shared(self.runtime, calls)
        return (self, 1) if self._shared is None else (self._with(self._shared), self._shared.calls)

    def one_at_a_time(self) -> Predictor:
        """One that any number of threads may call: a call waits for the one before."""
        return self._with(one_at_a_time(self.runtime))

    def _with(self, runtime: Runtime) -> Predictor:
        kept: dict[str, Any] = {"channels": self.channels, "input_size": self.input_size, "fit": self.fit}
        return Predictor(runtime, **kept, measure=self.measure, unknown=self.unknown)

    def with_vote(self, memory: float) -> Predictor:
        """One for the frames of one video: its ids are a vote over time that follows what moves (`TemporalVote`).

        Raises InputError where unsure pixels are to be unknown.
        """
        if self.unknown is not None:
            raise InputError("a vote over time has no confidence; leave either smooth or unknown out")
        return self._with(TemporalVote(self.runtime, memory))

    # a batch as one array gives a list too, which no type can tell from a picture; text is a sequence of text
    @overload
    def __call__(  # type: ignore[overload-overlap]
        self, picture: Picture, /, *, channels: Channels | None = None, confidence: bool = False
    ) -> Prediction: ...
    @overload
    def __call__(
        self, picture: Pictures, /, *, channels: Channels | None = None, confidence: bool = False
    ) -> list[Prediction]: ...
    def __call__(
        self, picture: Picture | Pictures, /, *, channels: Channels | None = None, confidence: bool = False
    ) -> Prediction | list[Prediction]:
        """What is seen in a picture; a list of that for a list, or an array or tensor with a batch dimension.

        A picture is a path, a PIL picture, or uint8 [h w 3]; gray [h w], [h w 4] with transparency, and tensors
        [3 h w] are taken too. `channels` ("rgb" or "bgr") is their order in this call. With `confidence`, the
        prediction's `confidence` is how sure each pixel's class is (float32 [h w], its probability where `measure` says
        nothing else), at the temperature that `kerbseg calibrate` gave the model. Raises InputError for anything else,
        DataError for a file that cannot be read, IdsOnly for confidence of an engine that has none.
        """
        order = self.channels if channels is None else checked_channels(channels)
        batch = as_batch(picture)
        if batch is not None:
            return [self._predict(as_rgb(each, order), confidence) for each in batch]
        return self._predict(as_rgb(picture, order), confidence)

    def at_once(self, pictures: Sequence[UInt8[np.ndarray, "_ _ 3"]], *, confidence: bool = False) -> list[Prediction]:
        """What is seen in each of several RGB pictures, in as few calls of the network as may be.

        A GPU takes less time for it than for one after the other; engines may round otherwise in a call of several.
        Raises as a call of this does, for all of them together.
        """
        how: ConfidenceKeywords = {} if self.measure == "probability" else {"measure": self.measure}
        asked = confidence or self.unknown is not None
        seen = segment_at_once(self.runtime, pictures, self.input_size, self.fit, asked, **how)
        predictions = []
        for rgb, (ids, sure) in zip(pictures, seen, strict=True):
            if self.unknown is not None:
                assert sure is not None, "it was asked for"
                ids = np.where(sure < self.unknown, np.uint8(VOID), ids)
            predictions.append(Prediction(ids, self.labels, sure if confidence else None, rgb, self.unknown))
        return predictions

    def _predict(self, rgb: UInt8[np.ndarray, "h w 3"], confidence: bool) -> Prediction:
        return self.at_once([rgb], confidence=confidence)[0]
