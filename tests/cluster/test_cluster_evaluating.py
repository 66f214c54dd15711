"""Confusions of shards sum up to those of one process, bit for bit."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from kerbseg.cluster import EvaluateTask, evaluate_on, run_here
from kerbseg.core.errors import BundleError, DataError, KerbsegError
from kerbseg.core.labels import label_set
from kerbseg.data import open_dataset
from kerbseg.evaluate import evaluate


@pytest.fixture
def counting(task, camvid_root) -> EvaluateTask:
    return EvaluateTask(task.model, "camvid", "train", str(camvid_root))


@pytest.fixture
def dataset(camvid_root):
    return open_dataset("camvid", "train", camvid_root)


def twice(task, shards):
    """Workers in this process, in another order; one says twice what it has counted."""
    outcomes = list(run_here(task, list(reversed(shards))))
    return iter([*outcomes, outcomes[0]])


@pytest.mark.parametrize("by", [None, "drive"])
@pytest.mark.parametrize("limit", [None, 3])
def test_the_report_is_that_of_one_process(by, limit, counting, bright, dataset):
    ours = evaluate_on(counting, bright, dataset, twice, limit=limit, by=by, workers=3).to_dict()
    plain = evaluate(bright, dataset, limit=limit, by=by).to_dict()
    assert ours == plain
    assert np.array_equal(ours["confusion"], plain["confusion"])


def test_a_class_more_is_refused(counting, bright, dataset):
    bright.card = replace(bright.card, labels=label_set("cityscapes"), outputs=19)
    with pytest.raises(BundleError, match="19 classes"):
        evaluate_on(counting, bright, dataset, run_here)


def test_pictures_that_are_lost_are_no_result(counting, bright, dataset):
    def losing(task, shards):
        return run_here(task, shards[1:])

    with pytest.raises(KerbsegError, match="1 of 4 pictures were lost"):
        evaluate_on(counting, bright, dataset, losing, workers=4)


def test_a_picture_that_cannot_be_read_is_named(counting, bright, dataset, camvid_root: Path):
    (camvid_root / "train" / "train_002.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"train_002\.png"):
        evaluate_on(counting, bright, dataset, run_here)
