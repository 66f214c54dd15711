"""What all pages share: templates, and pictures inside the page, so that it needs no other file."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from typing import Any

import jinja2
import numpy as np
from jaxtyping import UInt8
from PIL import Image

from kerbseg.core.display import display_palette
from kerbseg.core.labels import Color, LabelSet

LONGEST_PX = 480
"""Longest side of a photograph on a page: what bounds the page's size."""


def render(template: str, /, **values: Any) -> str:
    """A page of `template`; text that others chose, such as names of classes and files, is escaped."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("kerbseg", "apps"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"percent": percent, "figure": figure, "thousands": "{:,}".format}
    return environment.get_template(template).render(**values)


def percent(share: float | None, digits: int = 1) -> str:
    """A share as people read it; a dash where there is none."""
    if share is None:
        return "–"
    least = 10**-digits
    text = f"<{least:g}" if 0 < 100 * share < least else f"{100 * share:.{digits}f}"
    return f"{text}\N{NO-BREAK SPACE}%"


def figure(value: float | None) -> str:
    """A fraction with three digits; a dash where nothing was measured."""
    return "–" if value is None else f"{value:.3f}"


def thumbnail(pixels: UInt8[np.ndarray, "h w 3"], longest: int = LONGEST_PX) -> bytes:
    """A JPEG of the picture, no side longer than `longest`."""
    picture = Image.fromarray(np.ascontiguousarray(pixels))
    picture.thumbnail((longest, longest), Image.Resampling.BOX)
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=85, subsampling=0)  # at borders of colors half the colors would be smeared
    return buffer.getvalue()


def data_uri(jpeg: bytes) -> str:
    """A picture as an address that holds it."""
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}"


def display_colors(labels: LabelSet) -> list[Color]:
    """The color of each class on pages: that of overlays."""
    return [(red, green, blue) for red, green, blue in display_palette(labels)[: len(labels)].tolist()]


def facts(protocol: Mapping[str, Any]) -> dict[str, str]:
    """The protocol of a measurement in words, line by line; what was not set is left out."""
    texts = {}
    for key, value in protocol.items():
        if value is None:
            continue
        if isinstance(value, Mapping):
            text = ", ".join(f"{name} {each}" for name, each in value.items())
        elif isinstance(value, list | tuple):
            text = "x".join(map(str, value)) + (" (height x width)" if key.endswith("size") else "")
        else:
            text = str(value)
        texts[key.replace("_", " ")] = text
    return texts
