"""`kerbseg demo`."""

from __future__ import annotations

from pathlib import Path

from kerbseg.cli.app import app
from kerbseg.cli.terminal import tell


@app.command
def demo(*, out: Path = Path("demo"), minutes: float = 2.5) -> None:
    """Run the whole story on drawn street scenes; ends with OUT/report.html.

    Check, train, evaluate, export, quantize, time, predict: at most 5 minutes on 2 cores. Nothing is downloaded.

    Example: `kerbseg demo --out demo`

    Parameters
    ----------
    out
        Folder of the report and everything it shows
    minutes
        How long the training may take
    """
    from kerbseg.apps.demo import run

    tell(f"open {run(out, minutes)}")
