"""`kerbseg demo`."""

from __future__ import annotations

from pathlib import Path

from kerbseg.cli.app import app
from kerbseg.cli.terminal import tell
from kerbseg.core.errors import check_installed
from kerbseg.core.extras import EXTRAS


@app.command
def demo(*, out: Path = Path("demo"), minutes: float = 2.5) -> None:
    """Try everything on drawn street scenes and write a report (OUT/report.html).

    Checks data, trains, evaluates, exports, quantizes, measures latency and predicts. Takes at most 5 minutes on 2 CPU
    cores. Downloads nothing.

    Example: `kerbseg demo --out demo`

    Parameters
    ----------
    out
        Folder to write the report and its files to
    minutes
        Training time in minutes
    """
    # one answer, where each part would ask for its own; an engine that is not there is left out of the report
    check_installed("all", [name for name, extra in EXTRAS.items() if extra == "train" or name == "numba"])

    from kerbseg.apps.demo import run

    tell(f"open {run(out, minutes)}")
