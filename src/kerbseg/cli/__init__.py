"""The command line: thin functions whose docstrings are the help. Heavy packages are imported inside them."""

from kerbseg.cli import (  # each registers its commands
    accelerate,
    calibrate,
    data,
    demo,
    export,
    extract,
    keyframes,
    measure,
    models,
    node,
    page,
    recipes,
    shell,
    snippet,
    threshold,
    use,
)
from kerbseg.cli.app import app, main

__all__ = [
    "accelerate",
    "app",
    "calibrate",
    "data",
    "demo",
    "export",
    "extract",
    "keyframes",
    "main",
    "measure",
    "models",
    "node",
    "page",
    "recipes",
    "shell",
    "snippet",
    "threshold",
    "use",
]
