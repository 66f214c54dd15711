"""Pictures of other proportions than the one size of a file: letterboxed or stretched, and said once."""

import json
import warnings
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from kerbseg.bundle import load
from kerbseg.cli import main
from kerbseg.core.errors import KerbsegError, KerbsegWarning
from kerbseg.core.resize import resize_ids, resize_picture
from kerbseg.evaluate import evaluate
from kerbseg.export.onnx import write_onnx
from kerbseg.predict import Predictor
from kerbseg.runtime import open_runtime, segment, segment_with_confidence
from kerbseg.runtime.segment import letterboxed

pytestmark = pytest.mark.filterwarnings("ignore::kerbseg.core.errors.KerbsegWarning")


class Halves:
    """A runtime of one size that sees class 1 where it is red, and is as sure as it is green."""

    name, device, precision, threads, size = "halves", "cpu", "float32", 1, (32, 48)

    def __init__(self, card):
        self.card = card

    def __call__(self, pictures):
        self.seen = pictures
        return (pictures[..., 0] > 127).astype(np.uint8)

    def logits(self, pictures):
        raise NotImplementedError

    def with_confidence(self, pictures):
        return self(pictures), pictures[..., 1].astype(np.float32) / 255


@pytest.fixture
def halves(camvid_bundle):
    return Halves(load(camvid_bundle).card)


@pytest.fixture(scope="module")
def exported(camvid_bundle, tmp_path_factory):
    path = tmp_path_factory.mktemp("fit") / "m.onnx"
    write_onnx(load(camvid_bundle), path, (32, 48))
    return path


def left_red(height, width):
    picture = np.zeros((height, width, 3), np.uint8)
    picture[:, : width // 2, 0] = 255
    picture[: height // 2, :, 1] = 255
    return picture


@pytest.mark.parametrize("kind", ["lanczos", "box"])
@pytest.mark.parametrize("fit", ["letterbox", "stretch"])
def test_a_picture_comes_to_the_networks_size_as_its_card_says(halves, kind, fit):
    halves.card = replace(halves.card, resample=kind)
    picture = np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)
    segment(halves, picture, fit=fit)
    assert (halves.seen[0] == resize_picture(picture, (32, 48), kind)).all()
    assert (halves.seen[0] != resize_picture(picture, (32, 48))).any()


@pytest.mark.parametrize(("size", "covered"), [((32, 96), (16, 48)), ((64, 48), (32, 24)), ((200, 2), (32, 1))])
def test_proportions_are_kept_and_the_rest_is_the_mirror_image(halves, size, covered):
    picture = left_red(*size)
    ids, confidence = segment_with_confidence(halves, picture)
    small = resize_picture(picture, covered)
    assert halves.seen.shape == (1, 32, 48, 3)
    assert (halves.seen[0, : covered[0], : covered[1]] == small).all()
    assert (halves.seen[0] == np.pad(small, ((0, 32 - covered[0]), (0, 48 - covered[1]), (0, 0)), "symmetric")).all()
    assert (ids == resize_ids((small[..., 0] > 127).astype(np.uint8), size)).all()
    assert (confidence == resize_ids(small[..., 1].astype(np.float32) / 255, size)).all()
    assert (segment(halves, picture) == ids).all()


@pytest.mark.parametrize("size", [(32, 48), (64, 96), (320, 480), (16, 24)])
def test_equal_proportions_are_as_stretched_bit_by_bit(halves, size):
    picture = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    assert (letterboxed(picture, (32, 48)).input[0] == resize_picture(picture, (32, 48))).all()
    assert (segment(halves, picture) == segment(halves, picture, fit="stretch")).all()


def test_stretch_changes_proportions(halves):
    picture = left_red(32, 96)
    segment(halves, picture, fit="stretch")
    assert (halves.seen[0] == resize_picture(picture, (32, 48))).all()


def test_a_size_that_was_asked_for_is_letterboxed_too_and_what_a_bundle_chooses_is_filled(camvid_bundle):
    picture = np.random.default_rng(0).integers(0, 256, (30, 99, 3), np.uint8)
    runtime = open_runtime(camvid_bundle)
    asked = letterboxed(picture, (32, 48))
    assert (segment(runtime, picture, (32, 48)) == asked.back(runtime(asked.input)[0])).all()
    chosen = resize_picture(picture, (32, 106))[None]
    assert (segment(runtime, picture) == resize_ids(runtime(chosen)[0], (30, 99))).all()


@pytest.mark.parametrize(("size", "told"), [((32, 96), 1), ((64, 48), 1), ((32, 52), 0), ((64, 96), 0)])
def test_other_proportions_are_said_once(halves, size, told):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        for _ in range(3):
            segment(halves, left_red(*size))
    ours = [str(each.message) for each in caught if each.category is KerbsegWarning]
    assert len(ours) == told
    assert all("other proportions than 32x48 (HxW)" in each for each in ours)


def test_an_unknown_fit_is_one_line(halves, camvid_bundle):
    with pytest.raises(KerbsegError, match="unknown fit 'strech'; did you mean 'stretch'"):
        segment(halves, left_red(32, 96), fit="strech")
    with pytest.raises(KerbsegError, match="unknown fit None"):
        Predictor(camvid_bundle, fit=None)


def test_the_vote_of_a_video_keeps_the_fit(exported):
    assert Predictor(exported, fit="stretch").with_vote(0.7).fit == "stretch"


def test_commands_take_it_and_the_protocol_says_it(exported, camvid_root, tmp_path, capsys):
    picture = np.random.default_rng(0).integers(0, 256, (32, 96, 3), np.uint8)
    Image.fromarray(picture).save(tmp_path / "wide.png")
    ids = {}
    for fit in ("letterbox", "stretch"):
        main(["predict", str(exported), str(tmp_path / "wide.png"), "-o", str(tmp_path / fit), "--fit", fit])
        ids[fit] = np.array(Image.open(tmp_path / fit / "wide_ids.png"))
        assert (ids[fit] == Predictor(exported, fit=fit)(picture).ids).all()
        figures = ["--limit", "1", "--fit", fit, "--json", str(tmp_path / "f.json")]
        main(["evaluate", str(exported), "--data", "camvid", "--data-root", str(camvid_root), *figures])
        assert json.loads((tmp_path / "f.json").read_text())["protocol"]["fit"] == fit
    assert (ids["letterbox"] != ids["stretch"]).any()
    with pytest.raises(SystemExit) as left:
        main(["predict", str(exported), str(tmp_path / "wide.png"), "-o", str(tmp_path / "x"), "--fit", "squash"])
    assert left.value.code == 2


def test_the_command_line_warns_in_one_line(exported, tmp_path, capsys):
    Image.fromarray(left_red(32, 99)).save(tmp_path / "wide.png")
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        main(["predict", str(exported), str(tmp_path / "wide.png"), "-o", str(tmp_path / "out")])
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("kerbseg: warning: pictures of other proportions than 32x48 (HxW)")


@pytest.mark.parametrize("dataset", ["camvid", None, 3])
def test_evaluate_takes_an_opened_data_set(camvid_bundle, dataset):
    with pytest.raises(KerbsegError, match=r"takes an opened data set, not .*open_dataset\(NAME, SPLIT\)"):
        evaluate(camvid_bundle, dataset)


@pytest.mark.parametrize("model", [None, 3, b"m.onnx", ["m.onnx"], np.zeros(3)])
def test_what_is_no_model_is_one_line(model):
    with pytest.raises(KerbsegError, match=f"a model is a file, .* not {type(model).__name__}"):
        Predictor(model)
