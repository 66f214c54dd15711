"""OpenCV, where it is installed."""

from __future__ import annotations

from types import ModuleType

from kerbseg.core.errors import MissingExtra


def cv2_module() -> ModuleType:
    """OpenCV. Raises MissingExtra where it is not installed."""
    try:
        import cv2
    except ImportError as error:
        raise MissingExtra("opencv-python-headless", "video") from error
    module: ModuleType = cv2
    return module
