"""Networks are traced for export once a test run: it takes seconds each, and many tests export the same network.

What torch's exporter gives depends on the network (its class, options and weights), the size and the batch alone. So
the graph is kept under a digest of these, in a folder that all workers of the run share; what kerbseg does with the
graph afterwards (folding, writing, converting to OpenVINO, comparing with torch) is done for each test anew.
"""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    import onnx_ir as ir

    from kerbseg.export.graph import DeployGraph

    Tracer = Callable[[DeployGraph, tuple[int, int], int | None], ir.Model]


def kept_in(folder: Path, trace: Tracer) -> Tracer:
    """A tracer that looks into the folder first."""

    def traced(deployed: DeployGraph, size: tuple[int, int], batch: int | None) -> ir.Model:
        import onnx
        import onnx_ir as ir

        path = folder / f"{digest(deployed, size, batch)}.onnx"
        if not path.exists():
            temporary = path.with_suffix(f".{os.getpid()}")
            onnx.save(ir.to_proto(trace(deployed, size, batch)), temporary)
            temporary.replace(path)  # another worker may have traced it meanwhile
        return ir.from_proto(onnx.load(path))

    return traced


def digest(deployed: DeployGraph, size: tuple[int, int], batch: int | None) -> str:
    """Of all that the graph depends on: the name of each class, all options and weights are pickled."""
    whole = io.BytesIO()
    torch.save((deployed, size, batch), whole)
    return hashlib.sha256(whole.getvalue()).hexdigest()
