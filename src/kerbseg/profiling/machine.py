"""What a time depends on beside the network: processor, cores, packages, date."""

from __future__ import annotations

import platform
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import requires, version
from pathlib import Path
from typing import Any

import torch

from kerbseg.bundle import versions
from kerbseg.core.text import counted
from kerbseg.runtime import ENGINES
from kerbseg.runtime.checks import all_threads

SPARE = 0.5  # load of a machine that has nothing else to do
CPUINFO, BOARD = Path("/proc/cpuinfo"), Path("/proc/device-tree/model")


@dataclass(frozen=True)
class Machine:
    """Where and when something was timed; stands beside every latency."""

    processor: str  # by its model's name
    cores: int  # that this process may use
    accelerator: str | None  # by its name, where something else than the processor computes
    versions: Mapping[str, str]  # of kerbseg, Python, torch and the engine
    date: str

    def to_dict(self) -> dict[str, Any]:
        """As a protocol's JSON holds it."""
        named = {} if self.accelerator is None else {"accelerator": self.accelerator}
        return {
            "processor": self.processor,
            "cores": self.cores,
            **named,
            "versions": dict(self.versions),
            "date": self.date,
        }

    def __str__(self) -> str:
        """In one line, as it stands under a table."""
        where = f"{self.processor}, {counted(self.cores, 'core')}"
        if self.accelerator is not None:
            where = f"{self.accelerator} beside {where}"
        return f"{where}; {', '.join(f'{name} {number}' for name, number in self.versions.items())}; {self.date}"


def this_machine(device: str = "cpu") -> Machine:
    """The machine that this process runs on, now; ask once the engine that is timed has been loaded."""
    return Machine(
        processor=processor_name(),
        cores=all_threads(),
        accelerator=None if device == "cpu" else accelerator_name(device),
        versions=engine_versions(),
        date=datetime.now(UTC).strftime("%Y-%m-%d"),
    )


@cache
def processor_name() -> str:
    """The processor's model, as its maker calls it; the board or the architecture where that is not known."""
    if CPUINFO.exists() and (line := re.search(r"^model name\s*:\s*(.+)$", CPUINFO.read_text(), re.MULTILINE)):
        return " ".join(line.group(1).split())
    if BOARD.exists():  # small ARM boards name themselves only here
        return BOARD.read_text().strip("\0\n ")
    if sys.platform == "darwin":
        asked = subprocess.run(["sysctl", "-n", "machdep.cpu.brand_string"], capture_output=True, text=True)
        if asked.returncode == 0:
            return asked.stdout.strip()
    return platform.processor() or platform.machine() or "unknown processor"


def accelerator_name(device: str) -> str:
    """What a device that is no processor is called; its own word where torch does not know it."""
    number = device.partition(":")[2]
    index = int(number) if number.isdigit() else 0
    if torch.cuda.is_available() and index < torch.cuda.device_count():  # other engines compute on the same
        return torch.cuda.get_device_name(index)
    return device


def engine_versions() -> dict[str, str]:
    """Versions of kerbseg, Python, torch, and of the engines' packages that this process has loaded.

    Which these are stands in kerbseg's own requirements, under the extras that the engines name.
    """
    extras = {engine.extra for engine in ENGINES.values()}
    numbers = versions()
    for requirement in requires("kerbseg") or ():
        name, extra = re.match(r"[\w.-]+", requirement), re.search(r"extra == ['\"](\w+)['\"]", requirement)
        if name and extra and extra.group(1) in extras and name.group().replace("-", "_") in sys.modules:
            numbers.setdefault(name.group(), version(name.group()))
    return numbers


def busy(load: float, begun: str) -> str | None:
    """Why times are longer than this machine takes alone; None where it was idle when what is timed had `begun`."""
    if load < SPARE:
        return None
    cores = counted(all_threads(), "core")
    before = f"load {load:.1f} on {cores} before {begun}"
    return f"The machine was busy: {before}. Alone it is faster than the times here."
