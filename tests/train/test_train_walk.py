"""Every shipped recipe: a document, read strictly, that takes two steps on made-up data of the right layout."""

import csv
import re
from collections.abc import Iterator
from dataclasses import MISSING, fields, is_dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import kerbseg.models as models
import made_coco_text
from kerbseg.bundle import load
from kerbseg.compress.convolutions import convolutions
from kerbseg.core.labels import label_set
from kerbseg.core.outline import outlines
from kerbseg.train.fit import fit
from kerbseg.train.initial import CLASSIFIER_KEY
from kerbseg.train.recipe import Classification, Recipe
from kerbseg.train.recipe_file import find, read_any, shipped
from kerbseg.train.run import train

HEADER = ("Paper:", "Expected:", "Command:", "Cost:")
PICTURES = 4  # two steps with batches of 2
LARGE = (  # many weights
    "liteseg/darknet19",
    "liteseg/darknet19_coarse",
    "minicity/efficientseg_6_0",
    "minicity/efficientseg_6_0_plain",
    "minicity/unet",
)


def write(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def picture(path: Path, seed: int, size: tuple[int, int], ids: tuple[int, ...], mask: Path) -> None:
    """A picture, and a mask of stripes that shows every id."""
    random = np.random.default_rng(seed)
    write(path, random.integers(0, 256, (*size, 3), np.uint8))
    stripes = np.repeat(np.array(ids, np.uint8), -(-size[1] // len(ids)))[: size[1]]
    write(mask, np.broadcast_to(stripes, size).copy())


def camvid(root: Path, size: tuple[int, int]) -> None:
    for split, count in {"train": PICTURES, "val": 1}.items():
        for i in range(count):
            name = f"{split}_{i:03}.png"
            picture(root / split / name, i, size, tuple(range(12)), root / f"{split}annot" / name)


def cityscapes(root: Path, size: tuple[int, int], splits: dict[str, str]) -> None:
    for split, kind in splits.items():
        for i in range(1 if split == "val" else PICTURES):
            name = f"{split}_{i:06}_000019"
            file = root / "leftImg8bit" / split / "aachen" / f"{name}_leftImg8bit.png"
            ids = label_set("cityscapes").submission_ids
            picture(file, i, size, ids, root / kind / split / "aachen" / f"{name}_{kind}_labelIds.png")


def imagenet(root: Path, size: tuple[int, int]) -> None:
    for split in ("train", "val"):
        for name in ("n01", "n02"):
            for i in range(2):
                pixels = np.random.default_rng(i).integers(0, 256, (*size, 3), np.uint8)
                write(root / split / name / f"{i}.png", pixels)


MAKERS = {
    "camvid": camvid,
    "cityscapes": partial(cityscapes, splits={"train": "gtFine", "val": "gtFine", "train_extra": "gtCoarse"}),
    "coco_text": made_coco_text.make_to_train,
    "minicity": partial(cityscapes, splits={"train": "gtFine", "val": "gtFine"}),
    "imagenet": imagenet,
}


@pytest.fixture(scope="module")
def roots(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A small data set of each layout."""
    above = tmp_path_factory.mktemp("data")
    for name, make in MAKERS.items():
        make(above / name, (64, 128))
    return {name: above / name for name in MAKERS}


def shrunk(recipe: Recipe | Classification) -> list[str]:
    """Overrides that make a recipe small, and leave every ingredient of it in."""
    small = ["epochs=1", "batch_size=2"]
    if recipe.grouping is not None:
        small += ["grouping.until=0"]
    if recipe.optim.groups:
        small += [f"optim.groups=[{{prefix: {part.prefix}, lr: {part.lr}, until: 1}}]" for part in recipe.optim.groups]
    if isinstance(recipe, Classification):
        return [*small, "data.size=64"]
    small += ["data.size=[64, 128]", "data.limit=4"]
    if recipe.data.val_crop is not None:
        small += ["data.val_crop=[32, 64]"]
    if recipe.data.rare is not None:
        small += ["data.rare.extra=1", "batch_size=6"]
    if recipe.augment.crop is not None:
        small += ["augment.crop=[32, 64]"]
    if recipe.augment.cycle:
        turning = "turn" if any(step.turn for step in recipe.augment.cycle) else "rotate"
        small += [f"augment.cycle=[{{crop: [32, 64], {turning}: 5}}, {{crop: [64, 128]}}]", "epochs=2"]
    if recipe.augment.progressive:
        small += ["augment.progressive=[{until: 1.0, zoom: 0.5, crop: [32, 64]}]"]
    if recipe.model.name == "efficientseg_6_0":  # 209 M parameters: the same network, narrower
        small += ["model.name=efficientseg", "model.options={width: 0.25}"]
    if recipe.model.name == "unet_minicity_bn":
        small += ["augment.crop=[16, 32]", "data.size=[32, 64]"]
    return small


@pytest.mark.parametrize("name", shipped())
def test_a_recipe_says_what_it_is(name: str) -> None:
    text = find(name).read_text()
    comment = [line for line in text.splitlines() if line.startswith("#")]
    assert text.startswith("# ")
    for part in HEADER:
        assert any(line.startswith(f"# {part}") for line in comment), f"{part} is missing"
    commands = " ".join(line.strip("# ") for line in comment)
    assert re.search(rf"kerbseg train {name}\b", commands), "the command trains another recipe"


def settings(values: Any, above: str = "") -> Iterator[str]:
    """The names of what differs from its default."""
    for field in fields(values):
        value = getattr(values, field.name)
        default = field.default_factory() if field.default_factory is not MISSING else field.default
        if value == default:
            continue
        if is_dataclass(value):
            yield from settings(value, f"{above}{field.name}.")
        else:
            yield f"{above}{field.name}"


def parts_of(name: str) -> set[str]:
    """The data set and the settings of a recipe; its network, or one of its kind, is trained elsewhere."""
    recipe = read_any(name)
    return {f"data {recipe.data.name.partition(':')[0]}", *settings(recipe)}


def few_with_all() -> set[str]:
    """Few recipes that have every data set and every setting of all but the large ones."""
    left = {name: parts_of(name) for name in shipped() if name not in LARGE}
    chosen, seen = set(), set()
    while missing := {name: len(parts - seen) for name, parts in left.items() if parts - seen}:
        best = max(missing, key=missing.__getitem__)
        chosen.add(best)
        seen |= left[best]
    return chosen


FEW = few_with_all()


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in FEW else [pytest.mark.slow]) for name in shipped()]
)
def test_a_recipe_trains(name: str, roots: dict[str, Path], tmp_path: Path) -> None:
    written = read_any(name)
    recipe = read_any(name, shrunk(written))
    data = written.data.name.partition(":")[0]  # options follow
    root = roots.get(data)
    if isinstance(recipe, Classification):
        best = train(recipe, tmp_path / "run", data_root=root, device="cpu")
        assert CLASSIFIER_KEY in best.read_bytes()[:20000].decode("latin1")
        return
    bundle = fit(recipe, tmp_path / "run", data_root=root, device="cpu")
    with (tmp_path / "run" / "metrics.csv").open() as file:
        assert int(list(csv.DictReader(file))[-1]["step"]) >= 2
    assert bundle.card.model == recipe.model.name
    assert len(bundle.card.labels) == {"camvid": 11, "coco_text": 2}.get(data, 19)
    assert all(torch.isfinite(value).all() for value in bundle.model.state_dict().values())
    alone = models.create_model(recipe.model.name, bundle.card.outputs, **recipe.model.options)
    alone.load_state_dict(load(tmp_path / "run" / "last.safetensors").model.state_dict())
    if recipe.grouping is not None:
        wanted, trained = (
            {conv.groups for _, conv in convolutions(net) if conv.groups < conv.in_channels}
            for net in (alone, bundle.model)
        )
        assert wanted == trained != {1}


@pytest.mark.parametrize("name", [name for name in shipped() if not isinstance(read_any(name), Classification)])
def test_a_recipe_names_a_network_that_can_be_made(name: str) -> None:
    recipe = read_any(name)
    with outlines():
        net = models.create_model(recipe.model.name, **recipe.model.options)
    wanted = recipe.model.init
    for prefix in (wanted,) if isinstance(wanted, str) else wanted:
        assert any(key.startswith(prefix) for key in net.state_dict()), prefix
    for part in recipe.optim.groups:
        assert any(key.startswith(part.prefix) for key in net.state_dict()), part.prefix
