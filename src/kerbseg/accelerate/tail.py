"""The last stage of anyone's segmentation network: what a graph does between its small logits and its output.

A graph is searched from an output backwards: casts, transpositions, slices, softmax and the choice of a class are
passed, until what enlarges the logits is met. What stands behind that is not understood node by node: it is run by
itself on logits of all classes, and must give what an argmax gives.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from typing import Any, Generic, Literal, Protocol, TypeVar

import numpy as np
from jaxtyping import Float32, Int, Shaped

from kerbseg.bundle_card import TEMPERATURES
from kerbseg.core.errors import BundleError

PASSED = {  # behind the interpolation, in ONNX's words
    "ArgMax", "Cast", "Dropout", "Flatten", "Gather", "Identity", "LogSoftmax", "Reshape", "Sigmoid", "Slice",
    "Softmax", "Squeeze", "TopK", "Transpose", "Unsqueeze",
}  # fmt: skip
CHOOSING = {"ArgMax", "TopK"}
LAYERS = {  # what may stand between features and logits
    "Conv", "ConvTranspose", "DepthToSpace", "Gemm", "MatMul",
    "Convolution", "ConvolutionBackpropData", "GroupConvolution", "GroupConvolutionBackpropData",
}  # fmt: skip
PROBABILITIES = {"LogSoftmax", "Sigmoid", "Softmax"}
COORDINATES = {  # in ONNX's words, and what a card calls them
    "half_pixel": (False, None),
    "half_pixel_symmetric": (False, None),  # another one only where sizes are not those of the scale
    "pytorch_half_pixel": (False, None),  # another one only for a single pixel
    "align_corners": (True, None),
    "asymmetric": (False, "asymmetric"),
}
TOLERANCE = 1e-3  # of a pixel
MOST_CLASSES = 255
WINNER = 3.0  # the logit of the class that is to be chosen; others are between -1 and 1

Tensor = TypeVar("Tensor")
Size = tuple[int, int]


@dataclass(frozen=True)
class Step(Generic[Tensor]):
    """One operation on the way from an output back to the logits."""

    kind: str  # in ONNX's words
    name: str
    source: Tensor
    result: Tensor
    factor: float | None = None  # where all it does is to multiply by one positive number


@dataclass(frozen=True)
class Resizing:
    """What an interpolation says of itself, in ONNX's words."""

    mode: str
    coordinates: str
    antialias: bool
    scales: Sequence[float] | None  # of each axis, where it is given scales and no sizes


class Graph(Protocol[Tensor]):
    """One kind of graph, as the search needs it."""

    path: str
    outputs: Mapping[str, Tensor]

    def tensor(self, name: str) -> Tensor | None:
        """The tensor of that name."""

    def name(self, tensor: Tensor) -> str:
        """The name of a tensor."""

    def maker(self, tensor: Tensor) -> Step[Tensor] | None:
        """The operation that gives a tensor; None for inputs and constants."""

    def readers(self, tensor: Tensor) -> Sequence[Step[Tensor]]:
        """The operations that read a tensor."""

    def shape(self, tensor: Tensor) -> tuple[int, ...]:
        """Of a tensor, for pictures of the size that was chosen."""

    def resizing(self, step: Step[Tensor]) -> Resizing:
        """What an interpolation says of itself."""

    def run_tail(self, step: Step[Tensor], end: Tensor, values: Float32[np.ndarray, "*axes"]) -> np.ndarray:
        """What `end` holds where an interpolation gave these values."""


@dataclass(frozen=True)
class Tail(Generic[Tensor]):
    """The last interpolation of a graph, and what follows from it."""

    logits: Tensor
    end: Tensor  # the output that was followed; the logits again where nothing in the graph enlarges them
    resize: Step[Tensor] | None  # None where the graph ends at its small logits
    behind: tuple[str, ...]  # kinds of what stands behind it, the output last
    layout: Literal["nchw", "nhwc"]  # of the logits
    classes: int
    small: Size
    large: Size
    align_corners: bool
    coordinates: Literal["asymmetric"] | None
    softmax: bool
    temperature: float | None = None  # what the graph itself divides its logits by
    left_out: str | None = None  # what stands behind the logits that were named, and is not done by ours

    def __str__(self) -> str:
        rule = "align-corners" if self.align_corners else self.coordinates or "half-pixel"
        tail = " -> ".join((self.resize.kind if self.resize else "(yours)", *self.behind)) or "nothing"
        return f"{self.classes} classes, {_hw(self.small)} -> {_hw(self.large)}, {rule.replace('_', '-')}, {tail}"


@dataclass(frozen=True)
class Reading:
    """How class ids are read off an output: they stand there, or an argmax over one axis gives them."""

    axis: int | None

    def ids(self, output: Shaped[np.ndarray, "*axes"]) -> Int[np.ndarray, "b h w"]:
        """Of an output, whose batch may have been squeezed away."""
        if self.axis is not None:
            ids = output.argmax(self.axis)
        else:
            kept = [axis for axis in (1, 3) if output.ndim == 4 and output.shape[axis] == 1]
            ids = np.rint(output.squeeze(kept[0]) if kept else output).astype(np.int64)
        return ids[None] if ids.ndim == 2 else ids


def find_tail(graph: Graph[Tensor], size: Size, logits: str | None) -> Tail[Tensor]:
    """The tail of a graph for pictures of `size`.

    `logits` names the small logits, what enlarges them, or the output to follow. Raises BundleError, with what the
    graph has instead, where there is no such tail.
    """
    end, resize = _chosen(graph, logits)
    left_out = None
    if resize is None:
        resize, behind = _walk(graph, end, size)
    else:
        end, behind, left_out = _output_of(graph, resize, size)
    if resize is None and logits is None:
        raise BundleError(
            f"{graph.path} ends at {graph.name(end)!r} {list(graph.shape(end))}, smaller than its pictures; if these"
            f" are the logits that you enlarge bilinearly (half-pixel, as torch does), say: --logits {graph.name(end)}"
        )
    if resize is None:
        return _unfinished(graph, end, size)
    if graph.maker(resize.source) is None:
        raise BundleError(f"{graph.path} enlarges its own input, and has no network before that")
    small, large = graph.shape(resize.source), graph.shape(resize.result)
    layout = _layout(graph, resize, small, large)
    pixels = slice(2, 4) if layout == "nchw" else slice(1, 3)
    align_corners, coordinates = _rule(graph, resize, small[pixels], large[pixels], layout)
    kinds = tuple(step.kind for step in reversed(behind))
    return Tail(
        resize.source,
        end,
        resize,
        kinds,
        layout,
        _classes(graph, small[1 if layout == "nchw" else 3], resize.source),
        (small[pixels][0], small[pixels][1]),
        (large[pixels][0], large[pixels][1]),
        align_corners,
        coordinates,
        softmax="Sigmoid" not in kinds and not _of_probabilities(graph, resize.source),
        temperature=_temperature(behind),
        left_out=left_out,
    )


def _output_of(graph: Graph[Tensor], resize: Step[Tensor], size: Size) -> tuple[Tensor, list[Step[Tensor]], str | None]:
    """What follows from an interpolation that was named: an output, or itself, and what stands behind it then."""
    large = graph.name(resize.result)
    for end in graph.outputs.values():
        try:
            last, behind = _walk(graph, end, size)
        except BundleError:
            continue
        if last is not None and graph.name(last.result) == large:
            return end, behind, None
    return resize.result, [], large


def up_to_the_named(graph: Graph[Tensor], tail: Tail[Tensor]) -> Tail[Tensor]:
    """The tail that ends where named logits are enlarged, whatever the graph does with them."""
    assert tail.resize is not None
    large = tail.resize.result
    return replace(tail, end=large, behind=(), temperature=None, left_out=graph.name(large))


def _temperature(behind: Sequence[Step[Tensor]]) -> float | None:
    """What the logits are divided by; what is done to probabilities or ids changes no temperature."""
    of_logits = takewhile(lambda step: step.kind not in PROBABILITIES | CHOOSING, reversed(behind))
    factor = math.prod(step.factor for step in of_logits if step.factor is not None)
    return None if factor == 1 else 1 / factor


def _chosen(graph: Graph[Tensor], logits: str | None) -> tuple[Tensor, Step[Tensor] | None]:
    """The tensor to begin at, and what enlarges it where that is said by its name."""
    if logits is None:
        if len(graph.outputs) != 1:
            raise BundleError(
                f"{graph.path} has {len(graph.outputs)} outputs ({_outputs(graph)}); say which one holds the logits or"
                f" the ids: --logits {next(iter(graph.outputs), 'NAME')}"
            )
        return next(iter(graph.outputs.values())), None
    tensor = graph.tensor(logits)
    if tensor is None:
        raise BundleError(f"{graph.path} has no tensor {logits!r}; its outputs are {_outputs(graph)}")
    enlarging = [step for step in graph.readers(tensor) if step.kind == "Resize"]
    made = graph.maker(tensor)
    if logits not in graph.outputs and made is not None and made.kind == "Resize":
        return tensor, made
    if len(enlarging) == 1:
        return enlarging[0].result, enlarging[0]
    if logits not in graph.outputs:
        raise BundleError(
            f"{graph.path}: {logits!r} is read by {len(enlarging)} interpolations; name what the last one reads or"
            f" gives, or an output ({_outputs(graph)})"
        )
    return tensor, None


def _walk(graph: Graph[Tensor], end: Tensor, size: Size) -> tuple[Step[Tensor] | None, list[Step[Tensor]]]:
    """The last interpolation before `end` that changes a size, and what was passed; None where there is none."""
    behind: list[Step[Tensor]] = []
    tensor = end
    while (step := graph.maker(tensor)) is not None:
        if step.kind == "Resize" and graph.shape(step.source) != graph.shape(step.result):
            return step, behind
        if step.kind not in PASSED | {"Resize"} and step.factor is None:
            break
        if step.kind != "Resize":
            behind.append(step)
        tensor = step.source
    shape, name = graph.shape(end), graph.name(end)
    if not behind and len(shape) == 4 and _small(shape, size):
        return None, []
    has = f"{graph.path} has no interpolation of logits at its end: output {name!r} {list(shape)}"
    first = "its input" if step is None else step.kind
    if len(shape) < 3:
        raise BundleError(f"{has} is of no picture; is it a classifier?")
    passed = "".join(f" -> {each.kind}" for each in reversed(behind))
    remedy = "it has its logits at the picture's size already, so nothing is gained"
    if step is not None and (enlarged := _enlarged_before(graph, step)) is not None:
        raise BundleError(
            f"{graph.path}: between the interpolation of its logits and output {name!r} {list(shape)} stands"
            f" {first}{passed}, which is not understood; export it without, or, where the largest logit is the class"
            f" all the same, say: --logits {enlarged}"
        )
    if first in ("If", "Loop"):
        remedy = "what it does depends on the pixels; export it without"
    elif "." in first:
        remedy = "that operator is none of ONNX's own; take the file from before an engine rewrote it for itself"
    elif _small(shape, size):
        remedy = "cut it there yourself: name the small logits with --logits"
    raise BundleError(f"{has} comes of {first}{passed}; {remedy}")


def _enlarged_before(graph: Graph[Tensor], step: Step[Tensor]) -> str | None:
    """The name of what is enlarged on the way to an operation, if no layer of the network stands between."""
    maker: Step[Tensor] | None = step
    while maker is not None and maker.kind not in LAYERS and "." not in maker.kind:
        if maker.kind == "Resize" and graph.shape(maker.source) != graph.shape(maker.result):
            return graph.name(maker.source)
        maker = graph.maker(maker.source)
    return None


def _unfinished(graph: Graph[Tensor], end: Tensor, size: Size) -> Tail[Tensor]:
    """The tail of a graph that ends at its small logits: what its user does behind it, as torch does it."""
    shape, name = graph.shape(end), graph.name(end)
    sides = [layout for layout, channel in (("nchw", 1), ("nhwc", 3)) if _plausible(shape, channel, size)]
    if not sides:
        raise BundleError(f"{graph.path}: output {name!r} {list(shape)} holds no logits of {_hw(size)} (HxW) pictures")
    layout: Literal["nchw", "nhwc"] = "nchw" if sides[0] == "nchw" else "nhwc"
    height, width = shape[2:4] if layout == "nchw" else shape[1:3]
    classes = _classes(graph, shape[1 if layout == "nchw" else 3], end)
    softmax = not _of_probabilities(graph, end)
    return Tail(end, end, None, (), layout, classes, (height, width), size, False, None, softmax)


def _plausible(shape: Sequence[int], channel: int, size: Size) -> bool:
    height, width = shape[2:4] if channel == 1 else shape[1:3]
    return height * 2 <= size[0] + 2 and width * 2 <= size[1] + 2 and shape[channel] >= 2


def _small(shape: Sequence[int], size: Size) -> bool:
    return len(shape) == 4 and (_plausible(shape, 1, size) or _plausible(shape, 3, size))


def _layout(
    graph: Graph[Tensor], resize: Step[Tensor], small: Sequence[int], large: Sequence[int]
) -> Literal["nchw", "nhwc"]:
    if len(small) == len(large) == 4:
        if small[:2] == large[:2]:
            return "nchw"
        if small[0] == large[0] and small[3] == large[3]:
            return "nhwc"
    raise BundleError(
        f"{graph.path}: its last {resize.kind} makes {list(large)} of {list(small)}, which are no logits [b k h w]"
    )


def _rule(
    graph: Graph[Tensor], resize: Step[Tensor], small: Sequence[int], large: Sequence[int], layout: str
) -> tuple[bool, Literal["asymmetric"] | None]:
    """Which pixels the interpolation mixes: whether corners meet, and another rule of a card."""
    has = graph.resizing(resize)
    here = f"{graph.path}: its last interpolation, {resize.name!r},"
    if has.mode != "linear":
        raise BundleError(f"{here} is {has.mode}, and only a bilinear one has a cheaper way; export it with bilinear")
    if has.coordinates not in COORDINATES:
        raise BundleError(f"{here} takes its pixels by {has.coordinates!r}; known are {', '.join(COORDINATES)}")
    if any(most < own for own, most in zip(small, large, strict=True)):
        raise BundleError(f"{here} makes {_hw(small)} smaller, to {_hw(large)}; only one that enlarges is sped up")
    if has.scales is not None and has.coordinates != "align_corners":
        pixels = has.scales[2:4] if layout == "nchw" else has.scales[1:3]
        for own, most, scale in zip(small, large, pixels, strict=True):
            if abs(own * scale - most) > TOLERANCE:
                raise BundleError(
                    f"{here} enlarges {own} pixels {scale:g} times to {most}, which is not whole; export it with"
                    " sizes, or for a size that it divides"
                )
    align_corners, coordinates = COORDINATES[has.coordinates]
    return align_corners, "asymmetric" if coordinates else None


def _classes(graph: Graph[Tensor], classes: int, logits: Tensor) -> int:
    name = graph.name(logits)
    if classes == 1:
        raise BundleError(f"{graph.path}: {name!r} has one channel, which is a threshold and no choice among classes")
    if classes > MOST_CLASSES:
        raise BundleError(f"{graph.path}: {name!r} has {classes} classes; ids are uint8, at most {MOST_CLASSES}")
    return classes


def _of_probabilities(graph: Graph[Tensor], logits: Tensor) -> bool:
    """Whether what is interpolated went through a softmax already."""
    tensor = logits
    while (step := graph.maker(tensor)) is not None and step.kind in PASSED:
        if step.kind in PROBABILITIES:
            return True
        tensor = step.source
    return False


def learn_reading(graph: Graph[Tensor], tail: Tail[Tensor], size: Size) -> Reading:
    """How ids of pictures of `size` stand in the output, seen by running what is behind the interpolation.

    Raises BundleError where it gives something else than the class of the largest logit.
    """
    if tail.resize is None:
        return Reading(1 if tail.layout == "nchw" else 3)
    if not all(own <= most for own, most in zip(size, tail.large, strict=True)):
        raise BundleError(
            f"{graph.path}: its last interpolation ends at {_hw(tail.large)}, which is not the size of its pictures,"
            f" {_hw(size)} (HxW); export it so that it enlarges its logits to that"
        )
    shape = graph.shape(tail.resize.result)
    rounds = []
    for winners, values in _of_all_classes(shape, 1 if tail.layout == "nchw" else 3, size):
        output = graph.run_tail(tail.resize, tail.end, values)
        rounds.append((output, winners[:, : size[0], : size[1]]))
    output, expected = rounds[0]
    readings = [Reading(axis) for axis in _axes(output, tail)]
    for reading in readings:
        if all(np.array_equal(reading.ids(output), expected) for output, expected in rounds):
            return reading
    kinds = " -> ".join(("Resize", *tail.behind))
    shapes = [reading.ids(output).shape for reading in readings]
    where = f"{graph.path}: output {graph.name(tail.end)!r} {list(output.shape)}, by {kinds},"
    if shapes and expected.shape not in shapes:
        raise BundleError(f"{where} is not of the size of its pictures, {_hw(size)} (HxW); name another: --logits NAME")
    named = "NAME" if tail.left_out is not None else graph.name(tail.logits)
    raise BundleError(
        f"{where} is not the class of the largest logit at each pixel, from the top left; if that is wanted, say:"
        f" --logits {named}"
    )


def _axes(output: np.ndarray, tail: Tail[Any]) -> Iterator[int | None]:
    if CHOOSING & {*tail.behind}:
        yield None
        return
    yield from (axis for axis in range(output.ndim) if output.shape[axis] == tail.classes)


def _of_all_classes(
    shape: Sequence[int], channel: int, size: Size
) -> Iterator[tuple[Int[np.ndarray, "b h w"], Float32[np.ndarray, "*axes"]]]:
    """Ids at random, and logits that they are the argmax of; as often as it takes for each class to win in `size`."""
    generator = np.random.default_rng(0)
    classes = shape[channel]
    pixels = [n for axis, n in enumerate(shape) if axis != channel]
    for first in range(0, classes, size[0] * size[1]):
        values = generator.random(shape, np.float32) * 2 - 1
        winners = generator.integers(0, classes, pixels)
        ahead = generator.permutation((np.arange(size[0] * size[1]) + first) % classes)
        winners[0, : size[0], : size[1]] = ahead.reshape(size)
        np.put_along_axis(values, np.expand_dims(winners, channel), WINNER, channel)
        yield winners, values


def factor_of(number: float, divides: bool) -> float | None:
    """What values are multiplied by, if a temperature of a card can be made of it."""
    if not TEMPERATURES[0] <= number <= TEMPERATURES[1]:
        return None
    return 1 / number if divides else number


def _outputs(graph: Graph[Any]) -> str:
    return ", ".join(f"{name} {list(graph.shape(tensor))}" for name, tensor in graph.outputs.items())


def _hw(size: Sequence[int]) -> str:
    return "x".join(map(str, size))
