"""What a module of tests makes once is made by one worker alone."""

import subprocess
import sys
from pathlib import Path

import pytest

SHARING = """
import pathlib
import pytest

@pytest.fixture(scope="module")
def dear():
    with pathlib.Path("made.txt").open("a") as file:
        file.write("once\\n")

@pytest.mark.parametrize("number", range(12))
def test_of_many(dear, number):
    pass
"""
ALONE = """
import pathlib
import pytest

@pytest.mark.parametrize("number", range(12))
def test_of_many(number, worker_id):
    pathlib.Path(f"{worker_id}.txt").touch()
"""


@pytest.mark.parametrize(("text", "left"), [(SHARING, ["made.txt"]), (ALONE, ["gw0.txt", "gw1.txt"])])
def test_a_module_that_shares_is_run_by_one_worker_and_tests_of_others_by_all(text, left, tmp_path):
    (tmp_path / "test_it.py").write_text(text)
    (tmp_path / "test_other.py").write_text("def test_other(): pass\n")
    (tmp_path / "pytest.ini").touch()
    options = ["-q", "-p", "workers", "-p", "no:cacheprovider", "-p", "no:hypothesispytest"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, "-n", "2", "--dist", "loadgroup"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(Path(__file__).parent), "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "13 passed" in done.stdout, done.stdout + done.stderr
    assert sorted(path.name for path in tmp_path.glob("*.txt")) == left
    if "made.txt" in left:
        assert (tmp_path / "made.txt").read_text() == "once\n"
