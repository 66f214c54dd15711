"""Ray itself: ids are those of `predict`, a killed worker leaves no gap and no double, nothing is reported."""

import json
import os
import signal
import sys
from collections import Counter
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kerbseg.cli import main
from kerbseg.cluster import ModelFiles, PredictTask, decode_runs, find_items, predict_items
from kerbseg.cluster.records import DONE, PARTS
from kerbseg.data import open_dataset, picture_file

if find_spec("ray") is None:  # `ray_pool` is the first to import it
    pytest.skip("Ray is not installed (extra ray)", allow_module_level=True)
parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed (extra ray)")
pytestmark = pytest.mark.slow

WEIGHTS = "mininet_v2_cpu-camvid"
RAY = ("--engine", "ray", "--workers", "2")


@dataclass(frozen=True)
class KillingTask(PredictTask):
    """Its worker kills itself in the middle of the shard that holds one picture, the first time."""

    victim: str = ""
    mark: str = ""

    def open(self):
        worker = super().open()
        predict = worker._predict

        def killing(item, part):
            frames = predict(item, part)
            if item.name == self.victim and not os.path.exists(self.mark):
                Path(self.mark).touch()
                os.kill(os.getpid(), signal.SIGKILL)
            return frames

        worker._predict = killing
        return worker


def ids_of(folder: Path) -> dict[str, np.ndarray]:
    return {path.name: np.array(Image.open(path)) for path in sorted(folder.glob("*_ids.png"))}


def test_ids_of_fifty_pictures_are_those_of_predict(camvid_data, tmp_path, capsys):
    split = open_dataset("camvid", "val", camvid_data)
    pictures = [str(picture_file(split, index)) for index in range(50)]
    main(["predict", WEIGHTS, *pictures, "-o", str(tmp_path / "plain"), "--save", "ids", "--threads", "1"])
    figures = tmp_path / "figures.json"
    spread = ["predict", WEIGHTS, *pictures, "-o", str(tmp_path / "out"), "--save", "ids,parquet", *RAY]
    main([*spread, "--json", str(figures)])
    plain, ours = ids_of(tmp_path / "plain"), ids_of(tmp_path / "out")
    assert list(ours) == list(plain)
    assert all(np.array_equal(ours[name], plain[name]) for name in plain)
    table = parquet.read_table(tmp_path / "out" / PARTS).to_pylist()
    assert len(table) == 50
    for row in table:
        values, lengths = np.array(row["ids_values"], np.uint8), np.array(row["ids_lengths"], np.uint32)
        ids = decode_runs(values, lengths, (row["height"], row["width"]))
        assert np.array_equal(ids, plain[f"{Path(row['source']).stem}_ids.png"])
    assert json.loads(figures.read_text())["files"] == {"done": 50, "finished_before": 0, "failed": 0}
    capsys.readouterr()
    main(spread)
    assert "0 files finished, 50 before" in capsys.readouterr().out


def test_a_killed_worker_leaves_no_gap_and_no_double(streets, tmp_path):
    from kerbseg.cluster.pool import ray_pool

    task = KillingTask(
        ModelFiles.read(WEIGHTS),
        str(tmp_path / "out"),
        words=("ids",),
        parquet=True,
        victim="2",
        mark=str(tmp_path / "killed"),
    )
    items, _ = find_items([str(streets)], task.out, sinks=task.sinks)
    with ray_pool(workers=2) as pool:
        from ray import cloudpickle

        cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers do not import tests
        report = predict_items(task, items, pool, workers=1)  # shards of two, so that one has work before and behind
    assert (tmp_path / "killed").exists()
    assert (report.done, dict(report.failures)) == (7, {})
    assert list(ids_of(tmp_path / "out")) == [f"{i}_ids.png" for i in range(7)]
    rows = parquet.read_table(tmp_path / "out" / PARTS).to_pylist()
    assert Counter(row["source"] for row in rows) == Counter(item.address for item in items)
    records = [json.loads(path.read_text()) for path in (tmp_path / "out" / DONE).iterdir()]
    assert Counter(key for record in records for key in record["done"]) == Counter(item.key for item in items)


def test_the_confusion_is_that_of_plain_evaluation(camvid_root, tmp_path):
    data = ["--data", "camvid", "--data-root", str(camvid_root), "--split", "train", "--threads", "1"]
    figures = {}
    for name, more in {"plain": (), "ray": RAY}.items():
        path = tmp_path / f"{name}.json"
        main(["evaluate", WEIGHTS, *data, "--json", str(path), *more])
        figures[name] = json.loads(path.read_text())
    same = ("confusion", "miou", "class_iou", "pixel_accuracy", "mean_accuracy", "images", "protocol")
    assert {key: figures["ray"][key] for key in same} == {key: figures["plain"][key] for key in same}


def test_nothing_is_reported_and_nothing_listens_outside(monkeypatch):
    psutil = pytest.importorskip("psutil")
    monkeypatch.delenv("RAY_USAGE_STATS_ENABLED", raising=False)
    from kerbseg.cluster.pool import ray_pool

    with ray_pool(workers=1):
        assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"
        family = psutil.Process().children(recursive=True)
        listening = {
            connection.laddr
            for each in family
            for connection in each.net_connections("inet")
            if connection.status == psutil.CONN_LISTEN
        }
    assert {address.ip for address in listening} <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}
    assert 8265 not in {address.port for address in listening}, "the dashboard"
