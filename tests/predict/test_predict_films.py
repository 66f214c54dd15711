"""Films look as a player shows them, every frame of what moves is taken, and what is whole is not called damaged."""

import struct
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from PIL import Image

from kerbseg.cli import main
from kerbseg.core.errors import DataError, InputError, KerbsegWarning
from kerbseg.predict import Predictor, predict_files, segment_video, video
from kerbseg.predict.sources import open_source
from kerbseg.predict.sources.containers import truncated_bytes

av = pytest.importorskip("av", reason="PyAV is not installed")


def corners(height=32, width=48):
    """A picture whose four corners differ."""
    picture = np.zeros((height, width, 3), np.uint8)
    picture[: height // 2, : width // 2] = 250, 0, 0
    picture[: height // 2, width // 2 :] = 0, 250, 0
    picture[height // 2 :, : width // 2] = 0, 0, 250
    return picture


def film(path, picture, matrix=None, sar=None, frames=3, codec="libx264"):
    with av.open(str(path), "w") as file:
        stream = file.add_stream(codec, rate=10)
        stream.height, stream.width, stream.pix_fmt = *picture.shape[:2], "yuv420p"
        if sar:
            stream.codec_context.sample_aspect_ratio = sar
        for _ in range(frames):
            file.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        file.mux(stream.encode(None))
    if matrix:
        a, b, c, d = (each << 16 for each in matrix)
        one, content = 1 << 16, path.read_bytes()
        header = content.index(b"tkhd") + 4 + 40  # version and times, track, length, layer, volume
        assert content[header : header + 36] == struct.pack(">9i", one, 0, 0, 0, one, 0, 0, 0, 1 << 30)
        turned = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
        path.write_bytes(content[:header] + turned + content[header + 36 :])
    return path


# the matrix takes the point (x, y) to (a x + c y, b x + d y)
TURNS = {
    "mirrored left and right": ((-1, 0, 0, 1), lambda p: p[:, ::-1]),
    "mirrored up and down": ((1, 0, 0, -1), lambda p: p[::-1]),
    "half a turn": ((-1, 0, 0, -1), lambda p: p[::-1, ::-1]),
    "a quarter clockwise": ((0, 1, -1, 0), lambda p: np.rot90(p, -1)),
    "a quarter counterclockwise": ((0, -1, 1, 0), lambda p: np.rot90(p)),
    "rows and columns exchanged": ((0, 1, 1, 0), lambda p: p.swapaxes(0, 1)),
    "exchanged and half a turn": ((0, -1, -1, 0), lambda p: np.rot90(p, 2).swapaxes(0, 1)),
}


@pytest.mark.parametrize("how", TURNS)
def test_a_film_is_turned_and_mirrored_as_it_says(tmp_path, how):
    matrix, expected = TURNS[how]
    path = film(tmp_path / "phone.mp4", corners(), matrix)
    for frame in open_source(path):
        np.testing.assert_allclose(frame.picture, expected(corners()), atol=40)


@pytest.mark.parametrize(
    ("sar", "size"), [(Fraction(64, 45), (32, 68)), (Fraction(1, 2), (64, 48)), (Fraction(500, 1), (32, 48))]
)
def test_an_anamorphic_film_gets_square_pixels(bright, tmp_path, sar, size):
    path = film(tmp_path / "wide.mp4", corners(), sar=sar)
    segment_video(path, Predictor(bright), tmp_path / "out")
    with av.open(str(tmp_path / "out" / "wide_overlay.mp4")) as file:
        stream = file.streams.video[0]
        assert (stream.height, stream.width) == size
        assert stream.sample_aspect_ratio in (None, 0, 1)
    [frame, *_] = open_source(path)
    assert frame.picture.shape[:2] == size
    np.testing.assert_allclose(frame.picture[4, 4], (250, 0, 0), atol=40)
    np.testing.assert_allclose(frame.picture[-4, 4], (0, 0, 250), atol=40)


def test_an_anamorphic_film_that_lies_is_stretched_before_it_is_turned(tmp_path):
    path = film(tmp_path / "phone.mp4", corners(), (0, 1, -1, 0), Fraction(2))
    [frame, *_] = open_source(path)
    assert frame.picture.shape == (96, 32, 3)


def moving(count=5):
    return [Image.fromarray(np.full((32, 48, 3), (40 * i, 255 - 40 * i, 0), np.uint8)) for i in range(count)]


@pytest.mark.parametrize("name", ["a.gif", "a.webp", "a.png", "a.apng", "named.jpg"])
def test_every_frame_of_an_animation_is_taken(bright, times, tmp_path, name):
    first, *rest = moving()
    how = {"a.apng": "PNG", "named.jpg": "GIF"}.get(name)
    first.save(tmp_path / name, how, save_all=True, append_images=rest, duration=[40, 80, 40, 200, 40], lossless=True)
    predict_files(Predictor(bright), [tmp_path / name], tmp_path / "out")
    [result] = (tmp_path / "out").iterdir()
    assert result.name == f"{name.split('.')[0]}_overlay.mp4"
    assert times(result)[0] == [Fraction(ms, 1000) for ms in (0, 40, 120, 160, 360)]
    for i, frame in enumerate(open_source(tmp_path / name)):
        np.testing.assert_allclose(frame.picture[0, 0], (40 * i, 255 - 40 * i, 0), atol=8)


@pytest.mark.parametrize("name", ["a.gif", "a.webp", "a.png"])
def test_one_frame_of_such_a_format_is_a_picture(bright, tmp_path, name):
    moving(1)[0].save(tmp_path / name)
    predict_files(Predictor(bright), [tmp_path / name], tmp_path / "out", sinks="ids")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a_ids.png"]


@pytest.mark.parametrize("share", [0.5, 0.8, 0.95])
@pytest.mark.parametrize("name", ["a.gif", "a.webp", "a.png"])
def test_an_animation_that_was_cut_off_is_told(bright, tmp_path, name, share):
    generator = np.random.default_rng(0)
    first, *rest = (Image.fromarray(generator.integers(0, 256, (32, 48, 3), np.uint8)) for _ in range(6))
    first.save(tmp_path / name, save_all=True, append_images=rest, duration=40)
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(content[: int(len(content) * share)])
    with pytest.raises(DataError, match=name):
        predict_files(Predictor(bright), [tmp_path / name], tmp_path / "out")


def gif_without_last_frame(path):
    first, *rest = moving()
    first.save(path, save_all=True, append_images=rest, duration=40)
    content = path.read_bytes()
    path.write_bytes(content[: content.rindex(b"\x21\xf9\x04")])  # where the last frame begins


def test_a_gif_that_was_cut_between_two_frames_is_told(bright, tmp_path):
    gif_without_last_frame(tmp_path / "a.gif")
    with pytest.raises(DataError, match="cut off after frame 4"):
        list(open_source(tmp_path / "a.gif"))


@pytest.mark.parametrize(
    ("name", "format", "codec"),
    [
        ("cam.mjpeg", "mjpeg", "mjpeg"),
        ("cam.mjpg", "mjpeg", "mjpeg"),
        ("cam.h264", "h264", "libx264"),
        ("cam.264", "h264", "libx264"),
        ("phone.3gp", "3gp", "libx264"),
        ("old.flv", "flv", "libx264"),
        ("raw.y4m", "yuv4mpegpipe", "rawvideo"),
        ("disc.vob", "vob", "mpeg2video"),
        ("no_ending", "matroska", "libx264"),
        ("other.dat", "mp4", "libx264"),
    ],
)
def test_more_files_are_videos(bright, times, tmp_path, name, format, codec):
    rate = 25 if codec == "mpeg2video" else 10
    with av.open(str(tmp_path / name), "w", format=format) as file:
        stream = file.add_stream(codec, rate=rate)
        stream.width, stream.height = 48, 32
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        for _ in range(5):
            frame = av.VideoFrame.from_ndarray(corners(), format="rgb24")
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    predict_files(Predictor(bright), [tmp_path / name], tmp_path / "out")
    [result] = (tmp_path / "out").iterdir()
    assert result.name == f"{name.split('.')[0]}_overlay.mp4"
    assert len(times(result)[0]) == 5


def test_two_transport_streams_in_one_file_are_whole_and_one_follows_the_other(bright, video_file, times, tmp_path):
    parts = [video_file(tmp_path / f"{n}.ts", frames=12).read_bytes() for n in range(2)]
    (tmp_path / "joined.ts").write_bytes(b"".join(parts))
    report = segment_video(tmp_path / "joined.ts", Predictor(bright), tmp_path)
    assert report.whole
    went = times(tmp_path / "joined_overlay.mp4")[0]
    assert len(went) == 24
    assert {later - earlier for earlier, later in pairwise(went)} == {Fraction(1, 25)}


def test_a_film_whose_beginning_is_damaged_says_what_is_left_out(bright, video_file, tmp_path):
    source = video_file(tmp_path / "bad.avi", frames=40, size=(64, 96), codec="mpeg4")
    with av.open(str(source)) as file:
        first = bytes(next(file.demux(video=0)))
    content = source.read_bytes()
    source.write_bytes(content.replace(first[-2000:], b"\xff" * 2000))
    with pytest.warns(KerbsegWarning, match=r"bad\.avi: 1 of 40 frames cannot be decoded"):
        report = segment_video(source, Predictor(bright), tmp_path)
    assert report.frames == 39


def test_a_film_that_begins_in_mid_stream_says_what_is_left_out(video_file, tmp_path):
    source = video_file(tmp_path / "late.ts", frames=40, size=(64, 96), encoding={"g": "10"})
    content = source.read_bytes()
    source.write_bytes(content[60 * 188 :])
    with pytest.warns(KerbsegWarning, match=r"late\.ts: \d of \d\d frames cannot be decoded"):
        came = len(list(open_source(source)))
    assert 20 < came < 40


@pytest.mark.parametrize("lost", [1, 1000])
def test_a_y4m_that_was_cut_off_says_what_lacks(tmp_path, lost):
    with av.open(str(tmp_path / "raw.y4m"), "w", format="yuv4mpegpipe") as file:
        stream = file.add_stream("rawvideo", rate=10)
        stream.width, stream.height, stream.pix_fmt = 47, 33, "yuv420p"
        for _ in range(5):
            file.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((33, 47, 3), np.uint8), format="rgb24")))
    content = (tmp_path / "raw.y4m").read_bytes()
    assert truncated_bytes(tmp_path / "raw.y4m") == 0
    (tmp_path / "raw.y4m").write_bytes(content[:-lost])
    assert truncated_bytes(tmp_path / "raw.y4m") == lost
    with pytest.raises(DataError, match="cut off after frame 4"):
        list(open_source(tmp_path / "raw.y4m"))


def test_packets_that_lack_in_a_transport_stream_are_still_told(bright, video_file, tmp_path):
    source = video_file(tmp_path / "bad.ts", frames=40, size=(64, 96))
    content = source.read_bytes()
    middle = len(content) // 2 // 188 * 188
    source.write_bytes(content[:middle] + content[middle + 7 * 188 :])
    with pytest.raises(DataError, match="damaged after frame"):
        segment_video(source, Predictor(bright), tmp_path)


@pytest.mark.parametrize("length", [0xFFFFFFFF, 0, "all"])
def test_an_avi_that_could_not_note_its_length_is_whole(video_file, tmp_path, length):
    source = video_file(tmp_path / "robot.avi", codec="mpeg4")
    content = bytearray(source.read_bytes())
    content[4:8] = struct.pack("<I", len(content) if length == "all" else length)
    source.write_bytes(content)
    assert truncated_bytes(source) == 0
    assert len(list(open_source(source))) == 7


def test_an_avi_that_could_not_note_its_length_and_is_cut_off_is_told(video_file, tmp_path):
    source = video_file(tmp_path / "robot.avi", codec="mpeg4", frames=40, size=(64, 96))
    content = bytearray(source.read_bytes()[: len(source.read_bytes()) // 2])
    content[4:8] = b"\xff" * 4
    source.write_bytes(content)
    with pytest.raises(DataError, match="after frame"):
        list(open_source(source))


@pytest.mark.parametrize("name", ["12:30.mp4", "http:street.mp4", "caf\udce9.mp4", "concat:a|b.mkv", "-x %03d.mp4"])
def test_a_file_is_a_file_whatever_its_name(bright, video_file, times, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    whole = video_file(tmp_path / f"x{name[-4:]}", frames=5)
    whole.rename(tmp_path / name)
    predict_files(Predictor(bright), [name], "out")
    [result] = (tmp_path / "out").iterdir()
    assert result.name == f"{name[:-4]}_overlay.mp4"
    assert len(list(open_source(result))) == 5


def test_metadata_that_is_no_utf8_is_no_reason_to_stop(video_file, tmp_path):
    source = video_file(tmp_path / "old.mp4", frames=5)
    source.write_bytes(source.read_bytes().replace(b"VideoHandler", b"V\xe9deoHandler"))
    assert len(list(open_source(source))) == 5


def refusal(capsys, camvid_bundle, *arguments):
    with pytest.raises(SystemExit) as left:
        main(["predict", str(camvid_bundle), *map(str, arguments)])
    error = capsys.readouterr().err
    assert left.value.code == 2
    assert error.count("\n") == 1
    return error


def test_passwords_in_addresses_are_not_shown(camvid_bundle, tmp_path, capsys):
    address = "rtsp://root:hunter2@127.0.0.1:9/front?token=hunter3"
    error = refusal(capsys, camvid_bundle, address, "-o", tmp_path / "out", "--json", tmp_path / "figures.json")
    assert "hunter" not in error
    assert "127.0.0.1:9/front" in error
    assert "hunter" not in (tmp_path / "figures.json").read_text()
    assert "refused" in error
    assert "damaged" not in error


@pytest.mark.parametrize("address", ["http://[::1", "http://[x]/a.mp4", "nonsense://127.0.0.1/a"])
def test_an_address_that_is_none_is_one_line(camvid_bundle, tmp_path, capsys, address):
    assert "://" in refusal(capsys, camvid_bundle, address, "-o", tmp_path / "out")


def test_an_index_at_the_end_that_a_pipe_cannot_reach_is_named(video_file, tmp_path, camvid_bundle, capsys):
    from test_predict_streams import standard_input

    source = video_file(tmp_path / "drive.mp4", frames=60, size=(128, 192))
    assert source.stat().st_size > 500_000  # more than a reader looks at once
    with standard_input(source.read_bytes()):
        error = refusal(capsys, camvid_bundle, "-", "-o", tmp_path / "out")
    assert "+faststart" in error


def test_wrong_arguments_are_told_in_one_line(bright, tmp_path):
    with pytest.raises(InputError, match=r"needs a predictor, .*found str"):
        video(film(tmp_path / "d.mp4", corners()), "name")
    with pytest.raises(InputError, match=r"needs a predictor, .*found str"):
        segment_video(tmp_path / "d.mp4", "name", tmp_path)
    with pytest.raises(InputError, match=r"needs a predictor, .*found str"):
        predict_files("name", [tmp_path / "d.mp4"], tmp_path)
