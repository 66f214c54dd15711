"""The reference of all commands, from the application itself."""

from __future__ import annotations

import re

from kerbseg.cli import app
from kerbseg.cli.help import shown

HEAD = """# Commands

`kerbseg COMMAND --help` prints the same. Options may stand anywhere after the command.
"""


def page() -> str:
    """Every command with its arguments, options and defaults; lists are filled in from their tables."""
    text = app.generate_docs(output_format="markdown", recursive=True)
    body = text[text.index("**Commands**") :]
    body = body.replace("**Commands**:", "")
    body = re.sub(r"\n {2,}(?=\S)", " ", body)  # a help text that was broken over lines
    body = re.sub(r"^## kerbseg ", "## ", body, flags=re.MULTILINE)
    body = body.replace("](#kerbseg-", "](#")
    summary, *sections = body.split("\n## ")
    of_all = re.compile(r"\n\*\*Options of every command\*\*:\n\n(?:\* .*\n)+")
    body = "\n## ".join([summary, *(of_all.sub("\n", section) for section in sections)])
    return HEAD + shown(body)
