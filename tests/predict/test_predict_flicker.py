"""Flicker is what a network changes its mind about, not what moves."""

import itertools
import json
import sys

import numpy as np
import pytest

from kerbseg.cli import main
from kerbseg.core.errors import MissingExtra
from kerbseg.data.scenes import drive
from kerbseg.predict.temporal.flicker import Flicker, FlickerMeter

pytest.importorskip("cv2", reason="opencv is not installed")


@pytest.fixture(scope="module")
def wide():
    """A textured picture and classes that follow it, larger than what is looked at."""
    generator = np.random.default_rng(0)
    coarse = generator.integers(0, 256, (30, 60), np.uint8).repeat(6, 0).repeat(6, 1)
    picture = np.stack([coarse, coarse[::-1], coarse], -1) // 2 + generator.integers(0, 100, (180, 360, 3), np.uint8)
    ids = generator.integers(0, 5, (9, 18), np.uint8).repeat(20, 0).repeat(20, 1)
    return picture, ids


def looked_at(wide, step, change=None):
    """The flicker of a view that moves over a picture."""
    meter = FlickerMeter()
    picture, ids = wide
    for i in range(6):
        at = slice(10 + step[0] * i, 130 + step[0] * i), slice(10 + step[1] * i, 250 + step[1] * i)
        seen = ids[at].copy()
        if change is not None:
            change(i, seen)
        meter.add(picture[at], seen)
    return meter.result


@pytest.mark.parametrize("step", [(0, 0), (0, 3), (2, 5), (-1, 4)])
def test_there_is_none_where_all_moves_and_nothing_changes(wide, step):
    flicker = looked_at(wide, step)
    assert flicker.share == 0
    assert flicker.counted > 0.8
    assert flicker.pairs == 5


def test_it_is_the_share_that_changes_where_nothing_else_does(wide):
    def change(i, ids):
        ids[40:70, 50:110] = 7 + i % 2  # 1800 of 28800 pixels, each time

    assert looked_at(wide, (0, 0), change).share == pytest.approx(1800 / 28800, rel=0.01)
    assert looked_at(wide, (0, 3), change).share == pytest.approx(1800 / 28800, rel=0.15)


def test_the_truth_of_a_drive_does_not_flicker_though_its_pixels_change():
    meter, changed = FlickerMeter(), []
    frames = list(itertools.islice(drive(0, (144, 288)), 6))
    for (_, before), (_, after) in itertools.pairwise(frames):
        changed.append((before != after).mean())
    for picture, mask in frames:
        meter.add(picture, mask)
    assert np.mean(changed) > 0.02
    assert meter.result.share < 0.005
    assert meter.result.counted > 0.7


def test_large_frames_are_compared_smaller_and_a_change_of_size_begins_anew(wide):
    picture, ids = wide
    meter = FlickerMeter()
    for _ in range(2):
        meter.add(picture.repeat(4, 0).repeat(4, 1), ids.repeat(4, 0).repeat(4, 1))
    assert meter.result.share == 0
    meter.add(picture[:100], ids[:100] + 1)
    assert meter.result.pairs == 1


def test_without_two_frames_nothing_is_measured(wide):
    meter = FlickerMeter()
    meter.add(*wide)
    assert meter.result == Flicker(None, None, 0)
    assert "not measured" in str(meter.result)


def test_the_command_prints_it_and_writes_it_with_its_protocol(camvid_bundle, video_file, tmp_path, capsys):
    pytest.importorskip("av", reason="PyAV is not installed")
    source = video_file(tmp_path / "drive.mkv", frames=4)
    figures = tmp_path / "figures.json"
    main(["predict", str(camvid_bundle), str(source), "-o", str(tmp_path), "--flicker", "--json", str(figures)])
    assert "flicker" in capsys.readouterr().out
    written = json.loads(figures.read_text())
    [video] = written["videos"]
    assert video["frames"] == 4
    assert video["flicker"]["pairs"] == 3
    assert "DIS optical flow" in video["flicker"]["protocol"]
    assert written["protocol"]["runtime"] == "torch"


def test_without_opencv_the_remedy_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(MissingExtra, match=r"pip install .*\[video\]'"):
        FlickerMeter()
