"""Class ids of one picture of any size, at its own size, from any runtime."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Unpack, get_args

import numpy as np
from jaxtyping import Bool, Float, Shaped, UInt8

from kerbseg.core.errors import KerbsegError, KerbsegWarning, did_you_mean
from kerbseg.core.resize import Resample, resize_ids, resize_picture
from kerbseg.runtime.protocols import (
    Confidence,
    ConfidenceKeywords,
    IdsOnly,
    Runtime,
    SupportsConfidence,
    SupportsLogits,
)

if TYPE_CHECKING:
    from torch import Tensor

InputSizePolicy = Literal["trained", "own"] | tuple[int, int]
Fit = Literal["letterbox", "stretch"]

WIDEST = 4  # a strip is never made wider than this many times the width that the network was trained on
ALIKE = 1.1  # proportions that differ by less are not worth a word


def network_size(size: tuple[int, int], runtime: Runtime, input_size: InputSizePolicy = "trained") -> tuple[int, int]:
    """Height and width at which a picture of `size` is looked at.

    'trained': the runtime's one size if it has one, else the height that the network was trained on, the picture's
    proportions kept, since a network knows things at the size it has seen them (a strip is looked at lower than that,
    lest it become endlessly wide); 'own': the picture as it is; or a size. Raises KerbsegError for another word, and
    for a size that is not the runtime's one.
    """
    if input_size == "trained":
        if runtime.size is not None:
            return runtime.size
        trained = runtime.card.input_size
        scale = min(trained[0] / size[0], WIDEST * trained[1] / size[1])
        return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))
    if isinstance(input_size, str) and input_size != "own":
        raise KerbsegError(
            f"unknown input size {input_size!r}; {did_you_mean(input_size, ('trained', 'own'))}, or a size"
        )
    asked = size if input_size == "own" else (input_size[0], input_size[1])
    if min(asked) < 1:
        raise KerbsegError(f"input size {asked[0]}x{asked[1]} has no pixels; give (height, width), or 'trained'")
    if runtime.size not in (None, asked):
        own = "x".join(map(str, runtime.size or ()))
        raise KerbsegError(
            f"this {runtime.name} file takes pictures of {own} (HxW) only, not of {asked[0]}x{asked[1]}; leave the"
            " input size out, or export it for that size"
        )
    return asked


def checked_fit(fit: str) -> Fit:
    """The word. Raises KerbsegError for another."""
    if fit not in get_args(Fit):
        raise KerbsegError(f"unknown fit {fit!r}; {did_you_mean(str(fit), get_args(Fit))}")
    return fit  # type: ignore[return-value] # it is one of them


def segment(
    runtime: Runtime,
    picture: UInt8[np.ndarray, "h w 3"],
    input_size: InputSizePolicy = "trained",
    fit: Fit = "letterbox",
) -> UInt8[np.ndarray, "h w"]:
    """Class ids of one RGB picture of any size, at its own size.

    `fit` says how a picture comes to a size of other proportions, that of a file which takes one size or one that was
    asked for: 'letterbox' keeps the picture's proportions and fills the rest with its mirror image, which is cropped
    from the ids; 'stretch' changes them.
    """
    placed = _placed(runtime, picture, input_size, fit)
    return placed.back(runtime(placed.input)[0])


def segment_with_confidence(
    runtime: Runtime,
    picture: UInt8[np.ndarray, "h w 3"],
    input_size: InputSizePolicy = "trained",
    fit: Fit = "letterbox",
    **how: Unpack[ConfidenceKeywords],
) -> tuple[UInt8[np.ndarray, "h w"], Confidence]:
    """As `segment`, with how sure each pixel's class is: its probability where `measure` does not say otherwise.

    Raises IdsOnly where a runtime gives ids alone.
    """
    placed = _placed(runtime, picture, input_size, fit)
    ids, confidence = _confident(runtime, placed.input, **how)
    return placed.back(ids[0]), placed.back(confidence[0])


def segment_at_once(
    runtime: Runtime,
    pictures: Sequence[UInt8[np.ndarray, "_ _ 3"]],
    input_size: InputSizePolicy = "trained",
    fit: Fit = "letterbox",
    confidence: bool = False,
    **how: Unpack[ConfidenceKeywords],
) -> list[tuple[UInt8[np.ndarray, "_ _"], Confidence | None]]:
    """As `segment` of each picture, or `segment_with_confidence`, in as few calls of the runtime as may be.

    Pictures that are looked at in one size share a call. Calls are of 1, 2, 4, 8 ... pictures, since some engines
    compile a network for each number. Engines may round otherwise in a call of several.
    """
    placed = [_placed(runtime, picture, input_size, fit) for picture in pictures]
    alike: dict[tuple[int, ...], list[int]] = {}
    for index, each in enumerate(placed):
        alike.setdefault(each.input.shape, []).append(index)
    found: dict[int, tuple[np.ndarray, Confidence | None]] = {}
    for indexes in alike.values():
        while indexes:
            count = 1 << (len(indexes).bit_length() - 1)
            called, indexes = indexes[:count], indexes[count:]
            batch = placed[called[0]].input if count == 1 else np.concatenate([placed[each].input for each in called])
            ids, sure = _confident(runtime, batch, **how) if confidence else (runtime(batch), None)
            for row, index in enumerate(called):
                back = placed[index].back
                found[index] = back(ids[row]), None if sure is None else back(sure[row])
    return [found[index] for index in range(len(pictures))]


def segment_with_logits(
    runtime: Runtime,
    picture: UInt8[np.ndarray, "h w 3"],
    input_size: InputSizePolicy = "trained",
    fit: Fit = "letterbox",
) -> tuple[UInt8[np.ndarray, "h w"], Callable[[Bool[np.ndarray, "h w"]], Float[Tensor, "k n"]]]:
    """As `segment`, with a function that gives the logits of some of the picture's pixels, in their order.

    A pixel has the logits of the one whose id it has, without temperature. Raises IdsOnly where a runtime gives ids
    alone.
    """
    import torch  # which `kerbseg.runtime` does without until something runs

    if not isinstance(runtime, SupportsLogits):
        raise IdsOnly(runtime.name)
    placed = _placed(runtime, picture, input_size, fit)
    ids, logits = runtime.with_logits(placed.input)
    places = np.arange(ids[0].size, dtype=np.int32).reshape(ids[0].shape)

    def logits_of(chosen: Bool[np.ndarray, "h w"]) -> Float[Tensor, "k n"]:
        return logits[0].flatten(1)[:, torch.from_numpy(placed.back(places)[chosen]).to(logits.device)]

    return placed.back(ids[0]), logits_of


def _confident(
    runtime: Runtime, pictures: UInt8[np.ndarray, "b h w 3"], **how: Unpack[ConfidenceKeywords]
) -> tuple[UInt8[np.ndarray, "b h w"], Confidence]:
    if not isinstance(runtime, SupportsConfidence):
        raise IdsOnly(runtime.name)
    return runtime.with_confidence(pictures, **how)


@dataclass(frozen=True)
class Placed:
    """A picture as the network looks at it, and the way back."""

    input: UInt8[np.ndarray, "1 H W 3"]
    covered: tuple[int, int]  # height and width of it, from the top left, that are the picture
    size: tuple[int, int]  # of the picture

    def back(self, seen: Shaped[np.ndarray, "H W"]) -> Shaped[np.ndarray, "h w"]:
        """What the network says of the picture alone, at its size."""
        return resize_ids(np.ascontiguousarray(seen[: self.covered[0], : self.covered[1]]), self.size)


def letterboxed(picture: UInt8[np.ndarray, "h w 3"], size: tuple[int, int], resample: Resample = "bilinear") -> Placed:
    """The picture as large as it can be in `size` with its proportions kept, and beside or below it mirrored.

    Bars of one color did no better on the whole, and worse where the network has not learned that color (measured in
    docs/prediction.md); at the top left, strides begin where they do in the picture by itself.
    """
    own = (picture.shape[0], picture.shape[1])
    scale = min(size[0] / own[0], size[1] / own[1])
    height, width = (min(most, max(1, round(n * scale))) for n, most in zip(own, size, strict=True))
    small = resize_picture(picture, (height, width), resample)
    if (height, width) != size:
        small = np.pad(small, ((0, size[0] - height), (0, size[1] - width), (0, 0)), mode="symmetric")
    return Placed(small[None], (height, width), own)


def _placed(runtime: Runtime, picture: UInt8[np.ndarray, "h w 3"], input_size: InputSizePolicy, fit: Fit) -> Placed:
    own = (picture.shape[0], picture.shape[1])
    size = network_size(own, runtime, input_size)
    if checked_fit(fit) == "letterbox" and (runtime.size is not None or not isinstance(input_size, str)):
        _warn_of_other_proportions(own, size)
        return letterboxed(picture, size, runtime.card.resample)
    return Placed(resize_picture(picture, size, runtime.card.resample)[None], size, own)


def _warn_of_other_proportions(own: tuple[int, int], size: tuple[int, int]) -> None:
    ratio = own[0] * size[1] / (own[1] * size[0])
    if max(ratio, 1 / ratio) > ALIKE:
        taken = "x".join(map(str, size))
        warnings.warn(  # Python shows a text once
            f"pictures of other proportions than {taken} (HxW) are looked at smaller, and what is left over is padded"
            " (fit 'letterbox'); export with --size HEIGHTxWIDTH of their proportions, or choose --fit stretch",
            KerbsegWarning,
            stacklevel=2,
        )
