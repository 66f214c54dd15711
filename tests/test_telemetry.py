"""Nothing phones home, and nothing is written but what was asked for."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

GUARD = """
import socket, sys

def guard(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.sendto") and "AF_UNIX" not in str(arguments[0]):
        with open(TRACE, "a") as file:
            print(event, arguments, "AF_INET", file=file)

sys.addaudithook(guard)
"""
IMPORTS = """
from kerbseg.export.int8 import _nncf
_nncf()
from nncf.telemetry.wrapper import NNCFTelemetry, telemetry
assert not isinstance(telemetry, NNCFTelemetry)
"""
COMMANDS = """
from kerbseg.cli import main
for command in sys.argv[1:]:
    main(command.split())
"""


@pytest.fixture
def traced(tmp_path, camvid_root):
    """What runs commands in a process of its own, and returns the connections of all its processes and its leavings."""

    def run(*commands, after=""):
        home, temporary, trace = tmp_path / "home", tmp_path / "tmp", tmp_path / "trace"
        for folder in (home, temporary):
            folder.mkdir()
        script = f"TRACE = {str(trace)!r}" + GUARD + COMMANDS + after
        unset = {"ORT_DISABLE_TELEMETRY", "MPLCONFIGDIR", "CI", "XDG_CACHE_HOME", "XDG_CONFIG_HOME"}
        own = {"HOME": str(home), "TMPDIR": str(temporary), "NUMBA_CACHE_DIR": str(tmp_path / "numba")}
        environment = {key: value for key, value in os.environ.items() if key not in unset} | own
        tracer = ["strace", "-f", "-qq", "-e", "trace=connect,sendto", "-o", str(trace)] if _strace_works() else []
        process = subprocess.run(
            [*tracer, sys.executable, "-c", script, *commands], env=environment, cwd=tmp_path, capture_output=True
        )
        assert process.returncode == 0, process.stderr.decode()
        lines = trace.read_text().splitlines() if trace.exists() else []
        left = [path for folder in (home, temporary) for path in folder.rglob("*")]
        return [line for line in lines if "AF_INET" in line], left

    return run


def _strace_works():
    tried = ["strace", "-f", "-o", os.devnull, sys.executable, "-c", ""]
    return shutil.which("strace") is not None and subprocess.run(tried, capture_output=True).returncode == 0


@pytest.mark.slow
def test_no_engine_phones_home_or_leaves_an_id(traced, camvid_bundle, camvid_root):
    picture = next((camvid_root / "test").iterdir())
    connections, left = traced(
        f"export {camvid_bundle} -o m.onnx",
        f"export {camvid_bundle} -o m.xml",
        f"predict m.onnx {picture} -o out",
        after=IMPORTS,
    )
    assert connections == []
    assert left == []


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".onnx", ".xml"])
def test_int8_profile_and_training_neither(suffix, traced, camvid_bundle, camvid_root):
    data = f"--data-root {camvid_root}"
    connections, left = traced(
        f"export {camvid_bundle} -o m8{suffix} --int8 --calibration camvid {data}",
        f"profile m8{suffix} --runs 2",
        f"evaluate m8{suffix} --data camvid {data}",
        f"train smoke/scenes epochs=1 --out run{suffix} --device cpu",
    )
    assert connections == []
    assert left == []


def test_it_is_off_also_for_processes_that_this_one_starts(monkeypatch):
    from kerbseg.core.telemetry import switch_off

    monkeypatch.delenv("ORT_DISABLE_TELEMETRY", raising=False)
    monkeypatch.delitem(sys.modules, "openvino_telemetry", raising=False)
    switch_off()
    assert os.environ["ORT_DISABLE_TELEMETRY"] == "1"
    with pytest.raises(ImportError):
        import openvino_telemetry  # noqa: F401
    monkeypatch.delitem(sys.modules, "openvino_telemetry")


def test_a_users_choice_stands(monkeypatch):
    from kerbseg.core.telemetry import switch_off

    monkeypatch.setenv("ORT_DISABLE_TELEMETRY", "0")
    switch_off()
    assert os.environ["ORT_DISABLE_TELEMETRY"] == "0"


def test_engines_are_imported_where_it_is_switched_off_before():
    """Whoever writes another `import openvino` sees this: the two functions that import engines switch it off."""
    source = Path(__file__).parents[1] / "src" / "kerbseg"
    importing = {
        path.relative_to(source).as_posix()
        for path in source.rglob("*.py")
        for line in path.read_text().splitlines()
        if line.strip().startswith(
            ("import onnxruntime", "import openvino", "import nncf", "from openvino ", "from nncf ")
        )
    }
    assert importing == {"runtime/onnx.py", "runtime/openvino.py", "export/int8.py"}
