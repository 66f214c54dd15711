"""Keeps inference engines from reporting to their makers; called before each place that imports one."""

from __future__ import annotations

import os
import sys


def switch_off() -> None:
    """Nothing that is imported after this, also by processes that this one starts, phones home or leaves an id.

    ONNX Runtime reads a variable, which a user may have set to 0. OpenVINO and nncf report through a package of their
    own, and do without where it is not installed: it is made to look so.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type] # None: an import of it fails
