"""int8 weights and activations by post-training quantization (nncf), within a limit of mIoU lost; uint8 logits."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float32, UInt8

from kerbseg.bundle import Bundle
from kerbseg.core import telemetry
from kerbseg.core.errors import DataError, MissingExtra
from kerbseg.core.types import Dataset
from kerbseg.export.uint8_logits import uint8_levels
from kerbseg.exported_card import ExportedCard, LastStageCard
from kerbseg.metrics import compute_metrics, confusion_metric
from kerbseg.runtime import Engine
from kerbseg.runtime.openvino import keeping_signal_stack
from kerbseg.runtime.segment import letterboxed

CALIBRATION_PICTURES = 300

Ids = UInt8[np.ndarray, "1 h w"]
Infer = Callable[[UInt8[np.ndarray, "1 h w 3"]], Ids]


class Graph(Protocol):
    """What quantization needs to know of one kind of graph."""

    def converted(self, bundle: Bundle, size: tuple[int, int]) -> tuple[Any, ExportedCard]:
        """The float graph and its cards."""

    def save(self, model: Any, exported: ExportedCard, path: Path) -> None:
        """Writes a graph."""

    def item(self, picture: UInt8[np.ndarray, "1 h w 3"]) -> Any:
        """A picture as nncf feeds it."""

    def opened(self, model: Any) -> Infer:
        """What runs a graph as nncf hands it out to be measured."""

    def after_logits(self, model: Any) -> list[str]:
        """Names of the operations of the last stage, which stays in float."""

    def in_float(self, model: Any) -> list[str]:
        """Names of the convolutions and products that are not computed in int8."""


@runtime_checkable
class GivesUint8Logits(Graph, Protocol):
    """A graph whose engine gains by logits of a byte each."""

    def logits_of(self, model: Any) -> Callable[[UInt8[np.ndarray, "1 h w 3"]], Float32[np.ndarray, "1 k H W"]]:
        """What runs a graph up to its logits."""

    def on_levels(self, model: Any, last_stage: LastStageCard) -> Any:
        """A copy of the graph whose logits lie on the levels of its card."""


@dataclass(frozen=True)
class Quantized:
    """A network in int8, and what stayed in float."""

    model: Any
    exported: ExportedCard
    in_float: Sequence[str]  # convolutions that are not computed in int8
    computing: int  # all of them


class Quantizer:
    """Brings one network to int8, calibrated on pictures of the place where it will work."""

    def __init__(
        self,
        graph: Graph,
        model: Any,
        exported: ExportedCard,
        calibration: Dataset,
        most: int = CALIBRATION_PICTURES,
    ) -> None:
        """A float graph of that kind, and its cards. Raises MissingExtra without nncf, DataError without pictures."""
        self._graph = graph
        self._nncf = _nncf()
        if not len(calibration):
            raise DataError(f"split {calibration.split!r} of {calibration.name!r} has no pictures to calibrate on")
        size = exported.card.input_size
        self._size, self._model, self._float = size, model, exported
        chosen = np.linspace(0, len(calibration) - 1, min(most, len(calibration))).round().astype(int)
        self.pictures = len(chosen)
        self._seen = partial(_seen, calibration, size)
        self._chosen: list[int] = chosen.tolist()
        self._pictures = self._nncf.Dataset(self._chosen, lambda i: self._graph.item(self._seen(i)))
        self._options = {
            "preset": self._nncf.QuantizationPreset.MIXED,  # what PReLU and the like give is not symmetric
            "target_device": self._nncf.TargetDevice.CPU,
            "subset_size": len(chosen),
            "ignored_scope": self._nncf.IgnoredScope(names=self._graph.after_logits(self._model)),
        }
        # weights keep to half their range: processors without VNNI add two products of bytes in 16 bits, which whole
        # ones overflow (docs/deployment.md)
        self._advanced = self._nncf.AdvancedQuantizationParameters(
            overflow_fix=self._nncf.quantization.advanced_parameters.OverflowFix.ENABLE
        )

    @classmethod
    def of_bundle(
        cls,
        bundle: Bundle,
        engine: Engine,
        size: tuple[int, int],
        calibration: Dataset,
        most: int = CALIBRATION_PICTURES,
    ) -> Quantizer:
        """Of a bundle for an engine. Raises also KerbsegError for an engine without int8."""
        kind = engine.graph()
        if hasattr(kind, "of_bundle"):  # an engine's own
            own: Quantizer = kind.of_bundle(bundle, engine, size, calibration, most)
            return own
        _nncf()  # what is missing is said before the network is converted
        graph: Graph = kind()
        return cls(graph, *graph.converted(bundle, size), calibration, most)

    def quantize_all(self) -> Quantized:
        """All but the last stage in int8."""
        with keeping_signal_stack():
            return self._quantized(
                self._nncf.quantize(self._model, self._pictures, advanced_parameters=self._advanced, **self._options)
            )

    def quantize_within(self, max_drop: float, eval_set: Dataset, limit: int | None) -> Quantized:
        """What loses most is put back into float, until the mIoU on `eval_set` is at most `max_drop` lower."""
        few = list(range(min(limit or len(eval_set), len(eval_set))))

        def validate(model: Any, indices: Iterable[int]) -> tuple[float, None]:
            return _miou(self._graph.opened(model), eval_set, self._size, indices), None

        with keeping_signal_stack():
            restored = self._nncf.quantize_with_accuracy_control(
                self._model,
                self._pictures,
                self._nncf.Dataset(few),
                validate,
                max_drop=max_drop,
                advanced_quantization_parameters=self._advanced,
                **self._options,
            )
        return self._quantized(restored)

    def with_uint8_logits(self, quantized: Quantized) -> Quantized:
        """The same network with logits of a byte each, as the calibration pictures show their range.

        Itself where its engine gains nothing by them. Raises KerbsegError where the logits are not finite.
        """
        if not isinstance(self._graph, GivesUint8Logits):
            return quantized
        logits = self._graph.logits_of(quantized.model)
        scale, zero_point = uint8_levels(logits(self._seen(index)) for index in self._chosen)
        exported = quantized.exported
        last_stage = replace(exported.last_stage, dtype="uint8", scale=scale, zero_point=zero_point)
        model = self._graph.on_levels(quantized.model, last_stage)
        return replace(quantized, model=model, exported=replace(exported, last_stage=last_stage))

    def save(self, quantized: Quantized, path: Path) -> None:
        """Writes the network with its cards."""
        self._graph.save(quantized.model, quantized.exported, path)

    def _quantized(self, model: Any) -> Quantized:
        exported = replace(self._float, last_stage=replace(self._float.last_stage, precision="int8"))
        return Quantized(model, exported, self._graph.in_float(model), len(self._graph.in_float(self._model)))


def _miou(infer: Infer, eval_set: Dataset, size: tuple[int, int], indices: Iterable[int]) -> float:
    """The mIoU on some pictures, at the labels' own size."""
    metric = confusion_metric(len(eval_set.labels))
    for index in indices:
        sample = eval_set[index]
        mask, placed = sample.mask, letterboxed(sample.image, size)
        ids = placed.back(infer(placed.input)[0])
        metric.update(torch.from_numpy(ids)[None].long(), torch.from_numpy(mask)[None].long())
    return compute_metrics(metric.compute(), eval_set.labels).miou


def _seen(dataset: Dataset, size: tuple[int, int], index: int) -> UInt8[np.ndarray, "1 h w 3"]:
    return letterboxed(dataset[index].image, size).input


def _nncf() -> Any:
    telemetry.switch_off()
    try:
        import nncf
    except ImportError as error:
        raise MissingExtra("nncf", "int8") from error
    nncf.set_log_level(logging.ERROR)
    return nncf
