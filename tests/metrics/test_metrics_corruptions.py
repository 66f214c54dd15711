"""What is kept of a clean score is the mean of shares, and nothing where there is no clean score."""

import json

import pytest

from kerbseg.metrics.corruptions import CorruptionScores


def test_what_is_kept_is_the_mean_of_shares():
    scores = CorruptionScores(3, "p", 0.5, {"fog": 0.25, "snow": 0.4, "contrast": 0.55})
    assert scores.share == pytest.approx({"fog": 0.5, "snow": 0.8, "contrast": 1.1})
    assert scores.kept == pytest.approx(0.8)
    assert scores.to_dict() == {
        "severity": 3,
        "package": "p",
        "clean": 0.5,
        "miou": {"fog": 0.25, "snow": 0.4, "contrast": 0.55},
        "kept": pytest.approx(0.8),
    }


@pytest.mark.parametrize("clean", [0.0, float("nan")])
def test_nothing_is_kept_of_nothing(clean):
    scores = CorruptionScores(1, "p", clean, {"fog": 0.0})
    assert scores.share == {"fog": None}
    assert scores.kept is None
    json.dumps(scores.to_dict()["kept"])
