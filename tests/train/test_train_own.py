"""A training planned from data of one's own: what is chosen, what is told, and that it runs as it is written."""

import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import kerbseg
from kerbseg.cli import app, main
from kerbseg.core.errors import DataError, KerbsegError, RecipeError
from kerbseg.data.scenes import Scenes
from kerbseg.train.own import BATCH, CROP_PIXELS, EPOCHS, LONGEST_SIDE, plan
from kerbseg.train.own_data import look_at
from kerbseg.train.recipe_file import read_any

CLASSES = ("rest", "person", "road", "kerb")


def own_folder(root: Path, sizes: dict[str, list[tuple[int, int]]], classes: tuple[str, ...] = CLASSES) -> Path:
    """Drawn scenes in the `folder` form: of each split, or of none, pictures of these sizes."""
    for split, several in sizes.items():
        for i, size in enumerate(several):
            sample = Scenes("train", 20, (64, 96))[i % 20]
            ids = np.where(sample.mask == 255, 255, sample.mask % len(classes)).astype(np.uint8)
            for kind, pixels in (("images", sample.image), ("masks", ids)):
                folder = root / kind / split
                folder.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels).resize(size[::-1], Image.Resampling.NEAREST).save(folder / f"p_{i:02}.png")
    (root / "dataset.yaml").write_text(f"classes: [{', '.join(classes)}]\n")
    return root


def of(train: int, val: int = 2, size: tuple[int, int] = (64, 96)) -> dict[str, list[tuple[int, int]]]:
    return {"train": [size] * train, "val": [size] * val}


@pytest.fixture(scope="module")
def streets(tmp_path_factory) -> Path:
    return own_folder(tmp_path_factory.mktemp("own") / "my_streets", of(4))


def test_shipped_weights_of_the_nearest_purpose_are_chosen_and_their_rows_told(streets):
    made = plan(streets)
    model = made.recipe.model
    assert (model.name, model.weights) == ("mininet_v2_cpu", "mininet_v2_cpu-camvid")
    assert (made.recipe.data.name, made.data.root, made.recipe.data.val) == ("folder", streets, "val")
    told = dict(made.lines)
    assert told["classes"] == "4; kept in the head: person (from pedestrian), road; fresh: rest, kerb"
    assert told["pictures"] == "4 for training, 2 for validation; 64x96 (HxW)"
    assert (made.recipe.batch_size, made.recipe.epochs, made.recipe.augment.crop) == (2, EPOCHS[1], (64, 96))


@pytest.mark.parametrize("pictures", [1, 2, 3, 9, 16, 40])
def test_an_epoch_has_a_whole_batch_of_at_most_eight(pictures, tmp_path):
    made = plan(own_folder(tmp_path / "s", of(pictures, 1)))
    assert 1 <= made.recipe.batch_size <= min(BATCH, pictures)
    assert made.steps_per_epoch == pictures // made.recipe.batch_size
    assert EPOCHS[0] <= made.recipe.epochs <= EPOCHS[1]


def test_large_pictures_are_brought_down_and_the_crop_is_no_larger_than_a_step_takes(tmp_path):
    made = plan(own_folder(tmp_path / "s", of(2, 1, (1200, 1600))))
    assert made.recipe.data.size == (720, LONGEST_SIDE)
    height, width = made.recipe.augment.crop
    assert height * width <= CROP_PIXELS
    assert abs(height / width - 3 / 4) < 0.05


def test_pictures_of_several_sizes_are_brought_to_the_most_frequent(tmp_path):
    made = plan(own_folder(tmp_path / "s", {"train": [(64, 96), (64, 96), (80, 96)], "val": [(64, 96)]}))
    assert made.recipe.data.size == (64, 96)
    assert "64x96, 80x96 (HxW), brought to 64x96" in dict(made.lines)["pictures"]


def test_a_folder_without_validation_gives_some_of_its_pictures(tmp_path):
    root = own_folder(tmp_path / "s", {"train": [(64, 96)] * 10})
    made = plan(root)
    held = made.recipe.data.val_names
    assert (made.recipe.data.val, made.data.train, made.data.val) == ("train", 8, 2)
    assert made.recipe.data.train_names == tuple(f"!{each}" for each in held)
    assert set(held) < {f"p_{i:02}" for i in range(10)}


def test_whole_drives_are_held_out_by_their_name(tmp_path):
    root = own_folder(tmp_path / "s", {"train": [(64, 96)] * 10})
    for kind in ("images", "masks"):
        for i, path in enumerate(sorted((root / kind / "train").iterdir())):
            path.rename(path.with_name(f"[{i // 2}]_{i}.png"))  # brackets are a pattern, too
    held = plan(root).recipe.data.val_names
    assert len(held) == 1
    assert held[0].endswith("[_/]*")


def test_the_rest_is_fitted_to_overrides(streets):
    made = plan(streets, overrides=["batch_size=1", "augment.crop=[32,48]", "optim.lr=5e-4", "model.name=segnet_basic"])
    recipe = made.recipe
    assert (recipe.batch_size, recipe.augment.crop, recipe.optim.lr) == (1, (32, 48), 5e-4)
    assert (recipe.model.name, recipe.model.weights, made.start) == ("segnet_basic", None, None)
    assert dict(made.lines)["network"] == "segnet_basic, random weights"
    with pytest.raises(RecipeError, match="batchsize"):
        plan(streets, overrides=["batchsize=2"])
    assert plan(streets, overrides=["epochs=60", "validate_every=2"]).recipe.patience == 10


@pytest.mark.parametrize("override", ["data.val=train", "data.val_names=[a]", "data.name=camvid", "data.train=[val]"])
def test_what_is_validated_on_is_not_overridden(streets, override):
    with pytest.raises(RecipeError, match=r"train own takes this from the folder"):
        plan(streets, overrides=[override])


def test_of_weights_that_suit_alike_those_of_the_quick_network_are_taken(monkeypatch):
    from kerbseg.train import start_cards
    from kerbseg.train.start_cards import StartCard, nearest_start

    known = {
        name: StartCard(name, name, {}, classes, size, miou)
        for name, classes, size, miou in (
            ("erfnet", ("road", "car"), (360, 480), 0.9),
            ("mininet_v2_cpu", ("road", "car"), (360, 480), 0.6),
            ("efficientseg", ("road", "car", "person"), (360, 480), 0.5),
            ("enet", ("road", "car"), (1024, 2048), 0.95),
        )
    }
    monkeypatch.setattr(start_cards, "shipped_weights", lambda: tuple(known))
    monkeypatch.setattr(start_cards, "read_start", known.get)

    def taken(classes, model=None):
        start = nearest_start(classes, (360, 480), model)
        return start and start.model

    assert taken(("road", "car")) == "mininet_v2_cpu"
    assert taken(("road", "pedestrian")) == "efficientseg"
    assert taken(("road", "car"), "erfnet") == "erfnet"
    assert taken(("road", "car"), "unet") is None


def test_without_weights_it_starts_from_random_ones(streets):
    made = plan(streets, overrides=["model.weights=null"])
    assert (made.recipe.model.weights, made.recipe.model.name) == (None, "mininet_v2_cpu")
    assert dict(made.lines)["network"] == "mininet_v2_cpu, random weights"


def test_a_mask_that_is_broken_is_told_at_once(tmp_path):
    root = own_folder(tmp_path / "s", of(6))
    Image.fromarray(np.full((64, 96), 77, np.uint8)).save(root / "masks" / "train" / "p_03.png")
    with pytest.raises(DataError, match=r"p_03\.png.*77"):
        plan(root)


@pytest.mark.parametrize(
    ("data", "root", "says"),
    [
        (None, None, "train own needs --data"),
        ("my_street", None, "no folder, and no form of data"),
        ("coc", "x", "did you mean 'coco'"),
        ("scenes+nothing", None, "no form of data"),
    ],
)
def test_data_that_are_not_there_are_told_in_one_line(data, root, says, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(KerbsegError, match=says):
        look_at(data, root)


def test_a_folder_of_a_labelling_tool_gets_the_command_to_use(tmp_path, monkeypatch, capsys):
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "a.json").write_text('{"images": [], "annotations": [], "categories": []}')
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as exit:
        main(["train", "labels"])
    assert exit.value.code == 2
    assert "kerbseg convert coco labels -o my_streets" in capsys.readouterr().err


def test_it_is_planned_before_torch_is_imported(streets):
    code = (
        "import sys\nfrom kerbseg.train.own import plan\nplan(sys.argv[1])\n"
        "assert not {'torch', 'lightning', 'kornia'} & sys.modules.keys()\n"
    )
    subprocess.run([sys.executable, "-c", code, streets], check=True)


SHORT = ("epochs=2", "batch_size=2", "augment={}", "validate_every=1", "patience=null")


@pytest.fixture(scope="module")
def run(streets, tmp_path_factory):
    """A short run by the command line, in its usual folder; and what it printed."""
    here = tmp_path_factory.mktemp("here")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(here)
        arguments = ["train", "own", "--data", str(streets), *SHORT, "--device", "cpu"]
        done = subprocess.run(
            [sys.executable, "-m", "kerbseg", *arguments], check=True, capture_output=True, text=True, cwd=here
        )
    return here / "runs" / "my_streets", done.stdout.splitlines()


def test_a_run_says_what_it_does_what_is_fresh_and_what_comes_next(run, streets):
    folder, lines = run
    words = [line.split()[0] for line in lines[:9] if not line.startswith(" ")]
    assert words[:7] == ["data", "pictures", "classes", "network", "training", "run", "device"]
    assert "fresh: classifier head (2 of 4 classes are new: rest, kerb)" in lines
    following = [line.removeprefix("next: ") for line in lines if line.startswith("next: ")]
    assert [shlex.split(each)[1] for each in following] == ["evaluate", "predict", "export"]
    for each in following:
        app.parse_args(shlex.split(each)[1:], exit_on_error=False, print_error=False)
    picture = Path(shlex.split(following[1])[3])
    assert picture.is_file()
    assert (folder / "best.safetensors").is_file()


def test_its_recipe_is_a_recipe_with_a_head_that_a_resumed_run_keeps(run, streets, monkeypatch, capsys):
    folder, _ = run
    text = (folder / "recipe.yaml").read_text()
    assert text.startswith("# Fine-tuning of mininet_v2_cpu-camvid on my_streets: 4 pictures for training, 2 for")
    assert read_any(folder / "recipe.yaml") == plan(streets, overrides=SHORT).recipe
    monkeypatch.chdir(folder.parents[1])
    with pytest.raises(SystemExit):
        main(["train", str(streets)])
    error = capsys.readouterr().err
    assert f"holds a run already; continue it with: kerbseg train --resume --out {Path('runs/my_streets')}" in error
    for given in (["own", "--data", "folder"], ["--out", str(folder)]):
        with pytest.raises(SystemExit):
            main(["train", *given, "--data-root", str(streets), "--resume", "--init", "mininet_v2_cpu-camvid"])
        assert "a resumed run goes on with its own weights" in capsys.readouterr().err
    main(["train", "own", "--data", str(streets), "--resume"])
    assert (folder / "recipe.yaml").read_text() == text


def test_python_trains_on_a_folder_too(streets, tmp_path, monkeypatch):
    best = kerbseg.train("own", tmp_path / "r", data=streets, overrides=[*SHORT, "epochs=1"], device="cpu")
    assert kerbseg.load(best).card.labels.classes == CLASSES
    assert (tmp_path / "r" / "recipe.yaml").read_text().startswith("# Fine-tuning of")
    with pytest.raises(KerbsegError, match="data is for train"):
        kerbseg.train("smoke/scenes", tmp_path / "s", data=streets)


def test_recipe_own_prints_what_would_be_trained(streets, tmp_path, capsys):
    main(["recipe", "own", "--data", str(streets), "epochs=3"])
    (tmp_path / "mine.yaml").write_text(capsys.readouterr().out)
    assert read_any(tmp_path / "mine.yaml") == plan(streets, overrides=["epochs=3"]).recipe
