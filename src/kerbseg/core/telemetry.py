"""Keeps what we import from reporting to its makers, and from leaving files where nobody asked for them."""

from __future__ import annotations

import atexit
import os
import sys
from contextlib import suppress
from pathlib import Path


def switch_off() -> None:
    """Called before each import of an engine or a logger.

    Nothing that is imported after this, also by processes that this one starts, phones home or leaves an id.

    ONNX Runtime reads a variable, which a user may have set to 0. OpenVINO and nncf report through a package of their
    own, and do without where it is not installed: it is made to look so.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # of usage; what a run logs goes where its user says
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type] # None: an import of it fails


def keep_home_clean() -> None:
    """Called by the command line: what torchmetrics and torch leave in HOME and TMPDIR does not stay there."""
    here = Path(__file__).parent
    if "MPLCONFIGDIR" not in os.environ and os.access(here, os.W_OK):
        # torchmetrics loads matplotlib, which keeps a list of fonts: beside what Python and numba keep
        os.environ["MPLCONFIGDIR"] = str(here / "__pycache__" / "matplotlib")
    atexit.register(_remove_empty_folder)


def _remove_empty_folder() -> None:
    """Of torch's compiler, which makes it as soon as it is loaded; where something was compiled it is not empty."""
    if torch := sys.modules.get("torch._inductor.runtime.cache_dir_utils"):
        with suppress(OSError):
            os.rmdir(torch.default_cache_dir())
