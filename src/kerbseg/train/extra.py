"""Whether the packages are there that only training needs; asked before any of them is imported."""

from __future__ import annotations

from importlib.util import find_spec

from kerbseg.core.errors import MissingExtra

PACKAGES = ("lightning", "kornia", "tensorboard")


def check_extra() -> None:
    """Raises MissingExtra naming the first package that is not installed."""
    for package in PACKAGES:
        if find_spec(package) is None:
            raise MissingExtra(package, "train")
