"""What is answered of a picture is what its prediction says, in forms that others read."""

import base64
import io
import json
from typing import get_args

import numpy as np
import pytest
from PIL import Image
from serving import noise

from kerbseg.core.labels import label_set
from kerbseg.predict import Prediction
from kerbseg.predict.drawings import DRAWINGS
from kerbseg.serve.answers import Answer, PictureFacts, Wanted, run_lengths

LABELS = label_set("camvid")


def prediction(seed=0, size=(24, 36), unsure=False):
    generator = np.random.default_rng(seed)
    ids = generator.integers(0, len(LABELS) + unsure, (size[0] // 4, size[1] // 4)).repeat(4, 0).repeat(4, 1)
    ids = np.where(ids == len(LABELS), 255, ids).astype(np.uint8)
    return Prediction(ids, LABELS, generator.random(size, np.float32), noise(seed, size))


def decoded(lengths, size):
    """A mask of run lengths, written as plainly as can be."""
    values = [inside for place, length in enumerate(lengths["counts"]) for inside in [place % 2] * length]
    assert lengths["size"] == list(size)
    return np.array(values, bool).reshape(size[::-1]).T


@pytest.mark.parametrize("unsure", [False, True])
def test_run_lengths_are_the_ids(unsure):
    made = prediction(unsure=unsure)
    lengths = run_lengths(made.ids, made.names)
    assert list(lengths) == [name for name in made.names if name in made]
    for name, each in lengths.items():
        assert (decoded(each, made.ids.shape) == made[name]).all()


@pytest.mark.parametrize("ids", [np.zeros((3, 4), np.uint8), np.full((1, 1), 255, np.uint8), np.eye(4, dtype=np.uint8)])
def test_run_lengths_of_edges(ids):
    lengths = run_lengths(ids, LABELS.classes)
    for train_id in set(np.unique(ids).tolist()) - {255}:
        assert (decoded(lengths[LABELS.classes[train_id]], ids.shape) == (ids == train_id)).all()


def test_pycocotools_reads_the_run_lengths():
    coco = pytest.importorskip("pycocotools.mask")
    made = prediction(3)
    for name, each in run_lengths(made.ids, made.names).items():
        mask = coco.decode(coco.frPyObjects(each, *each["size"]))
        assert (mask.astype(bool) == made[name]).all()


def test_json_says_all_that_was_asked_for():
    made = prediction(unsure=True)
    facts = json.loads(Wanted(masks="png", confidence=True).of(made, "street"))
    PictureFacts.model_validate(facts, strict=False)
    assert facts["model"] == "street"
    assert facts["size"] == [24, 36]
    assert facts["class_map"] == {str(i): name for i, name in enumerate(LABELS.classes)}
    assert facts["shares"] == pytest.approx(made.shares())
    assert facts["confidence"]["mean"] == pytest.approx(made.confidence.mean(), abs=1e-6)
    for name, mean in facts["confidence"]["classes"].items():
        assert mean == pytest.approx(made.confidence[made[name]].mean(), abs=1e-6)
    ids, sure = (
        np.asarray(Image.open(io.BytesIO(base64.b64decode(facts[key])))) for key in ("ids_png", "confidence_png")
    )
    assert (ids == made.ids).all()
    assert (sure == np.asarray(made.confidence_gray())).all()
    assert "rle" not in facts
    assert "confidence" not in json.loads(Wanted(masks="none").of(made, "street"))


def test_polygons_are_those_of_the_prediction():
    pytest.importorskip("cv2", reason="OpenCV is not installed")
    made = prediction()
    facts = json.loads(Wanted(masks="polygons").of(made, "street"))
    PictureFacts.model_validate(facts, strict=False)
    assert facts["polygons"] == {
        name: [ring.tolist() for ring in made.polygons(name)] for name in made.names if name in made
    }


def test_pictures_are_those_that_predict_writes(tmp_path):
    made = prediction(size=(96, 128))
    assert get_args(Answer) == ("json", *DRAWINGS)
    for word in DRAWINGS:
        (path,) = made.save(tmp_path / "street", word)
        with Image.open(path) as saved, Image.open(io.BytesIO(Wanted(answer=word).of(made, "street"))) as answered:
            assert (answered.mode, answered.size, answered.getpalette()) == (saved.mode, saved.size, saved.getpalette())
            assert answered.tobytes() == saved.tobytes(), word
