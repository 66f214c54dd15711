"""Whatever turns uint8 pictures into class ids, behind one call; importing it loads no engine, nor torch."""

from kerbseg.core.precision import Precision
from kerbseg.runtime.engines import ENGINES, Engine, open_runtime
from kerbseg.runtime.protocols import (
    Confidence,
    ConfidenceKeywords,
    ConfidenceMeasure,
    Exported,
    IdsOnly,
    LayerTime,
    Profilable,
    Runtime,
    RuntimeKeywords,
    RuntimeOptions,
    SupportsConfidence,
    SupportsLogits,
)
from kerbseg.runtime.segment import (
    Fit,
    InputSizePolicy,
    network_size,
    segment,
    segment_at_once,
    segment_with_confidence,
    segment_with_logits,
)

__all__ = [
    "ENGINES",
    "Confidence",
    "ConfidenceKeywords",
    "ConfidenceMeasure",
    "Engine",
    "Exported",
    "Fit",
    "IdsOnly",
    "InputSizePolicy",
    "LayerTime",
    "Precision",
    "Profilable",
    "Runtime",
    "RuntimeKeywords",
    "RuntimeOptions",
    "SupportsConfidence",
    "SupportsLogits",
    "network_size",
    "open_runtime",
    "segment",
    "segment_at_once",
    "segment_with_confidence",
    "segment_with_logits",
]
