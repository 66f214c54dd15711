"""The fuzzer: its harness sees every kind of failure, a seed always makes the same file, a whole run shows none."""

import subprocess
import sys
from pathlib import Path
from random import Random

import fuzz_mutations as spoil
import pytest
import yaml
from fuzz_judge import Runner, judge
from fuzz_run import KINDS, Finding, table

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def runner(tmp_path_factory):
    runner = Runner("fuzz_dummies:main")
    yield runner
    runner.close()


@pytest.mark.parametrize(
    ("argv", "meaning", "name", "told"),
    [
        ("copy", "any", "fine", ""),
        ("copy", "same", "silent", "another result, without a word"),
        ("copy", "whole", "silent", "another result, without a word"),
        ("copy", "refused", "silent", "was taken without a word"),
        ("warn", "whole", "fine", "kerbseg: warning: it is cut off"),
        ("warn", "same", "silent", "another result, without a word"),
        ("refuse", "refused", "fine", "kerbseg: it is damaged; copy it again"),
        ("refuse", "same", "fine", "kerbseg: it is damaged; copy it again"),
        ("warn and refuse", "same", "fine", "kerbseg: it is damaged; copy it again"),
        ("refuse twice", "any", "stderr", "2 lines: kerbseg: it is damaged | kerbseg: copy it again"),
        ("chatter", "any", "stderr", "2 lines: kerbseg: it is damaged | library: I think so too"),
        ("traceback", "refused", "traceback", "ValueError: nobody expected this"),
        ("shown", "any", "traceback", "ValueError: caught, and printed"),
        ("hog", "any", "memory", "MB"),
        ("crash", "any", "signal", "signal 6"),
        ("late", "any", "signal", "signal 6"),
        ("fail", "any", "status", "exit status 3"),
        ("partly", "any", "status", "exit status 1"),
    ],
)
def test_every_failure_is_seen(runner, tmp_path, argv, meaning, name, told):
    folder = tmp_path / "case"
    folder.mkdir()
    (folder / "in").write_bytes(b"spoiled")
    outcome = runner([argv], folder, limit_mb=300)
    verdict = judge(outcome, meaning, (folder / "out").read_text, lambda: "as it was")
    assert verdict.name == name
    assert told in verdict.detail


def test_a_hang_is_seen_and_ended(runner, tmp_path):
    outcome = runner(["hang"], tmp_path, limit_s=0.5)
    assert judge(outcome, "any", str, str).name == "hang"


def test_the_right_result_is_no_failure(runner, tmp_path):
    (tmp_path / "in").write_bytes(b"as it was")
    outcome = runner(["copy"], tmp_path)
    assert judge(outcome, "same", (tmp_path / "out").read_text, lambda: "as it was").name == "fine"


def test_a_batch_may_list_its_failures(runner, tmp_path):
    assert judge(runner(["partly"], tmp_path), "any", str, str, batch=True).name == "fine"


def test_the_table_counts_files_runs_and_verdicts(runner, tmp_path):
    outcome = runner(["fail"], tmp_path)
    verdict = judge(outcome, "any", str, str)
    findings = [Finding("bundle", number, "", ("info",), outcome, verdict) for number in (0, 0, 1)]
    assert table(findings).splitlines()[1].split() == ["bundle", "2", "3", "0", "0", "0", "0", "0", "3", "0", "0"]


@pytest.mark.parametrize("how", list(spoil.ACCIDENTS))
def test_every_accident_changes_the_bytes_and_follows_from_its_seed(how):
    data = Random(1).randbytes(10_000)
    made = [spoil.ACCIDENTS[how](Random(seed), data) for seed in range(20)]
    assert made == [spoil.ACCIDENTS[how](Random(seed), data) for seed in range(20)]
    assert any(each != data for each in made)


def test_a_value_is_spoiled_in_a_copy():
    value = {"a": [1, {"b": "c"}], "d": 2.5}
    made = [spoil.change_value(Random(seed), value)[0] for seed in range(60)]
    assert value == {"a": [1, {"b": "c"}], "d": 2.5}
    assert len({repr(each) for each in made}) > 20


def test_a_whole_run_spoils_more_than_a_thousand_files():
    assert sum(kind.count for kind in KINDS.values()) >= 1000


def test_the_traps_are_what_their_names_say():
    assert yaml.safe_load(spoil.YAML_TRAPS["sexagesimal"].replace("{key}", "a")) == {"a": 685_230}
    with pytest.raises(yaml.YAMLError):
        yaml.safe_load(spoil.YAML_TRAPS["python tag"].replace("{key}", "a"))


@pytest.mark.slow
def test_no_spoiled_file_breaks_a_command(tmp_path):
    done = subprocess.run(
        [sys.executable, str(HERE / "fuzz_run.py"), "--out", str(tmp_path / "fuzz"), "--jobs", "2"],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-5000:]
