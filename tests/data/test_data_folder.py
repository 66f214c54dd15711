"""A user's own data set is read as its dataset.yaml says, and every slip there is named."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kerbseg.core.errors import DataError
from kerbseg.core.types import VOID
from kerbseg.data import open_dataset, splits
from kerbseg.data.dataset_yaml import distinct_colors, read_labels


def labels_of(tmp_path: Path, text: str) -> object:
    path = tmp_path / "dataset.yaml"
    path.write_text(text)
    return read_labels(path)


def test_ids_become_positions(folder_root: Path) -> None:
    train = open_dataset("folder", "train", folder_root)
    assert train.labels.name == "park"
    assert train.labels.classes == ("path", "grass", "water")
    sample = train[0]
    stored = np.array(Image.open(folder_root / "masks" / "train" / f"{sample.name}.png"))
    for file_id, train_id in {1: 0, 4: 0, 2: 1, 7: 2, 0: VOID}.items():
        assert (sample.mask[stored == file_id] == train_id).all()


def test_subfolders_are_paired_by_path(folder_root: Path) -> None:
    train = open_dataset("folder", "train", folder_root)
    assert [train[i].name for i in range(4)] == ["000", "002", "walk/001", "walk/003"]
    assert splits("folder", folder_root) == ("train", "val")


def test_same_stem_in_two_subfolders_are_two_pictures(folder_root: Path) -> None:
    for kind, suffix in (("images", "jpg"), ("masks", "png")):
        source = folder_root / kind / "val" / f"000.{suffix}"
        (folder_root / kind / "val" / "other").mkdir()
        (folder_root / kind / "val" / "other" / f"000.{suffix}").write_bytes(source.read_bytes())
    assert len(open_dataset("folder", "val", folder_root)) == 3


def test_defaults(tmp_path: Path) -> None:
    root = tmp_path / "yard"
    root.mkdir()
    labels = labels_of(root, "classes: [{name: a}, {name: b}]")
    assert labels.name == "yard"  # type: ignore[attr-defined]
    assert labels.file_ids == {0: 0, 1: 1}  # type: ignore[attr-defined]
    assert labels.ignored_file_ids == {255}  # type: ignore[attr-defined]
    assert len(set(labels.colors) | {(0, 0, 0)}) == 3  # type: ignore[attr-defined]


def test_background_is_what_is_called_so_or_said_to_be(tmp_path: Path) -> None:
    text = "classes: [a, Background, {name: rest, background: true}]"
    assert labels_of(tmp_path, text).background == {"Background", "rest"}  # type: ignore[attr-defined]
    text = "classes: [a, {name: background, background: false}]"
    assert labels_of(tmp_path, text).background == frozenset()  # type: ignore[attr-defined]


def test_255_may_be_a_class(tmp_path: Path) -> None:
    labels = labels_of(tmp_path, "classes: [{name: no, ids: [0]}, {name: yes it is, ids: [255]}]".replace("no", "'no'"))
    assert labels.file_ids == {0: 0, 255: 1}  # type: ignore[attr-defined]
    assert labels.ignored_file_ids == frozenset()  # type: ignore[attr-defined]


def test_colours(tmp_path: Path) -> None:
    labels = labels_of(tmp_path, "classes: [{name: a, color: [1, 2, 3]}, {name: b, color: '#ff8000'}, {name: c}]")
    assert labels.colors[:2] == ((1, 2, 3), (255, 128, 0))  # type: ignore[attr-defined]


def test_chosen_colours_are_far_apart() -> None:
    colors = distinct_colors([None, (255, 255, 255), *[None] * 20])
    assert colors[1] == (255, 255, 255)
    points = np.array([(0, 0, 0), *colors])
    distance = np.linalg.norm(points[:, None] - points, axis=-1) + 1e9 * np.eye(len(points))
    assert distance.min() > 80
    assert len(set(distinct_colors([None] * 255))) == 255


WRONG = {
    "name: x": r"classes must be a list such as \[\{name: road\}\], found None",
    "classes: []": r"classes must be a list such as",
    "classes: [3]": r"classes\[0\] must be a name such as road, or a mapping such as \{name: road\}, found 3",
    "klasses: [{name: a}]": r"unknown key klasses; did you mean 'classes'\?",
    "classes: [{name: a, colour: [1, 2, 3]}]": r"unknown key classes\[0\]\.colour; did you mean 'color'\?",
    "classes: [{name: a}, {ids: [3]}]": r"classes\[1\]\.name must be text, found nothing; add it",
    "classes: [{name: no}]": r"classes\[0\]\.name must be text, found False; add it, or put it in quotes",
    "classes: [{name: a}, {name: a}]": r"classes name 'a' stands twice",
    "classes: [{name: a, color: [1, 2]}]": r"classes\[0\]\.color must be \[r, g, b\] .* found \[1, 2\]",
    "classes: [{name: a, color: [1, 2, 256]}]": r"classes\[0\]\.color must be",
    "classes: [{name: a, color: red}]": r"classes\[0\]\.color must be .* found 'red'",
    "classes: [{name: a, ids: 3}]": r"classes\[0\]\.ids must be a list of ids 0\.\.255 such as \[3, 7\], found 3",
    "classes: [{name: a, ids: []}]": r"classes\[0\]\.ids must be a list",
    "classes: [{name: a, ids: [256]}]": r"classes\[0\]\.ids must be a list",
    "classes: [{name: a, ids: [true]}]": r"classes\[0\]\.ids must be a list",
    "classes: [{name: a, background: 1}]": r"classes\[0\]\.background must be true or false, found 1; write background",
    "classes: [{name: a, ids: [3, 3]}]": r"classes\[0\]\.ids holds an id twice",
    "classes: [{name: a, ids: [1]}, {name: b}]": r"id 1 of classes\[1\] \(b\) belongs to class 'a' already",
    "classes: [{name: a}]\nignore: [0]": r"id 0 in ignore belongs to class 'a' too",
    "classes: [{name: a}]\nignore: 255": r"ignore must be a list of ids",
    "classes: [{name: a}]\nname: 3": r"name must be text, found 3",
    "- a": r"must hold keys \(name, classes, ignore, masks, split, paths\), found list",
    "classes: [": r"is no valid YAML",
    "classes: [{name: a}]\nname: x\nname: y": r"is no valid YAML: .*key 'name' stands twice",
}


@pytest.mark.parametrize("text", WRONG)
def test_slip_is_named(tmp_path: Path, text: str) -> None:
    with pytest.raises(DataError, match=rf"dataset\.yaml:? {WRONG[text]}") as caught:
        labels_of(tmp_path, text)
    assert "\n" not in str(caught.value)


def test_too_many_classes(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="256 classes; ids are uint8"):
        labels_of(tmp_path, "classes:\n" + "".join(f"  - {{name: c{i}}}\n" for i in range(256)))


def test_what_is_missing_is_named(folder_root: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no split 'trian'; did you mean 'train'\?"):
        open_dataset("folder", "trian", folder_root)
    (folder_root / "masks" / "val" / "000.png").unlink()
    with pytest.raises(DataError, match=r"1 picture\(s\) without mask, the first is .*val.000\.jpg"):
        open_dataset("folder", "val", folder_root)
    (folder_root / "dataset.yaml").unlink()
    with pytest.raises(DataError, match=r"dataset\.yaml does not exist; it names the classes"):
        open_dataset("folder", "train", folder_root)
    empty = tmp_path / "empty"
    (empty / "images").mkdir(parents=True)
    with pytest.raises(DataError, match=r"has no folder for a split; move the pictures into images/train"):
        splits("folder", empty)
    (empty / "images").rename(empty / "pictures")
    with pytest.raises(DataError, match=r"has no folder images; put pictures into images/train"):
        splits("folder", empty)


def test_id_outside_the_label_set_is_told(folder_root: Path) -> None:
    path = folder_root / "masks" / "val" / "000.png"
    ids = np.array(Image.open(path))
    ids[0, 0] = 9
    Image.fromarray(ids).save(path)
    with pytest.raises(DataError, match=r"000\.png: 1 pixels .*'park' \(9 x1; the first at row 0, column 0\)"):
        open_dataset("folder", "val", folder_root)[0]


def test_sizes_that_differ_are_told(folder_root: Path) -> None:
    Image.new("L", (40, 32)).save(folder_root / "masks" / "val" / "000.png")
    with pytest.raises(DataError, match=r"000\.png is 32x40 but picture .*000\.jpg is 32x48 \(HxW\)"):
        open_dataset("folder", "val", folder_root)[0]
