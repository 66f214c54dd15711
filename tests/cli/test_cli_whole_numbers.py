"""Options that count take digits, and nothing else, in every command."""

import pytest
from cyclopts import Token

from kerbseg.cli import app, main
from kerbseg.cli.app import command_names
from kerbseg.core.errors import KerbsegError

OTHERS = ["2.5", "2.0", "1e3", "٣", "３", "²", " 5", "5 ", "0x10", "0b1", "1_000", "--5", "", "four", "9" * 19]


def counting():
    """`(command, option)` of all that are a number in Python; a command may stand below another."""
    apps = [(name, app[name]) for name in command_names()]
    for name, each in apps:
        apps += [(f"{name} {inner}", each[inner]) for inner in each if not inner.startswith("-")]
        if each.default_command is not None:
            for argument in each.assemble_argument_collection():
                if argument.hint in (int, int | None):
                    yield name, argument.name


COUNTING = list(counting())


def test_options_that_count_are_found():
    known = {("predict", "--stride"), ("train", "--workers"), ("profile", "--threads"), ("group", "--groups")}
    assert known < set(COUNTING)
    assert len(COUNTING) > 25


@pytest.mark.parametrize(("command", "option"), COUNTING, ids=" ".join)
def test_digits_are_taken_and_nothing_else(command, option):
    def given(text):
        below = app
        for name in command.split():
            below = below[name]
        argument = next(each for each in below.assemble_argument_collection() if each.name == option)
        argument.append(Token(keyword=option, value=text))
        return argument.convert()

    assert [given(text) for text in ("3", "007", "+4", "-2", "9" * 18)] == [3, 7, 4, -2, 10**18 - 1]
    for text in OTHERS:
        with pytest.raises(KerbsegError, match=f"^{option} takes a whole number in digits, such as 4, not '"):
            given(text)


@pytest.mark.parametrize(
    "typed",
    [
        ["profile", "erfnet", "--threads", "2.5"],
        ["predict", "model", "picture", "--stride=1e3"],
        ["train", "recipe", "--workers", "0x10"],
        ["calibrate", "model", "--data", "camvid", "--limit", " 5"],
    ],
)
def test_the_command_ends_with_one_line_and_status_2(typed, capsys):
    with pytest.raises(SystemExit) as end:
        main(typed)
    assert end.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith("kerbseg: --")
    assert "takes a whole number in digits" in said
    assert said.count("\n") == 1
