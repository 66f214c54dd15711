"""Corrections become training data: pictures and masks in the folder form, and nothing that is there is lost."""

import shutil

import numpy as np
import pytest
import yaml
from PIL import Image

from kerbseg.core.errors import KerbsegError
from kerbseg.core.labels import LabelSet, label_set
from kerbseg.core.types import VOID
from kerbseg.data import open_dataset
from kerbseg.data.doctor import examine
from kerbseg.page.corrections import Corrections

CAMVID = label_set("camvid")
SHAPES = [
    CAMVID,
    label_set("cityscapes"),  # whose ids in files are others
    label_set("text"),  # with a black class
    LabelSet("gray", ("a", "b"), ((0, 0, 0), (255, 255, 255)), {255: 0, 3: 1}),  # 255 is a class in its files
    LabelSet("plain", ("a", "b", "c"), ((1, 1, 1), (1, 1, 1), (2, 2, 2))),
]


@pytest.fixture
def picture(tmp_path):
    """What makes a picture's file."""

    def make(name="street.png", seed=0):
        path = tmp_path / "uploads" / str(seed) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(seed).integers(0, 256, (12, 16, 3), np.uint8)
        Image.fromarray(pixels).save(path)
        return path

    return make


def ids_of(labels, void=True):
    ids = (np.arange(12 * 16) % len(labels)).astype(np.uint8).reshape(12, 16)
    ids[:2] = VOID if void else 0
    return ids


# ---- the data set


@pytest.mark.parametrize("labels", SHAPES, ids=lambda labels: labels.name)
def test_what_is_saved_is_what_training_reads(labels, picture, tmp_path):
    corrections = Corrections(tmp_path / "fixes", labels)
    corrections.save(picture(), ids_of(labels), "street.png")
    dataset = open_dataset("folder", "train", tmp_path / "fixes")
    assert dataset.labels.classes == labels.classes
    assert dataset.labels.background == labels.background
    sample = dataset[0]
    assert sample.name == "street"
    assert (sample.mask == ids_of(labels)).all()
    assert (sample.image == np.asarray(Image.open(picture()))).all()
    assert len(corrections) == 1


def test_masks_show_the_classes_in_the_colors_of_the_page(picture, tmp_path):
    saved = Corrections(tmp_path / "fixes", CAMVID).save(picture(), ids_of(CAMVID), "street.png")
    with Image.open(saved.mask) as mask:
        assert mask.mode == "P"
        from kerbseg.core.display import display_palette

        assert (np.asarray(mask.convert("RGB"))[5] == display_palette(CAMVID)[ids_of(CAMVID)[5]]).all()


def test_ids_in_files_are_those_of_the_label_set(picture, tmp_path):
    cityscapes = label_set("cityscapes")
    saved = Corrections(tmp_path / "fixes", cityscapes).save(picture(), ids_of(cityscapes), "a.png")
    assert set(np.unique(np.asarray(Image.open(saved.mask)))) == {*cityscapes.submission_ids, 255}


def test_the_doctor_finds_nothing_wrong(picture, tmp_path):
    corrections = Corrections(tmp_path / "fixes", CAMVID)
    for seed in range(3):
        corrections.save(picture(f"{seed}.jpg", seed), ids_of(CAMVID), f"{seed}.jpg")
    report = examine(open_dataset("folder", "train", tmp_path / "fixes"))
    assert [problem for problem in report.problems if problem.kind == "partner"] == []


def test_a_data_set_of_ones_own_keeps_its_ids_and_its_file(picture, tmp_path):
    root = tmp_path / "mine"
    root.mkdir()
    classes = [{"name": name, "ids": [n + 20, n + 60]} for n, name in enumerate([*reversed(CAMVID.classes), "more"])]
    text = yaml.safe_dump({"classes": classes, "ignore": [0]})
    (root / "dataset.yaml").write_text(text)
    saved = Corrections(root, CAMVID).save(picture(), ids_of(CAMVID), "street.png")
    assert (root / "dataset.yaml").read_text() == text
    assert saved.mask == root / "masks" / "train" / "street.png"
    dataset = open_dataset("folder", "train", root)
    expected = [dataset.labels.classes.index(CAMVID.classes[i]) for i in ids_of(CAMVID)[5]]
    assert dataset[0].mask[5].tolist() == expected
    assert (dataset[0].mask[:2] == VOID).all()


def test_a_data_set_that_draws_its_splits_has_no_folders_of_them(picture, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "dataset.yaml").write_text(yaml.safe_dump({"classes": list(CAMVID.classes), "split": 1.0}))
    saved = Corrections(tmp_path / "mine", CAMVID).save(picture(), ids_of(CAMVID), "street.png")
    assert saved.picture == tmp_path / "mine" / "images" / "street.png"
    assert (open_dataset("folder", "train", tmp_path / "mine")[0].mask == ids_of(CAMVID)).all()


@pytest.mark.parametrize(
    ("document", "line"),
    [
        ({"classes": ["sky", "road"]}, "has no class 'building', which the model has"),
        (
            {"classes": [{"name": n, "color": [i, 9, 9]} for i, n in enumerate(CAMVID.classes)], "masks": "color"},
            "colors",
        ),
        (None, "is no data set, it holds other files"),
        ({"clases": []}, "unknown key clases"),
    ],
)
def test_a_folder_that_cannot_take_them_is_refused_at_once(document, line, tmp_path):
    root = tmp_path / "mine"
    root.mkdir()
    (root / "notes.txt").write_text("mine")
    if document is not None:
        (root / "dataset.yaml").write_text(yaml.safe_dump(document))
    with pytest.raises(KerbsegError, match=line):
        Corrections(root, CAMVID)
    assert sorted(path.name for path in root.iterdir()) == ["dataset.yaml", "notes.txt"][document is None :]


def test_without_an_id_for_no_class_such_pixels_are_refused(picture, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "dataset.yaml").write_text(yaml.safe_dump({"classes": list(CAMVID.classes), "ignore": []}))
    corrections = Corrections(tmp_path / "mine", CAMVID)
    with pytest.raises(KerbsegError, match=r"add ignore: \[255\]"):
        corrections.save(picture(), ids_of(CAMVID), "street.png")
    corrections.save(picture(), ids_of(CAMVID, void=False), "street.png")


# ---- nothing is lost


def test_a_mask_is_replaced_only_where_that_is_asked_for(picture, tmp_path):
    corrections = Corrections(tmp_path / "fixes", CAMVID)
    saved = corrections.save(picture(), ids_of(CAMVID), "street.png")
    before = saved.mask.read_bytes()
    other = np.zeros_like(ids_of(CAMVID))
    with pytest.raises(KerbsegError, match="is there already; tick Replace"):
        corrections.save(picture(), other, "street.png")
    assert saved.mask.read_bytes() == before
    assert corrections.save(picture(), other, "street.png", replace=True) == saved
    assert (open_dataset("folder", "train", tmp_path / "fixes")[0].mask == 0).all()
    assert len(corrections) == 1


@pytest.mark.parametrize("replace", [False, True])
def test_another_picture_of_the_same_name_gets_a_number(replace, picture, tmp_path):
    corrections = Corrections(tmp_path / "fixes", CAMVID)
    first = corrections.save(picture(seed=0), ids_of(CAMVID), "street.png")
    kept = first.picture.read_bytes(), first.mask.read_bytes()
    second = corrections.save(picture(seed=1), ids_of(CAMVID), "street.png", replace)
    third = corrections.save(picture("street.jpg", seed=2), ids_of(CAMVID), "street.jpg", replace)
    assert (second.picture.name, second.mask.name) == ("street-2.png", "street-2.png")
    assert (third.picture.name, third.mask.name) == ("street-3.jpg", "street-3.png")
    assert (first.picture.read_bytes(), first.mask.read_bytes()) == kept
    assert open_dataset("folder", "train", tmp_path / "fixes").names == ["street", "street-2", "street-3"]


def test_a_full_disk_leaves_nothing_half_done(picture, tmp_path, monkeypatch):
    corrections = Corrections(tmp_path / "fixes", CAMVID)

    def fails(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shutil, "copyfile", fails)
    with pytest.raises(KerbsegError, match="No space left on device; free space"):
        corrections.save(picture(), ids_of(CAMVID), "street.png")
    assert [path for path in (tmp_path / "fixes").rglob("*") if path.is_file()] == []


def test_a_place_that_cannot_be_written_is_refused_at_once(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(KerbsegError, match="cannot write"):
        Corrections(tmp_path / "file" / "fixes", CAMVID)


@pytest.mark.parametrize("name", ["...hidden.png", "../../street.png", "é.png", "plain"])
def test_odd_names_of_uploads_become_names_in_the_data_set(name, picture, tmp_path):
    saved = Corrections(tmp_path / "fixes", CAMVID).save(picture(), ids_of(CAMVID), name)
    assert saved.picture.parent == tmp_path / "fixes" / "images" / "train"
    assert saved.picture.suffix == ".png"
    assert len(open_dataset("folder", "train", tmp_path / "fixes")) == 1
