"""Where and how a run computes; none of it changes the result."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from kerbseg.core.distributed import SINGLE, Rank
from kerbseg.train.split import Cache


@dataclass(frozen=True)
class Machine:
    """The place of a run's data and of its computing, as the command line says."""

    device: torch.device
    rank: Rank = SINGLE
    data_root: str | Path | None = None
    workers: int = 0  # processes that read pictures from disk
    cache: Cache = "auto"
    compile: bool = False
    quiet: bool = False  # nothing is printed but warnings
