"""kerbseg: real-time semantic segmentation for robots and vehicles that carry a small computer.

The public surface is resolved when first used, so that importing kerbseg costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kerbseg.bundle import load, save
    from kerbseg.models import card, create_model, list_models
    from kerbseg.predict import Prediction, Predictor

_HOMES = {
    "card": "kerbseg.models",
    "create_model": "kerbseg.models",
    "list_models": "kerbseg.models",
    "load": "kerbseg.bundle",
    "save": "kerbseg.bundle",
    "Prediction": "kerbseg.predict",
    "Predictor": "kerbseg.predict",
}

__all__ = ["Prediction", "Predictor", "card", "create_model", "list_models", "load", "save"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'kerbseg' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
