"""Of folders and lists everything is taken or named, one bad file ends nothing, and no input can hold up the others."""

import json
import os
import socket
import warnings

import numpy as np
import pytest
from PIL import Image

from kerbseg.cli import main
from kerbseg.core.errors import DataError, InputError, KerbsegError, KerbsegWarning
from kerbseg.predict import Predictor, predict_files, segment_video


@pytest.fixture
def predictor(bright):
    return Predictor(bright)


def picture(path, shade=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((32, 48, 3), shade, np.uint8)).save(path)
    return path


def damaged(path):
    picture(path)
    path.write_bytes(path.read_bytes()[:60])
    return path


def files(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def status(camvid_bundle, *arguments):
    try:
        main(["predict", str(camvid_bundle), *map(str, arguments)])
    except SystemExit as left:
        return left.code
    return 0


def test_what_a_folder_holds_beside_pictures_is_counted_by_ending(predictor, tmp_path):
    street = tmp_path / "street"
    for name in ("a.png", "b.jfif", "c.pgm", "sub/d.png", ".hidden.png"):
        picture(street / name) if not name.endswith("jfif") else Image.new("RGB", (48, 32)).save(street / name, "JPEG")
    for name in ("e.heic", "f.HEIC", "g.txt", "README", ".DS_Store"):
        (street / name).write_bytes(b"x")
    with pytest.warns(KerbsegWarning) as told:
        predict_files(predictor, [street], street, sinks="ids")
    with pytest.warns(KerbsegWarning) as told_again:  # its results are nobody's concern
        predict_files(predictor, [street], street, sinks="ids")
    first, again = (str(each[0].message) for each in (told, told_again))
    assert first == again
    assert "left out 5 of 8" in first
    assert "2 .heic, 1 without an ending, 1 .txt, 1 subfolder(s) (--recursive looks into them)" in first
    assert {"a_ids.png", "b_ids.png", "c_ids.png"} <= set(files(street))


def test_a_folder_of_nothing_but_others_is_named_with_them(predictor, tmp_path):
    (tmp_path / "a.heic").write_bytes(b"x")
    for given in (tmp_path, tmp_path / "*.heic"):
        with pytest.raises(DataError, match=r"no folder or glob with pictures or videos in it, only 1 \.heic"):
            predict_files(predictor, [given], tmp_path / "out")


def test_a_folder_of_pictures_alone_is_taken_without_a_word(predictor, tmp_path):
    picture(tmp_path / "street" / "a.png")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        predict_files(predictor, [tmp_path / "street"], tmp_path / "out", sinks="ids")


def test_subfolders_are_mirrored_and_our_own_results_are_none_of_them(predictor, tmp_path):
    street = tmp_path / "street"
    for name in ("a.png", "north/a.png", "north/far/b.png", ".git/c.png"):
        picture(street / name)
    (street / "again").symlink_to(street)  # in a circle
    for _ in range(2):
        predict_files(predictor, [street], street / "out", sinks="ids", recursive=True)
    assert files(street / "out") == ["a_ids.png", "north/a_ids.png", "north/far/b_ids.png"]
    predict_files(predictor, [street], tmp_path / "flat", sinks="ids")
    assert files(tmp_path / "flat") == ["a_ids.png"]


def test_inputs_of_one_stem_keep_their_suffixes(predictor, tmp_path):
    street = tmp_path / "street"
    picture(street / "a.png", 255), picture(street / "a.jpg"), picture(street / "b.png")
    for _ in range(2):
        predict_files(predictor, [street], street, sinks="ids")
    assert files(street) == ["a.jpg", "a.jpg_ids.png", "a.png", "a.png_ids.png", "b.png", "b_ids.png"]
    assert np.asarray(Image.open(street / "a.png_ids.png")).max() == 1
    assert np.asarray(Image.open(street / "a.jpg_ids.png")).max() == 0


def test_one_input_in_two_spellings_is_one(predictor, tmp_path):
    path = picture(tmp_path / "street" / "a.png")
    predict_files(predictor, [path, tmp_path / "street" / ".." / "street" / "a.png"], tmp_path / "out", sinks="ids")
    assert files(tmp_path / "out") == ["a_ids.png"]


@pytest.mark.parametrize("recursive", [False, True])
def test_one_bad_file_of_several_is_named_and_the_others_are_finished(
    camvid_bundle, video_file, tmp_path, capsys, recursive
):
    street = tmp_path / "street"
    picture(street / "a.png"), damaged(street / "b.png"), picture(street / "c.png")
    (street / "d.mp4").write_bytes(b"no video")
    video_file(street / "e.mp4", frames=3)
    out, figures = tmp_path / "out", tmp_path / "figures.json"
    more = ["--recursive"] if recursive else []
    assert status(camvid_bundle, street, tmp_path / "missing.png", "-o", out, "--json", figures, *more) == 1
    said = capsys.readouterr().err
    last = said.splitlines()[-1]
    assert last.startswith("kerbseg: 3 of 6 inputs could not be segmented (the others are finished)")
    for name in ("b.png", "d.mp4", "missing.png"):
        assert name in last
        assert said.count(name) >= 2  # as it happened, too
    results = ["a_ids.png", "a_overlay.png", "c_ids.png", "c_overlay.png", "e_overlay.mp4"]
    assert files(out) == sorted([*results, "classes.json"])
    failed = json.loads(figures.read_text())["failed"]
    assert sorted(map(os.path.basename, failed)) == ["b.png", "d.mp4", "missing.png"]
    assert "cannot be read" in failed[str(street / "b.png")]


def test_a_single_bad_file_is_bad_input(camvid_bundle, tmp_path, capsys):
    for given in (damaged(tmp_path / "street" / "a.png"), tmp_path / "street", tmp_path / "none.png"):
        assert status(camvid_bundle, given, "-o", tmp_path / "out") == 2
        assert capsys.readouterr().err.count("\n") == 1


def test_a_disk_that_is_full_ends_the_batch(bright, tmp_path):
    from contextlib import contextmanager

    from kerbseg.predict import SinkKind

    @contextmanager
    def full(target, source, labels):
        def add(frame, prediction):
            raise KerbsegError("the disk is full")

        yield add

    street = [picture(tmp_path / f"{name}.png") for name in "abc"]
    with pytest.raises(KerbsegError, match=r"^the disk is full"):
        predict_files(Predictor(bright), street, tmp_path / "out", sinks=[SinkKind("_x", full)])


def test_a_pipe_or_socket_among_pictures_holds_up_nobody(predictor, tmp_path):
    street = tmp_path / "street"
    picture(street / "a.png")
    os.mkfifo(street / "b.png")
    os.mkfifo(street / "c.mp4")
    with pytest.warns(KerbsegWarning, match=r"left out 2 of 3 .*: 1 \.png, 1 \.mp4"):
        predict_files(predictor, [street], tmp_path / "out", sinks="ids")
    assert files(tmp_path / "out") == ["a_ids.png"]
    with pytest.raises(DataError, match="is a named pipe; pictures are read from files"):
        predict_files(predictor, [street / "b.png"], tmp_path / "out")
    listening = socket.socket(socket.AF_UNIX)
    before = os.getcwd()
    os.chdir(tmp_path)  # a socket's name is short
    try:
        listening.bind("s.png")
    finally:
        os.chdir(before)
        listening.close()
    with pytest.raises(DataError, match="is a socket"):
        predict_files(predictor, [tmp_path / "s.png"], tmp_path / "out")


@pytest.mark.parametrize("name", ["x" * 300, "a\0b", "caf\udce9\x1b]0;title\a.png"])
def test_a_name_that_no_file_can_have_or_show_is_one_line(camvid_bundle, tmp_path, capsys, name):
    assert status(camvid_bundle, tmp_path / name, "-o", tmp_path / "out") == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "\x1b" not in error
    error.encode()


def test_names_are_written_as_they_are_and_shown_without_control_characters(camvid_bundle, tmp_path, capsys):
    name = b"caf\xe9\x1b]0;title\x07"
    path = tmp_path / os.fsdecode(name + b".png")
    picture(tmp_path / "plain.png").rename(path)
    assert status(camvid_bundle, path, "-o", tmp_path / "out", "--save", "ids,json") == 0
    said = capsys.readouterr()
    assert "\x1b" not in said.out + said.err
    (said.out + said.err).encode()
    results = [name + b"_ids.png", name + b"_shares.json", b"classes.json"]
    assert sorted(os.listdir(os.fsencode(tmp_path / "out"))) == results
    json.loads((tmp_path / "out" / os.fsdecode(name + b"_shares.json")).read_text())


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_cannot_be_read_is_named(predictor, tmp_path):
    picture(tmp_path / "street" / "a.png")
    picture(tmp_path / "street" / "locked" / "b.png")
    (tmp_path / "street" / "locked").chmod(0)
    try:
        with pytest.raises(DataError, match="locked"):
            predict_files(predictor, [tmp_path / "street"], tmp_path / "out", recursive=True)
    finally:
        (tmp_path / "street" / "locked").chmod(0o700)


def test_a_folder_that_the_system_will_not_list_is_named(predictor, tmp_path, monkeypatch):
    picture(tmp_path / "street" / "a.png")
    picture(tmp_path / "street" / "locked" / "b.png")
    listed = os.scandir

    def scandir(path="."):
        if str(path).endswith("locked"):
            raise PermissionError(13, "Permission denied", str(path))
        return listed(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with (
        pytest.raises(DataError, match="locked"),
        pytest.warns(KerbsegWarning, match="locked cannot be read: Permission"),
    ):
        predict_files(predictor, [tmp_path / "street"], tmp_path / "out", sinks="ids", recursive=True)
    assert files(tmp_path / "out") == ["a_ids.png"]


@pytest.mark.parametrize("out", ["-", "/dev/stdout", "/dev/null", "file"])
def test_what_is_no_folder_is_no_place_for_results(camvid_bundle, tmp_path, capsys, monkeypatch, out):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("mine")
    before = os.stat("/dev/null").st_mode
    assert status(camvid_bundle, picture(tmp_path / "a.png"), "-o", out) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "folder" in error
    assert os.stat("/dev/null").st_mode == before
    assert (tmp_path / "file").read_text() == "mine"
    assert files(tmp_path) == ["a.png", "file"]


def test_flicker_of_pictures_is_refused(camvid_bundle, tmp_path, capsys):
    assert status(camvid_bundle, picture(tmp_path / "a.png"), "--flicker", "-o", tmp_path / "out") == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "flicker is measured between the frames of a video" in error
    assert not (tmp_path / "out").exists()


def test_a_vote_over_pictures_is_refused(camvid_bundle, tmp_path, capsys):
    assert status(camvid_bundle, picture(tmp_path / "a.png"), "--smooth", "0.7", "-o", tmp_path / "out") == 2
    assert "smooth is a vote over the frames of a video, and no input is one" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_no_sinks_are_none_and_not_the_usual(predictor, tmp_path):
    path = picture(tmp_path / "a.png")
    for refused in (
        lambda: predict_files(predictor, [path], tmp_path / "out", sinks=[]),
        lambda: segment_video(path, predictor, tmp_path / "out", sinks=[]),
    ):
        with pytest.raises(KerbsegError, match="sinks is empty"):
            refused()
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("stem", ["folder/", "folder", "."])
def test_a_prediction_is_not_saved_beside_the_folder_that_is_named(predictor, tmp_path, monkeypatch, stem):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    with pytest.raises(InputError, match="is a folder; add the beginning of the files' names"):
        predictor(np.zeros((32, 48, 3), np.uint8)).save(stem)
    assert files(tmp_path) == []


@pytest.mark.parametrize("model", [None, 3, "https://example.org/a.safetensors", ["a"]])
def test_what_is_no_model_is_told_in_one_line(model):
    with pytest.raises(KerbsegError, match="model") as refusal:
        Predictor(model)
    if isinstance(model, str):
        assert model in str(refusal.value)


def test_results_behind_links_in_a_circle_are_refused_in_one_line(predictor, tmp_path):
    gray = tmp_path / "gray.png"
    Image.fromarray(np.full((32, 48, 3), 90, np.uint8)).save(gray)
    out = tmp_path / "out"
    out.mkdir()
    (out / "gray_ids.png").symlink_to("gray_ids.png")
    with pytest.raises(KerbsegError, match="Too many levels of symbolic links"):
        predict_files(predictor, [gray], out)
