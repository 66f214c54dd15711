"""Where the command line writes: files, standard output, pipes whose reader leaves, and terminals that obey codes."""

import json
import os
import subprocess
import sys
import warnings

import pytest
from rich.table import Table

import kerbseg.cli.help as help_module
from kerbseg.cli import main
from kerbseg.cli.app import _name_streams
from kerbseg.cli.options import parse_size
from kerbseg.cli.terminal import show, tell, write_json
from kerbseg.core.errors import KerbsegError, KerbsegWarning

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="/proc")
KERBSEG = [sys.executable, "-m", "kerbseg"]
HOSTILE = "[bold]r\x1b]0;owned\x07oad[/] :smile:"


def started(*arguments, **options):
    return subprocess.Popen(
        [*KERBSEG, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
    )


def test_a_hyphen_is_the_standard_output_for_outputs_and_the_input_for_the_rest():
    typed = ["predict", "m", "-", "-o", "-", "--json=-", "--json", "-", "--raw=-"]
    output = "/dev/stdout"
    named = ["predict", "m", "/dev/stdin", "-o", output, f"--json={output}", "--json", output, "--raw=-"]
    assert _name_streams(typed) == named
    assert _name_streams(["doctor", "--html", "-", "--html=-"]) == ["doctor", "--html", output, f"--html={output}"]


# by a name that leads into /proc: with /dev/stdout, wrong code that root runs would replace the machine's own
@LINUX
@pytest.mark.parametrize("name", ["/dev/fd/1", "/proc/self/fd/1"])
def test_json_on_the_standard_output_is_alone_there(name):
    process = started("models", "--json", name)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "mininet_v2" in [each["name"] for each in json.loads(out)]
    assert "GMACs" in err


@LINUX
def test_a_table_goes_to_the_standard_output_too(tmp_path):
    process = started("table", "mininet", "2", "-o", "/dev/fd/1", cwd=tmp_path)
    out, _ = process.communicate(timeout=60)
    assert (process.returncode, out.startswith("## MiniNet-v2, table 2")) == (0, True)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("command", [["--help"], ["train", "--help"], ["models"], ["recipe", "camvid/erfnet"]])
def test_a_reader_that_has_seen_enough_is_no_failure(command):
    process = started(*command)
    process.stdout.close()  # as `head` does
    err = process.stderr.read()
    assert (process.wait(60), err) == (0, "")


def test_a_broken_pipe_between_our_processes_is_no_success(monkeypatch):
    def broken():
        raise BrokenPipeError(32, "Broken pipe")

    monkeypatch.setattr("kerbseg.models.list_models", broken)
    with pytest.raises(BrokenPipeError):
        main(["models"])


@LINUX
def test_a_full_disk_behind_the_standard_output_is_said():
    with open("/dev/full", "w") as full:  # opened, never replaced: nothing here writes to it by its name
        done = subprocess.run([*KERBSEG, "recipe", "camvid/erfnet"], stdout=full, stderr=subprocess.PIPE, check=False)
    assert (done.returncode, done.stderr) == (
        2,
        b"kerbseg: No space left on device; free space, or choose another place\n",
    )


def test_a_closed_standard_output_is_no_failure():
    process = subprocess.run(
        ["sh", "-c", f"{' '.join(KERBSEG)} recipe camvid/erfnet >&-"], capture_output=True, check=True
    )
    assert process.stderr == b""


def test_where_figures_cannot_be_written_is_said_before_the_work(tmp_path, capsys):
    (tmp_path / "file").write_text("kept")
    for place in (tmp_path, tmp_path / "file" / "figures.json", tmp_path / ("x" * 300)):
        with pytest.raises(SystemExit) as left:
            main(["evaluate", "no/such/model", "--data", "scenes", "--json", str(place)])
        assert left.value.code == 2
        assert capsys.readouterr().err.startswith(f"kerbseg: cannot write {place}: ")
    assert os.listdir(tmp_path) == ["file"]


def test_names_are_shown_and_not_obeyed(capsys):
    table = Table("class", title=HOSTILE)
    table.add_row(HOSTILE)
    show(table)
    tell(f"{HOSTILE}\nnext")
    shown = capsys.readouterr().out
    assert shown.count(r"[bold]r\x1b]0;owned") == 3
    assert shown.count("oad[/] :smile:") == 3
    assert "\x1b" not in shown
    assert shown.endswith("\nnext\n")


def test_a_name_that_the_terminal_cannot_spell_is_no_failure(tmp_path):
    code = "from kerbseg.cli import main; from kerbseg.cli.app import app; from kerbseg.cli.terminal import tell\n"
    code += "@app.command\ndef spell(): tell('stra\\u00dfe \\udce9')\nmain(['spell'])"
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, check=True)
    assert done.stdout == b"stra\\xdfe \\udce9\n"


def test_figures_that_are_no_numbers_are_null(tmp_path):
    write_json(tmp_path / "figures.json", {"a": float("nan"), "b": [1.5, float("inf")], "c": (0, None)})
    assert (tmp_path / "figures.json").read_text() == json.dumps(
        {"a": None, "b": [1.5, None], "c": [0, None]}, indent=1
    ) + "\n"


def test_an_error_of_the_system_is_one_line(monkeypatch, capsys):
    def fails(*_, **__):
        raise PermissionError(13, "Permission denied", "/secret/\x1b[2Jplace")

    monkeypatch.setattr("kerbseg.models.list_models", fails)
    with pytest.raises(SystemExit) as left:
        main(["models"])
    assert left.value.code == 2
    err = capsys.readouterr().err
    assert err.startswith(r"kerbseg: /secret/\x1b[2Jplace: Permission denied; ")
    assert err.count("\n") == 1


def test_help_keeps_names_in_angle_brackets():
    assert help_module.shown("writes <stem>_ids.png, `<code>` and <b>") == r"writes \<stem>_ids.png, `<code>` and \<b>"


@pytest.mark.parametrize("text", ["0x0", "1x0", "99999x99999", "axb", "-1x2", "", "x", "1x2x3", "²x2", "1e3x2", "64"])
def test_a_size_that_is_none_is_refused(text):
    with pytest.raises(KerbsegError, match="write HEIGHTxWIDTH"):
        parse_size(text)
    assert parse_size("64X96") == (64, 96)


def test_an_empty_argument_is_not_the_folder_one_is_in(capsys):
    with pytest.raises(SystemExit) as left:
        main(["predict", "mininet_v2_cpu-camvid", "", "-o", "out"])
    assert left.value.code == 2
    assert capsys.readouterr().err.startswith("kerbseg: argument 3 is empty ")


def test_a_warning_is_told_once_and_from_an_error(monkeypatch, capsys):
    def warns(*_):
        for text in ("a\x1b[2Jb", "a\x1b[2Jb", "another"):
            warnings.warn(KerbsegWarning(text), stacklevel=1)
        return []

    monkeypatch.setattr("kerbseg.models.list_models", warns)
    main(["models"])
    assert capsys.readouterr().err == "kerbseg: warning: a\\x1b[2Jb\nkerbseg: warning: another\n"
