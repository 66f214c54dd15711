"""`--engine ray` on the command line: what it refuses, in a line, before anything is started."""

from types import SimpleNamespace

import pytest

from kerbseg.cli import main
from kerbseg.cli.clustering import Cluster, _Told, cluster_folder, words_of
from kerbseg.cluster import find_items, predict_items, run_here
from kerbseg.core.labels import label_set

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


def test_what_does_not_go_on_or_cannot_be_written_is_told_before_anything_is_started(
    monkeypatch, capsys, tmp_path, streets, task
):
    pytest.importorskip("fsspec", reason="fsspec is not installed (extra ray)")
    monkeypatch.setattr("kerbseg.cli.clustering.check_installed", lambda extra, packages: None)
    monkeypatch.setattr("kerbseg.cluster.pool.ray_pool", None)  # calling it would be a TypeError
    picture = streets / "0.png"
    items, _ = find_items([str(picture)], task.out, sinks=task.sinks)
    predict_items(task, items, run_here)
    ray = ("--engine", "ray")
    said = refused(capsys, "predict", WEIGHTS, picture, "-o", task.out, "--save", "ids", *ray)
    assert "the results there were made with model" in said
    assert "did you mean 's3'" in refused(capsys, "predict", WEIGHTS, picture, "-o", "s4://x", *ray)


def test_a_file_address_is_a_folder_as_this_machine_sees_it(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    predictor = SimpleNamespace(labels=label_set("camvid"))
    assert cluster_folder("file://out", predictor) == str(tmp_path / "out")
    assert cluster_folder(f"file://{tmp_path}/out", predictor) == str(tmp_path / "out")
    assert cluster_folder("s3://bucket/out", predictor) == "s3://bucket/out"


def test_progress_counts_the_files_of_all_attempts(monkeypatch, capsys):
    monkeypatch.setattr("kerbseg.cli.clustering.EVERY_S", -1.0)
    told = _Told()
    list(told([{"done": ["a", "b"]}]))
    list(told([{"done": []}, {"done": ["c"]}]))
    captured = capsys.readouterr()
    lines = [line for line in (captured.out + captured.err).splitlines() if "finished" in line]
    assert lines == ["2 files finished", "2 files finished", "3 files finished"]


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
