"""The command line: thin functions whose docstrings are the help. Heavy packages are imported inside them."""

from kerbseg.cli import (  # each registers its commands
    data,
    demo,
    export,
    keyframes,
    measure,
    models,
    recipes,
    shell,
    snippet,
    use,
)
from kerbseg.cli.app import app, main

__all__ = [
    "app",
    "data",
    "demo",
    "export",
    "keyframes",
    "main",
    "measure",
    "models",
    "recipes",
    "shell",
    "snippet",
    "use",
]
