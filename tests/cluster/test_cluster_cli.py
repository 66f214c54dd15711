"""`--engine ray` on the command line: what it refuses, in a line, before anything is started."""

import pytest

from kerbseg.cli import main
from kerbseg.cli.clustering import Cluster, words_of

WEIGHTS = "mininet_v2_cpu-camvid"


def refused(capsys, *arguments):
    with pytest.raises(SystemExit) as left:
        main([str(each) for each in arguments])
    assert left.value.code == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    [line] = captured.err.splitlines()
    return line.removeprefix("kerbseg: ")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--engine", "openvino"], "the engine that runs the model is --runtime"),
        (["--workers", "2"], "are of --engine ray"),
        (["--address", "auto"], "are of --engine ray"),
        (["--engine", "ray", "--workers", "0"], "give at least 1"),
        (["--engine", "ray", "--show"], "--show is not done with --engine ray"),
        (["--engine", "ray", "--cpus", "0"], "--cpus is not done with --engine ray"),
        (["--engine", "ray", "--newest"], "--newest is not done with --engine ray"),
    ],
)
def test_what_contradicts_it_is_refused(options, said, capsys, tmp_path):
    assert said in refused(capsys, "predict", WEIGHTS, "x.png", "-o", tmp_path / "out", *options)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("option", [["--boundary"], ["--corrupt", "zoo"], ["--unknown", "0.5"], ["--html", "x.html"]])
def test_evaluation_of_more_than_confusions_is_refused(option, capsys):
    said = refused(capsys, "evaluate", WEIGHTS, "--data", "camvid", "--engine", "ray", *option)
    assert f"{option[0]} is not done with --engine ray" in said


def test_what_is_of_a_cluster_is_refused_without_one(capsys, tmp_path):
    assert "add --engine ray" in refused(capsys, "predict", WEIGHTS, "x.png", "-o", "s3://bucket/out")
    assert "add it" in refused(capsys, "predict", WEIGHTS, "x.png", "-o", tmp_path / "out", "--save", "parquet")


def test_words_of_save():
    assert words_of(None) == (None, False)
    assert words_of("parquet") == ((), True)
    assert words_of("ids, parquet") == (("ids",), True)
    assert Cluster.parse(None, None, None) is None
    assert Cluster.parse("ray", "auto", 2) == Cluster("auto", 2)


def test_ray_that_is_not_installed_is_named(monkeypatch, capsys, tmp_path, streets):
    import sys

    monkeypatch.setitem(sys.modules, "ray", None)
    said = refused(capsys, "predict", WEIGHTS, streets, "-o", tmp_path / "out", "--engine", "ray")
    assert said.startswith("ray is not installed; ")
    assert "[ray]" in said
    assert not (tmp_path / "out").exists()


def test_a_cluster_that_is_not_there_is_told_before_ray_tries():
    from kerbseg.cluster.pool import _check_answers
    from kerbseg.core.errors import KerbsegError

    for address in ("127.0.0.1:1", "ray://127.0.0.1:1"):
        with pytest.raises(KerbsegError, match="no Ray cluster answers at"):
            _check_answers(address)
    with pytest.raises(KerbsegError, match="write HOST:PORT"):
        _check_answers("nowhere")
