"""The last stage of a process's first picture, in numpy: the ids of the machine code, and who is asked when."""

import subprocess
import sys

import numpy as np
import pytest

from kerbseg.runtime import upsample_argmax
from kerbseg.runtime.upsample_argmax import UpsampleArgmax


def both(monkeypatch, stage: UpsampleArgmax, logits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Ids by numpy, and by machine code."""
    monkeypatch.setattr(upsample_argmax, "_is_first_without_kernels", lambda: True)
    first = stage(logits)
    monkeypatch.setattr(upsample_argmax, "_is_first_without_kernels", lambda: False)
    return first, stage(logits)


@pytest.mark.parametrize("kind", ["float32", "uint8", "per class"])
def test_ids_are_those_of_the_machine_code(kind, monkeypatch):
    draw = np.random.default_rng(0)
    for case in range(60):
        height, width, tall, wide = (int(each) for each in draw.integers(1, (16, 16, 50, 50)))
        classes, size = int(draw.integers(1, 9)), (int(draw.integers(1, tall + 1)), int(draw.integers(1, wide + 1)))
        shape, ranges = (2, height, width, classes), {}
        if kind == "float32":
            logits = draw.normal(size=shape).astype(np.float32)
        else:
            logits = draw.integers(0, 256, shape, np.uint8)
            many = classes if kind == "per class" else None
            ranges = {"scale": draw.random(many) + 0.1, "zero_point": draw.integers(0, 256, many)}
        if case % 2:
            logits = logits[:, np.arange(height) // 3 * 3]  # regions, and no border in them
        stage = UpsampleArgmax((height, width), (tall, wide), case % 3 == 0, size, 2, **ranges)
        numpys, machines = both(monkeypatch, stage, logits)
        assert numpys.dtype == np.uint8
        assert numpys.flags.c_contiguous
        np.testing.assert_array_equal(numpys, machines)


def test_of_equal_logits_the_first_class_wins(monkeypatch):
    logits = np.zeros((1, 3, 4, 5), np.float32)
    logits[..., 2:] = 1
    for ids in both(monkeypatch, UpsampleArgmax((3, 4), (7, 9), False, (7, 9)), logits):
        assert (ids == 2).all()


def test_the_first_call_of_a_process_loads_no_numba_and_the_second_does():
    code = (
        "import sys, numpy as np\n"
        "from kerbseg.runtime.upsample_argmax import UpsampleArgmax\n"
        "logits = np.random.default_rng(0).random((1, 5, 7, 3), np.float32)\n"
        "stage = UpsampleArgmax((5, 7), (10, 14), False, (10, 14))\n"
        "assert 'numba' not in sys.modules\n"
        "first = stage(logits)\n"
        "assert 'numba' not in sys.modules\n"
        "assert (stage(logits) == first).all()\n"
        "assert 'numba' in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_machine_without_numba_is_told_before_anything_runs():
    code = "import sys; sys.modules['numba'] = None\nimport kerbseg.runtime.upsample_argmax"
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert finished.returncode
    assert "MissingExtra" in finished.stderr
