"""Submissions: what the benchmark's own scripts find in them and score, and what they refuse."""

import json
import zipfile
from pathlib import Path

import cityscapesscripts.evaluation.evalPixelLevelSemanticLabeling as official
import numpy as np
import pytest
from PIL import Image

from kerbseg.bundle import random_bundle, save
from kerbseg.cli import main
from kerbseg.core.errors import KerbsegError
from kerbseg.core.labels import label_set
from kerbseg.predict.submission import submission


@pytest.fixture
def model(tmp_path: Path) -> Path:
    save(random_bundle("mininet_v2_cpu", label_set("cityscapes")), tmp_path / "m.safetensors")
    return tmp_path / "m.safetensors"


def officially(truths: list[Path], folder: Path) -> float:
    """The benchmark's mean IoU, with its own way of finding a prediction."""
    args = official.args
    args.predictionPath, args.predictionWalk = str(folder), None
    args.quiet, args.evalInstLevelScore, args.JSONOutput = True, False, False
    predictions = [official.getPrediction(args, str(truth)) for truth in truths]
    figures = official.evaluateImgLists(predictions, [str(truth) for truth in truths], args)
    return figures["averageScoreClasses"]


def test_the_benchmarks_script_scores_it_as_we_do(model, cityscapes_root, tmp_path):
    truths = sorted(cityscapes_root.glob("gtFine/val/*/*_labelIds.png"))
    for truth in truths:
        ids = np.array(Image.open(truth))
        Image.fromarray(np.where(ids == 255, 0, ids)).save(truth)  # the script knows licence plates as -1 only
    out, figures = tmp_path / "out", tmp_path / "r.json"
    arguments = ["--data", "cityscapes", "--split", "val", "--data-root", str(cityscapes_root)]
    main(["evaluate", str(model), *arguments, "--submission", str(out), "--json", str(figures)])
    assert len(list(out.iterdir())) == 4
    assert officially(truths, out) == pytest.approx(json.loads(figures.read_text())["miou"], abs=1e-9)


@pytest.mark.parametrize("data", ["cityscapes", "minicity"])
def test_a_split_without_labels_becomes_a_zip_of_pictures_alone(data, model, cityscapes_root, tmp_path, capsys):
    arguments = ["--data", data, "--split", "test", "--data-root", str(cityscapes_root), "--tta", "flip"]
    main(["evaluate", str(model), *arguments, "--submission", str(tmp_path / "out.zip")])
    assert "has no labels, so mIoU is not measured" in capsys.readouterr().out
    with zipfile.ZipFile(tmp_path / "out.zip") as archive:
        assert archive.testzip() is None
        assert sorted(archive.namelist()) == [
            f"test{city}_{i:06}_000019.png" for i, city in enumerate(("a", "a", "b", "b"))
        ]
        with archive.open("testa_000000_000019.png") as file:
            picture = Image.open(file)
            assert (picture.mode, picture.size) == ("L", (64, 32))
            assert set(np.unique(np.array(picture))) <= set(label_set("cityscapes").submission_ids)
    assert sorted(path.name for path in tmp_path.glob("*out*")) == ["out.zip"]


def test_predict_writes_the_same(model, cityscapes_root, tmp_path):
    pictures = str(cityscapes_root / "leftImg8bit" / "val" / "*" / "*.png")
    main(["predict", str(model), pictures, "--submission", str(tmp_path / "one")])
    arguments = ["--data", "cityscapes", "--split", "val", "--data-root", str(cityscapes_root)]
    main(["evaluate", str(model), *arguments, "--submission", str(tmp_path / "two")])
    names = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert names == sorted(path.name for path in (tmp_path / "two").iterdir())
    for name in names:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_every_class_gets_the_servers_id(tmp_path):
    with submission(tmp_path / "out", label_set("cityscapes")) as submit:
        submit("ulm_000001_000019_leftImg8bit", np.arange(19, dtype=np.uint8)[None])
    ids = np.array(Image.open(tmp_path / "out" / "ulm_000001_000019.png"))
    wanted = [7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33]
    assert ids.tolist() == [wanted]


def test_a_zip_that_was_not_finished_is_not_there(tmp_path):
    def fail() -> None:
        with submission(tmp_path / "out.zip", label_set("cityscapes")) as submit:
            submit("a", np.zeros((2, 2), np.uint8))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_labels_without_a_server_are_refused(tmp_path):
    with pytest.raises(KerbsegError, match="'camvid' has no server"), submission(tmp_path / "out", label_set("camvid")):
        pass


@pytest.mark.parametrize("more", [["-o", "out"], ["--save", "ids"], ["--sink", "ids"], ["--show"]])
def test_a_submission_is_all_that_is_written(more, model, cityscapes_root, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as left:
        main(["predict", str(model), str(cityscapes_root), "--submission", "sub", *more])
    assert left.value.code == 2
    assert "--submission" in capsys.readouterr().err
