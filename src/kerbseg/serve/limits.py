"""What a service takes on: bounds for one request, and for all of them together."""

from __future__ import annotations

from dataclasses import dataclass

from kerbseg.core.errors import KerbsegError
from kerbseg.data.pictures import MAX_PIXELS

FEWEST_PIXELS = 1_000_000  # that a limit may be set to: cameras have more
GPU_BATCH = 8
CPU_WORKERS = 2  # as videos have: while one picture is read or written, another one has the processor


@dataclass(frozen=True)
class Limits:
    """Bounds of a service. Raises KerbsegError for what is none."""

    workers: int | None = None  # pictures that are segmented at the same time; None: 1 on a GPU, 2 on a processor
    queue: int = 64  # pictures that wait at most; more are refused (429)
    batch: int | None = None  # pictures in one call of the network; None: 8 on a GPU, 1 on a processor
    wait_ms: float = 0.0  # that the first picture of a batch waits at most for others, from its coming on
    megabytes: float = 32.0  # of a request's body
    pixels: int = MAX_PIXELS  # of a picture
    seconds: float = 30.0  # that a body may take to come, and then its pictures to wait

    def __post_init__(self) -> None:
        for name, value, least, most in (
            ("workers", 1 if self.workers is None else self.workers, 1, 256),
            ("queue", self.queue, 1, 100_000),
            ("batch", 1 if self.batch is None else self.batch, 1, 256),
            ("wait-ms", self.wait_ms, 0, 60_000),
            ("max-mb", self.megabytes, 0.01, 4096),
            ("max-pixels", self.pixels, FEWEST_PIXELS, MAX_PIXELS),
            ("timeout", self.seconds, 0.1, 3600),
        ):
            if not least <= value <= most:
                raise KerbsegError(f"{name} is {value:g}; give {least:g} to {most:,}")

    @property
    def bytes(self) -> int:
        """Of a request's body, at most."""
        return int(self.megabytes * 2**20)

    @property
    def farewell_s(self) -> float:
        """Seconds that an ending service takes at most for what it was asked: to come, to wait, and to be answered."""
        return 3 * self.seconds

    def workers_on(self, device: str) -> int:
        """Pictures that are segmented at the same time on that device."""
        return self.workers or (CPU_WORKERS if device == "cpu" else 1)

    def batch_on(self, device: str) -> int:
        """Pictures in one call of a network on that device."""
        return self.batch or (1 if device == "cpu" else GPU_BATCH)
