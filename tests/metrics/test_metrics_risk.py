"""Risk, coverage and novelty, against references that sort all pixels."""

import numpy as np
import pytest
import torch

from kerbseg.core.errors import DataError
from kerbseg.core.labels import label_set
from kerbseg.metrics.novelty import separation
from kerbseg.metrics.risk import KeptCounter, RiskCounter, doubts


def counted(doubt, wrong, parts=1):
    counter = RiskCounter()
    for places in np.array_split(np.arange(len(doubt)), parts):
        counter.update(doubt[places], wrong[places])
    return counter.compute()


def test_the_curve_is_that_of_sorted_pixels():
    random = np.random.default_rng(0)
    doubt = random.beta(0.3, 2, 20_000)
    wrong = random.random(20_000) < doubt
    made = counted(doubt, wrong, parts=3)
    errors = wrong[np.argsort(doubt)].cumsum()
    risks = errors / np.arange(1, 20_001)
    assert made.aurc == pytest.approx(risks.mean(), abs=5e-4)
    assert made.risk == pytest.approx(wrong.mean())
    for coverage, risk in made.points:
        assert risk == pytest.approx(risks[round(coverage * 20_000) - 1], abs=2e-3)
    assert made.coverage_at(made.risk) == 1


def test_of_equal_doubts_each_pixel_is_as_wrong_as_their_mean_and_a_perfect_order_has_no_excess():
    made = counted(np.full(1000, 0.3), np.arange(1000) < 100)
    assert made.aurc == pytest.approx(0.1)
    doubt = np.r_[np.linspace(0.5, 1, 200), np.linspace(0.01, 0.1, 800)]
    assert counted(doubt, np.arange(1000) < 200).excess_aurc == pytest.approx(0, abs=2e-3)
    with pytest.raises(DataError, match="no labelled pixel"):
        RiskCounter().compute()


def test_doubts_keep_the_digits_of_what_is_nearly_certain():
    logits = torch.tensor([[30.0, 0.0], [0.0, 0.0], [0.0, -60.0]])
    assert doubts(logits, None, "probability") == pytest.approx([2 * np.exp(-30), 0.5], rel=1e-4)
    assert doubts(logits, None, "margin") == pytest.approx([3 * np.exp(-30), 1], rel=1e-4)
    assert doubts(logits, 2.0, "entropy")[1] == pytest.approx(np.log(2) / np.log(3), rel=1e-4)


def test_what_is_kept_is_measured_alone():
    counter = KeptCounter(0.5, "probability", label_set("camvid"))
    doubt, ids = np.array([0.1, 0.2, 0.5, 0.9]), np.array([0, 1, 1, 2], np.uint8)
    counter.update(doubt, ids, np.array([0, 1, 1, 3], np.uint8))
    made = counter.compute()
    assert (made.coverage, made.metrics.miou) == (0.75, 1.0)


def test_separation_is_that_of_all_pairs():
    random = np.random.default_rng(1)
    known, new = random.normal(0, 1, 3000).round(1), random.normal(1, 1, 500).round(1)
    made = separation(known, new)
    newer, equal = (new[:, None] > known).mean(), (new[:, None] == known).mean()
    assert made.auroc == pytest.approx(newer + equal / 2, abs=1e-9)
    assert made.fpr95 == pytest.approx((known >= np.sort(new)[24]).mean(), abs=0.02)
    with pytest.raises(DataError, match="none of one"):
        separation(known, new[:0])
