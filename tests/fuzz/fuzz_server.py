"""Runs commands in forked children of one process that has imported all they need, and watches each of them.

`python fuzz_server.py MODULE:FUNCTION [MODULE ...]` imports the modules, then answers each line of JSON on its standard
input (see `Job`) with one on its standard output (see `Outcome`). Standard library only.
"""

from __future__ import annotations

import gc
import json
import os
import resource
import signal
import sys
import time
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

POLL_S = 0.01  # a process that takes memory as fast as it can gets some 30 MB further between two looks
LARGEST_FILE = 1 << 30  # bytes that a command may write
PAGE = os.sysconf("SC_PAGESIZE")


def serve(entry: str, preload: list[str]) -> int:
    """Answers jobs until the standard input ends; returns in each forked child too, after its command."""
    for name in preload:
        import_module(name)
    module, function = entry.split(":")
    main = getattr(import_module(module), function)
    threads = os.listdir("/proc/self/task")
    if len(threads) > 1:
        raise RuntimeError(f"{len(threads)} threads after the imports; a forked child would lack their locks' owners")
    gc.collect()
    gc.freeze()  # a child's last collection would otherwise copy every page: most of its time
    print("{}", flush=True)
    for line in sys.stdin:
        job = json.loads(line)
        pid = os.fork()
        if pid == 0:
            _become(job)
            main(job["argv"])  # and out: the child ends as Python ends, exit hooks and tracebacks included
            return 0
        print(json.dumps(watch(pid, job["limit_s"], job["limit_mb"])), flush=True)
    return 0


def _become(job: dict[str, Any]) -> None:
    """Makes of the child what a shell would have started in the case's folder."""
    os.setpgrp()  # so that it is killed with all that it starts
    os.chdir(job["folder"])
    null = os.open(os.devnull, os.O_RDONLY)
    out, err = (os.open(job[name], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644) for name in ("stdout", "stderr"))
    for own, standard in ((null, 0), (out, 1), (err, 2)):
        os.dup2(own, standard)
        os.close(own)
    resource.setrlimit(resource.RLIMIT_FSIZE, (LARGEST_FILE, LARGEST_FILE))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    sys.argv = ["kerbseg", *job["argv"]]


def watch(pid: int, limit_s: float, limit_mb: float) -> dict[str, Any]:
    """What became of a child; it is killed, and its descendants too, beyond the time or the memory."""
    start, peak, hung, hog = time.monotonic(), 0.0, False, False
    while True:
        ended, status, usage = os.wait4(pid, os.WNOHANG)
        if ended:
            break
        peak = max(peak, *map(_resident_mb, _tree(pid)))
        hog = hog or peak > limit_mb
        hung = hung or time.monotonic() - start > limit_s
        if hog or hung:
            (os.killpg if os.getpgid(pid) == pid else os.kill)(pid, signal.SIGKILL)
        time.sleep(POLL_S)
    seconds = time.monotonic() - start
    with suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)  # what the command left behind
    peak = max(peak, usage.ru_maxrss / 1024)
    killed = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
    return {
        "status": os.WEXITSTATUS(status) if os.WIFEXITED(status) else -killed,
        "signal": 0 if hog or hung else killed,
        "hung": hung and not hog,
        "hog": hog or peak > limit_mb,
        "seconds": round(seconds, 2),
        "peak_mb": round(peak),
    }


def _tree(pid: int) -> list[int]:
    """The process and its descendants."""
    pids = [pid]
    for each in pids:
        for children in Path(f"/proc/{each}/task").glob("*/children"):
            try:
                pids += map(int, children.read_text().split())
            except (OSError, ValueError):
                continue
    return pids


def _resident_mb(pid: int) -> float:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE / 2**20
    except (OSError, IndexError):  # it ended meanwhile
        return 0.0


if __name__ == "__main__":
    sys.exit(serve(sys.argv[1], sys.argv[2:]))
