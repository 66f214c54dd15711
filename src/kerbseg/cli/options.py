"""Options that several commands share, with their help."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter, Token

from kerbseg.cli.terminal import HTML_PAGE, JSON_FILE
from kerbseg.core import precision as core
from kerbseg.core.errors import KerbsegError, KerbsegWarning
from kerbseg.core.files import check_replaces, check_writable
from kerbseg.core.limits import MOST_PIXELS


def _before_the_work(_: object, path: Path | None) -> None:
    """Refuses a file that could not be written after hours of work."""
    if path is not None:
        check_writable(path)


def _replaces(kind: str, beginnings: bytes) -> Callable[[object, Path | None], None]:
    """Refuses a file that is there and begins otherwise: a slip would lose it, such as a picture or a table."""

    def check(_: object, path: Path | None) -> None:
        _before_the_work(_, path)
        if path is not None:
            check_replaces(path, kind, beginnings)

    return check


def _whole(_: object, tokens: Sequence[Token]) -> int:
    """The number that digits are; the parser itself would round 2.5, and take 0x10 and the digits of every script."""
    (token,) = tokens
    if not re.fullmatch(r"[+-]?[0-9]{1,18}", token.value):
        name = token.keyword or "an argument"
        raise KerbsegError(f"{name} takes a whole number in digits, such as 4, not {token.value!r}")
    return int(token.value)


DataRoot = Annotated[Path | None, Parameter(help="Folder of the data set (default: $KERBSEG_DATA/NAME)")]
Device = Annotated[str, Parameter(help="Device to run on: {devices}")]
Fit = Annotated[
    Literal["letterbox", "stretch"],
    Parameter(help="How to fit a picture to the size of an exported model; letterbox: keep its proportions and pad"),
]
Html = Annotated[Path | None, Parameter(validator=_replaces(*HTML_PAGE))]
Json = Annotated[
    Path | None,
    Parameter(
        help="JSON file to write the results to; - writes them to stdout, and everything else to stderr",
        validator=_replaces(*JSON_FILE),
    ),
]
LabelSetName = Annotated[
    str | None,
    Parameter(help="Classes: {label_sets}, or your own: a dataset.yaml, or the folder that holds it"),
]
Loggers = Annotated[
    list[str] | None,
    Parameter(
        help="Where curves and pictures go: tensorboard, wandb, mlflow, several (tensorboard,wandb) or none"
        " (default: tensorboard)",
        negative="",
    ),
]
Out = Annotated[Path, Parameter(name=["--out", "-o"], validator=_before_the_work)]
OutOrNothing = Annotated[Path | None, Parameter(name=["--out", "-o"])]
OutOrStore = Annotated[str | None, Parameter(name=["--out", "-o"])]  # an address stays as it is
Address = Annotated[
    str | None,
    Parameter(help="Of --engine ray: cluster to work on, such as 10.0.0.5:6379, or auto (default: this machine alone)"),
]
ClusterEngine = Annotated[
    str | None,
    Parameter(
        name="--engine",
        help="Where the work is done; ray: in several processes or on many machines, and goes on where it ended",
    ),
]
OneTopic = Annotated[
    str | None,
    Parameter(help="Of a bag: topic with the pictures (default: the only one); `kerbseg doctor BAG` lists them"),
]
Precision = Annotated[
    core.Precision | None,
    Parameter(help="Number format (default: that of the file)"),
]
Runtime = Annotated[str | None, Parameter(help="Engine to run the model: {engines} (default: by the file)")]
Submission = Annotated[
    Path | None,
    Parameter(help="Folder or .zip to write predictions to, for the Cityscapes or Minicity server; needs no labels"),
]
Threads = Annotated[int | None, Parameter(help="Number of CPU threads (default: all)", converter=_whole)]

Topic = Annotated[
    tuple[str, ...],
    Parameter(
        help="Of a bag: topic with pictures, once for each (default: the only one); `kerbseg doctor BAG` lists them",
        negative="",
    ),
]
Whole = Annotated[int, Parameter(converter=_whole)]  # what every option that counts takes
WholeOrNothing = Annotated[int | None, Parameter(converter=_whole)]
Workers = Annotated[
    int | None,
    Parameter(help="Of --engine ray: processes with a model each (default: all there is room for)", converter=_whole),
]


def parse_size(text: str | None) -> tuple[int, int] | None:
    """Height and width of a text such as 256x512; None stays None. Raises KerbsegError for another text."""
    if text is None:
        return None
    match = re.fullmatch(r"([0-9]{1,5})x([0-9]{1,5})", text, re.IGNORECASE)
    height, width = (int(side) for side in match.groups()) if match else (0, 0)
    if not 0 < height * width <= MOST_PIXELS:
        raise KerbsegError(
            f"size {text!r} is not a size; write HEIGHTxWIDTH, such as 256x512 (1x1 to {MOST_PIXELS:,} pixels)"
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
