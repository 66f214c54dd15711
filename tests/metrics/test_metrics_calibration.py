"""Calibration errors and the temperature, against references that hold all pixels and sort them."""

import itertools

import numpy as np
import pytest
import torch
from torchmetrics.classification import MulticlassCalibrationError

from kerbseg.core.errors import DataError
from kerbseg.metrics.calibration import BINS, CalibrationCounter, Pixels, ReliabilityCounter, fit_temperature

CLASSES = 5


def drawn(count=20_000, heat=2.0, seed=0):
    """Logits that are `heat` times as far apart as the truth, drawn from them, deserves; and the truth."""
    generator = np.random.default_rng(seed)
    fair = generator.normal(0, 2.5, (CLASSES, count))
    probabilities = np.exp(fair) / np.exp(fair).sum(0)
    truth = (probabilities.cumsum(0) < generator.random(count)).sum(0).clip(0, CLASSES - 1)
    return torch.from_numpy(heat * fair).float(), truth.astype(np.uint8)


def counted(logits, truth, temperature=1.0, parts=1):
    counter = CalibrationCounter(temperature)
    for places in np.array_split(np.arange(len(truth)), parts):
        counter.update(logits[:, places], truth[places])
    return counter.compute()


@pytest.mark.parametrize("temperature", [1.0, 1.7])
def test_figures_are_those_of_all_pixels_at_once(temperature):
    logits, truth = drawn()
    made = counted(logits, truth, temperature, parts=7)
    probabilities = (logits / temperature).double().softmax(0)
    targets = torch.from_numpy(truth).long()
    reference = MulticlassCalibrationError(CLASSES, n_bins=BINS, norm="l1")
    assert made.ece == pytest.approx(float(reference(probabilities.T.float(), targets)), abs=1e-5)
    one_hot = torch.nn.functional.one_hot(targets, CLASSES).T
    assert made.brier == pytest.approx(float((probabilities - one_hot).square().sum(0).mean()), rel=1e-5)
    nll = torch.nn.functional.cross_entropy((logits / temperature).T.double(), targets)
    assert made.nll == pytest.approx(float(nll), rel=1e-5)
    confidence, ids = probabilities.max(0)
    order = np.argsort(confidence.numpy())
    gaps = [
        len(part) * abs(float((ids == targets)[part].double().mean() - confidence[part].mean()))
        for part in np.array_split(order, BINS)
    ]
    assert made.adaptive_ece == pytest.approx(sum(gaps) / len(truth), abs=5e-4)
    assert sum(each.share for each in made.bins) == pytest.approx(1)
    hits = sum(each.share * each.accuracy for each in made.bins)
    assert hits == pytest.approx(float((ids == targets).double().mean()))


def test_pixels_of_one_confidence_are_shared_out_whatever_their_order():
    sure = torch.tensor([[40.0], [0.0]]).repeat(1, 1000)  # a confidence that float32 rounds to 1
    truth = np.r_[np.zeros(900), np.ones(100)].astype(np.uint8)
    made = [counted(sure, each) for each in (truth, truth[::-1].copy())]
    assert made[0] == made[1]
    assert made[0].adaptive_ece == pytest.approx(0.1)
    assert made[0].ece == pytest.approx(0.1)


def test_a_weight_counts_as_often():
    logits, truth = drawn(500)
    once, thrice = CalibrationCounter(), CalibrationCounter()
    once.update(logits, truth, 3.0)
    for _ in range(3):
        thrice.update(logits, truth)
    for one, other in zip(once.compute().figures().values(), thrice.compute().figures().values(), strict=True):
        assert one == pytest.approx(other)


def test_nothing_counted_is_said():
    with pytest.raises(DataError, match="no labelled pixel"):
        CalibrationCounter().compute()
    with pytest.raises(DataError, match="no labelled pixel"):
        fit_temperature([Pixels(torch.zeros(3, 0), np.zeros(0, np.uint8))])


@pytest.mark.parametrize("heat", [0.4, 1.0, 2.0, 6.0])
def test_the_temperature_has_the_least_loss_and_undoes_the_heat(heat):
    logits, truth = drawn(heat=heat)
    temperature = fit_temperature([Pixels(logits[:, :7000], truth[:7000]), Pixels(logits[:, 7000:], truth[7000:])])

    def loss(at):
        return float(torch.nn.functional.cross_entropy((logits / at).T.double(), torch.from_numpy(truth).long()))

    grid = temperature * np.array([0.97, 0.999, 1.001, 1.03])
    assert all(loss(temperature) < loss(each) for each in grid)
    assert temperature == pytest.approx(heat, rel=0.03), "what was drawn at temperature 1 is found again"
    assert counted(logits, truth, temperature).ece < 0.01


def test_pixels_that_stand_for_others_weigh_as_much():
    (one, one_truth), (two, two_truth) = drawn(3000, heat=1.5), drawn(3000, heat=4, seed=1)
    weighed = fit_temperature([Pixels(one, one_truth), Pixels(two, two_truth, 3.0)])
    repeated = fit_temperature([Pixels(one, one_truth), *[Pixels(two, two_truth)] * 3])
    assert weighed == pytest.approx(repeated, rel=1e-4)
    assert weighed != pytest.approx(fit_temperature([Pixels(one, one_truth), Pixels(two, two_truth)]), rel=0.02)


def test_what_no_temperature_mends_is_said():
    logits, truth = drawn(2000)
    with pytest.raises(DataError, match=r"says next to nothing.*train"):
        fit_temperature([Pixels(-logits, truth)])
    always = logits.argmax(0).numpy().astype(np.uint8)
    with pytest.raises(DataError, match=r"right in \(nearly\) every"):
        fit_temperature([Pixels(logits, always)])


def test_a_card_without_temperature_has_nothing_beside():
    logits, truth = drawn(1000)
    plain, cooled = ReliabilityCounter(None), ReliabilityCounter(2.0)
    for each, step in itertools.product((plain, cooled), (0, 500)):
        each.update(logits[:, step : step + 500], truth[step : step + 500])
    assert plain.compute().uncalibrated is None
    assert plain.compute().calibration == cooled.compute().uncalibrated
    assert cooled.compute().calibration.figures() == pytest.approx(counted(logits, truth, 2.0).figures())
