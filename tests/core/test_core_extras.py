"""What is not installed is named with the command that installs it here."""

import json
import subprocess
import sys
from importlib.metadata import PackageNotFoundError

import pytest

import kerbseg.core.extras as extras
from kerbseg.core.errors import MissingExtra, needing_extras


class _Distribution:
    def __init__(self, origin):
        self._origin = origin

    def read_text(self, name):
        assert name == "direct_url.json"
        return None if self._origin is None else json.dumps(self._origin)


def origin(monkeypatch, facts):
    monkeypatch.setattr(extras, "distribution", lambda name: _Distribution(facts))


def test_from_an_index(monkeypatch):
    origin(monkeypatch, None)
    assert extras.how_to_install("train") == "run: pip install 'kerbseg[train]'"


def test_from_a_checkout_it_is_that_checkout(monkeypatch, tmp_path):
    folder = tmp_path / "my kerbseg"
    folder.mkdir()
    origin(monkeypatch, {"url": folder.as_uri(), "dir_info": {"editable": True}})
    assert extras.how_to_install("train") == f"run: pip install -e '{folder}[train]'"
    origin(monkeypatch, {"url": folder.as_uri(), "dir_info": {}})
    assert extras.how_to_install("int8") == f"run: pip install '{folder}[int8]'"
    folder.rmdir()
    assert extras.how_to_install("int8") == "in a checkout of kerbseg run: pip install '.[int8]'"


def test_from_a_repository_or_a_wheel(monkeypatch):
    origin(monkeypatch, {"url": "https://example.org/kerbseg.git", "vcs_info": {"vcs": "git", "commit_id": "0"}})
    assert extras.how_to_install("video") == "run: pip install 'kerbseg[video] @ git+https://example.org/kerbseg.git'"
    origin(monkeypatch, {"url": "https://example.org/kerbseg-1-py3-none-any.whl", "archive_info": {}})
    assert "pip install 'kerbseg[video] @ https://example.org/kerbseg-1" in extras.how_to_install("video")


def test_from_sources_that_are_not_installed(monkeypatch):
    def missing(name):
        raise PackageNotFoundError(name)

    monkeypatch.setattr(extras, "distribution", missing)
    assert extras.how_to_install("train") == "in the checkout of kerbseg run: pip install -e '.[train]'"


BASE = "import sys\nsys.modules['lightning'] = None  # as in a base installation\n"


@pytest.mark.parametrize(("command", "extra"), [("train smoke/scenes --out run", "train"), ("demo --out run", "all")])
def test_commands_that_train_say_what_is_missing(command, extra, tmp_path):
    code = f"{BASE}from kerbseg.cli import main\nmain({command.split()})"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("kerbseg: lightning is not installed; ")
    assert f"[{extra}]'" in done.stderr
    assert done.stderr.count("\n") == 1
    assert not any(tmp_path.iterdir())


def test_so_does_the_function():
    code = f"{BASE}import kerbseg\ntry: kerbseg.train\nexcept kerbseg.MissingExtra as error: print(error)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "lightning is not installed" in done.stdout


def test_what_is_no_extra_is_a_defect():
    with pytest.raises(ModuleNotFoundError, match="nowhere") as raised, needing_extras():
        import kerbseg.nowhere  # noqa: F401
    assert not isinstance(raised.value, MissingExtra)


def test_the_table_of_extras_is_that_of_the_project():
    from importlib.metadata import requires

    named = {line.split("extra == ")[1].strip("'\"") for line in requires("kerbseg") or () if "extra == " in line}
    assert set(extras.EXTRAS.values()) <= named
