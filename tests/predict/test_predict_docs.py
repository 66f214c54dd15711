"""The page on prediction is true: its examples run, its table of sinks is the table."""

import re
from pathlib import Path

import pytest
from PIL import Image

from kerbseg.data.scenes import drive
from kerbseg.predict import SINKS, SOURCES

PAGE = Path(__file__).parents[2] / "docs" / "prediction.md"


def test_its_examples_run_one_after_another(video_file, tmp_path, monkeypatch, capsys):
    pytest.importorskip("cv2", reason="opencv is not installed")
    for table, name in ((SOURCES, "scenes"), (SINKS, "lines")):
        monkeypatch.setitem(table, name, None)  # so that what the page adds is gone afterwards
        del table[name]
    monkeypatch.chdir(tmp_path)
    picture, _ = next(iter(drive(0, (96, 128))))
    Image.fromarray(picture).save("street.jpg")
    video_file(tmp_path / "drive.mp4", frames=3)
    names = {}
    for block in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL):
        exec(block, names)
    assert "<Prediction 96x128: " in capsys.readouterr().out
    written = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert written == [
        "drive_overlay.mp4",
        "drive_shares.json",
        "scenes_lines.txt",
        "scenes_overlay.mp4",
        "street_ids.png",
        "street_overlay.png",
        "strong_overlay.png",
    ]
    assert len((tmp_path / "out" / "scenes_lines.txt").read_text().splitlines()) == 5


def test_its_table_of_sinks_is_the_table():
    page = PAGE.read_text().partition("## What is written")[2]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in page.splitlines() if line.startswith("| `")]
    assert [row[0].strip("`") for row in rows] == list(SINKS)
    for kind, (_, of_picture, of_video, usual) in zip(SINKS.values(), rows, strict=True):
        assert ("picture" in kind.takes, "video" in kind.takes) == (bool(of_picture), bool(of_video))
        assert kind.ending in of_picture + of_video
        assert kind.of_video is None or f"<stem>{kind.of_video.ending}" in of_video
        assert tuple(usual.removesuffix("s").split()) == kind.unasked
