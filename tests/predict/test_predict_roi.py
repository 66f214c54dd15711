"""A region is segmented as if it were the picture; elsewhere is void, and its overlay is the picture."""

import json

import numpy as np
import pytest
from PIL import Image

from kerbseg.cli import main
from kerbseg.core.errors import InputError, KerbsegError
from kerbseg.predict import Frame, Predictor, Roi, RoiSegmenter, VideoOptions, segment_video, video


@pytest.fixture(scope="module")
def predictor():
    return Predictor("kerbnet_s-camvid", input_size=(64, 96), fit="stretch")


def noise(*size):
    return np.random.default_rng(3).integers(0, 256, (*size, 3), np.uint8)


ROI = Roi(10, 20, 80, 50)  # x, y, width, height
INSIDE = (slice(20, 70), slice(10, 90))


@pytest.mark.parametrize("channels", ["rgb", "bgr"])
def test_ids_are_those_of_the_cut_out_region_and_void_elsewhere(predictor, channels):
    picture = noise(100, 120)
    seen = RoiSegmenter(predictor, ROI)(picture, channels=channels, confidence=True)
    alone = predictor(picture[INSIDE], channels=channels, confidence=True)
    assert len(np.unique(alone.ids)) > 1
    assert (seen.ids[INSIDE] == alone.ids).all()
    assert (seen.confidence[INSIDE] == alone.confidence).all()
    outside = np.ones((100, 120), bool)
    outside[INSIDE] = False
    assert (seen.ids[outside] == 255).all()
    assert (seen.confidence[outside] == 0).all()
    assert seen.shares() == alone.shares()
    rgb = picture if channels == "rgb" else picture[..., ::-1]
    blended = seen.blend(0.5)
    assert (blended[outside] == rgb[outside]).all()
    assert (blended[INSIDE] == alone.blend(0.5)).all()


def test_a_region_of_the_whole_picture_changes_nothing(predictor):
    picture = noise(100, 120)
    seen, whole = RoiSegmenter(predictor, Roi(0, 0, 120, 100))(picture), predictor(picture)
    assert (seen.ids == whole.ids).all()
    assert (seen.blend(0.5) == whole.blend(0.5)).all()


@pytest.mark.parametrize("text", ["", "1,2,3", "1,2,3,4,5", "-1,0,5,5", "0,0,0,5", "0,0,5,0", "a,b,c,d", "1.5,0,5,5"])
def test_what_is_no_region_is_refused(text):
    with pytest.raises(KerbsegError, match="X,Y,W,H"):
        Roi.parse(text)


@pytest.mark.parametrize("roi", [Roi(41, 0, 80, 100), Roi(0, 51, 120, 50), Roi(500, 500, 1, 1)])
def test_a_region_outside_the_picture_is_refused(predictor, roi):
    with pytest.raises(InputError, match="not inside a picture of 120x100"):
        RoiSegmenter(predictor, roi)(noise(100, 120))
    assert Roi.parse("40, 0, 80,100").of(noise(100, 120)) == (slice(0, 100), slice(40, 120))


def test_frames_of_a_video_have_it_too(bright, tmp_path):
    frames = [Frame(noise(100, 120) // (i + 1), i, pts=i) for i in range(3)]
    region = RoiSegmenter(Predictor(bright, input_size="own"), ROI)
    for frame, prediction in video(frames, region):
        assert (prediction.ids[INSIDE] == bright(frame.picture[None])[0][INSIDE]).all()
        assert (prediction.ids == 255).sum() == 100 * 120 - 50 * 80
    pytest.importorskip("cv2", reason="OpenCV is not installed")
    report = segment_video(frames, region, tmp_path, VideoOptions(smooth=0.7, flicker=True), sinks="json")
    whole = segment_video(
        [Frame(f.picture[INSIDE], f.index, f.pts) for f in frames],
        Predictor(bright, input_size="own"),
        tmp_path,
        VideoOptions(smooth=0.7, flicker=True),
        sinks="json",
    )
    assert report.flicker == whole.flicker
    assert report.shares == whole.shares, "of the region, not of the picture"


def test_the_command_writes_void_around_it(tmp_path, capsys):
    Image.fromarray(noise(100, 120)).save(tmp_path / "street.png")
    common = ["mininet_v2_cpu-camvid", str(tmp_path / "street.png"), "-o", str(tmp_path / "out"), "--size", "32x48"]
    main(["predict", *common, "--roi", "10,20,80,50", "--json", str(tmp_path / "run.json"), "--save", "ids"])
    ids = np.asarray(Image.open(tmp_path / "out" / "street_ids.png"))
    assert ids.shape == (100, 120)
    assert (ids[INSIDE] < 11).all()
    assert (ids == 255).sum() == 100 * 120 - 50 * 80
    assert json.loads((tmp_path / "run.json").read_text())["protocol"]["roi"] == [10, 20, 80, 50]
    with pytest.raises(SystemExit) as left:
        main(["predict", *common, "--roi", "100,0,80,50"])
    assert left.value.code == 2
    assert "not inside a picture of 120x100" in capsys.readouterr().err
