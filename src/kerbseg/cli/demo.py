"""`kerbseg demo`."""

from __future__ import annotations

from pathlib import Path

from kerbseg.cli.app import app
from kerbseg.cli.terminal import tell
from kerbseg.core.errors import check_installed
from kerbseg.core.extras import EXTRAS


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
    # one answer, where each part would ask for its own; an engine that is not there is left out of the report
    check_installed("all", [name for name, extra in EXTRAS.items() if extra == "train" or name == "numba"])

    from kerbseg.apps.demo import run

    tell(f"open {run(out, minutes)}")
