"""The worst pictures, and all details together."""

import json
import math

import numpy as np
import pytest

from kerbseg.core.labels import label_set
from kerbseg.core.types import VOID
from kerbseg.metrics.details import DetailCounter, Lowest, picture_miou


def test_a_pictures_miou_is_of_the_classes_that_its_truth_shows():
    truth = np.array([[0, 0, 0, 0, 1, 1, 1, VOID]], np.uint8)
    given = np.array([[0, 0, 0, 5, 1, 0, 5, 7]], np.uint8)
    assert picture_miou(given, truth) == pytest.approx((3 / 5 + 1 / 3) / 2)
    assert math.isnan(picture_miou(given, np.full_like(truth, VOID)))


def test_the_lowest_are_kept_in_order_and_of_equals_the_first():
    lowest = Lowest[int](3)
    for number, figure in enumerate([0.5, 0.9, math.nan, 0.1, 0.5, 0.5, 0.7]):
        assert lowest.takes(figure) == (number in (0, 1, 3, 4))
        lowest.add(figure, number)
    assert lowest.in_order() == [(3, 0.1), (0, 0.5), (4, 0.5)]


def test_a_perfect_prediction_has_no_flaw_and_what_is_absent_is_null():
    labels = label_set("camvid")
    truth = np.zeros((64, 64), np.uint8)
    truth[:, 32:] = 3
    counter = DetailCounter(labels)
    counter.update("only", truth, truth)
    details = counter.compute()
    assert details.boundary_miou == 1
    assert details.boundary_iou == {name: 1.0 if name in ("sky", "road") else None for name in labels.classes}
    assert {*details.trimap_miou.values(), details.interior_miou} == {1.0}
    assert details.size_iou["medium"].regions == 2
    written = json.loads(json.dumps(details.to_dict(), allow_nan=False))
    assert written["worst"] == [{"name": "only", "miou": 1.0}]
    assert written["trimap_miou"]["10"] == 1.0
    assert written["size_iou"]["large"] == {"regions": 0, "pixels": 0, "recall": None, "iou": None}
    assert written["class_size_iou"]["road"]["medium"]["iou"] == 1.0
