"""Prediction of pictures: any source, any size, any number; nothing overwritten, nothing half-written."""

import shutil

import numpy as np
import pytest
from PIL import Image

import kerbseg
from kerbseg.cli import main
from kerbseg.core.errors import DataError, KerbsegError
from kerbseg.predict import Predictor, predict_files
from kerbseg.runtime import IdsOnly


@pytest.fixture
def predictor(camvid_bundle):
    return Predictor(camvid_bundle)


@pytest.fixture
def street(tmp_path):
    """A folder with two pictures, a hidden one and a note."""
    folder = tmp_path / "street"
    folder.mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (30, 50, 3), np.uint8)
    Image.fromarray(pixels).save(folder / "a.png")
    Image.fromarray(pixels[:, ::-1]).save(folder / "b.jpg")
    Image.fromarray(pixels).save(folder / ".hidden.png")
    (folder / "note.txt").write_text("no picture")
    return folder


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_path_a_pil_picture_and_an_array_are_the_same(predictor, street):
    by_path = predictor(street / "a.png")
    assert by_path.ids.shape == (30, 50)
    with Image.open(street / "a.png") as opened:
        assert (predictor(opened).ids == by_path.ids).all()
        assert (predictor(np.array(opened)).ids == by_path.ids).all()
    assert predictor(street / "a.png", confidence=True).confidence.shape == (30, 50)
    assert (kerbseg.Predictor(predictor.runtime)(street / "a.png").ids == by_path.ids).all()


def test_a_picture_is_turned_as_the_camera_noted(predictor, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (30, 50, 3), np.uint8)
    note = Image.Exif()
    note[0x0112] = 6  # turn by 90 degrees
    Image.fromarray(pixels).save(tmp_path / "turned.png", exif=note)
    assert predictor(tmp_path / "turned.png").ids.shape == (50, 30)


def test_a_folder_is_its_pictures_and_a_second_run_takes_no_results_for_inputs(predictor, street):
    for _ in range(2):
        assert [source.path.name for source in predict_files(predictor, [street], street)] == ["a.png", "b.jpg"]
    results = ["a_ids.png", "a_overlay.png", "b_ids.png", "b_overlay.png"]
    assert names(street) == sorted([".hidden.png", "a.png", "b.jpg", "note.txt", *results])
    ids = np.array(Image.open(street / "a_ids.png"))
    assert (ids == predictor(street / "a.png").ids).all()


def test_the_command_takes_files_folders_and_globs(camvid_bundle, street, tmp_path, capsys):
    out = tmp_path / "out"
    main(["predict", str(camvid_bundle), str(street / "*.jpg"), str(street / "a.png"), "-o", str(out)])
    assert names(out) == ["a_ids.png", "a_overlay.png", "b_ids.png", "b_overlay.png", "classes.json"]
    assert "2 pictures, " in capsys.readouterr().out


def test_results_of_one_name_are_refused_before_any_work(predictor, street, tmp_path):
    (street / "more").mkdir()
    shutil.copy(street / "a.png", street / "more" / "a.png")
    with pytest.raises(KerbsegError, match="would both write"):
        predict_files(predictor, [street / "a.png", street / "more"], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_input_is_never_overwritten(predictor, street):
    (street / "a.png").rename(street / "a_ids.png")
    shutil.copy(street / "b.jpg", street / "a.jpg")
    with pytest.raises(KerbsegError, match="would overwrite"):
        predict_files(predictor, [street / "a.jpg", street / "a_ids.png"], street)


def test_what_was_finished_before_a_damaged_picture_is_kept(predictor, street, tmp_path):
    (street / "b.jpg").write_bytes((street / "b.jpg").read_bytes()[:200])
    with pytest.raises(DataError, match=r"b\.jpg"):
        predict_files(predictor, [street], tmp_path / "out")
    assert names(tmp_path / "out") == ["a_ids.png", "a_overlay.png"]


@pytest.mark.parametrize("given", [[], ["nowhere"], ["*.png"]])
def test_an_input_that_names_nothing_is_told(predictor, tmp_path, monkeypatch, given):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(KerbsegError, match=r"nothing to predict|is no file"):
        predict_files(predictor, given, tmp_path)


def test_a_folder_that_cannot_be_written_is_one_line(camvid_bundle, street, tmp_path, capsys):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(SystemExit) as left:
        main(["predict", str(camvid_bundle), str(street / "a.png"), "-o", str(tmp_path / "file" / "out")])
    assert left.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_several_at_once_are_as_one_by_one(made):
    calls = []

    class Confident(made):
        def __call__(self, pictures):
            calls.append(len(pictures))
            return super().__call__(pictures)

        def with_confidence(self, pictures, **how):
            return self(pictures), pictures[..., 0].astype(np.float32) / 255

    predictor = Predictor(Confident(lambda picture: (picture[..., 1] > 127).astype(np.uint8)), unknown=0.3)
    generator = np.random.default_rng(0)
    sizes = [(32, 48)] * 7 + [(40, 40), (64, 96)]  # the last is looked at as the first ones are
    pictures = [generator.integers(0, 256, (*size, 3), np.uint8) for size in sizes]
    for confidence in (False, True):
        one_by_one = [predictor(picture, confidence=confidence) for picture in pictures]
        calls.clear()
        for found, expected in zip(predictor.at_once(pictures, confidence=confidence), one_by_one, strict=True):
            assert (found.ids == expected.ids).all()
            assert (found.confidence is None) == (expected.confidence is None) == (not confidence)
            assert found.confidence is None or (found.confidence == expected.confidence).all()
            assert (found.picture == expected.picture).all()
            assert found.unknown == 0.3
        assert calls == [8, 1]
    assert predictor.at_once([]) == []


def test_confidence_at_once_of_an_engine_that_has_none(bright):
    with pytest.raises(IdsOnly):
        Predictor(bright).at_once([np.zeros((32, 48, 3), np.uint8)], confidence=True)
