"""The command line: what scripts rely on (names, exit status, one line of error, JSON)."""

import json
import subprocess
import sys
import time

import pytest

import kerbseg.models as models
from kerbseg.cli import app, main

COMMANDS = ("demo", "models", "doctor", "train", "evaluate", "predict", "import", "profile", "table")


def kerbseg(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "kerbseg.cli", *arguments], capture_output=True, text=True, check=False
    )


def refused(capsys, *arguments: object) -> str:
    """The one line on stderr of a command that must exit with status 2."""
    with pytest.raises(SystemExit) as left:
        main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    assert left.value.code == 2, captured.err
    assert captured.err.startswith("kerbseg: ")
    assert captured.err.count("\n") == 1
    assert "Traceback" not in captured.err
    return captured.err


def test_help_is_quick_and_loads_nothing_heavy():
    times = []
    for _ in range(3):
        start = time.perf_counter()
        assert kerbseg("--help").returncode == 0
        times.append(time.perf_counter() - start)
    assert min(times) < 0.5
    code = "import sys; from kerbseg.cli import main\nmain(['--help'])\n"
    code += "print({'torch', 'numpy', 'lightning', 'PIL'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.endswith(
        "set()\n"
    )


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself_with_an_example(command, capsys):
    main([command, "--help"])
    text = capsys.readouterr().out
    assert "Example" in text
    assert f"kerbseg {command}" in text


def test_the_commands_are_those_of_the_contract():
    assert set(COMMANDS) <= set(app)


def test_models_as_json(tmp_path, capsys):
    main(["models", "--json", str(tmp_path / "models.json")])
    rows = json.loads((tmp_path / "models.json").read_text())
    assert [row["name"] for row in rows] == models.list_models()
    assert set(rows[0]) == {"name", "paper", "parameters", "macs", "input", "classes", "stride"}
    assert "mininet_v2_cpu" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["trian"], "train"),
        (["train", "camvid/mininet_v2_cpu", "epocs=2"], "did you mean 'epochs'"),
        (["train", "camvid/mininet"], "did you mean 'camvid/mininet_v2'"),
        (["train", "smoke/scenes", "data.name=camvit"], "did you mean 'camvid'"),
        (["train", "smoke/scenes", "model.name=erfnett"], "did you mean 'erfnet'"),
        (["train", "smoke/scenes", "model.options={depth: 3}"], "depth"),
        (["doctor", "camvit"], "did you mean 'camvid'"),
        (["doctor", "camvid", "--data-root", "nowhere"], "does not exist"),
        (["evaluate", "none.safetensors", "--data", "camvid"], "does not exist"),
        (["evaluate", "none.safetensors"], "--data"),
        (["predict", "none.safetensors", "x.png", "-o", "out"], "does not exist"),
        (["import", "mininet-tensorflow", "x.npz", "-o", "x.safetensors"], "did you mean 'mininet-tf'"),
        (["import", "mininet-tf", "none.npz", "-o", "x.safetensors"], "does not exist"),
        (["import", "mininet-tf", "none.npz", "-o", "x.safetensors", "--classes", "camvit"], "did you mean 'camvid'"),
        (["profile", "mininet"], "did you mean 'mininet_v2'"),
        (["profile", "mininet_v2", "--size", "large"], "256x512"),
        (["table", "mininett"], "did you mean 'mininet'"),
        (["demo", "--minutes", "0"], "minutes"),
    ],
)
def test_bad_input_is_one_line_and_status_2(arguments, says, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert says in refused(capsys, *arguments)
    assert list(tmp_path.iterdir()) == [], "nothing half-written"


def test_an_empty_data_root_is_named(tmp_path, capsys):
    assert "is empty" in refused(capsys, "doctor", "camvid", "--data-root", tmp_path)


def test_a_picture_that_is_none_is_named(camvid_root, capsys, tmp_path):
    victim = next((camvid_root / "train").iterdir())
    victim.write_bytes(victim.read_bytes()[:60])
    said = refused(capsys, "train", "camvid/mininet_v2_cpu", "--data-root", camvid_root, "--out", tmp_path / "run")
    assert victim.name in said
    assert not (tmp_path / "run").exists()
