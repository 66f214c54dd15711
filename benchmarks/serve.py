"""Load on `kerbseg serve`: requests a second and how long they take, beside a plain loop over the same pictures.

All on this machine's loopback, in a bounded number of requests and seconds. Each client asks, waits for the answer,
and asks again; every answer is compared with the ids that `kerbseg.Predictor` gives. Clients share the processor with
the service. Then more clients than a short queue has room for, and ten thousand requests while memory is watched.
Example: python benchmarks/serve.py --json benchmarks/results/serve.json
"""

from __future__ import annotations

import argparse
import io
import json
import re
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from PIL import Image

from kerbseg.core.text import counted
from kerbseg.data import open_dataset
from kerbseg.data.pictures import rgb_of
from kerbseg.predict import Predictor
from kerbseg.profiling.machine import this_machine
from kerbseg.serve.answers import Wanted

SIZE = (360, 480)  # of the pictures
SMALL = (32, 48)  # of those of which there are ten thousand
DIFFERENT = 16  # pictures
PAUSE_S = 0.5  # of a client that was refused
STARTED = re.compile(r"serving .* at (http://\S+) ")
SAMPLES = 11  # of the memory


@dataclass
class Load:
    """What came of a number of requests."""

    seconds: list[float] = field(default_factory=list)  # of answers
    codes: Counter[int] = field(default_factory=Counter)
    wrong: int = 0
    elapsed_s: float = 0.0

    def row(self) -> dict[str, Any]:
        """Its figures."""
        return {
            "answered": len(self.seconds),
            "refused": self.codes[429],
            "lost": sum(number for code, number in self.codes.items() if code not in (200, 429)),
            "wrong": self.wrong,
            "requests_per_second": len(self.seconds) / self.elapsed_s,
            **percentiles(self.seconds),
        }


def percentiles(seconds: Sequence[float]) -> dict[str, float]:
    """Median and 99th percentile, in milliseconds."""
    median, high = np.percentile(seconds, (50, 99))
    return {"median_ms": 1000 * float(median), "p99_ms": 1000 * float(high)}


def pictures(size: tuple[int, int]) -> list[bytes]:
    """Drawn scenes as JPEG files."""
    scenes, contents = open_dataset("scenes", "val"), []
    for index in range(DIFFERENT):
        content = io.BytesIO()
        Image.fromarray(scenes[index].image).resize(size[::-1]).save(content, "JPEG", quality=90)
        contents.append(content.getvalue())
    return contents


def answer_of(predictor: Predictor, content: bytes) -> bytes:
    """What the service should answer: the ids, as PNG."""
    return Wanted(answer="ids").of(predictor(rgb_of(content, "picture")), "")


def plain_loop(predictor: Predictor, contents: Sequence[bytes], requests: int, limit_s: float) -> dict[str, Any]:
    """The same work without a service, picture by picture."""
    load, begun_s = Load(), time.perf_counter()
    for number in range(requests):
        started_s = time.perf_counter()
        answer_of(predictor, contents[number % len(contents)])
        load.seconds.append(time.perf_counter() - started_s)
        if time.perf_counter() - begun_s > limit_s:
            break
    load.elapsed_s = time.perf_counter() - begun_s
    rate = len(load.seconds) / load.elapsed_s
    return {"answered": len(load.seconds), "requests_per_second": rate, **percentiles(load.seconds)}


@contextmanager
def service(model: str, *options: object) -> Iterator[tuple[str, int]]:
    """The address of a service in a process of its own, and that process's number; it is ended behind the block."""
    command = [sys.executable, "-m", "kerbseg", "serve", model, "--port", "0", *map(str, options)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            started = STARTED.search(process.stdout.readline())
            if started is None:
                raise SystemExit("the service did not start; what it said stands above")
            yield started[1], process.pid
        finally:
            process.terminate()
            print(f"  {process.stdout.read().strip()}" if process.stdout else "", file=sys.stderr)


def load(
    address: str, contents: Sequence[bytes], expected: Sequence[bytes], clients: int, requests: int, limit_s: float
) -> Load:
    """So many clients at the same time, until so many requests were answered, or the time is over."""
    result, lock = Load(), threading.Lock()
    numbers = iter(range(requests))
    begun_s = time.perf_counter()

    def ask() -> None:
        connection = HTTPConnection(urlsplit(address).netloc, timeout=120)
        while time.perf_counter() - begun_s < limit_s:
            with lock:
                number = next(numbers, None)
            if number is None:
                break
            place, status = number % len(contents), 429
            while status == 429 and time.perf_counter() - begun_s < limit_s:
                started_s = time.perf_counter()
                connection.request("POST", "/v1/segment?answer=ids", contents[place])
                answer = connection.getresponse()
                content, status = answer.read(), answer.status
                with lock:
                    result.codes[status] += 1
                    if status == 200:
                        result.seconds.append(time.perf_counter() - started_s)
                        result.wrong += content != expected[place]
                if status == 429:
                    time.sleep(PAUSE_S)
        connection.close()

    threads = [threading.Thread(target=ask) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    result.elapsed_s = time.perf_counter() - begun_s
    return result


def resident_mb(process: int) -> float:
    """Memory that a process has (Linux)."""
    kilobytes = re.search(r"^VmRSS:\s+(\d+) kB", Path(f"/proc/{process}/status").read_text(), re.MULTILINE)
    assert kilobytes is not None
    return int(kilobytes[1]) / 1024


def memory(given: argparse.Namespace) -> dict[str, Any]:
    """Memory while many small pictures are answered, after a tenth of them that warms up."""
    contents, size = pictures(SMALL), f"{SMALL[0]}x{SMALL[1]}"
    expected = [answer_of(Predictor(given.model, input_size=SMALL), content) for content in contents]
    step, total, samples = max(1, given.many // (SAMPLES - 1)), Load(), []
    with service(given.model, "--size", size) as (address, process):
        for _ in range(SAMPLES - 1):
            part = load(address, contents, expected, 8, step, given.seconds)
            samples.append(resident_mb(process))
            total.seconds += part.seconds
            total.codes += part.codes
            total.wrong += part.wrong
            total.elapsed_s += part.elapsed_s
    return {**total.row(), "clients": 8, "size": size, "resident_mb": samples, "growth_mb": samples[-1] - samples[0]}


def measured(given: argparse.Namespace) -> dict[str, Any]:
    """All rows, each printed when it is there."""
    contents, predictor = pictures(SIZE), Predictor(given.model)
    expected = [answer_of(predictor, content) for content in contents]
    rows: dict[str, Any] = {}

    def keep(name: str, row: dict[str, Any]) -> None:
        rows[name] = row
        print(
            f"| {name} | {row['requests_per_second']:.1f} | {row['median_ms']:.0f} | {row['p99_ms']:.0f} |", flush=True
        )

    def under(name: str, clients: Sequence[int], *options: object) -> None:
        with service(given.model, *options) as (address, _):
            for number in clients:
                result = load(address, contents, expected, number, given.requests, given.seconds)
                keep(f"{name}{counted(number, 'client')}", result.row())

    print("| | requests/s | median, ms | p99, ms |\n|---|--:|--:|--:|")
    keep("plain loop", plain_loop(predictor, contents, given.requests, given.seconds))
    under("", given.clients)
    under("one worker, ", [given.clients[0], given.clients[-1]], "--workers", 1)
    under("calls of 8, ", given.clients[-1:], "--batch", 8)
    under(f"queue of {given.queue}, ", given.clients[-1:], "--queue", given.queue)
    short = rows[f"queue of {given.queue}, {counted(given.clients[-1], 'client')}"]
    # what a picture waits for at that rate: the queue before it, and what the two workers have in hand
    short["queue_ms"] = 1000 * (given.queue + 2) / short["requests_per_second"]
    if given.many:
        keep("many small pictures", memory(given))
    return rows


def main() -> None:
    """Prints what was measured, and writes it where `--json` says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--model", default="kerbnet_s-camvid", help="the fastest that comes along, so that the service weighs most"
    )
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 64])
    parser.add_argument("--requests", type=int, default=400, help="of each row, at most")
    parser.add_argument("--seconds", type=float, default=30, help="of each row, at most")
    parser.add_argument("--queue", type=int, default=8, help="of the row with more clients than it has room for")
    parser.add_argument("--many", type=int, default=10_000, help="requests while memory is watched; 0: none")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    rows, machine = measured(given), this_machine()
    asked = {name: getattr(given, name) for name in ("model", "requests", "seconds", "queue", "many")}
    protocol = {
        **asked,
        "pause_s": PAUSE_S,
        "size": SIZE,
        "pictures": f"{DIFFERENT} drawn scenes, JPEG",
        **machine.to_dict(),
    }
    if given.many:
        print(f"\nmemory, MB: {', '.join(f'{each:.0f}' for each in rows['many small pictures']['resident_mb'])}")
    print(f"\n{machine}")
    if given.json is not None:
        given.json.write_text(json.dumps({"rows": rows, "protocol": protocol}, indent=1) + "\n")


if __name__ == "__main__":
    main()
