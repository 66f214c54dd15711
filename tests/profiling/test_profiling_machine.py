"""A latency's protocol names processor, cores, engine versions and date, on whatever machine."""

import os
import re
from datetime import UTC, datetime
from importlib.metadata import version

import pytest
import torch

from kerbseg.profiling import machine
from kerbseg.profiling.machine import Machine, this_machine


@pytest.fixture
def _forget():
    machine.processor_name.cache_clear()
    yield
    machine.processor_name.cache_clear()


def test_this_machine_is_named():
    here = this_machine()
    assert here.processor
    assert 1 <= here.cores <= (os.cpu_count() or 1)
    assert here.accelerator is None
    assert here.versions["torch"] == torch.__version__
    assert {"kerbseg", "python"} <= set(here.versions)
    assert abs(datetime.fromisoformat(here.date).replace(tzinfo=UTC) - datetime.now(UTC)).days <= 1
    for part in (here.processor, f"torch {torch.__version__}", here.date):
        assert part in str(here)


@pytest.mark.usefixtures("_forget")
@pytest.mark.parametrize(
    ("cpuinfo", "board", "name"),
    [
        ("processor\t: 0\nmodel name\t: Intel(R)  Core(TM) i7\nmodel name\t: other\n", None, "Intel(R) Core(TM) i7"),
        ("processor\t: 0\nCPU part\t: 0xd08\n", "Raspberry Pi 4 Model B Rev 1.4\0", "Raspberry Pi 4 Model B Rev 1.4"),
    ],
)
def test_the_processors_name(cpuinfo, board, name, tmp_path, monkeypatch):
    for constant, text in (("CPUINFO", cpuinfo), ("BOARD", board)):
        path = tmp_path / constant
        if text is not None:
            path.write_text(text)
        monkeypatch.setattr(machine, constant, path)
    assert machine.processor_name() == name


@pytest.mark.usefixtures("_forget")
def test_a_processor_that_nothing_names_has_its_architecture(tmp_path, monkeypatch):
    monkeypatch.setattr(machine, "CPUINFO", tmp_path / "none")
    monkeypatch.setattr(machine, "BOARD", tmp_path / "none")
    monkeypatch.setattr(machine.sys, "platform", "plan9")
    monkeypatch.setattr(machine.platform, "processor", lambda: "")
    monkeypatch.setattr(machine.platform, "machine", lambda: "riscv64")
    assert machine.processor_name() == "riscv64"


def test_an_engine_that_was_loaded_has_its_version_and_one_that_was_not_has_none(monkeypatch):
    pytest.importorskip("onnxruntime")
    assert machine.engine_versions()["onnxruntime"] == version("onnxruntime")
    monkeypatch.delitem(machine.sys.modules, "onnxruntime")
    assert "onnxruntime" not in machine.engine_versions()


def test_a_gpu_is_named(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: f"GPU {index}")
    assert [this_machine(device).accelerator for device in ("cuda", "cuda:1", "tensorrt")] == [
        "GPU 0",
        "GPU 1",
        "GPU 0",
    ]
    assert str(this_machine("cuda:1")).startswith("GPU 1 beside ")


def test_a_device_that_torch_does_not_know_keeps_its_word(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert this_machine("tensorrt").to_dict()["accelerator"] == "tensorrt"


def test_one_line_and_json_say_the_same():
    here = Machine("Some CPU", 1, None, {"kerbseg": "0.1.0", "openvino": "2025.1"}, "2026-11-26")
    assert str(here) == "Some CPU, 1 core; kerbseg 0.1.0, openvino 2025.1; 2026-11-26"
    assert re.sub(r"\W", "", str(here.to_dict())).count("openvino") == 1
    assert here.to_dict() == {
        "processor": "Some CPU",
        "cores": 1,
        "versions": {"kerbseg": "0.1.0", "openvino": "2025.1"},
        "date": "2026-11-26",
    }
