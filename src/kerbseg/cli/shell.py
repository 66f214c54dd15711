"""`kerbseg help` and `kerbseg --install-completion`."""

from __future__ import annotations

import re
from typing import Literal

from kerbseg.cli.app import app, command_names
from kerbseg.cli.help import filled
from kerbseg.cli.options import OutOrNothing
from kerbseg.cli.terminal import tell
from kerbseg.core.console import SafeConsole
from kerbseg.core.errors import KerbsegError, did_you_mean


@app.command(name="help")
def help_(command: str | None = None) -> None:
    """Show this help, or the help of a command.

    Example: `kerbseg help train`

    Parameters
    ----------
    command
        Name of the command
    """
    if command is not None and command not in command_names():
        raise KerbsegError(f"unknown command {command!r}; {did_you_mean(command, command_names())}")
    app.meta([*([] if command is None else [command]), "--help"], console=SafeConsole())


@app.command(name="--install-completion")
def install_completion(*, shell: Literal["bash", "zsh", "fish"] | None = None, out: OutOrNothing = None) -> None:
    """Install completion of commands and options for the shell (bash, zsh, fish).

    Example: `kerbseg --install-completion`, then open a new terminal

    Parameters
    ----------
    shell
        Name of the shell (default: the one in use)
    out
        File to write the completion script to, without changing the shell's own files
    """
    from cyclopts.completion import ShellDetectionError, detect_shell

    if shell is None:
        try:
            detected = detect_shell()
        except ShellDetectionError as error:
            raise KerbsegError("the shell is not recognized; name it: --shell bash, zsh or fish") from error
        if detected == "powershell":
            raise KerbsegError("there is no completion for PowerShell; name another shell: --shell bash, zsh or fish")
        shell = detected
    place = app.install_completion(shell=shell, output=out, add_to_startup=out is None)
    place.write_text(_with_files(filled(place.read_text(encoding="utf-8"))), encoding="utf-8")
    tell(f"completion for {shell}: {place}" + ("" if out else "; open a new terminal to use it"))


def _with_files(script: str) -> str:
    """The script of bash or zsh with names of files for places that also take other words; fish offers them anyway."""
    script = re.sub(r"^complete -F", "complete -o default -F", script, flags=re.MULTILINE)
    return re.sub(r"^( +'(?:[0-9]+|\*):(?:[^':\\]|\\.|'\\'')+)' \\$", r"\1:_files' \\", script, flags=re.MULTILINE)
