"""Masks that lie: what training would learn wrongly, or refuse, the doctor tells once, with a remedy that works."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from kerbseg.core.errors import DataError
from kerbseg.core.types import VOID
from kerbseg.data import open_dataset, splits
from kerbseg.data.doctor import examine_all, on_terminal, render
from kerbseg.data.report import Problem

SKY, ROAD, CAR = (70, 130, 180), (128, 64, 128), (0, 0, 142)
COLORS = np.array([SKY, ROAD, CAR], np.uint8)
CLASSES = "classes: [{name: sky}, {name: road}, {name: car}]\n"
COLORED = "classes:\n" + "".join(
    f"  - {{name: {name}, color: [{', '.join(map(str, color))}]}}\n"
    for name, color in {"sky": SKY, "road": ROAD, "car": CAR}.items()
)


def scene(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A picture whose pixels show their class, and its ids: sky above a road, and a car on it."""
    random = np.random.default_rng(seed)
    ids = np.zeros((24, 32), np.uint8)
    ids[10 + seed % 4 :] = 1
    ids[16:22, 3 + seed : 11 + seed] = 2
    picture = COLORS[ids] + random.integers(0, 30, (24, 32, 3), np.uint8)
    return picture, ids


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A healthy data set of 4 / 2 scenes."""
    root = tmp_path / "town"
    for split, seeds in {"train": range(4), "val": range(4, 6)}.items():
        for kind in ("images", "masks"):
            (root / kind / split).mkdir(parents=True)
        for seed in seeds:
            picture, ids = scene(seed)
            Image.fromarray(picture).save(root / "images" / split / f"{seed}.jpg", quality=95)
            Image.fromarray(ids).save(root / "masks" / split / f"{seed}.png")
    (root / "dataset.yaml").write_text(CLASSES)
    return root


def problems(root: Path) -> tuple[Problem, ...]:
    return examine_all("folder", root).problems


def masks(root: Path) -> list[Path]:
    return sorted((root / "masks").rglob("*.png"))


def redraw(root: Path, change: Callable[[np.ndarray], Image.Image | np.ndarray]) -> None:
    for path in masks(root):
        changed = change(np.array(Image.open(path)))
        (changed if isinstance(changed, Image.Image) else Image.fromarray(changed)).save(path)


def palette_mask(ids: np.ndarray, colors: list[tuple[int, int, int]]) -> Image.Image:
    image = Image.fromarray(ids)
    image.putpalette([value for color in colors for value in color])
    return image


def test_healthy(root: Path) -> None:
    assert problems(root) == ()


def test_binary_masks_of_0_and_255_and_the_remedy(root: Path) -> None:
    (root / "dataset.yaml").write_text("classes: [{name: background}, {name: road}]")
    redraw(root, lambda ids: np.where(ids == 0, 0, 255).astype(np.uint8))
    (problem,) = problems(root)
    assert problem.kind == "absent"
    assert "no pixel is of 'road'" in problem.text
    assert "255, which is ignored: if that is 'road', give the class this id" in problem.text
    assert "{name: road, ids: [255]}, and take it out of ignore" in problem.text
    (root / "dataset.yaml").write_text("classes: [{name: background}, {name: road, ids: [255]}]")
    assert problems(root) == ()
    assert VOID not in open_dataset("folder", "train", root)[0].mask


def test_class_without_a_pixel_in_train(root: Path) -> None:
    (root / "dataset.yaml").write_text(CLASSES.replace("]", ", {name: tram}]"))
    (problem,) = problems(root)
    assert problem.kind == "absent"
    assert "train: no pixel is of 'tram'" in problem.text
    assert "(1 of 4 classes)" in problem.text


def test_split_without_a_labelled_pixel(root: Path) -> None:
    for path in (root / "masks" / "val").iterdir():
        Image.new("L", (32, 24), 255).save(path)
    (problem,) = problems(root)
    assert (problem.kind, "val: no pixel belongs to a class" in problem.text) == ("unlabelled", True)


def test_mask_of_void_alone_among_others_is_noted(root: Path) -> None:
    assert examine_all("folder", root).splits[1].notes == ()
    Image.new("L", (32, 24), 255).save(root / "masks" / "val" / "5.png")
    report = examine_all("folder", root)
    assert report.healthy
    assert [split.notes for split in report.splits] == [(), ("val: 1 mask(s) hold void alone, the first is of 5",)]


def test_jpeg_masks_are_refused_whatever_their_name(root: Path) -> None:
    for path in masks(root):
        Image.open(path).save(path, "JPEG", quality=95)
    told = [problem.text for problem in problems(root)]
    assert len(told) == 2  # a split
    assert "0.png is a JPEG, which alters ids along every border; export the masks again, as PNG" in told[0]
    assert "(and 3 more like it)" in told[0]
    with pytest.raises(DataError, match="is a JPEG, which alters ids"):
        open_dataset("folder", "train", root)[0]


def test_jpeg_within_a_tiff_alters_ids_too(root: Path) -> None:
    for path in masks(root):
        Image.open(path).save(path.with_suffix(".tif"), compression="jpeg")
        path.unlink()
    with pytest.raises(DataError, match="is a JPEG, which alters ids"):
        open_dataset("folder", "train", root)[0]


def test_palette_that_an_optimizer_renumbered_is_refused(root: Path) -> None:
    """The colors are those of dataset.yaml, and the ids of two of the classes are swapped."""
    (root / "dataset.yaml").write_text(COLORED)
    redraw(root, lambda ids: palette_mask(ids, [SKY, ROAD, CAR]))
    assert problems(root) == ()
    path = root / "masks" / "train" / "2.png"
    ids = np.array(Image.open(path))
    palette_mask(np.array([1, 0, 2], np.uint8)[ids], [ROAD, SKY, CAR]).save(path)
    (problem,) = problems(root)
    assert "2.png: pixels of id 0 have the palette's color (128, 64, 128), which is that of id 1" in problem.text
    assert "export the masks again, as 8-bit gray PNG" in problem.text
    with pytest.raises(DataError, match="an optimizer renumbered the palette"):
        open_dataset("folder", "train", root)[2]
    Image.fromarray(ids).save(path)  # the remedy
    assert problems(root) == ()


def test_palettes_that_differ_between_masks_are_told_without_given_colors(root: Path) -> None:
    redraw(root, lambda ids: palette_mask(ids, [SKY, ROAD, CAR]))
    path = root / "masks" / "train" / "2.png"
    palette_mask(np.array([1, 0, 2], np.uint8)[np.array(Image.open(path))], [ROAD, SKY, CAR]).save(path)
    (problem,) = problems(root)
    assert problem.kind == "palette"
    assert problem.files == (str(path),)
    assert "id 0 is (70, 130, 180) in the palettes of 3 mask(s), and (128, 64, 128) in 1" in problem.text


def test_palette_unlike_the_given_colors_and_the_remedy(root: Path) -> None:
    (root / "dataset.yaml").write_text(COLORED)
    redraw(root, lambda ids: palette_mask(ids, [(1, 1, 200), (1, 200, 1), (200, 1, 1)]))
    told = problems(root)
    assert [problem.kind for problem in told] == ["palette", "palette"]  # a split
    assert "id 0 is (1, 1, 200) in the palettes of 4 mask(s)" in told[0].text
    assert "but (70, 130, 180) in dataset.yaml; give the class the palette's color there, or no color" in told[0].text
    (root / "dataset.yaml").write_text(CLASSES)
    assert problems(root) == ()


def test_gray_mask_that_an_optimizer_gave_a_palette_is_refused(root: Path) -> None:
    redraw(root, lambda ids: palette_mask(np.array([2, 0, 1], np.uint8)[ids], [(1, 1, 1), (2, 2, 2), (0, 0, 0)]))
    with pytest.raises(DataError, match=r"pixels of id 0 have the palette's color \(1, 1, 1\), which is that of id 1"):
        open_dataset("folder", "train", root)[0]


@pytest.mark.parametrize("palette", [[(0, 0, 0), (128, 128, 128), (255, 255, 255)], [(i, i, i) for i in range(256)]])
def test_gray_palette_that_says_nothing_of_ids_is_no_problem(root: Path, palette: list[tuple[int, int, int]]) -> None:
    redraw(root, lambda ids: palette_mask(ids, palette))
    assert problems(root) == ()


def test_odd_size_is_told_once(root: Path) -> None:
    for name in ("1", "3"):
        Image.new("RGB", (40, 24)).save(root / "images" / "train" / f"{name}.jpg")
        Image.new("L", (40, 24)).save(root / "masks" / "train" / f"{name}.png")
    (problem,) = [problem for problem in problems(root) if problem.kind == "size"]
    assert "train: 2 picture(s) are 24x32 (HxW), but 2 are not, the first is 1 of 24x40" in problem.text
    assert "data.size=[24,32]" in problem.text
    assert [Path(path).stem for path in problem.files] == ["1", "3"]


def test_missing_val_split(root: Path) -> None:
    for kind in ("images", "masks"):
        (root / kind / "val").rename(root / kind / "test")
    report = examine_all("folder", root)
    assert report.healthy
    [note] = [note for split in report.splits for note in split.notes]
    assert "there is no split 'val': kerbseg train own validates on a fifth" in note


def test_missing_train_split(root: Path) -> None:
    for kind in ("images", "masks"):
        (root / kind / "train").rename(root / kind / "training")
    assert "there is no split 'train', only val, training" in problems(root)[0].text


def test_what_belongs_to_no_split_is_told(root: Path) -> None:
    (root / "images" / "7.jpg").write_bytes((root / "images" / "val" / "4.jpg").read_bytes())
    (root / "masks" / "test").mkdir()
    told = [problem.text for problem in problems(root)]
    assert [problem.kind for problem in problems(root)] == ["layout", "layout"]
    assert "1 file(s) lie right in" in told[0]
    assert "7.jpg, and belong to no split; move them into images/train" in told[0]
    assert "test has no" in told[1]


def test_slip_in_dataset_yaml_is_told_once(root: Path) -> None:
    (root / "dataset.yaml").write_text("classes: [")
    assert [problem.kind for problem in problems(root)] == ["layout"]


def turn(path: Path, orientation: int) -> None:
    """Stores a picture turned, with the note that turns it back."""
    image = Image.open(path)
    stored = image.transpose({3: Image.Transpose.ROTATE_180, 6: Image.Transpose.ROTATE_90}[orientation])
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(path, exif=exif, quality=95)


def pictures(root: Path) -> list[Path]:
    return sorted((root / "images").rglob("*.jpg"))


def test_masks_drawn_before_a_quarter_turn_and_the_remedy(root: Path) -> None:
    for path in pictures(root):
        turn(path, 6)
    assert problems(root) == ()
    redraw(root, np.rot90)
    told = problems(root)
    assert [problem.kind for problem in told] == ["size", "size"]
    assert "0.png is 32x24 but picture" in told[0].text
    assert "EXIF turns it, and the mask was drawn before; turn the masks as the pictures are shown" in told[0].text
    assert "(and 3 more like it)" in told[0].text
    with pytest.raises(DataError, match="EXIF turns it, and the mask was drawn before"):
        open_dataset("folder", "train", root)[0]
    redraw(root, lambda ids: np.rot90(ids, -1))
    assert problems(root) == ()
    redraw(root, np.rot90)
    for path in pictures(root):
        Image.open(path).save(path, exif=b"", quality=95)
    assert problems(root) == ()


def test_masks_drawn_before_a_half_turn_and_the_remedy(root: Path) -> None:
    """Their sizes are equal, so that only the picture shows it."""
    for path in pictures(root):
        turn(path, 3)
    assert problems(root) == ()
    redraw(root, lambda ids: ids[::-1, ::-1])
    told = problems(root)
    assert [problem.kind for problem in told] == ["orientation", "orientation"]
    assert "in the EXIF of 4 picture(s) turns them" in told[0].text
    assert "masks fit them only unturned; turn the masks as the pictures are shown" in told[0].text
    for path in pictures(root):
        Image.open(path).save(path, exif=b"", quality=95)
    assert problems(root) == ()


def test_half_turn_of_which_nothing_is_known(root: Path) -> None:
    for path in pictures(root):
        Image.new("RGB", (32, 24), (9, 9, 40 * int(path.stem))).save(path)
        turn(path, 3)
    assert all("nothing shows whether the masks were drawn before or after" in each.text for each in problems(root))
    assert len(problems(root)) == 2


def test_leading_zeros_make_no_octal_ids(root: Path) -> None:
    (root / "dataset.yaml").write_text("classes: [{name: sky, ids: [000]}, {name: road, ids: [010]}, {name: car}]\n")
    assert open_dataset("folder", "train", root).labels.file_ids == {0: 0, 10: 1, 2: 2}


def test_one_class_is_refused_with_the_remedy(root: Path) -> None:
    (root / "dataset.yaml").write_text("classes: [{name: road}]")
    with pytest.raises(DataError, match=r"'road' is the only class.*add a background class"):
        open_dataset("folder", "train", root)


@pytest.mark.parametrize("name", [r"\e[31mred", r"a\nb", r"\u2028", r"\ud800", "x" * 101])
def test_class_name_that_cannot_be_shown_is_refused(root: Path, name: str) -> None:
    (root / "dataset.yaml").write_text(f'classes: [{{name: a}}, {{name: "{name}"}}]')
    with pytest.raises(DataError, match=r"classes\[1\]\.name must be 1 to 100 visible characters") as caught:
        open_dataset("folder", "train", root)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("bomb", ["*x8", "[*x8]"])
def test_bomb_in_dataset_yaml_is_refused(root: Path, bomb: str) -> None:
    anchors = [f"&x0 [{','.join('l' * 9)}]"]
    anchors += [f"&x{i} [{','.join([f'*x{i - 1}'] * 9)}]" for i in range(1, 9)]
    (root / "dataset.yaml").write_text(f"classes: [{{name: a, ids: [{', '.join(anchors)}, {bomb}]}}]")
    with pytest.raises(DataError, match="more than 20000 values"):
        open_dataset("folder", "train", root)


@pytest.mark.parametrize("key", ["1", "null", "1.5", "true", "'" + "k" * 900 + "'"])
def test_keys_that_are_no_names_are_told(root: Path, key: str) -> None:
    for text in (f"{key}: 2\n{CLASSES}", f"classes: [{{name: a, {key}: 2}}, {{name: b}}]"):
        (root / "dataset.yaml").write_text(text)
        with pytest.raises(DataError, match=r"dataset\.yaml: .*key") as caught:
            open_dataset("folder", "train", root)
        assert len(str(caught.value)) < 400


def test_composed_and_decomposed_names_pair_up(root: Path) -> None:
    (root / "images" / "train" / "0.jpg").rename(root / "images" / "train" / "caf\u00e9.jpg")
    (root / "masks" / "train" / "0.png").rename(root / "masks" / "train" / "cafe\u0301.png")
    assert open_dataset("folder", "train", root).names == ["1", "2", "3", "caf\u00e9"]


@pytest.mark.parametrize(
    ("ending", "suffix", "hint"),
    [
        ("_mask", ".png", r"these masks end in '_mask': rename each mask as its picture, such as 0_mask.png to 0.png"),
        (".jpg", ".png", r"these masks end in '.jpg': rename each mask as its picture, such as 0.jpg.png to 0.png"),
        ("-label", ".gif", r"these masks end in '-label': .* such as 0-label.gif to 0.gif"),
    ],
)
def test_ending_that_all_lone_files_share_is_hinted_at(root: Path, ending: str, suffix: str, hint: str) -> None:
    for path in masks(root):
        Image.open(path).save(path.with_name(f"{path.stem}{ending}{suffix}"))
        path.unlink()
    with pytest.raises(DataError, match=hint):
        open_dataset("folder", "train", root)
    told = [problem for problem in problems(root) if problem.kind == "partner"]
    assert len(told) == 4  # of two splits: pictures without mask, masks without picture
    assert all("rename each mask as its picture" in problem.text for problem in told)
    assert len(told[0].files) == 4


def test_endings_of_both_are_named(root: Path) -> None:
    for kind, ending in (("images", "_rgb"), ("masks", "_ids")):
        for path in sorted((root / kind).rglob("*.*")):
            path.rename(path.with_name(f"{path.stem}{ending}{path.suffix}"))
    with pytest.raises(DataError, match=r"masks end in 'ids' and their pictures in 'rgb'.* 0_ids.png to 0_rgb.png"):
        open_dataset("folder", "train", root)


def test_masks_in_another_subfolder(root: Path) -> None:
    (root / "masks" / "train").rename(root / "masks" / "old")
    (root / "masks" / "train").mkdir()
    (root / "masks" / "old").rename(root / "masks" / "train" / "labels")
    with pytest.raises(DataError, match="put each mask into the same subfolder as its picture"):
        open_dataset("folder", "train", root)


@pytest.mark.parametrize("suffix", [".gif", ".pgm", ".bmp", ".tiff"])
def test_masks_of_other_formats_are_read(root: Path, suffix: str) -> None:
    before = [open_dataset("folder", "train", root)[i].mask for i in range(4)]
    for path in masks(root):
        Image.open(path).save(path.with_suffix(suffix))
        path.unlink()
    after = open_dataset("folder", "train", root)
    assert all(np.array_equal(after[i].mask, before[i]) for i in range(4))


def test_files_of_other_kinds_are_counted_and_named(root: Path) -> None:
    for name in ("a.heic", "b.HEIC", "notes.txt", ".hidden"):
        (root / "images" / "train" / name).write_bytes(b"x")
    report = examine_all("folder", root)
    assert report.healthy
    assert report.splits[0].notes == ("train: left out 3 file(s) of other kinds: .heic (2), .txt (1)",)
    for path in pictures(root):
        path.rename(path.with_suffix(".heic"))
    assert any(
        "holds no pictures that can be read, but 7 file(s) of other kinds: .heic (6)" in problem.text
        for problem in problems(root)
    )


def test_links_to_subfolders_are_followed(root: Path, tmp_path: Path) -> None:
    for kind in ("images", "masks"):
        (root / kind / "train").rename(tmp_path / kind)
        (root / kind / "train").mkdir()
        (root / kind / "train" / "far").symlink_to(tmp_path / kind)
    assert open_dataset("folder", "train", root).names == ["far/0", "far/1", "far/2", "far/3"]


@pytest.mark.parametrize("target", ["..", "../../masks", ".", "../train"])
def test_link_that_leads_round_is_named(root: Path, target: str) -> None:
    (root / "masks" / "train" / "round").symlink_to(target, target_is_directory=True)
    with pytest.raises(DataError, match=r"round.* is a link to .*masks.*, which is read already; remove the link"):
        open_dataset("folder", "train", root)
    assert any("remove the link" in problem.text for problem in problems(root))


def test_folder_that_cannot_be_read_is_named(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (root / "masks" / "train" / "closed").mkdir()
    scandir = os.scandir

    def refusing(path: object = ".") -> object:
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)  # type: ignore[call-overload]

    monkeypatch.setattr(os, "scandir", refusing)
    with pytest.raises(DataError, match=r"closed cannot be read: Permission denied"):
        open_dataset("folder", "train", root)


def test_pipe_among_pictures_is_not_waited_for(root: Path) -> None:
    for path in (root / "images" / "train" / "0.jpg", root / "masks" / "val" / "4.png"):
        path.unlink()
        os.mkfifo(path)
    told = problems(root)
    assert [problem.kind for problem in told] == ["unreadable", "unreadable"]
    assert all("is a named pipe, no picture file" in problem.text for problem in told)


def test_pipe_as_dataset_yaml_is_not_waited_for(root: Path) -> None:
    (root / "dataset.yaml").unlink()
    os.mkfifo(root / "dataset.yaml")
    with pytest.raises(DataError, match=r"dataset\.yaml is no file"):
        open_dataset("folder", "train", root)


def test_same_damage_is_told_once_with_its_number(root: Path) -> None:
    for path in pictures(root):
        path.write_bytes(path.read_bytes()[: 400 + 10 * int(path.stem)])
    told = [problem for problem in problems(root) if problem.kind == "unreadable"]
    assert [len(problem.files) for problem in told] == [4, 2]
    assert "(and 3 more like it)" in told[0].text


def test_markup_and_escapes_are_shown_as_they_are(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In names of classes, splits and files."""
    (root / "dataset.yaml").write_text("classes: [{name: '[red]a'}, {name: '[/b]'}, {name: '[link=x]c'}]")
    for kind in ("images", "masks"):
        (root / kind / "val").rename(root / kind / "[bold]val")
        (root / kind / "train" / "[i]").mkdir()
    (root / "images" / "train" / "0.jpg").rename(root / "images" / "train" / "[i]" / "0.jpg")
    report = examine_all("folder", root, track=on_terminal)
    console = Console(width=300)
    console.print(render(report))
    text = capsys.readouterr().out
    assert all(shown in text for shown in ("[red]a", "[/b]", "[link=x]c", "[bold]val", "[i]/0.jpg"))


def test_names_of_files_that_are_no_text_are_told(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from kerbseg.cli import main

    name = os.fsencode(root / "images" / "train") + b"/\xff\xfe.jpg"
    with open(name, "wb") as file:
        file.write((root / "images" / "train" / "0.jpg").read_bytes())
    with pytest.raises(SystemExit) as ended:
        main(["doctor", "folder", "--data-root", str(root)])
    assert ended.value.code == 2
    assert "1 picture(s) without mask" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments", [(3, "train"), ("folder", 3), (["folder"], "train"), ("folder", None), (None, "x")]
)
def test_arguments_of_another_type_are_named(root: Path, arguments: tuple[object, object]) -> None:
    with pytest.raises(DataError, match="is named by text"):
        open_dataset(*arguments, root)  # type: ignore[arg-type]


@pytest.mark.parametrize("where", [3, "a\0b", b"x", "x" * 5000])
def test_root_that_is_no_path_is_named(where: object) -> None:
    with pytest.raises(DataError, match=r"a data root is the path|cannot be read|does not exist"):
        splits("folder", where)  # type: ignore[arg-type]


@pytest.mark.parametrize("workers", [0, 1])
def test_worker_tells_what_is_wrong_in_its_own_words(root: Path, workers: int) -> None:
    """Torch would add the traceback of the process that read the file."""
    from kerbseg.data.loading import OnDisk, validation_loader

    (root / "images" / "train" / "2.jpg").write_bytes(b"no picture")
    loader = validation_loader(OnDisk(open_dataset("folder", "train", root)), 2, workers)
    with pytest.raises(DataError, match=r"^[^ ]*2\.jpg cannot be read as a picture") as caught:
        list(loader)
    assert "Traceback" not in str(caught.value)


def test_folders_of_a_classifier_follow_links_and_leave_out_hidden_ones(tmp_path: Path) -> None:
    from kerbseg.data.imagefolder import ImageFolder

    for name in ("cat", "dog", ".thumbnails"):
        (tmp_path / "train" / name).mkdir(parents=True)
        Image.new("RGB", (4, 4)).save(tmp_path / "train" / name / "1.png")
    (tmp_path / "more").mkdir()
    Image.new("RGB", (4, 4)).save(tmp_path / "more" / "2.jfif", "JPEG")
    (tmp_path / "train" / "dog" / "more").symlink_to(tmp_path / "more")
    (tmp_path / "train" / "dog" / "._1.png").touch()
    folder = ImageFolder(tmp_path, "train")
    assert folder.classes == ("cat", "dog")
    assert [(path.name, label) for path, label in folder.files] == [("1.png", 0), ("1.png", 1), ("2.jfif", 1)]


def test_training_on_one_class_alone_is_refused(root: Path) -> None:
    """0/255 masks gave a validation of 1.0000."""
    from kerbseg.core.errors import KerbsegError
    from kerbseg.train.recipe import Data
    from kerbseg.train.split import open_split

    redraw(root, lambda ids: np.where(ids == 0, 0, 255).astype(np.uint8))
    split = open_split(Data(name="folder"), ["train"], root, "none")
    with pytest.raises(KerbsegError, match="all labelled pixels of the 4 training pictures are of class 'sky'"):
        split.absent_classes()


def test_training_knows_the_classes_without_a_pixel_where_masks_are_in_memory(root: Path) -> None:
    from kerbseg.train.recipe import Data
    from kerbseg.train.split import open_split

    assert open_split(Data(name="folder"), ["train"], root, "ram").absent_classes() == []
    (root / "dataset.yaml").write_text(CLASSES.replace("]", ", {name: tram}]"))
    assert open_split(Data(name="folder"), ["train"], root, "ram").absent_classes() == ["tram"]
    assert open_split(Data(name="folder"), ["train"], root, "none").absent_classes() == []


def test_pictures_without_any_mask_are_not_said_to_be_missing(root: Path) -> None:
    for path in masks(root):
        path.rename(path.with_name(f"{path.stem}_mask{path.suffix}"))
    told = [problem.text for problem in problems(root)]
    assert any("these masks end in '_mask'" in text for text in told)
    assert not any("holds no pictures" in text for text in told)
