"""int8 where an engine brings its own quantization: calibrated on pictures, within a limit of mIoU lost.

The same calls as `int8.Quantizer`. Neither tool has an accuracy control, so it is here: convolutions are ranked by how
far int8 in that one alone moves the logits, and those that move them most stay in float, one, two, four, until the
limit is kept.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor, fx

from kerbseg.bundle import Bundle
from kerbseg.core.errors import DataError
from kerbseg.core.types import Dataset
from kerbseg.evaluate import evaluate
from kerbseg.export.int8 import CALIBRATION_PICTURES, Quantized
from kerbseg.export.logits_graph import CONVOLUTIONS, LogitsGraph, constant
from kerbseg.exported_card import ExportedCard
from kerbseg.runtime import Engine, open_runtime
from kerbseg.runtime.segment import letterboxed

RANKED_ON = 2  # pictures
LEVELS = 255  # of weights and of what a convolution gives


class StaticQuantizer(ABC):
    """Brings one network to int8 for one engine, calibrated on pictures of the place where it will work."""

    def __init__(self, bundle: Bundle, engine: Engine, size: tuple[int, int], calibration: Dataset, most: int) -> None:
        if not len(calibration):
            raise DataError(f"split {calibration.split!r} of {calibration.name!r} has no pictures to calibrate on")
        chosen = np.linspace(0, len(calibration) - 1, min(most, len(calibration))).round().astype(int)
        self.pictures = len(chosen)
        self._engine, self._size = engine, size
        self._calibration, self._chosen = calibration, [int(i) for i in chosen]
        self._bundle, self._graph = bundle, LogitsGraph(bundle, size)
        self._exported: ExportedCard
        self._module = self._prepared(bundle)

    @classmethod
    def of_bundle(
        cls,
        bundle: Bundle,
        engine: Engine,
        size: tuple[int, int],
        calibration: Dataset,
        most: int = CALIBRATION_PICTURES,
    ) -> StaticQuantizer:
        """Of a bundle for an engine. Raises MissingExtra without its packages, DataError without pictures."""
        return cls(bundle, engine, size, calibration, most)

    @abstractmethod
    def _prepared(self, bundle: Bundle) -> fx.GraphModule:
        """The float graph; sets `_exported`, and whatever `_model` needs."""

    @abstractmethod
    def _model(self, in_float: Collection[str]) -> Any:
        """The network in int8, but for these convolutions of the float graph, and what carries on what they give."""

    @abstractmethod
    def _write(self, model: Any, exported: ExportedCard, path: Path) -> None:
        """Writes what `_model` gave."""

    def quantize_all(self) -> Quantized:
        """All that the engine computes in int8."""
        return self._quantized([])

    def quantize_within(self, max_drop: float, eval_set: Dataset, limit: int | None) -> Quantized:
        """What moves the logits most stays in float, until the mIoU on `eval_set` is at most `max_drop` lower."""
        ranked = self._ranked()
        least = evaluate(open_runtime(self._bundle), eval_set, limit=limit).metrics.miou - max_drop
        count = 1
        while count < len(ranked):
            quantized = self._quantized(ranked[:count])
            if self._miou(quantized, eval_set, limit) >= least:
                return quantized
            count *= 2
        return self._quantized(ranked)

    def with_uint8_logits(self, quantized: Quantized) -> Quantized:
        """Itself: an engine gives logits as it likes them, and the card says how."""
        return quantized

    def save(self, quantized: Quantized, path: Path) -> None:
        """Writes the network with its cards."""
        self._write(quantized.model, quantized.exported, path)

    def _quantized(self, in_float: Sequence[str]) -> Quantized:
        model = self._model(in_float)
        last_stage = replace(self._exported.last_stage, precision="int8", **self._levels(model))
        return Quantized(model, replace(self._exported, last_stage=last_stage), in_float, len(self._convolutions()))

    def _levels(self, model: Any) -> dict[str, Any]:
        """What the card says of the logits' levels; nothing where they are floats."""
        return {}

    def _convolutions(self) -> list[str]:
        return [node.name for node in self._module.graph.nodes if node.target in CONVOLUTIONS]

    def _miou(self, quantized: Quantized, eval_set: Dataset, limit: int | None) -> float:
        with TemporaryDirectory() as folder:
            path = Path(folder) / f"m{self._engine.suffix}"
            self.save(quantized, path)
            return evaluate(open_runtime(path), eval_set, limit=limit).metrics.miou

    def _seen(self, index: int) -> UInt8[np.ndarray, "1 h w 3"]:
        return letterboxed(self._calibration[index].image, self._size).input

    def _ranked(self) -> list[str]:
        """The convolutions, those first that move the logits most when they alone are in int8."""
        names, moved = self._convolutions(), dict.fromkeys(self._convolutions(), 0.0)
        for index in self._chosen[:RANKED_ON]:
            picture = torch.from_numpy(np.require(self._seen(index), requirements="W"))
            with torch.inference_mode():
                exact: Tensor = self._module(picture)
                for name in names:
                    moved[name] += float((OneInInt8(self._module, name).run(picture) - exact).square().mean())
        return sorted(names, key=lambda name: -moved[name])


def left_in_float(module: fx.GraphModule, convolutions: Collection[str]) -> set[str]:
    """Names of these convolutions, and of whatever carries on what they give to the next convolution in int8."""
    left: set[str] = set()
    for node in module.graph.nodes:
        carried = node.target not in CONVOLUTIONS and any(each.name in left for each in node.all_input_nodes)
        if carried or node.name in convolutions:
            left.add(node.name)
    return left


class OneInInt8(fx.Interpreter):
    """Runs a graph with the weights and the result of one convolution rounded to 8 bits."""

    def __init__(self, module: fx.GraphModule, name: str) -> None:
        super().__init__(module)
        self._name, self._whole = name, module

    def run_node(self, n: fx.Node) -> Any:
        """The node's result."""
        if n.name != self._name:
            return super().run_node(n)
        args, kwargs = self.fetch_args_kwargs_from_env(n)
        kernel = constant(self._whole, n.args[1])
        assert kernel is not None
        axes = [axis for axis in range(4) if axis != CONVOLUTIONS[n.target]]  # type: ignore[index] # it is one of them
        step = kernel.abs().amax(axes, keepdim=True).clamp(min=1e-12) / (LEVELS // 2)
        result: Tensor = n.target(args[0], (kernel / step).round() * step, *args[2:], **kwargs)  # type: ignore[operator]
        step = (result.amax() - result.amin()).clamp(min=1e-12) / LEVELS
        return (result / step).round() * step
