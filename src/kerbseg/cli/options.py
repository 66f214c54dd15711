"""Options that several commands share, with their help."""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from kerbseg.core import precision as core
from kerbseg.core.errors import KerbsegError, KerbsegWarning
from kerbseg.core.files import check_writable
from kerbseg.core.limits import MOST_PIXELS


def _before_the_work(_: object, path: Path | None) -> None:
    """Refuses a file that could not be written after hours of work."""
    if path is not None:
        check_writable(path)


DataRoot = Annotated[Path | None, Parameter(help="Folder of the data set (default: $KERBSEG_DATA/NAME)")]
Device = Annotated[str, Parameter(help="Device that computes: {devices}")]
Fit = Annotated[
    Literal["letterbox", "stretch"],
    Parameter(help="How a picture comes to the one size of an exported file; letterbox: padded, its proportions kept"),
]
Json = Annotated[
    Path | None,
    Parameter(
        help="Write the figures to this file as JSON; - is the standard output, and the report goes to stderr then",
        validator=_before_the_work,
    ),
]
LabelSetName = Annotated[str | None, Parameter(help="Label set: {label_sets}")]
Out = Annotated[Path, Parameter(name=["--out", "-o"], validator=_before_the_work)]
OutOrNothing = Annotated[Path | None, Parameter(name=["--out", "-o"])]
Precision = Annotated[
    core.Precision | None,
    Parameter(help="Number format to compute in (default: the one in the file)"),
]
Runtime = Annotated[
    str | None, Parameter(help="Engine that runs the model: {engines} (default: the first that fits the file)")
]
Submission = Annotated[
    Path | None,
    Parameter(help="Folder or .zip of predictions for the server of Cityscapes or Minicity; the split needs no labels"),
]
Threads = Annotated[int | None, Parameter(help="Number of CPU threads (default: all)")]


def parse_size(text: str | None) -> tuple[int, int] | None:
    """Height and width of a text such as 256x512; None stays None. Raises KerbsegError for another text."""
    if text is None:
        return None
    match = re.fullmatch(r"([0-9]{1,5})x([0-9]{1,5})", text, re.IGNORECASE)
    height, width = (int(side) for side in match.groups()) if match else (0, 0)
    if not 0 < height * width <= MOST_PIXELS:
        raise KerbsegError(
            f"size {text!r} is no HEIGHTxWIDTH such as 256x512 (of at least 1x1 and at most {MOST_PIXELS:,} pixels)"
        )
    return height, width


def parse_upright_size(text: str | None) -> tuple[int, int] | None:
    """As `parse_size`; warns of a size that is taller than wide, which may be meant the other way round."""
    size = parse_size(text)
    if size is not None and size[0] > size[1]:
        height, width = size
        warnings.warn(
            KerbsegWarning(f"a size is height x width: {height} high, {width} wide; meant {width}x{height}?"),
            stacklevel=2,
        )
    return size
