"""Runs a command on a mutated file, and judges what it did."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

SERVER = Path(__file__).with_name("fuzz_server.py")
LIMIT_S, LIMIT_MB = 60.0, 2000.0

Meaning = Literal["same", "whole", "refused", "any"]
"""What a mutation asks of a command that ends with 0.

same: the result of the file as it was (the change does not matter, or a checksum shows it)
whole: the same, or a warning on stderr (the file is cut off)
refused: nothing; it must not end with 0
any: the content changed, and nobody can know: any result is fine
"""

VERDICTS = ("fine", "traceback", "hang", "memory", "signal", "status", "stderr", "silent")

ERROR = re.compile(r"kerbseg: (?!warning: )")
NOT_THE_ERROR = re.compile(  # lines of stderr beside the one that tells of an error
    r"warning|^\s*$|^  |^\[W|^W\d{4} |^\[rank"
    r"|^(TIFF|LZW|ZIP|Fax3|PackBits|JPEG)\w*: ",  # libtiff's own, which Pillow offers no way to keep back
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Outcome:
    """What a command did."""

    status: int
    signal: int  # that killed it; 0 for none, and where we killed it
    hung: bool
    hog: bool  # took more memory than allowed
    seconds: float
    peak_mb: float
    stdout: str
    stderr: str


@dataclass(frozen=True)
class Verdict:
    """One of VERDICTS, and the line that tells most."""

    name: str
    detail: str = ""


class Runner:
    """A server of `fuzz_server.py`, started at the first command and again where it died."""

    def __init__(self, entry: str = "kerbseg.cli:main", preload: Sequence[str] = (), env: dict[str, str] | None = None):
        self._command = [sys.executable, str(SERVER), entry, *preload]
        self._env = env
        self._process: subprocess.Popen[str] | None = None

    def __call__(
        self, argv: Sequence[str], folder: Path, limit_s: float = LIMIT_S, limit_mb: float = LIMIT_MB
    ) -> Outcome:
        """Runs one command in a folder."""
        said = {name: str(folder.parent / f"{folder.name}.{name}") for name in ("stdout", "stderr")}
        job = {"argv": list(argv), "folder": str(folder), "limit_s": limit_s, "limit_mb": limit_mb, **said}
        answer = self._ask(job)
        return Outcome(**answer, **{name: Path(path).read_text(errors="replace") for name, path in said.items()})

    def _ask(self, job: dict[str, Any]) -> dict[str, Any]:
        if self._process is None or self._process.poll() is not None:
            pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
            self._process = subprocess.Popen(self._command, text=True, env=self._env, **pipes)
            self._answer()
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process is not None
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the server ended: {' '.join(self._command)}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def close(self) -> None:
        """Ends the server."""
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()
            self._process.wait()
            self._process = None


def environment(home: Path) -> dict[str, str]:
    """Of the commands: one thread, and a HOME of their own."""
    home.mkdir(parents=True, exist_ok=True)
    own = {"HOME": str(home), "TMPDIR": str(home), "OMP_NUM_THREADS": "1", "COLUMNS": "200"}
    return {**os.environ, **own}


def judge(
    outcome: Outcome, meaning: Meaning, result: Callable[[], str], truth: Callable[[], str], batch: bool = False
) -> Verdict:
    """What is wrong with what a command did; `result` and `truth` are asked for only where it ended with 0.

    A `batch` may end with 1: it lists what failed and did the rest.
    """
    errors = [line for line in outcome.stderr.splitlines() if ERROR.match(line)]
    told = errors[-1] if errors else last_line(outcome.stderr)
    if outcome.hog:
        return Verdict("memory", f"{outcome.peak_mb:.0f} MB; {told}")
    if outcome.hung:
        return Verdict("hang", f"{outcome.seconds:.0f} s; {told}")
    if outcome.signal:
        return Verdict("signal", f"signal {outcome.signal}; {told}")
    if "Traceback (most recent call last)" in outcome.stderr + outcome.stdout:
        return Verdict("traceback", last_line(outcome.stderr) or last_line(outcome.stdout))
    if outcome.status not in (0, 2) and not (batch and outcome.status == 1):
        return Verdict("status", f"exit status {outcome.status}; {told}")
    if outcome.status == 2:
        lines = [line for line in outcome.stderr.splitlines() if not NOT_THE_ERROR.search(line) or line in errors]
        if len(lines) != 1 or not errors:
            return Verdict("stderr", f"{len(lines)} lines: {' | '.join(lines)[:300]}")
        return Verdict("fine", told)
    if outcome.status == 1 or meaning == "any":
        return Verdict("fine", told)
    if meaning == "refused":
        return Verdict("silent", "was taken without a word")
    if meaning == "whole" and outcome.stderr.strip():
        return Verdict("fine", told)
    if result() != truth():
        return Verdict("silent", "another result, without a word")
    return Verdict("fine")


def last_line(text: str) -> str:
    """The last line that is not empty."""
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "")
