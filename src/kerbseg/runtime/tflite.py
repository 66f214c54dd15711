"""Runs an exported .tflite file with LiteRT, once called TensorFlow Lite."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Int8, UInt8

from kerbseg.bundle_card import METADATA_KEY
from kerbseg.core.errors import BundleError
from kerbseg.exported_card import FOREIGN_KEY, LAST_STAGE_KEY, ExportedCard
from kerbseg.runtime.cpu_head import Infer, Logits
from kerbseg.runtime.engines import ENGINES
from kerbseg.runtime.seal import TAIL_SEAL
from kerbseg.runtime.small_engine import DividedEngine

OFFSET = 128  # of the levels of a card to those of LiteRT
WANTED = (METADATA_KEY, LAST_STAGE_KEY, FOREIGN_KEY)


class TfliteRuntime(DividedEngine):
    """A .tflite file of ours; the card is in the metadata of its FlatBuffer."""

    name = "litert"

    def _read(self) -> ExportedCard:
        self._interpreter = litert().Interpreter
        self._content = TAIL_SEAL.read(self._path)
        return ExportedCard.from_metadata(metadata_of(self._content), str(self._path))

    def _opened(self) -> Infer:
        try:
            engine = self._interpreter(model_content=self._content, num_threads=self.threads)
            engine.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise BundleError(f"LiteRT cannot open {self._path} ({_brief(error)}); export it again") from error
        (taken,), (given,) = engine.get_input_details(), engine.get_output_details()
        shape = [int(n) for n in given["shape"]]
        logits = [shape[place] for place in (0, 3, 1, 2)] if len(shape) == 4 else shape
        self._exported.check_tensors([int(n) for n in taken["shape"]], logits, str(self._path))
        in_levels = np.dtype(given["dtype"]) == np.int8
        if in_levels:
            self._check_levels(*given["quantization"])
        place, result = taken["index"], given["index"]

        def infer(pictures: UInt8[np.ndarray, "1 h w 3"]) -> Logits:
            try:
                engine.set_tensor(place, pictures)
                engine.invoke()
            except (ValueError, RuntimeError) as error:
                raise BundleError(f"LiteRT cannot run {self._path} ({_brief(error)}); export it again") from error
            logits: np.ndarray = engine.get_tensor(result)  # a copy
            return unsigned(logits) if in_levels else logits

        return infer

    def _check_levels(self, scale: float, zero_point: int) -> None:
        """Raises BundleError where int8 logits mean something else than the card says."""
        last_stage = self.last_stage
        if (last_stage.scale, last_stage.zero_point) != (scale, zero_point + OFFSET):
            raise BundleError(
                f"{self._path}: its logits have the scale {scale} and the zero point {zero_point}, its card says"
                f" {last_stage.scale} and {(last_stage.zero_point or 0) - OFFSET}; export it again"
            )


def unsigned(levels: Int8[np.ndarray, "1 H W k"]) -> UInt8[np.ndarray, "1 H W k"]:
    """The levels of LiteRT, -128 to 127, as those of a card, 0 to 255; in the same memory."""
    same = levels.view(np.uint8)
    return np.bitwise_xor(same, OFFSET, out=same)


def litert() -> Any:
    """The interpreter's module. Raises MissingExtra without it."""
    try:
        from ai_edge_litert import interpreter
    except ImportError as error:
        raise ENGINES["litert"].missing("ai_edge_litert") from error
    return interpreter


def metadata_of(content: bytes) -> dict[str, str]:
    """Our entries of a file's metadata; of a whole file of ours, since a FlatBuffer has no checks of its own."""
    from ai_edge_litert import schema_py_generated as schema

    model = schema.Model.GetRootAs(content)
    entries: dict[str, str] = {}
    for i in range(model.MetadataLength()):
        entry = model.Metadata(i)
        if (name := entry.Name().decode()) in WANTED:
            entries[name] = model.Buffers(entry.Buffer()).DataAsNumpy().tobytes().decode()
    return entries


def _brief(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
