"""Training by captured steps: the same changes of pictures as kerbseg's, a whole day in small, and going on with it."""

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from kerbseg.bundle import load
from kerbseg.core.types import VOID
from kerbseg.data.augment import Color, Geometry
from kerbseg.train.recipe_file import read_any

SCRIPTS = Path(__file__).parents[2] / "benchmarks"
sys.path.insert(0, str(SCRIPTS))
import captured_training as captured  # noqa: E402
import gpu_day  # noqa: E402

SMALL = (
    "precision=float32",
    "batch_size=2",
    "augment.noise=0",
    "augment.progressive=[{until: 0.5, zoom: 0.5, crop: [32, 48]}, {until: 1.0, zoom: 1.0, crop: [48, 64]}]",
)


@pytest.fixture(scope="module")
def camvid(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four pictures of stripes a split, in CamVid's layout."""
    root = tmp_path_factory.mktemp("camvid")
    random = np.random.default_rng(0)
    for split in ("train", "val"):
        for folder in (split, f"{split}annot"):
            (root / folder).mkdir()
        for name in "abcd":
            Image.fromarray(random.integers(0, 256, (48, 64, 3), np.uint8)).save(root / split / f"{name}.png")
            ids = np.repeat(np.arange(12, dtype=np.uint8), 6)[:64]
            Image.fromarray(np.broadcast_to(ids, (48, 64)).copy()).save(root / f"{split}annot" / f"{name}.png")
    return root


def test_captured_warp_is_kerbsegs() -> None:
    """The sampling grid gives what `Geometry` gives of the same matrix, pictures and masks."""
    image, mask = torch.rand(6, 3, 40, 60), torch.randint(0, 11, (6, 40, 60)).to(torch.uint8)
    geometry = Geometry(flip=0.5, scale=(0.7, 1.8))
    torch.manual_seed(1)
    wanted, wanted_mask = geometry(image, mask, (44, 52), 0.75)
    torch.manual_seed(1)
    matrix = geometry.draw(6, (40, 60), (44, 52), 0.75)
    linear = torch.linalg.inv(matrix[:, :, :2])
    back = torch.cat([linear, -linear @ matrix[:, :, 2:]], 2)
    grid = captured.sampling_grid(back, (40, 60), (44, 52))
    got = F.grid_sample(image, grid, "bilinear", "zeros", align_corners=True)
    ids = F.grid_sample(mask[:, None].float() + 1, grid, "nearest", "zeros", align_corners=True)[:, 0].round() - 1
    torch.testing.assert_close(got, wanted, atol=1e-4, rtol=0)
    assert torch.equal(torch.where(ids < 0, VOID, ids).to(torch.uint8), wanted_mask)
    assert (wanted_mask == VOID).any()
    assert (wanted_mask != VOID).any()


def test_captured_colors_are_kerbsegs() -> None:
    """One table of draws changes pictures as `Color` does, change by change."""
    image = torch.rand(5, 3, 24, 32)
    settings = read_any("zoo/mininet_v2_cpu").augment
    values = {
        "brightness": 0.3,
        "contrast": 0.5,
        "saturation": 0.3,
        "gamma": 0.4,
        "channel_balance": 0.12,
        "gray": 1.0,
        "blur": 3.0,
    }
    nothing = replace(settings, noise=0.0, **dict.fromkeys(values, 0.0))
    for name, value in values.items():
        torch.manual_seed(3)
        wanted = Color(**{name: value})(image)
        torch.manual_seed(3)
        torch.rand(5)  # which pictures change at all: `color_p` is 1
        uniform = captured.SINGLE.uniform
        if name in ("brightness", "contrast", "saturation"):
            row = {name: uniform(5, 1 - value, 1 + value)}
        elif name == "gamma":
            row = {name: uniform(5, -value, value).exp()}
        elif name == "channel_balance":
            row = {"gains": uniform(5, 1 - value, 1 + value, 3)}
        elif name == "gray":
            row = {name: torch.full((5,), value)}
        else:
            torch.rand(5)  # `blur_p`
            row = {name: uniform(5, 0, value).clamp(min=1e-3)}
        got = captured.change_color(image, row, replace(nothing, **{name: value}))
        torch.testing.assert_close(got, wanted, atol=2e-5, rtol=0, msg=name)
        assert (got - image).abs().max() > 0.01, name


@pytest.mark.slow
def test_gpu_day_trains_a_plan_with_teachers(camvid: Path, tmp_path: Path) -> None:
    """Two epochs of a plan end in bundles that load, with curves; the pupil waits for its teacher."""
    plan = tmp_path / "plan.yaml"
    plan.write_text(
        "jobs:\n"
        "  pupil: {recipe: zoo/kerbnet_s, teachers: [teacher], overrides: [distill.at=logits]}\n"
        "  teacher: {recipe: zoo/kerbnet_s}\n"
        "  faded: {recipe: zoo/erfnet_dg2_light}\n"
    )
    overrides = [f"--override={each}" for each in (*SMALL, "epochs=2")]
    command = [sys.executable, str(SCRIPTS / "gpu_day.py"), "train", f"--plan={plan}", f"--out={tmp_path / 'out'}"]
    done = subprocess.run(
        [*command, f"--data-root={camvid}", *overrides], capture_output=True, text=True, check=False, timeout=600
    )
    assert done.returncode == 0, done.stderr
    for name, network in (("pupil", "kerbnet_s"), ("teacher", "kerbnet_s"), ("faded", "erfnet_dg2_light")):
        bundle = load(tmp_path / "out" / f"{name}.safetensors")
        assert bundle.card.model == network
        assert bundle.card.recipe["epochs"] == 2
        assert bundle.card.source == captured.SOURCE
        assert (tmp_path / "out" / f"{name}.csv").read_text().startswith("step,epoch,loss,val_miou\n4,2")
    assert done.stdout.index("teacher: epoch 2 of 2") < done.stdout.index("pupil: from epoch 0 of 2")


def test_captured_training_goes_on_alike(camvid: Path) -> None:
    """Stopped in the middle of a table and taken up by another process, it ends with the same weights."""
    recipe = read_any("zoo/kerbnet_s", [*SMALL, "epochs=4"])
    whole, half, rest = (captured.CapturedTraining(recipe, torch.device("cpu"), camvid) for _ in range(3))
    while not whole.over:
        whole.launch(3)
    half.launch(3)
    rest.load_state(half.state())
    while not rest.over:
        rest.launch(3)
    assert rest.step == whole.step == 8
    for name, value in whole.averaged.state_dict().items():
        assert torch.equal(value, rest.averaged.state_dict()[name]), name
    assert any(not torch.equal(a, b) for a, b in zip(whole.net.parameters(), half.net.parameters(), strict=True))


@pytest.mark.slow
def test_captured_training_trains_heads_and_saves_none(camvid: Path, tmp_path: Path) -> None:
    """Its loss is that of a step of kerbseg's with the same pictures."""
    recipe = read_any("zoo/fast_scnn", [*SMALL, "precision=float32"])
    training = captured.CapturedTraining(recipe, torch.device("cpu"), camvid)
    before = {name: value.clone() for name, value in training.net.state_dict().items() if name.startswith("aux_")}
    image, mask = torch.rand(2, 3, 64, 96), torch.randint(0, 11, (2, 64, 96)).to(torch.uint8)
    training.net.eval()
    logits, features = training.task.outputs(image)
    ours = training._loss(logits, mask) + training._heads(logits, features, mask)
    assert torch.isclose(ours, training.task.network_loss(training.task.outputs.of(image), image, mask), rtol=1e-5)
    training.net.train()
    while not training.over:
        training.launch(3)
    after = training.net.state_dict()
    assert all(not torch.equal(after[name], value) for name, value in before.items() if name.endswith("weight"))
    training.save(tmp_path / "last.safetensors", training.validate())
    assert not any(name.startswith("aux_") for name in load(tmp_path / "last.safetensors").model.state_dict())


@pytest.mark.parametrize(
    "asked",
    [
        *("loss.lovasz=0.5", "augment.hue=0.1", "augment.offset=0.1", "augment.turn=5", "augment.shift=[2, 2]"),
        *("augment.shuffle=true", "augment.scale_step=0.1", "optim.no_decay=[bias]"),
        *("augment.resample=lanczos", "patience=3", "drop_last=false", "optim.weight_decay_until=1", "optim.name=adam"),
    ],
)
def test_captured_training_refuses_what_it_leaves_out(asked: str) -> None:
    """A recipe that asks for more is named, rather than trained without it."""
    captured.supported(read_any("zoo/kerbnet_s", SMALL))
    recipe = read_any("zoo/kerbnet_s", [*SMALL, asked])
    with pytest.raises(ValueError, match=re.escape(asked.partition("=")[0])):
        captured.supported(recipe)


def test_gpu_day_plan_is_of_shipped_recipes() -> None:
    """Each job of the plan reads as a recipe that can be captured."""
    jobs = gpu_day.read_plan(SCRIPTS / "gpu_day.yaml")
    assert {"mininet_v2_cpu", "mininet_v2", "erfnet", "erfnet_dg2_light"} <= {job.name for job in jobs}
    for job in jobs:
        captured.supported(gpu_day.resolve(job, Path("out"), ()))
