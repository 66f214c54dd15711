"""What all commands share: less or more output, help, and lines that say what makes sense next."""

import logging
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
from cyclopts.completion import ShellDetectionError

import kerbseg
from kerbseg.cli import main
from kerbseg.cli.help import LISTS
from kerbseg.cli.next_steps import after_convert, after_doctor
from kerbseg.cli.terminal import next_commands, say, show, tell, verbosity

WEIGHTS = "mininet_v2_cpu-camvid"  # come with the package


def out_of(capsys, *arguments):
    main([str(argument) for argument in arguments])
    return capsys.readouterr().out


def test_what_comes_next_is_one_line_that_a_shell_takes(capsys):
    next_commands(["kerbseg", "doctor", "folder", "--data-root", "my streets/it's"], ["kerbseg", "models"])
    first, second = capsys.readouterr().out.splitlines()
    assert second == "next: kerbseg models"
    assert shlex.split(first.removeprefix("next: "))[-1] == "my streets/it's"


def test_a_path_that_begins_with_a_dash_is_no_option_in_what_comes_next(capsys):
    after_convert(Path("-lead"))
    assert capsys.readouterr().out == "next: kerbseg doctor ./-lead\n"


@pytest.mark.parametrize("name", ["coco_text", "coco_text:paper"])
def test_training_comes_next_on_labels_as_they_were_looked_at(name, capsys):
    after_doctor(name, None)
    assert capsys.readouterr().out == f"next: kerbseg train coco_text/mininet_v2_cpu data.name={name}\n"


def test_quiet_leaves_the_results(capsys):
    with verbosity(quiet=True, verbose=False):
        tell("told")
        say("said")
        next_commands(["kerbseg", "models"])
        show("shown")
        logging.getLogger("kerbseg.anything").info("logged")
        logging.getLogger("kerbseg.anything").debug("in detail")
        logging.getLogger("kerbseg.anything").warning("odd")
    assert capsys.readouterr() == ("shown\n", "kerbseg: warning: odd\n")
    tell("told")
    assert capsys.readouterr().out == "told\n", "quiet only within"


def test_verbose_shows_debug_messages_on_stderr(capsys):
    for verbose in (False, True):
        with verbosity(quiet=False, verbose=verbose):
            logging.getLogger("kerbseg.anything").info("logged\x1b[2J")
            logging.getLogger("kerbseg.anything").debug("in detail")
        captured = capsys.readouterr()
        assert captured.out == "logged\\x1b[2J\n"
        assert captured.err == ("kerbseg: debug: in detail\n" if verbose else "")
    assert logging.getLogger("kerbseg").handlers == []


@pytest.mark.parametrize("typed", [["-q", "models"], ["models", "--quiet"]])
def test_quiet_stands_before_or_after_the_command(typed, capsys):
    assert "more: kerbseg models --all\n" in out_of(capsys, "models")
    text = out_of(capsys, *typed)
    assert "more: " not in text
    assert WEIGHTS.partition("-")[0] in text


def test_quiet_and_verbose_contradict_each_other(capsys):
    with pytest.raises(SystemExit) as left:
        main(["models", "-qv"])
    assert left.value.code == 2
    assert "leave one of them out" in capsys.readouterr().err


def test_quiet_after_two_hyphens_is_a_name(capsys):
    with pytest.raises(SystemExit):
        main(["info", "--", "-q"])
    assert "-q does not exist" in capsys.readouterr().err


def test_help_is_a_command_too(capsys):
    assert out_of(capsys, "help", "train") == out_of(capsys, "train", "--help")
    assert out_of(capsys, "help") == out_of(capsys, "--help")
    with pytest.raises(SystemExit) as left:
        main(["help", "trian"])
    assert (left.value.code, capsys.readouterr().err) == (
        2,
        "kerbseg: unknown command 'trian'; did you mean 'train'?\n",
    )


def test_the_version_has_a_short_name(capsys):
    assert out_of(capsys, "-V") == out_of(capsys, "--version") == f"{kerbseg.__version__}\n"


def test_help_hides_what_is_clear(capsys):
    text = out_of(capsys, "predict", "--help")
    for noise in ("--no-recursive", "--model", "default: False", "default: ()", "--empty-sink"):
        assert noise not in text


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_completion_script_names_commands_options_and_choices(shell, tmp_path, capsys):
    script = tmp_path / "completion"
    assert str(script) in out_of(capsys, "--install-completion", "--shell", shell, "-o", script)
    text = script.read_text()
    for word in ("evaluate", "data-root", "letterbox", "quiet"):
        assert word in text
    assert not [name for name in LISTS if f"{{{name}}}" in text], "a list that no table fills"


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")
@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("kerbseg ev", "evaluate"),
        ("kerbseg evaluate m --runt", "--runtime"),
        ("kerbseg evaluate m --fit l", "letterbox"),
        ("kerbseg predict --qu", "--quiet"),
        ("kerbseg -q inf", "info"),
    ],
)
def test_bash_completes_without_starting_kerbseg(typed, offered, tmp_path):
    main(["-q", "--install-completion", "--shell", "bash", "-o", str(tmp_path / "completion")])
    words = typed.split()
    code = f"source {tmp_path}/completion; COMP_WORDS=({typed}); COMP_CWORD={len(words) - 1}; PATH=; _kerbseg"
    done = subprocess.run(
        ["bash", "-c", f'{code}; echo "${{COMPREPLY[@]}}"'], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == [offered], done.stderr


def test_completion_of_a_home_folder(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".bashrc").write_text("# mine\n")
    for _ in range(2):  # once is enough
        out_of(capsys, "--install-completion", "--shell", "bash")
    lines = (tmp_path / ".bashrc").read_text().splitlines()
    assert lines[0] == "# mine"
    assert sum("completions/kerbseg" in line for line in lines) == 1


def test_a_shell_that_is_not_recognized(monkeypatch, capsys):
    def fails():
        raise ShellDetectionError

    monkeypatch.setattr("cyclopts.completion.detect_shell", fails)
    with pytest.raises(SystemExit) as left:
        main(["--install-completion"])
    assert left.value.code == 2
    assert "--shell bash, zsh or fish" in capsys.readouterr().err


@pytest.mark.parametrize(
    "command",
    [
        ["models", "--all"],
        ["recipes"],
        ["weights"],
        ["info", WEIGHTS],
        ["profile", WEIGHTS, "--against", WEIGHTS, "--runs", "0"],
        ["help"],
        ["help", "predict"],
    ],
)
def test_tables_fit_80_columns(command, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    lines = out_of(capsys, *command).splitlines()
    assert max(map(len, lines)) <= 80
    assert not [line for line in lines if "…" in line], "what is cut cannot be read"
