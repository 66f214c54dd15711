"""What `kerbseg train own` says before it trains, while torch is still asleep."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from kerbseg.cli.terminal import tell
from kerbseg.core.text import counted

if TYPE_CHECKING:
    import torch

    from kerbseg.train.own import OwnPlan

WORD = 10  # characters of the first column
TEXT = 80 - WORD


def show_plan(plan: OwnPlan, run: Path) -> None:
    """What is going to be trained, and where it goes, a word and a text each."""
    for word, text in [*plan.lines, ("run", str(run))]:
        show_line(word, text)


def show_device(device: torch.device) -> None:
    """Where it trains; how long it takes is seen when it runs."""
    import torch

    threads = f"CPU, {counted(torch.get_num_threads(), 'thread')}"
    show_line("device", threads if device.type == "cpu" else torch.cuda.get_device_name(device))
    show_line("time", "shown after the first epoch")


def show_line(word: str, text: str) -> None:
    """A word and a text, which goes on below itself."""
    from textwrap import wrap

    for place, line in enumerate(wrap(text, TEXT, break_long_words=False, break_on_hyphens=False)):
        tell(f"{'' if place else word:<{WORD}}{line}")
