"""The contact sheet shows what is there of a data set, whatever is broken in it."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kerbseg.apps import contact_sheet
from kerbseg.apps.contact_sheet import page
from kerbseg.cli import main
from kerbseg.data.doctor import examine, examine_all
from kerbseg.data.report import DatasetReport
from kerbseg.data.scenes import Scenes


def check(text: str) -> None:
    assert not re.search(r'(?:src|href)="(?!data:)', text)
    assert "<script" not in text
    assert text.count("<img ") == text.count('alt="') >= text.count("data:image/jpeg;base64,")


def test_a_healthy_data_set_shows_pictures_and_classes(camvid_root: Path) -> None:
    report = examine_all("camvid", camvid_root)
    text = page(report, camvid_root)
    check(text)
    assert "Healthy: nothing to mend." in text
    assert text.count("<img ") == 8
    assert "train/train_003" in text
    for split in report.splits:
        assert f"{100 * split.shares[3]:.2f}\N{NO-BREAK SPACE}%" in text


def test_the_sheet_takes_pictures_at_equal_distances(camvid_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contact_sheet, "MOST_CARDS", 6)  # two a split
    text = page(examine_all("camvid", camvid_root), camvid_root)
    assert text.count("<img ") == 6
    assert "train/train_000" in text
    assert "train/train_003" in text
    assert "train/train_001" not in text


def spoil(root: Path) -> None:
    """A fault of each kind, and names that are code."""
    config = root / "dataset.yaml"
    config.write_text(config.read_text().replace("name: grass", "name: '<script>grass</script>'"))
    images, masks = root / "images" / "train", root / "masks" / "train"
    Image.new("L", (20, 20)).save(masks / "000.png")
    (images / "walk" / "001.jpg").write_bytes(b"no picture")
    (masks / "002.png").write_bytes(b"")
    ids = np.array(Image.open(masks / "walk" / "003.png"))
    ids[3, 5] = 99
    Image.fromarray(ids).save(masks / "walk" / "003.png")
    Image.new("RGB", (48, 32)).save(images / "<script>alone.png")
    (images / "<script>lost.png").write_bytes(b"no picture")
    copy = root / "images" / "val" / "copy.png"
    Image.open(root / "images" / "val" / "000.jpg").save(copy)
    Image.open(copy).save(images / "copy.png")
    Image.new("L", (48, 32), 2).save(root / "masks" / "val" / "copy.png")
    Image.new("L", (48, 32), 2).save(masks / "copy.png")


def test_every_problem_is_on_the_sheet_of_a_broken_data_set(folder_root: Path) -> None:
    spoil(folder_root)
    report = examine_all("folder", folder_root)
    assert {each.kind for each in report.problems} == {"size", "unreadable", "unknown", "partner", "leak"}
    text = page(report, folder_root)
    check(text)
    assert text.count('<div class="case">') == len(report.problems)
    for note in ("the mask has another size", "cannot be read", "unknown values: 99", "no partner"):
        assert f'<span class="bad">{note}</span>' in text
    assert "&lt;script&gt;grass&lt;/script&gt;" in text
    leak = text[text.index("<b>leak</b>") :]
    assert "train/copy" in leak[: leak.index("</div></div>")] or "train/copy" in leak[:200_000]


def test_the_command_writes_the_sheet_of_a_broken_data_set_and_keeps_its_status(
    folder_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spoil(folder_root)
    sheet = tmp_path / "sheet.html"
    with pytest.raises(SystemExit) as ended:
        main(["doctor", "folder", "--data-root", str(folder_root), "--html", str(sheet)])
    assert ended.value.code == 2
    said = capsys.readouterr()
    assert str(sheet) in said.out
    assert "class weights" not in said.out, "of wrong counts"
    assert "problem(s)" in said.err
    check(sheet.read_text())


@pytest.mark.parametrize("fault", ["nothing to open", "dataset.yaml"])
def test_a_data_set_that_cannot_be_opened_has_a_sheet_that_says_so(
    fault: str, folder_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sheet, root = tmp_path / "sheet.html", folder_root
    if fault == "dataset.yaml":
        (root / "dataset.yaml").write_text("nane: park\n")
    else:
        root = tmp_path / "<nowhere>"
    with pytest.raises(SystemExit) as ended:
        main(["doctor", "folder", "--data-root", str(root), "--html", str(sheet)])
    assert ended.value.code == 2
    text = sheet.read_text()
    check(text)
    assert "<b>layout</b>" in text
    assert ("unknown key nane" if fault == "dataset.yaml" else "&lt;nowhere&gt; does not exist") in text


def test_a_data_set_without_files_has_a_sheet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contact_sheet, "open_unchecked", lambda name, split, root: Scenes(split, 3, (48, 96)))
    text = page(DatasetReport("scenes", (examine(Scenes("val", 3, (48, 96))),)))
    check(text)
    assert "val/val_00000" in text
