"""Keeps what we import from reporting to its makers, and from leaving files where nobody asked for them."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def switch_off() -> None:
    """Called before each import of an engine.

    Nothing that is imported after this, also by processes that this one starts, phones home or leaves an id.

    ONNX Runtime reads a variable, which a user may have set to 0. OpenVINO and nncf report through a package of their
    own, and do without where it is not installed: it is made to look so.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type] # None: an import of it fails


def keep_home_clean() -> None:
    """Called by the command line: matplotlib, which torchmetrics loads, keeps its list of fonts beside numba's cache."""
    beside = Path(__file__).parent / "__pycache__"
    if "MPLCONFIGDIR" not in os.environ and os.access(beside, os.W_OK):
        os.environ["MPLCONFIGDIR"] = str(beside / "matplotlib")
