"""int8 from a plain folder of pictures: half to calibrate on, half measured by what the float network sees."""

import json

import numpy as np
import pytest
from PIL import Image

from kerbseg.bundle import load
from kerbseg.cli import main
from kerbseg.core.errors import DataError
from kerbseg.core.types import VOID
from kerbseg.data.plain_pictures import plain_pictures
from kerbseg.export import unlabelled
from kerbseg.runtime import open_runtime, segment


@pytest.fixture
def pictures(tmp_path):
    folder = tmp_path / "drive"
    for index in range(5):
        path = folder / ("morning" if index % 2 else "evening") / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(index).integers(0, 256, (32, 48, 3), np.uint8)
        Image.fromarray(pixels).save(path)
    (folder / "notes.txt").write_text("no picture")
    return folder


def test_int8_is_measured_by_what_float_sees(camvid_bundle, pictures, tmp_path, capsys):
    out, figures = tmp_path / "m.onnx", tmp_path / "r.json"
    given = ["--int8", "--calibration", str(pictures), "--size", "32x48", "--threads", "1", "--json", str(figures)]
    main(["export", str(camvid_bundle), "-o", str(out), *given])
    report = json.loads(figures.read_text())
    protocol = report["protocol"]
    assert (protocol["data"], protocol["split"], protocol["max_drop"]) == ("drive", "as float32 sees it", None)
    assert protocol["calibration_pictures"] == 3
    assert report["float32"]["miou"] == pytest.approx(1, abs=1e-3)
    assert not any("mIoU" in obstacle for obstacle in report["obstacles"])
    assert open_runtime(out).precision == "int8"
    printed = capsys.readouterr().out
    assert "as float32 sees it" in printed
    assert f"next: python {tmp_path}/segment_m.py {out} {pictures}/evening/0.png" in printed


def test_truth_is_what_the_float_network_sees(camvid_bundle, pictures):
    bundle = load(camvid_bundle)
    calibration, measured = unlabelled(pictures, bundle, (32, 48))
    assert (list(calibration.names), list(measured.names)) == (
        ["evening/0", "evening/4", "morning/3"],
        ["evening/2", "morning/1"],
    )
    assert (calibration[0].mask == VOID).all()
    image = np.asarray(Image.open(pictures / "evening/2.png"))
    assert (measured[0].image == image).all()
    assert (measured[0].mask == segment(open_runtime(bundle), image, (32, 48))).all()


def test_at_most_so_many_are_taken_evenly(camvid_bundle, pictures):
    one, other = plain_pictures(pictures, load(camvid_bundle).card.labels).halves(1)
    assert (one.names, other.names) == (["evening/0"], ["morning/3"])


@pytest.mark.parametrize(
    ("file", "text", "said"),
    [
        ("dataset.yaml", "classes: [road, sky]", "is a data set, with masks: name it as folder --data-root"),
        ("a.json", '{"images": [], "annotations": [], "categories": []}', "holds labels too; .*convert coco"),
    ],
)
def test_a_data_set_is_no_plain_folder(camvid_bundle, pictures, file, text, said):
    (pictures / file).write_text(text)
    with pytest.raises(DataError, match=said):
        unlabelled(pictures, load(camvid_bundle))


def test_a_folder_without_pictures_is_named(camvid_bundle, tmp_path):
    (tmp_path / "a.txt").write_text("")
    with pytest.raises(DataError, match="holds no pictures"):
        unlabelled(tmp_path, load(camvid_bundle))


def test_a_data_root_beside_a_plain_folder_is_refused(camvid_bundle, pictures, tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        main(
            [
                "export",
                str(camvid_bundle),
                "-o",
                str(tmp_path / "m.onnx"),
                "--int8",
                "--calibration",
                str(pictures),
                "--data-root",
                str(tmp_path),
            ]
        )
    assert ended.value.code == 2
    assert "leave one out" in capsys.readouterr().err
