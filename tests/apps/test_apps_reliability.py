"""The reliability diagram: every bar as high as its figure, one panel or two."""

from xml.etree import ElementTree

import numpy as np
import pytest
import torch

from kerbseg.apps.reliability import RIGHT, SIDE, SOFT, STRIP, TOO_SURE, TOO_UNSURE, diagram
from kerbseg.metrics.calibration import ReliabilityCounter

SVG = "{http://www.w3.org/2000/svg}"


def counted(temperature):
    """Of 100 pixels with a confidence of .75 40 are right, of 300 with .95 all are."""
    confidence = torch.tensor([0.75] * 100 + [0.95] * 300, dtype=torch.float64)
    truth = np.r_[np.zeros(40), np.ones(60), np.zeros(300)].astype(np.uint8)
    counter = ReliabilityCounter(temperature)
    counter.update(torch.stack([confidence, 1 - confidence]).log().float() * (temperature or 1), truth)
    return counter.compute()


def heights(panel, color):
    return [float(each.get("height")) for each in panel.iter(f"{SVG}rect") if each.get("fill") == color]


def test_bars_are_as_high_as_their_figures():
    (panel,) = ElementTree.fromstring(diagram(counted(None))).findall(f"{SVG}g")
    assert heights(panel, RIGHT) == pytest.approx([0.4 * SIDE, SIDE], abs=0.1)
    assert heights(panel, TOO_SURE) == pytest.approx([0.35 * SIDE], abs=0.1)
    assert heights(panel, TOO_UNSURE) == pytest.approx([0.05 * SIDE], abs=0.1)
    assert sorted(heights(panel, SOFT)) == pytest.approx([STRIP / 3, STRIP], abs=0.1)
    assert "temperature 1: ECE 0.1250" in "".join(panel.itertext())


def test_with_a_temperature_there_are_both_panels():
    root = ElementTree.fromstring(diagram(counted(2.0)))
    before, after = root.findall(f"{SVG}g")
    assert "as it was trained" in "".join(before.itertext())
    assert "temperature 2: ECE 0.1250" in "".join(after.itertext())
    assert heights(after, TOO_SURE) == pytest.approx([0.35 * SIDE], abs=0.1)
    assert heights(before, TOO_SURE) != pytest.approx(heights(after, TOO_SURE), abs=1)
    assert "ECE 0.1250" in root.get("aria-label")
