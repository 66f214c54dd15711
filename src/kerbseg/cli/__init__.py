"""The command line: thin functions whose docstrings are the help. Heavy packages are imported inside them."""

from kerbseg.cli import (
    calibrate,
    data,
    demo,
    export,
    measure,
    models,
    recipes,
    shell,
    snippet,
    use,
)  # each registers its commands
from kerbseg.cli.app import app, main

__all__ = [
    "app",
    "calibrate",
    "data",
    "demo",
    "export",
    "main",
    "measure",
    "models",
    "recipes",
    "shell",
    "snippet",
    "use",
]
