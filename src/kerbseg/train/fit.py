"""`fit(recipe, run)`: a segmentation network trained, and ready to be used."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kerbseg.bundle import Bundle, load
from kerbseg.train.recipe import Recipe
from kerbseg.train.run import train


def fit(recipe: Recipe, run: str | Path, **options: Any) -> Bundle:
    """The best bundle by validation mIoU of a training into the folder `run`; all else is as `train` has it."""
    return load(train(recipe, run, **options))
