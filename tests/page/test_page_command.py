"""`kerbseg app` at the command line: what is refused before anything is served, and what gradio must not do."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from kerbseg.cli import main
from kerbseg.core.errors import KerbsegError
from kerbseg.core.telemetry import switch_off
from kerbseg.page.serving import POLICY, check_listens


def refused(capsys, *arguments):
    with pytest.raises(SystemExit) as left:
        main(["app", *map(str, arguments)])
    captured = capsys.readouterr()
    assert left.value.code == 2, captured.err
    assert captured.err.count("\n") == 1
    return captured.err


def test_without_the_extra_it_is_one_line(tmp_path):
    code = (
        "import sys\nsys.modules['gradio'] = None\nfrom kerbseg.cli import main\nmain(['app', 'mininet_v2_cpu-camvid'])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("kerbseg: gradio is not installed; ")
    assert "[app]'" in done.stderr
    assert done.stderr.count("\n") == 1
    assert not any(tmp_path.iterdir())


@pytest.fixture
def with_gradio(monkeypatch):
    """As where gradio is installed; nothing here comes to load it."""
    monkeypatch.setattr("kerbseg.core.errors.check_installed", lambda extra, packages: None)


def test_a_bad_model_is_the_line_of_every_command(with_gradio, capsys, tmp_path):
    assert "model nowhere.safetensors does not exist" in refused(capsys, "nowhere.safetensors", "-o", tmp_path / "c")
    assert "did you mean 'mininet_v2-camvid'" in refused(capsys, "mininet_v2-camvidd", "-o", tmp_path / "c")
    assert not any(tmp_path.iterdir())


def test_a_folder_that_takes_no_corrections_is_refused_before_the_page_is_there(
    with_gradio, capsys, tmp_path, camvid_bundle
):
    (tmp_path / "notes.txt").write_text("mine")
    assert "is no data set, it holds other files" in refused(capsys, camvid_bundle, "-o", tmp_path)


@pytest.mark.parametrize("port", [0, -1, 65536, 70000])
def test_a_port_that_is_none_is_refused(port):
    with pytest.raises(KerbsegError, match=f"port {port} is none; give 1 to 65535"):
        check_listens("127.0.0.1", port)


def test_a_port_that_is_taken_and_an_address_of_nobody_are_refused():
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(KerbsegError, match=f"port {port}: it is taken"):
            check_listens("127.0.0.1", port)
    check_listens("127.0.0.1", port)
    check_listens("0.0.0.0", None)
    for host in ("192.0.2.1", "a" * 70):  # reserved for documentation; no name is so long
        with pytest.raises(KerbsegError, match="give an address of this computer: --host"):
            check_listens(host, None)


def test_reports_of_gradio_are_off(monkeypatch):
    monkeypatch.delenv("GRADIO_ANALYTICS_ENABLED", raising=False)
    switch_off()
    assert os.environ["GRADIO_ANALYTICS_ENABLED"] == "False"


def test_the_browser_may_load_nothing_from_elsewhere():
    assert "http" not in POLICY
    assert "*" not in POLICY


def test_gradio_is_imported_where_its_reports_are_off_before():
    """Whoever writes another `import gradio` sees this: `served` switches it off, and imports these."""
    source = Path(__file__).parents[2] / "src" / "kerbseg"
    importing = {path.parent.name for path in source.rglob("*.py") if "import gradio" in path.read_text()}
    assert importing == {"page", "tabs"}
