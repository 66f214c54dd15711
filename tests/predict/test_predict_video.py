"""Videos come out with the frames and times they came in with."""

import numpy as np
import pytest

from kerbseg.cli import main
from kerbseg.core.errors import DataError
from kerbseg.predict import Predictor, predict_files

av = pytest.importorskip("av", reason="PyAV is not installed")


def film(path, frames=7, rate=25, size=(32, 48), codec="libx264"):
    height, width = size
    with av.open(str(path), "w") as file:
        stream = file.add_stream(codec, rate=rate)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for i in range(frames):
            pixels = np.full((height, width, 3), 30 * i % 256, np.uint8)
            file.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        file.mux(stream.encode(None))
    return path


def times(path):
    with av.open(str(path)) as file:
        return [float(frame.time) for frame in file.decode(video=0)], file.streams.video[0].average_rate


@pytest.mark.parametrize("rate", [25, 30000 / 1001])
def test_frames_and_their_times_are_kept(camvid_bundle, tmp_path, rate):
    from fractions import Fraction

    source = film(tmp_path / "drive.mp4", rate=Fraction(rate).limit_denominator(1001))
    predict_files(Predictor(camvid_bundle), [source], tmp_path / "out")
    came, rate_in = times(source)
    went, rate_out = times(tmp_path / "out" / "drive_overlay.mp4")
    assert len(went) == len(came) == 7
    np.testing.assert_allclose(went, came, atol=1e-4)
    assert rate_in == rate_out


def test_sides_that_are_odd_are_made_even(camvid_bundle, tmp_path):
    source = film(tmp_path / "odd.mkv", size=(33, 51), codec="ffv1")
    predict_files(Predictor(camvid_bundle), [source], tmp_path)
    with av.open(str(tmp_path / "odd_overlay.mp4")) as file:
        stream = file.streams.video[0]
        assert (stream.height, stream.width) == (34, 52)


def test_a_video_that_ends_in_mid_frame_is_told_and_nothing_half_written(camvid_bundle, tmp_path, capsys):
    source = film(tmp_path / "cut.mp4", frames=40, size=(64, 96))
    source.write_bytes(source.read_bytes()[:-700])
    with pytest.raises(SystemExit) as left:
        main(["predict", str(camvid_bundle), str(source), "-o", str(tmp_path / "out")])
    assert left.value.code == 2
    error = capsys.readouterr().err
    assert "cut.mp4" in error
    assert error.count("\n") == 1
    assert not list((tmp_path / "out").glob("*"))


def test_a_sound_recording_is_no_video(camvid_bundle, tmp_path):
    (tmp_path / "noise.mp4").write_bytes(b"0" * 1000)
    with pytest.raises(DataError, match="cannot be read as a video"):
        predict_files(Predictor(camvid_bundle), [tmp_path / "noise.mp4"], tmp_path / "out")
