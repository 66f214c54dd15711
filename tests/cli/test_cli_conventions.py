"""What all commands share: less or more output, help, and lines that say what makes sense next."""

import logging
import shlex

import pytest

from kerbseg.cli import main
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
