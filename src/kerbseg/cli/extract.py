"""`kerbseg extract`."""

from __future__ import annotations

import sys
from pathlib import Path
from signal import SIGINT
from typing import Annotated

from cyclopts import Parameter

from kerbseg.cli.app import app
from kerbseg.cli.options import Json, Topic
from kerbseg.cli.terminal import progress, result, write_json
from kerbseg.core.errors import DataError, KerbsegError


@app.command
def extract(
    source: str,
    *,
    out: Annotated[Path, Parameter(name=["--out", "-o"])],
    every: str = "1s",
    topic: Topic = (),
    raw: str | None = None,
    json: Json = None,
) -> None:
    """Take pictures for labeling out of a bag, a video or a stream.

    Writes PNG files named by their times in nanoseconds, of a bag by the stamps of their messages, and frames.csv,
    which lists them with topic, coordinate frame and times. Of a source that is damaged or cut off what was read is
    kept, and the status is 1.

    Example: `kerbseg extract drive.mcap --every 1s -o frames`

    Parameters
    ----------
    source
        Bag, video or stream
    out
        Folder for the pictures; one that holds a frames.csv is refused
    every
        Which frames. 1s, 500ms, 2min: the first in each such time; 10: each tenth; keyframes: the sharpest and best lit
        one whenever the view has moved by a tenth of its width, or a second has passed
    raw
        HEIGHTxWIDTH@RATE of RGB frames without a container on the standard input, such as 360x480@25
    """
    from kerbseg.apps.extract import Extracted, parse_every
    from kerbseg.apps.extract import extract as take
    from kerbseg.predict import RawFrames
    from kerbseg.predict.interrupts import FROM_OUTSIDE, ending_once
    from kerbseg.predict.sources import BagSource, open_source

    reports: list[Extracted] = []

    def told(extracted: Extracted) -> None:
        reports.append(extracted)
        if json is not None:
            write_json(json, extracted.to_dict())
        result(extracted)

    with ending_once(SIGINT, *FROM_OUTSIDE, last=True):
        choice = parse_every(every)
        opened = open_source(source, None if raw is None else RawFrames.parse(raw), topic)
        if topic and not isinstance(opened, BagSource):
            raise KerbsegError(f"--topic names pictures in a bag, and {source} is none; leave it out")
        if opened.kind != "video":
            raise KerbsegError(f"{source} is a picture already; name a bag or a video")
        try:
            take(opened, out, choice, progress, told)
        except DataError as error:
            if not reports:
                raise
            print(f"kerbseg: {error}", file=sys.stderr)
            sys.exit(1)
