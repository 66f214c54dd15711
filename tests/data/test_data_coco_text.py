"""COCO-Text: what is text, what becomes of other marks, and labels that are broken; the real ones where they are."""

import json
import lzma
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

import made_coco_text as made
from kerbseg.cli import main
from kerbseg.core.errors import DataError, RecipeError
from kerbseg.core.types import VOID
from kerbseg.data import open_dataset, splits
from kerbseg.data.coco_text_labels import FILES
from kerbseg.data.doctor import examine_all
from kerbseg.train.recipe_file import read
from kerbseg.train.recipe_sense import check_names

TEXT = 1


@pytest.fixture
def root(tmp_path):
    return made.make(tmp_path / "coco_text")


def counts(dataset):
    """Pixels of text and of void, by the number of a picture."""
    masks = {int(name[-12:]): dataset[index].mask for index, name in enumerate(dataset.names)}
    return {number: (int((mask == TEXT).sum()), int((mask == VOID).sum())) for number, mask in masks.items()}


def write(root, document, name="cocotext.v2.json"):
    (root / name).write_text(json.dumps(document))


@pytest.mark.parametrize("version", ["v2", "v1"])
@pytest.mark.parametrize("geometry", ["polygon", "box"])
@pytest.mark.parametrize("others", ["void", "background", "text"])
def test_pixels_of_text_and_void(root, version, geometry, others):
    triangle = 140 if (version, geometry) == ("v2", "polygon") else 280
    name = f"coco_text:labels={version},geometry={geometry},others={others},subset=all"
    unread = {7: 40, 9: 200, 11: 0, 13: 128}
    text = {7: 200 + triangle, 9: 0, 11: 14 * 8, 13: 0}
    expected = {
        number: (text[number] + (pixels if others == "text" else 0), pixels if others == "void" else 0)
        for number, pixels in unread.items()
    }
    shown = {split: open_dataset(name, split, root) for split in ("train", "val")}
    assert counts(shown["train"]) | counts(shown["val"]) == expected
    assert not shown["train"].left_out
    assert shown["val"].left_out.total() == 1


def test_the_subset_is_of_pictures_with_legible_machine_printed_text(root):
    assert list(counts(open_dataset("coco_text", "train", root))) == [7]
    assert list(counts(open_dataset("coco_text", "val", root))) == [11]
    assert splits("coco_text", root) == ("train", "val", "test")


def test_a_split_without_labels_is_void_and_whole(root):
    test = open_dataset("coco_text", "test", root)
    assert (counts(test), test.labelled) == ({15: (0, 32 * 32)}, False)


def test_text_lies_over_what_nobody_can_read(root):
    unread = (7, (0, 0, 40, 40), None, "illegible", "machine printed")
    for marks in ([made.MARKS[0], unread], [unread, made.MARKS[0]]):
        write(root, made.labels("v2", marks))
        assert counts(open_dataset("coco_text", "train", root)) == {7: (200, 1600 - 200)}


def crosses(points, x, y):
    """Even-odd, by a ray to the left: the textbook's, pixel by pixel."""
    inside = False
    for (x0, y0), (x1, y1) in zip(points, np.roll(points, -1, 0), strict=True):
        if (y0 > y) != (y1 > y) and x0 + (y - y0) * (x1 - x0) / (y1 - y0) <= x:
            inside = not inside
    return inside


def test_a_pixel_is_text_where_its_center_is_inside(root):
    random = np.random.default_rng(0)
    for count in (3, 4, 9):
        outline = random.uniform(-5, 60, 2 * count).round(2)
        write(root, made.labels("v2", [(7, (0, 0, 64, 48), outline.tolist(), "legible", "machine printed")]))
        (mask,) = (sample.mask for sample in [open_dataset("coco_text", "train", root)[0]])
        points = outline.reshape(-1, 2)
        expected = [[crosses(points, x + 0.5, y + 0.5) for x in range(64)] for y in range(48)]
        assert (mask == np.array(expected)).all()


def test_a_box_holds_the_centers_from_its_left_edge_up_to_its_right(root):
    x, y, width, height = 10.5, 3.2, 7.0, 4.4
    write(root, made.labels("v2", [(7, (x, y, width, height), None, "legible", "machine printed")]))
    row, column = np.mgrid[:48, :64] + 0.5
    expected = (x <= column) & (column < x + width) & (y <= row) & (row < y + height)
    assert (open_dataset("coco_text:geometry=box", "train", root)[0].mask == expected).all()


def test_marks_that_cannot_be_drawn_are_left_out_and_counted(root):
    legible = ("legible", "machine printed")
    marks = [
        made.MARKS[0],
        (7, (1, 1, 5, 5), [1, 1, 5, 5], *legible),
        (7, (1, 1, 5, 5), [1, 1, 5, 5, 9, 9], *legible),
        (7, (70, 1, 5, 5), None, *legible),
        (7, (1, 1, 5, 5), [1, 1, 1e9, 1, 1e9, 5], *legible),
    ]
    write(root, made.labels("v2", marks))
    dataset = open_dataset("coco_text", "train", root)
    assert counts(dataset) == {7: (200, 0)}
    assert sorted(dataset.left_out.items()) == [
        ("of fewer than 3 points", 1),
        ("outside of their picture", 1),
        ("with a point that is no place in a picture", 1),
        ("without area", 1),
    ]
    assert "left out 4 mark(s)" in " ".join(dataset.notes)


def test_pictures_that_are_not_there(root):
    (root / "train2014" / made.file_name(7)).unlink()
    message = r"1 of 2 pictures are not in .*train2014: COCO_train2014_000000000007.jpg; .*subset=all,missing=skip"
    with pytest.raises(DataError, match=message):
        open_dataset("coco_text:subset=all", "train", root)
    skipped = open_dataset("coco_text:subset=all,missing=skip", "train", root)
    assert list(counts(skipped)) == [9]
    assert "left out 1 picture(s) that are not there" in " ".join(skipped.notes)


@pytest.mark.parametrize("folder", ["images", "."])
def test_pictures_lie_in_one_of_three_places(root, folder):
    for path in list((root / "train2014").iterdir()):
        (root / folder).mkdir(exist_ok=True)
        path.rename(root / folder / path.name)
    (root / "train2014").rmdir()
    assert list(counts(open_dataset("coco_text", "train", root))) == [7]


def test_gray_pictures_and_pictures_that_exif_turns(root):
    path = root / "train2014" / made.file_name(7)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.open(path).convert("L").save(path, exif=exif)
    sample = open_dataset("coco_text", "train", root)[0]
    assert (sample.image.shape, sample.mask.shape) == ((64, 48, 3), (64, 48))
    (root / "plain").mkdir()
    straight = open_dataset("coco_text", "train", made.make(root / "plain"))[0].mask
    assert (sample.mask == np.rot90(straight, -1)).all()  # words were marked on the picture as it is stored


def test_a_picture_of_another_size_is_refused(root):
    Image.new("RGB", (60, 48)).save(root / "train2014" / made.file_name(7))
    with pytest.raises(DataError, match=r"is 48x60, its labels are for 48x64 \(HxW\)"):
        open_dataset("coco_text", "train", root)[0]


def test_labels_in_the_layout_of_textocr(root):
    document = made.labels("v2")
    for each in document["anns"].values():
        each["points"], each["utf8_string"] = each.pop("mask"), "." if each["legibility"] == "illegible" else "A"
        del each["legibility"], each["class"]
    for version in ("v1", "v2"):
        (root / FILES[version]).unlink()
    for split in ("train", "val"):
        part = {**document, "imgs": {k: v for k, v in document["imgs"].items() if v["set"] == split}}
        write(root, part, f"TextOCR_0.1_{split}.json")
    train = open_dataset("coco_text", "train", root)
    assert train.version == "TextOCR"
    assert counts(train) == {7: (340, 40), 9: (200, 0)}
    assert splits("coco_text", root) == ("train", "val")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d["anns"]["1"].update(mask=[1, 2, 3]), r"anns\[1\]: a polygon of 3 numbers"),
        (lambda d: d["anns"]["1"].pop("mask"), r"anns\[1\]: it has no polygon"),
        (lambda d: d["anns"]["1"].update(bbox="wide"), r"anns\.1\.bbox"),
        (lambda d: d["imgs"]["7"].update(file_name="../a.jpg"), r"imgs\[7\]: file_name '../a.jpg' is no name"),
        (lambda d: d["imgs"]["7"].update(height=0), r"imgs\[7\]: a picture of 64x0"),
        (lambda d: d.pop("imgs"), "imgs: field required"),
    ],
)
def test_a_broken_label_file_is_named_with_the_place(root, change, message):
    document = made.labels("v2")
    change(document)
    write(root, document)
    with pytest.raises(DataError, match=message) as caught:
        open_dataset("coco_text", "train", root)
    assert "cocotext.v2.json" in str(caught.value)


def test_a_box_of_three_numbers(root):
    document = made.labels("v2")
    document["anns"]["1"]["bbox"] = [1, 2, 3]
    write(root, document)
    with pytest.raises(DataError, match=r"anns\[1\]: a bbox of 3 numbers"):
        open_dataset("coco_text:geometry=box", "train", root)


def test_half_a_file_and_no_file(root):
    path = root / "cocotext.v2.json"
    path.write_text(path.read_text()[:500])
    with pytest.raises(DataError, match="no whole JSON"):
        open_dataset("coco_text", "train", root)
    path.unlink()
    with pytest.raises(DataError, match=r"holds no cocotext.v2.json; .*labels=v2"):
        open_dataset("coco_text:labels=v2", "train", root)
    (root / "COCO_Text.json").unlink()
    with pytest.raises(DataError, match="holds no COCO-Text"):
        open_dataset("coco_text", "train", root)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("coco_text:geom=box", "no option 'geom=box'; choose from: paper, geometry=polygon|box"),
        ("coco_text:geometry=bos", "did you mean 'box'"),
        ("coco_text:geometry", "no option 'geometry'"),
        ("coco_text:", "no option ''"),
        ("coco_text:geometry=box,geometry=box", "says 'geometry' twice"),
        ("coco_text:paper=1", "no option 'paper=1'"),
        ("camvid:geometry=box", "data set 'camvid' has no options"),
        ("coco_tex:geometry=box", "did you mean 'coco_text'"),
    ],
)
def test_options_that_do_not_exist(root, name, message):
    with pytest.raises(DataError) as caught:
        open_dataset(name, "train", root)
    assert message in str(caught.value)
    recipe = read("coco_text/mininet_v2_cpu")
    recipe = replace(recipe, data=replace(recipe.data, name=name))
    with pytest.raises(RecipeError, match=r"'data\.name': "):
        check_names(recipe)


def test_a_name_says_the_options_that_are_not_the_usual_ones(root, monkeypatch):
    paper = open_dataset("coco_text:paper", "train", root)
    assert paper.name == "coco_text:geometry=box,others=background"
    assert paper.described == "labels v2, geometry box, others background, subset legible_printed"
    assert open_dataset(paper.name, "train", root).name == paper.name
    assert open_dataset("coco_text:geometry=polygon", "train", root).name == "coco_text"
    monkeypatch.setenv("KERBSEG_DATA", str(root.parent))
    assert len(open_dataset("coco_text:subset=all", "train")) == 2


def test_the_doctor_shows_shares_and_what_was_left_out(root, capsys):
    main(["doctor", "coco_text", "--data-root", str(root)])
    shown = " ".join(capsys.readouterr().out.split())
    assert "labels v2, geometry polygon, others void, subset legible_printed" in shown
    assert "left out 1 mark(s): 1 of fewer than 3 points" in shown
    assert "healthy" in shown
    report = examine_all("coco_text:subset=all", root)
    assert report.healthy
    by_split = {split.split: split for split in report.splits}
    assert (by_split["train"].pixels[TEXT], by_split["train"].void, by_split["test"].unlabelled) == (340, 240, 1)


def test_the_doctor_lists_all_that_is_missing(root):
    for number in (7, 9):
        (root / "train2014" / made.file_name(number)).unlink()
    (problem,) = examine_all("coco_text:subset=all", root).problems
    assert problem.kind == "partner"
    assert [file[-6:-4] for file in problem.files] == ["07", "09"]


@pytest.fixture(scope="module")
def sample61(kerbseg_data):
    place = kerbseg_data / "coco_text" / "sample61"
    if not place.is_dir():
        pytest.skip("needs 61 real pictures: KERBSEG_DATA holds no coco_text/sample61/")
    return place


def test_real_pictures(sample61):
    both = [
        (open_dataset("coco_text", split, sample61), open_dataset("coco_text:geometry=box", split, sample61))
        for split in ("train", "val")
    ]
    assert [len(polygons) for polygons, _ in both] == [13, 4]
    sums = np.zeros(6)
    for polygons, boxes in both:
        for one, other in zip(polygons, boxes, strict=True):
            mask, box = one.mask == TEXT, other.mask == TEXT
            sums += mask.sum(), box.sum(), (one.mask == VOID).sum(), mask.size, (mask & box).sum(), (mask | box).sum()
    assert np.allclose(sums[:4], (66_128, 112_403, 33_314, 4_925_520), rtol=0.002)
    assert sums[4] / sums[5] == pytest.approx(0.588, abs=0.001)


LISTING = """
import pathlib, re, sys
from kerbseg.data import open_dataset
for name in ("coco_text:subset=all", "coco_text"):
    print(sum(len(open_dataset(name, split, sys.argv[1])) for split in ("train", "val")))
status = pathlib.Path("/proc/self/status").read_text()  # getrusage would have the peak of this one's parent too
print(int(re.search(r"VmHWM:\\s+(\\d+)", status)[1]) // 1024)
"""


@pytest.mark.slow
def test_all_pictures_of_version_2_are_listed_within_a_gigabyte(kerbseg_data, tmp_path):
    source = kerbseg_data / "coco_text" / "explorer_v2_all.jsonl.xz"
    if not source.is_file():
        pytest.skip("needs all labels of version 2: KERBSEG_DATA holds no coco_text/explorer_v2_all.jsonl.xz")
    document = {"imgs": {}, "anns": {}}
    (tmp_path / "train2014").mkdir()
    with lzma.open(source, "rt") as lines:
        for row, line in enumerate(lines):
            number, marks = json.loads(line)
            name, split = made.file_name(number), "train" if row % 5 else "val"
            image = {"id": number, "set": split, "width": 640, "height": 640, "file_name": name}
            document["imgs"][str(number)] = image
            (tmp_path / "train2014" / name).touch()
            for id, illegible, handwritten, _, text, mask in marks:
                box = [min(mask[::2]), min(mask[1::2]), np.ptp(mask[::2]).item(), np.ptp(mask[1::2]).item()]
                each = {"id": id, "image_id": number, "bbox": box, "mask": mask, "utf8_string": text}
                each["legibility"] = "illegible" if illegible else "legible"
                each["class"] = "handwritten" if handwritten else "machine printed"
                document["anns"][str(id)] = each
    write(tmp_path, document)
    command = [sys.executable, "-c", LISTING, str(tmp_path)]
    whole, subset, mebibytes = map(int, subprocess.run(command, check=True, capture_output=True).stdout.split())
    assert (whole, subset) == (53_686, 17_141)
    assert mebibytes < 1000


@pytest.mark.parametrize(
    ("picture", "change", "message"),
    [
        ("9", {"id": 7}, r"imgs\[9\] has the id 7 of a picture before it"),
        ("9", {"set": "trian"}, r"imgs\[9\] is of set 'trian'; did you mean 'train'"),
    ],
)
def test_pictures_that_would_be_lost_in_silence(root, picture, change, message):
    document = made.labels()
    document["imgs"][picture] |= change
    write(root, document)
    with pytest.raises(DataError, match=message):
        open_dataset("coco_text", "train", root)


def test_marks_of_no_picture_are_counted(root):
    document = made.labels()
    document["anns"]["1"]["image_id"] = 777
    write(root, document)
    shown = open_dataset("coco_text", "train", root)
    assert counts(shown) == {7: (140, 40)}
    assert shown.left_out == {"of pictures that the file does not name": 1}


def test_files_beside_each_other_do_not_contradict(root):
    for version in FILES.values():
        (root / version).unlink(missing_ok=True)
    document = made.labels()
    write(root, document, "a.json")
    document["anns"]["2"]["bbox"][0] += 1
    write(root, document, "b.json")
    with pytest.raises(DataError, match=r"b\.json has another '2' than a file beside it"):
        open_dataset("coco_text", "train", root)


def test_no_picture_at_all_is_said_as_what_it_is(root):
    write(root, made.labels() | {"imgs": {}})
    with pytest.raises(DataError, match="names no picture"):
        open_dataset("coco_text", "train", root)
    document = made.labels()
    for each in document["imgs"].values():
        each["file_name"] = "none.jpg"
    write(root, document)
    with pytest.raises(DataError, match="none of its pictures is in"):
        open_dataset("coco_text:missing=skip", "train", root).check()
