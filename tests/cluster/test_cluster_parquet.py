"""Rows of Parquet: a frame each, once; a source that failed has none."""

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_cluster_predicting import Workers

from kerbseg.cluster import decode_runs, find_items, predict_items, run_here
from kerbseg.cluster.records import PARTS
from kerbseg.predict import Predictor

parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed (extra ray)")


@pytest.fixture
def rows_task(task):
    return replace(task, words=(), parquet=True, confidence=True)


@pytest.fixture
def items(streets, rows_task):
    return find_items([str(streets)], rows_task.out, recursive=True, sinks=rows_task.sinks)[0]


def rows(task):
    return parquet.read_table(Path(task.out, PARTS)).to_pylist()


def test_rows_hold_what_predict_says(rows_task, items, bright):
    predict_items(rows_task, items, run_here)
    assert sorted(row["source"] for row in rows(rows_task)) == sorted(item.address for item in items)
    for row in rows(rows_task):
        prediction = Predictor(bright)(row["source"], confidence=True)
        values, lengths = np.array(row["ids_values"], np.uint8), np.array(row["ids_lengths"], np.uint32)
        assert np.array_equal(decode_runs(values, lengths, (row["height"], row["width"])), prediction.ids)
        assert {name: share for name, share in row["shares"].items() if share} == {
            name: share for name, share in prediction.shares().items() if share
        }
        assert set(row["shares"]) == {*prediction.names, "unknown"}
        assert row["confidence"] == pytest.approx(prediction.confidence.mean(), abs=1e-6)
        gray = np.array(Image.open(io.BytesIO(row["confidence_png"])))
        assert np.array_equal(gray, np.array(prediction.confidence_gray()))


def test_nothing_is_asked_of_confidence_without_it(rows_task, items):
    predict_items(replace(rows_task, confidence=False), items[:1], run_here)
    [row] = rows(rows_task)
    assert row["confidence"] is row["confidence_png"] is None


@pytest.mark.parametrize("after", [False, True], ids=["before its record", "after it"])
def test_a_killed_worker_leaves_no_row_twice(after, rows_task, items):
    predict_items(rows_task, items, Workers(kill="3", after=after))
    assert sorted(row["source"] for row in rows(rows_task)) == sorted(item.address for item in items)


def test_a_part_without_a_record_is_of_a_killed_run(rows_task, items):
    """The worker ended between the part and its record, and with it the run; the next one cuts shards anew."""
    predict_items(rows_task, items, run_here)
    records = sorted(Path(rows_task.out, "_kerbseg", "done").iterdir())
    assert len(records) == 4, "of two pictures each"
    records[0].unlink()
    predict_items(rows_task, items, run_here)
    assert len(list(Path(rows_task.out, PARTS).iterdir())) == 5
    assert sorted(row["source"] for row in rows(rows_task)) == sorted(item.address for item in items)


def test_a_picture_that_fails_has_no_row(rows_task, items, streets):
    (streets / "2.png").write_bytes(b"no picture")
    report = predict_items(rows_task, items, run_here)
    assert len(report.failures) == 1
    assert len(rows(rows_task)) == 7


@pytest.mark.parametrize("whole", [True, False])
def test_frames_of_a_video_are_rows_unless_it_is_damaged(whole, rows_task, tmp_path):
    from made_video import write_video

    path = write_video(tmp_path / "drive.mkv", frames=70)  # more than a row group
    if not whole:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    items, _ = find_items([str(path)], rows_task.out, sinks=[])
    report = predict_items(rows_task, items, run_here)
    assert len(report.failures) == (0 if whole else 1)
    if whole:
        got = [(row["source"], row["frame"], row["time_ns"]) for row in rows(rows_task)]
        assert got == [(str(path), index, index * 40_000_000) for index in range(70)]
    else:
        assert not list(Path(rows_task.out, PARTS).glob("*"))
