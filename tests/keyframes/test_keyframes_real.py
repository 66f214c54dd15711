"""Keyframes on real films, by their labels: what docs/keyframes.md says of them. Needs KERBSEG_DATA."""

import importlib
import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from kerbseg import Predictor
from kerbseg.data.pictures import read_rgb
from kerbseg.keyframes import FrameScores, Options, measure, open_sequence, select, semantics_of
from kerbseg.keyframes.motion import MotionMeter, analyzed, thumbnail

pytestmark = pytest.mark.slow
pytest.importorskip("cv2")
FOLDER = Path(__file__).parents[2] / "benchmarks"
WEIGHTS, SEEDS = "mininet_v2_cpu-camvid", 5


@pytest.fixture(scope="module")
def bench():
    """benchmarks/keyframes.py as a module."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(FOLDER))
        return importlib.import_module("keyframes")


@pytest.fixture(scope="module")
def film(bench, request):
    """What is measured of a film of CamVid; each once."""
    figures = {}

    def measured(name):
        root = request.getfixturevalue("camvid_data")
        if name not in figures:
            figures[name] = bench.measured(bench.camvid(root, name), Predictor(WEIGHTS), SEEDS, places=False)
        return figures[name]

    return measured


@pytest.fixture(scope="module")
def sequences(kerbseg_data):
    """The folder of real sequences."""
    folder = kerbseg_data / "sequences"
    if not folder.is_dir():
        pytest.skip("needs real sequences: KERBSEG_DATA holds no sequences/")
    return folder


def test_a_film_with_degraded_frames(film):
    figures = film("0016E5")
    window, plain = (figures["due by clean flow"][rule] for rule in ("window", "first"))
    assert window["degraded"] <= 0.02
    assert plain["degraded"] >= 0.15
    assert window["target ratio"] >= 1.15
    assert window["part share"] <= 0.03
    from_degraded = figures["due by degraded flow"]["window"]
    assert from_degraded["degraded"] <= 0.04
    assert from_degraded["target ratio"] >= 1.1


def test_a_film_of_one_frame_a_second(film):
    figures = film("Seq05VD")
    window, plain = (figures["due by clean flow"][rule] for rule in ("window", "first"))
    assert window["degraded"] <= 0.08 < plain["degraded"]
    assert window["target ratio"] >= 1.5
    sent, every = (figures["sent"][rule] for rule in ("price", "every 8th"))
    assert sent["degraded"] <= 0.08 < every["degraded"]
    assert sent["target ratio"] >= 1.3 > every["target ratio"]


@pytest.mark.parametrize("name", ["0016E5", "kitti"])
def test_quality_parts_good_from_degraded_frames(name, bench, request):
    if name == "kitti":
        film = bench.pictures_of(request.getfixturevalue("sequences") / "kitti_grey_51")
    else:
        film = bench.camvid(request.getfixturevalue("camvid_data"), name)
    values = bench.separation(film, seeds=20)
    for kind, least in {"blur": 0.92, "dark": 0.95, "over": 0.98}.items():
        assert values["Q"][kind] >= least - 0.03, kind
        assert values["Q judged again"][kind] >= least, "the first frames have others to be compared with"
    for obvious in ("gradient", "sharpness"):
        assert values[obvious]["blur"] >= 0.97
        assert values[obvious]["over"] < 0.5, "it takes an over-exposed frame for a sharper one"
    assert values["not clipped"]["over"] >= 0.95
    assert values["not clipped"]["blur"] < 0.5


@pytest.mark.parametrize("name", ["0016E5"])
def test_quality_falls_as_a_real_frame_gets_worse(name, bench, camvid_data):
    cv2 = pytest.importorskip("cv2")
    from kerbseg.keyframes.quality import quality_of

    pictures = bench.camvid(camvid_data, name).pictures[:31]
    past, picture = [measure(analyzed(each)) for each in pictures[:30]], pictures[30]
    worse = {
        "blur": [cv2.blur(picture, (1 + 2 * n, 1)) for n in range(8)],
        "dark": [(picture * (1 - n / 8)).astype(np.uint8) for n in range(8)],
        "over": [np.clip(picture * (1 + n / 3), 0, 255).astype(np.uint8) for n in range(8)],
    }
    for kind, steps in worse.items():
        measures = [measure(analyzed(each)) for each in steps]
        qualities = [quality_of(each, [*past, each]) for each in measures]
        falls = all(one >= other - 1e-9 for one, other in pairwise(qualities))
        assert falls, (kind, qualities)
        assert qualities[-1] < 0.3, kind


def test_a_drone_that_stands_still(sequences):
    meter, scores = MotionMeter(), []
    for i, frame in enumerate(open_sequence(sequences / "euroc_v101_static_95").source):
        gray = analyzed(frame.picture)
        motion = meter.add(gray, thumbnail(gray))
        scores.append(FrameScores(i, frame.time_ns, 1.0, 0.0, motion.pixels, motion.cut))
    keyframes = select(scores)
    times = [scores[each.last].time_ns for each in keyframes]
    assert len(scores) == 95
    assert all(later - earlier >= 0.97e9 for earlier, later in pairwise(times))
    assert len(select(scores, Options(static="skip"))) == 1


def test_text_that_is_cut_off_is_not_chosen(kerbseg_data):
    """A view half as wide as the picture glides over real scene text; labels are those of COCO-Text."""
    folder = kerbseg_data / "coco_text" / "sample61"
    if not folder.is_dir():
        pytest.skip("needs pictures with labelled text: KERBSEG_DATA holds no coco_text/")
    notes = json.loads((folder / "cocotext.v2.json").read_text())
    image = notes["imgs"]["250"]
    picture = read_rgb(folder / "train2014" / image["file_name"])
    drawing = Image.new("L", (picture.shape[1], picture.shape[0]))
    for each in notes["imgToAnns"]["250"]:
        ImageDraw.Draw(drawing).polygon(notes["anns"][str(each)]["mask"], fill=1)
    ids = np.array(drawing)
    width = picture.shape[1] // 2
    scores = []
    for i, left in enumerate(range(0, picture.shape[1] - width, 8)):
        shown = semantics_of(np.ascontiguousarray(ids[:, left : left + width]), [1])
        scores.append(FrameScores(i, i * 10**8, 1.0, shown.value, 1.0, semantics=shown))
    [keyframe] = select(scores, Options(step_px=1e6, longest_s=1e6))
    largest = max(scores, key=lambda each: each.semantics.whole + each.semantics.part)
    assert keyframe.scores.semantics.part == 0
    assert keyframe.scores.semantics.whole > 0
    assert largest.semantics.part > 0.5 * largest.semantics.whole, "what the most text pixels would have taken"
