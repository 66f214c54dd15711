"""The script of mutants: every one can be made, a survivor is told, and no mutant of the list survives."""

import subprocess
import sys

import pytest

import mutants
from mutants import MUTANTS, Mutant, mutated, survivors


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_every_mutant_can_be_made_and_has_its_test(mutant):
    source = mutants.ROOT / "src"
    assert mutated(mutant, source) != (source / "kerbseg" / mutant.file).read_text()
    file, _, test = mutant.tests.partition("::")
    assert f"def {test}" in (mutants.ROOT / "tests" / file).read_text()


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package of one line in the place of ours, and a test of it."""
    for path, text in {
        "src/kerbseg/__init__.py": "",
        "src/kerbseg/sums.py": "three = 1 + 2\nfour = 1 + 3  # 1\n",
        "tests/test_sums.py": "from kerbseg.sums import three\ndef test_three():\n    assert three == 3\n",
    }.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    monkeypatch.setattr(mutants, "ROOT", tmp_path)
    return tmp_path


def mutant(old, new, tests="test_sums.py"):
    return Mutant(f"{old} is {new}", "sums.py", old, new, tests)


def test_the_noticed_are_killed_and_the_others_are_told(package, capsys):
    before = {path: path.read_bytes() for path in package.rglob("*.py")}
    noticed, missed = mutant("+ 2", "+ 1"), mutant("+ 3", "+ 4")
    assert survivors([noticed, missed]) == [missed.name]
    assert [line.split()[-1] for line in capsys.readouterr().out.splitlines()] == ["killed", "SURVIVED"]
    assert before == {path: path.read_bytes() for path in package.rglob("*.py")}


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (mutant("+ 5", "+ 6"), r"'\+ 5' is 0 times in sums.py, not once"),
        (mutant("1 +", "2 +"), r"'1 \+' is 2 times in sums.py, not once"),
        (mutant("+ 2", "+ 1", "test_none.py"), "the tests fail without a mutant"),
        (mutant("+ 2", "+"), "the tests do not run"),  # a mutant that cannot be imported
    ],
)
def test_what_would_prove_nothing_is_an_error(package, wrong, says):
    with pytest.raises(SystemExit, match=says):
        survivors([wrong])


def test_a_name_that_no_mutant_has_is_answered_with_all():
    done = subprocess.run([sys.executable, mutants.__file__, "no-such"], capture_output=True, text=True)
    assert done.returncode == 2
    assert "no mutant is named no-such; there are classes-as-a-set" in done.stderr


@pytest.mark.slow
def test_no_mutant_survives():
    assert survivors(MUTANTS) == []
