"""A run in this process: as `predict` does it, each file once, whoever is killed, and gone on with where it ended."""

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kerbseg.cluster import PredictTask, Shard, find_items, predict_items, run_here, shards_of
from kerbseg.cluster.folders import open_folder
from kerbseg.cluster.predicting import LOST
from kerbseg.cluster.records import DONE, FAILURES
from kerbseg.core.errors import KerbsegError
from kerbseg.predict import Predictor, predict_files


class Killed(BaseException):
    """Ends a worker that runs in this process, as a signal ends one of its own."""


class Workers:
    """A `Run` in this process whose worker may be killed: at a shard, before or after its record, so many times."""

    def __init__(self, kill=None, after=False, times=1):
        self.kill, self.after, self.times = kill, after, times
        self.shards: list[Shard] = []

    def __call__(self, task, shards):
        work = task.open()
        for shard in shards:
            self.shards.append(shard)
            hit = self.kill is not None and any(item.name == self.kill for item in shard.items)
            if hit and self.times:
                self.times -= 1
                if self.after:
                    work(shard)
                continue  # lost: no outcome comes back
            yield work(shard)


def files(folder: Path) -> dict[str, bytes]:
    """All results, without records."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and "_kerbseg" not in path.parts
    }


@pytest.fixture
def items(streets, task):
    return find_items([str(streets)], task.out, recursive=True, sinks=task.sinks)[0]


@pytest.fixture
def plain(streets, bright, tmp_path):
    """What `predict` writes of the same."""
    predict_files(Predictor(bright), [streets], tmp_path / "plain", sinks=["ids"], recursive=True)
    return files(tmp_path / "plain")


def test_results_are_those_of_predict(task, items, plain):
    report = predict_items(task, items, run_here, workers=2)
    assert files(Path(task.out)) == plain
    assert (report.done, report.before, report.frames, dict(report.failures)) == (8, 0, 8, {})
    assert json.loads(Path(task.out, FAILURES).read_text()) == {}


def test_overlays_and_confidence_are_too(task, items, bright, tmp_path):
    task = replace(task, words=None, confidence=True)
    predict_items(task, items[:2], run_here)
    for item in items[:2]:
        prediction = Predictor(bright)(item.address, confidence=True)
        prediction.save(tmp_path / "one" / item.name, ["ids", "overlay", "confidence"])
    assert files(Path(task.out)) == files(tmp_path / "one")


def test_what_is_finished_is_not_done_again(task, items, plain):
    predict_items(task, items[:5], run_here)
    before = {path: path.stat().st_mtime_ns for path in Path(task.out).glob("*.png")}
    workers = Workers()
    report = predict_items(task, items, workers)
    assert [item for shard in workers.shards for item in shard.items] == items[5:]
    assert (report.done, report.before) == (3, 5)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert files(Path(task.out)) == plain
    assert predict_items(task, items, Workers()).done == 0


@pytest.mark.parametrize("after", [False, True], ids=["before its record", "after it"])
def test_a_worker_that_is_killed_leaves_no_gap_and_no_double(after, task, items, plain):
    workers = Workers(kill="3", after=after)
    report = predict_items(task, items, workers)
    assert files(Path(task.out)) == plain
    assert (report.done, dict(report.failures)) == (8, {})
    records = [json.loads(path.read_text()) for path in Path(task.out, DONE).iterdir()]
    keys = [key for record in records for key in record["done"]]
    assert sorted(keys) == sorted(item.key for item in items), "each once"


def test_a_file_that_kills_each_worker_takes_no_other_with_it(task, items, plain):
    report = predict_items(task, items, Workers(kill="3", times=9), workers=1)
    assert dict(report.failures) == {items[3].key: LOST}
    assert set(plain) - set(files(Path(task.out))) == {"3_ids.png"}
    assert json.loads(Path(task.out, FAILURES).read_text()) == {items[3].key: LOST}


def test_a_shard_that_is_given_out_twice_is_done_once(task, items):
    predict_items(task, items[:1], run_here)  # makes the folder
    work, [shard] = task.open(), shards_of(items[:2], workers=1, largest=2)[:1]
    first = work(shard)
    for path in Path(task.out).glob("*.png"):
        path.unlink()
    again = work(shard)
    assert again["done"] == first["done"]
    assert not list(Path(task.out).glob("*.png"))


def test_failures_are_tried_again_and_listed(task, items, streets, plain):
    (streets / "2.png").write_bytes(b"no picture")
    workers = Workers()
    report = predict_items(task, items, workers)
    assert [items[2].key] == list(report.failures)
    assert str(streets / "2.png") in report.failures[items[2].key]
    tried = [shard for shard in workers.shards if items[2] in shard.items]
    assert [len(shard.items) for shard in tried][1:] == [1], "again, alone"
    assert set(plain) - set(files(Path(task.out))) == {"2_ids.png"}
    Image.fromarray(np.zeros((32, 48, 3), np.uint8)).save(streets / "2.png")
    assert predict_items(task, items, run_here).done == 1, "mended, and done by the next run"
    assert set(plain) == set(files(Path(task.out)))


def test_a_defect_stops_no_other(task, items, monkeypatch, capsys):
    import kerbseg.cluster.job as job

    def fails(segmenter, source, *more):
        if source.name == "4":
            raise ZeroDivisionError("odd")
        return predict_source(segmenter, source, *more)

    predict_source = job.predict_source
    monkeypatch.setattr(job, "predict_source", fails)
    report = predict_items(task, items, run_here)
    assert "ZeroDivisionError: odd" in report.failures[items[4].key]
    assert report.done == 7
    assert "Traceback" in capsys.readouterr().err


def test_other_options_are_refused(task, items):
    predict_items(task, items[:1], run_here)
    with pytest.raises(KerbsegError, match=r"made with unknown None, not 0.5; name another folder"):
        predict_items(replace(task, unknown=0.5), items, run_here)


def test_another_model_is_refused(task, items):
    predict_items(task, items[:1], run_here)
    other = replace(task.model, files={task.model.name: b"other"})
    with pytest.raises(KerbsegError, match="made with model"):
        predict_items(replace(task, model=other), items, run_here)


def test_a_damaged_record_is_named(task, items):
    predict_items(task, items[:1], run_here)
    [record] = Path(task.out, DONE).iterdir()
    record.write_text("{")
    with pytest.raises(KerbsegError, match=f"{record.name} of the results is damaged; remove it"):
        predict_items(task, items, run_here)
    record.unlink()
    assert predict_items(task, items, run_here).done == 8


def test_what_a_killed_worker_was_writing_is_removed(task, items):
    predict_items(task, items[:1], run_here)
    [record] = Path(task.out, DONE).iterdir()
    left = Path(task.out, ".kerbseg-" + _machine() + f"-{_ended_process()}-0123456789abcdef.tmp.png")
    left.write_bytes(b"x")
    predict_items(task, items, run_here)
    assert not left.exists()
    assert record.exists()


def _machine():
    from kerbseg.core.files import _machine

    return _machine()


def _ended_process():
    process = os.fork()
    if not process:
        os._exit(0)
    os.waitpid(process, 0)
    return process


def test_from_a_store_into_a_store(task, streets, plain):
    fsspec = pytest.importorskip("fsspec")
    memory = fsspec.filesystem("memory")
    try:
        memory.put(str(streets), "/bucket/", recursive=True)
        stored = replace(task, out="memory://bucket/out")
        items, _ = find_items(["memory://bucket/streets"], stored.out, recursive=True, sinks=stored.sinks)
        assert predict_items(stored, items, run_here).done == 8
        written = {path.removeprefix("/bucket/out/"): memory.cat_file(path) for path in memory.find("/bucket/out")}
        assert {name: content for name, content in written.items() if not name.startswith("_kerbseg")} == plain
        assert predict_items(stored, items, Workers()).before == 8
        assert open_folder(stored.out).names("none") == []
    finally:
        memory.rm("/bucket", recursive=True)


def test_an_error_in_a_stored_file_names_its_address(task):
    fsspec = pytest.importorskip("fsspec")
    memory = fsspec.filesystem("memory")
    try:
        memory.pipe_file("/bucket/x.png", b"no picture")
        items, _ = find_items(["memory://bucket/x.png"], task.out, sinks=task.sinks)
        report = predict_items(task, items, run_here)
        [reason] = report.failures.values()
        assert reason.startswith("memory:///bucket/x.png")
        assert "kerbseg-in" not in reason
    finally:
        memory.rm("/bucket", recursive=True)


def test_a_task_says_what_is_written(task):
    words = {(kind.ending, kind.takes) for kind in PredictTask(task.model, task.out).sinks}
    assert ("_ids.png", ("picture",)) in words
    assert replace(task, words=()).sinks == []
    assert replace(task, words=(), parquet=True, confidence=True).sinks == [], "confidence is in the rows"
    with pytest.raises(KerbsegError, match="nothing is saved as 'idz'"):
        _ = replace(task, words=("idz",)).sinks
