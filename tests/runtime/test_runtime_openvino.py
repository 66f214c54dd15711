"""Ctrl-C after OpenVINO: it is handled on a stack that OpenVINO's cores exchange."""

import subprocess
import sys
from pathlib import Path

import pytest

from kerbseg.bundle import load
from kerbseg.export.openvino import write_openvino

HANDLED = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
CTRL_C = """
import os, signal
try:
    os.kill(os.getpid(), signal.SIGINT)
    signal.pause()
except KeyboardInterrupt:
    print("interrupted")
"""

RUNTIMES = """
import gc
import sys
import numpy as np
from kerbseg.runtime import open_runtime
runtimes = [open_runtime(sys.argv[1]) for _ in range(2)]
for runtime in runtimes:
    runtime(np.zeros((1, 32, 48, 3), np.uint8))
del runtime
for _ in range(2):
    del runtimes[0]
    gc.collect()
"""

CORES = """
import numpy as np
import openvino as ov
from kerbseg.runtime.openvino import keeping_signal_stack

def compiled():
    value = ov.opset13.parameter([1], np.float32)
    return ov.Core().compile_model(ov.Model([ov.opset13.relu(value)], [value]), "CPU")

with keeping_signal_stack():
    first, second = compiled(), compiled()
    del first
    del second
"""


def test_runtimes_that_end_in_any_order_leave_ctrl_c_working(camvid_bundle, tmp_path):
    write_openvino(load(camvid_bundle), tmp_path / "m.xml", (32, 48))
    assert _output(RUNTIMES, tmp_path / "m.xml") == "interrupted"


def test_others_cores_are_kept_from_breaking_ctrl_c():
    assert _output(CORES) == "interrupted"


@pytest.mark.parametrize("folder", ["src", "benchmarks"])
def test_nothing_of_ours_makes_a_second_core(folder):
    allowed = {"openvino.py"}  # the one
    root = Path(__file__).parents[2] / folder
    makers = {path.name for path in root.rglob("*.py") if ".Core()" in path.read_text(encoding="utf-8")}
    assert makers <= allowed, "use kerbseg.runtime.openvino.core: after two cores a signal ends the process"


def _output(script, *arguments):
    process = subprocess.run(
        [
            sys.executable,
            "-c",
            f"{HANDLED}{script}{CTRL_C}",
            *arguments,
        ],
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert process.returncode == 0, process.stderr
    return process.stdout.strip()
