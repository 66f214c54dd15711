"""The command line's one application, and what becomes of its errors."""

from __future__ import annotations

import os
import select
import signal
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, redirect_stdout
from io import TextIOWrapper
from itertools import pairwise
from typing import Annotated, Any

from cyclopts import App, CycloptsError, Group, Parameter
from cyclopts.exceptions import MissingArgumentError, UnknownCommandError, UnusedCliTokensError

import kerbseg
from kerbseg.cli.help import ListingFormatter
from kerbseg.cli.terminal import verbosity
from kerbseg.core.collector import end_without_collection
from kerbseg.core.console import SafeConsole
from kerbseg.core.errors import KerbsegError, KerbsegWarning, did_you_mean, needing_extras
from kerbseg.core.files import remedy
from kerbseg.core.telemetry import keep_home_clean
from kerbseg.core.text import printable, redact

STDOUT, STDOUT_NUMBER = "/dev/stdout", 1
NAMES_OF_STDOUT = (STDOUT, "/dev/fd/1", "/proc/self/fd/1")
OUTPUTS = ("--json", "--html", "--out", "-o")  # options that take a file to write

app = App(
    name="kerbseg",
    help="Real-time semantic segmentation for robots and vehicles: train, evaluate, compress, export, run.",
    help_format="markdown",
    help_formatter=ListingFormatter(),
    version=kerbseg.__version__,
    version_flags=["--version", "-V"],
    suppress_keyboard_interrupt=False,  # `main` says what Ctrl-C leaves
)
app.meta.suppress_keyboard_interrupt = False
EVERYWHERE = Group("Options of every command", sort_key=1)


def _everywhere(*names: str) -> Parameter:
    return Parameter(name=names, negative="", group=EVERYWHERE, show_default=False)


@app.meta.default
def _launch(
    *tokens: Annotated[str, Parameter(show=False, allow_leading_hyphen=True)],
    quiet: Annotated[bool, _everywhere("--quiet", "-q")] = False,
    verbose: Annotated[bool, _everywhere("--verbose", "-v")] = False,
) -> None:
    """Real-time semantic segmentation for robots and vehicles: train, evaluate, compress, export, run.

    Parameters
    ----------
    quiet
        Print only tables of results, warnings and errors
    verbose
        Also print what is done in detail (debug messages, on stderr)
    """
    if quiet and verbose:
        raise KerbsegError("--quiet and --verbose contradict each other; leave one of them out")
    with verbosity(quiet, verbose):
        app(tokens, exit_on_error=False, print_error=False, result_action="return_value", console=SafeConsole())


def command_names() -> list[str]:
    """The names of all commands."""
    return [name for name in app if not name.startswith("-")]


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs one command.

    Leaves with status 2 for bad input (one line on stderr), 130 for Ctrl-C (128 and its number for another signal);
    a defect of ours is a traceback.
    """
    if isinstance(sys.stdout, TextIOWrapper):  # a name that the terminal's encoding lacks is shown as escapes
        sys.stdout.reconfigure(errors="backslashreplace")
    keep_home_clean()
    end_without_collection()
    typed = _name_streams(sys.argv[1:] if arguments is None else arguments)
    piped = any(each.endswith(NAMES_OF_STDOUT) for each in typed)
    try:
        if "" in typed:  # a path of no characters would be the folder one is in
            raise KerbsegError(
                f"argument {typed.index('') + 1} is empty (a shell variable that is not set?); leave it out"
            )
        streams = redirect_stdout(sys.stderr) if piped else nullcontext()  # the output proper stands alone there
        with needing_extras(), _warnings_of_one_line(), streams:
            app.meta(typed, exit_on_error=False, print_error=False, result_action="return_value", console=SafeConsole())
        print(end="", flush=True)  # while what fails can still be told
    except KerbsegError as error:
        _leave(str(error), 2)
    except CycloptsError as error:
        _leave(explain(error), 2)
    except BrokenPipeError:
        if not _reader_left():  # a process of ours, then
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), STDOUT_NUMBER)  # for what Python writes when it ends
        sys.exit(0)
    except OSError as error:
        if error.errno is None:  # no word of the system's
            raise
        _leave(_unusable(error), 2)
    except KeyboardInterrupt as interrupt:
        status = 128 + getattr(interrupt, "signum", signal.SIGINT)
        _leave(str(interrupt) or "interrupted; what was finished is kept", status)


def _reader_left() -> bool:
    """Whether whoever read our standard output has seen enough, such as `head`."""
    poll = select.poll()
    poll.register(STDOUT_NUMBER, 0)
    return bool(poll.poll(0))  # of what was not asked for only errors are reported


@contextmanager
def _warnings_of_one_line() -> Iterator[None]:
    """Prints each of our own warnings once, without the place in our source that it comes from."""
    with warnings.catch_warnings():
        # what Pillow warns of (odd EXIF, large pictures) its one opener leaves out, or refuses in one line
        warnings.filterwarnings("ignore", module=r"PIL\.")
        warnings.simplefilter("always", KerbsegWarning)  # Python would count per place, and over several commands
        others, shown = warnings.showwarning, set()

        def show(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> None:
            text = str(message)
            if not issubclass(category, KerbsegWarning):
                others(message, category, *place, **more)
            elif text not in shown:
                shown.add(text)
                print(f"kerbseg: warning: {_shown(text)}", file=sys.stderr)

        warnings.showwarning = show
        yield


def _name_streams(typed: Sequence[str]) -> list[str]:
    """Names for `-`, which to the parser is an option without a name: standard output for outputs, else the input."""
    named = []
    for before, each in pairwise(["", *typed]):
        option, _, value = each.partition("=")
        if each == "-":
            each = STDOUT if before in OUTPUTS else "/dev/stdin"
        elif value == "-" and option in OUTPUTS:
            each = f"{option}={STDOUT}"
        named.append(each)
    return named


def _unusable(error: OSError) -> str:
    where = "" if error.filename is None else f"{os.fsdecode(error.filename)}: "
    return f"{where}{error.strerror}; {remedy(error) or 'check the path and its permissions'}"


def explain(error: CycloptsError) -> str:
    """The parser's complaint in our words: arguments are named as they are typed, and the way out is said."""
    command = " ".join(["kerbseg", *(error.command_chain or ())])
    if isinstance(error, MissingArgumentError) and error.argument is not None:
        typed = error.keyword or next((token.keyword for token in error.argument.tokens if token.keyword), None)
        by_place = error.argument.field_info.is_positional
        name = error.argument.name.lstrip("-").upper() if by_place else error.argument.name
        complaint = f"missing {name}" if typed is None else f"{typed} needs a value"
    elif isinstance(error, UnusedCliTokensError) and error.unused_tokens:
        complaint = f"unexpected {error.unused_tokens[0]!r}"
    elif isinstance(error, UnknownCommandError) and error.unused_tokens:
        typed = error.unused_tokens[0]
        complaint = f"unknown command {typed!r}; {did_you_mean(typed, command_names())}"
    else:
        complaint = str(error).strip().rstrip(".")
    return f"{complaint}{' See' if complaint.endswith('?') else '; see'}: {command} --help"


def _leave(message: str, status: int) -> None:
    print(f"kerbseg: {_shown(message)}", file=sys.stderr)
    sys.exit(status)


def _shown(message: str) -> str:
    return printable(redact(" ".join(message.split())))
