"""Recipes of the papers do what paper and authors' code say: one `protocol` test a family pins what was verified.

Each figure is followed by where it stands; 'code' is the authors' own.
"""

import math

import numpy as np
import pytest
import torch
from PIL import Image

from kerbseg.core.distributed import SINGLE
from kerbseg.core.types import VOID
from kerbseg.data.augment import Geometry
from kerbseg.data.loading import Batch
from kerbseg.data.samplers import BatchShardSampler, EpochShuffle
from kerbseg.losses import cross_entropy, mask_at
from kerbseg.models import create_model
from kerbseg.models.classifiers import create_classifier
from kerbseg.train.builders import augmentation, xavier_uniform
from kerbseg.train.optim import schedule, schedules
from kerbseg.train.recipe import AnyRecipe, Augment, Recipe
from kerbseg.train.recipe_file import find, read_any, shipped
from kerbseg.train.recipe_header import read_header
from kerbseg.train.recipe_loss import PixelHead

FAMILIES = {
    "erfnet": ("cityscapes/erfnet", "cityscapes/erfnet_encoder", "cityscapes/erfnet_pretrained"),
    "erfnet_paper": ("cityscapes/erfnet_paper", "cityscapes/erfnet_paper_encoder"),
    "grouping": (
        "grouping/dg2_light",
        "grouping/faded",
        "grouping/faded_encoder",
        "grouping/scratch",
        "grouping/scratch_encoder",
    ),
    "imagenet": ("imagenet/erfnet_dg2_encoder", "imagenet/erfnet_encoder"),
    "mininet": (
        "camvid/mininet_v2",
        "camvid/mininet_v2_960x720",
        "camvid/mininet_v2_pretrained",
        "cityscapes/mininet_v2",
        "cityscapes/mininet_v2_512x256",
        "cityscapes/mininet_v2_cpu",
    ),
    "mininet_v1": ("camvid/mininet_v1", "cityscapes/mininet_v1"),
    "mininet_ablation": ("cityscapes/mininet_v2_ablation",),
    "coco_text": (
        "coco_text/erfnet",
        "coco_text/mininet_v1",
        "coco_text/mininet_v2",
        "coco_text/mininet_v2_512x256",
        "coco_text/mininet_v2_cpu",
    ),
    "liteseg": ("liteseg/darknet19", "liteseg/mobilenet_v2", "liteseg/shufflenet"),
    "liteseg_coarse": ("liteseg/darknet19_coarse", "liteseg/mobilenet_v2_coarse", "liteseg/shufflenet_coarse"),
    "ddrnet": ("cityscapes/ddrnet_23_slim",),
    "pidnet": ("cityscapes/pidnet_s",),
    "pp_liteseg": ("cityscapes/pp_liteseg_t",),
    "fast_scnn": ("cityscapes/fast_scnn",),
    "efficientseg": (
        "minicity/efficientseg_1_5",
        "minicity/efficientseg_6_0",
        "minicity/efficientseg_6_0_plain",
        "minicity/unet",
    ),
}
OURS = {  # what their headers say is ours
    "camvid/erfnet",
    "camvid/mininet_v2_cpu",
    "imagenet/darknet19",
    "imagenet/mobilenet_v2",
    "imagenet/shufflenet",
}
CODE_WEIGHTS = {  # constant of ERFNet's 1 / ln(c + p) -> its first and last weights, of road, sidewalk, bicycle (code)
    1.10: (2.8149201869965, 6.9850029945374, 10.138095855713),
    1.20: (2.3653597831726, 4.4237880706787, 5.3947434425354),
}


def of(family: str) -> list[AnyRecipe]:
    return [read_any(name) for name in FAMILIES[family]]


def rates(recipe: AnyRecipe, epochs: list[int], steps: int = 7) -> list[list[float]]:
    """The rates of the first, a middle and the last step of some epochs."""
    share = schedule(recipe.schedule, recipe.epochs, steps)
    return [[recipe.optim.lr * share(epoch * steps + step) for step in (0, 3, steps - 1)] for epoch in epochs]


def noisy(n: int, height: int, width: int, classes: int = 19) -> Batch:
    draw = torch.Generator().manual_seed(0)
    image = torch.randint(0, 256, (n, 3, height, width), generator=draw, dtype=torch.uint8)
    mask = torch.randint(0, classes, (n, height, width), generator=draw, dtype=torch.uint8)
    return Batch(image=image, mask=mask, name=[""] * n)


def augmented(recipe: AnyRecipe, batch: Batch, epoch: int = 0, **changes: object) -> tuple[torch.Tensor, torch.Tensor]:
    assert isinstance(recipe, Recipe)
    torch.manual_seed(1)
    changed = augmentation(Augment(**{**vars(recipe.augment), **changes}), recipe.epochs)(batch, epoch)
    return changed.image, changed.mask


def sharpness(image: torch.Tensor) -> float:
    """Mean difference of neighbors, away from borders."""
    inner = image[..., 4:-4, 4:-4]
    return (inner.diff(dim=-1).abs().mean() + inner.diff(dim=-2).abs().mean()).item()


def steps_of(recipe: AnyRecipe, pictures: int) -> int:
    order = BatchShardSampler(EpochShuffle(pictures, 0), recipe.batch_size, SINGLE, recipe.drop_last)
    return math.ceil(len(order) / recipe.batch_size)


def test_every_recipe_of_a_paper_has_a_protocol():
    ours = {name for name in shipped() if name.startswith(("modern/", "smoke/", "zoo/"))} | OURS
    assert set(shipped()) - ours == {name for names in FAMILIES.values() for name in names}


def check_shifts(recipe: AnyRecipe) -> None:
    """Flip at .5 and whole-pixel shifts of at most 2 along both axes (paper, sec. IV-A; code)."""
    batch = noisy(8, 24, 40)
    image, mask = augmented(recipe, batch)
    assert sharpness(image) == pytest.approx(sharpness(batch["image"] / 255), rel=0.02)  # 0.82 where they interpolate
    values = (image * 255).round()
    assert torch.equal(image, values / 255), "pixels are mixed"
    gone = [int((each == VOID).sum()) for each in mask]
    assert max(gone) <= 24 * 40 - 22 * 38
    assert len(set(gone)) > 2
    assert (vars(recipe.augment)["flip"], recipe.augment.shift) == (0.5, (2, 2))


def test_protocol_erfnet():
    """Romera et al., T-ITS 2018, sec. IV-A; code: main.py's settings."""
    plain, encoder, pretrained = of("erfnet")
    for recipe in (plain, encoder, pretrained):
        check_shifts(recipe)
        # lr = 5e-4 (1 - (e - 1) / N)^.9 in epoch e = 1 .. N = 150, the same for all of its steps
        expected = [5e-4 * (1 - e / 150) ** 0.9 for e in (0, 1, 74, 149)]
        assert rates(recipe, [0, 1, 74, 149]) == [pytest.approx([each] * 3) for each in expected]
        assert (recipe.optim.name, recipe.optim.weight_decay, recipe.batch_size) == ("adam", 1e-4, 6)
        assert steps_of(recipe, 2975) == 496  # the last one has 5 pictures
        assert recipe.model.outputs == 20  # the twentieth is void's; its weight is 0
        assert recipe.loss.average == "weights"
        assert recipe.data.size == (512, 1024)
        constant = 1.20 if recipe is encoder else 1.10
        values = recipe.loss.values
        assert (values[0], values[1], values[18]) == CODE_WEIGHTS[constant]
        shares = [math.exp(1 / value) - constant for value in values]  # of ALL pixels, void included: their sum is .885
        assert sum(shares) == pytest.approx(0.885, abs=0.005)
        assert shares[0] == pytest.approx(0.3265, rel=0.015)
    assert dropouts(plain) == ({0.03}, {0.3}, {0.0})
    assert dropouts(pretrained) == ({0.1}, {0.1}, {0.0})  # the encoder's file for ImageNet keeps its own
    # labels at 1/8: the pixel at 8 i + 4
    mask = torch.arange(16 * 24).view(1, 16, 24).remainder(251).to(torch.uint8)
    assert encoder.loss.at == "logits"
    assert torch.equal(mask_at(mask, (2, 3)), mask[:, 4::8, 4::8])
    # whose figures are whose
    headers = [read_header(find(name).read_text()) for name in FAMILIES["erfnet"]]
    assert headers[0]["Expected"].startswith("0.7045 mIoU on val")
    assert headers[2]["Expected"].startswith("0.721 mIoU on val")


def dropouts(recipe: AnyRecipe) -> tuple[set[float], set[float], set[float]]:
    """Of the blocks at 64 and at 128 channels, and of the decoder."""
    net = create_model(recipe.model.name, recipe.model.outputs, **recipe.model.options)
    found: tuple[set[float], set[float], set[float]] = (set(), set(), set())
    for name, module in net.named_modules():
        if isinstance(module, torch.nn.Dropout2d):
            found[2 if name.startswith("decoder") else int(name.split(".")[1]) > 7].add(module.p)
    return found


def test_protocol_erfnet_paper():
    """Romera et al., T-ITS 2018, sec. III-B (dropout .3 at the end of each block) and IV-A."""
    whole, encoder = of("erfnet_paper")
    for recipe in (whole, encoder):
        check_shifts(recipe)
        assert (recipe.batch_size, recipe.optim.weight_decay, recipe.optim.lr) == (12, 2e-4, 5e-4)
        assert (recipe.schedule.name, recipe.schedule.factor, recipe.schedule.watch) == ("plateau", 0.5, "loss")
        assert (recipe.loss.weights, recipe.loss.constant) == ("enet", 1.10)
    assert dropouts(whole) == ({0.3}, {0.3}, {0.3})
    assert dropouts(encoder) == ({0.3}, {0.3}, set())


def test_protocol_grouping():
    """Vallurupalli et al., CVPR workshops 2018, sec. 4.3; where it is silent, ERFNet's code."""
    for name, recipe in zip(FAMILIES["grouping"], of("grouping"), strict=True):
        check_shifts(recipe)
        assert rates(recipe, [0, 75])[1] == pytest.approx([5e-4 * 0.5**0.9] * 3)
        assert steps_of(recipe, 2975) == 496
        if name in ("grouping/dg2_light", "grouping/faded"):  # 5e-20 for the encoder in the initial epochs
            _, part = schedules(lambda step: 1.0, recipe.optim, 7)
            assert [recipe.optim.lr * part(step) for step in (0, 69, 70)] == pytest.approx([5e-20, 5e-20, 5e-4])
            assert recipe.optim.groups[0].freeze_norm


def test_protocol_imagenet():
    """Code: main.py for ImageNet. A constant rate for epochs 0 to 15, then .1 * .95^(e - 15) without weight decay."""
    for recipe in of("imagenet"):
        expected = [0.1, 0.1, 0.1 * 0.95, 0.1 * 0.95**74]
        assert rates(recipe, [0, 15, 16, 89]) == [pytest.approx([each] * 3) for each in expected]
        assert (recipe.optim.weight_decay, recipe.optim.weight_decay_until) == (1e-4, 16)
        assert (recipe.epochs, recipe.batch_size, recipe.drop_last) == (90, 256, False)
        net = create_classifier(recipe.model.name, 4, **recipe.model.options)
        assert {each.p for each in net.modules() if isinstance(each, torch.nn.Dropout2d)} == {0.1}
    sent = read_header(find("imagenet/erfnet_encoder").read_text())["Command"]
    assert "kerbseg train cityscapes/erfnet_pretrained --init runs/imagenet_erfnet/best.safetensors" in sent


def test_protocol_mininet():
    """Alonso et al., T-RO 2020, sec. VII-A; code: Loader.py's augmentation, train.py's schedule and weights."""
    for name, recipe in zip(FAMILIES["mininet"], of("mininet"), strict=True):
        top, epochs = recipe.optim.lr, recipe.epochs
        expected = [0.99 * top * (1 - e / epochs) ** 0.9 + 0.01 * top for e in (0, 1, epochs - 1)]
        assert rates(recipe, [0, 1, epochs - 1]) == [pytest.approx([each] * 3) for each in expected]
        assert (recipe.loss.weights, recipe.loss.power, recipe.loss.average) == ("median_frequency", 0.12, "pixels")
        assert (recipe.batch_size, recipe.drop_last, recipe.optim.weight_decay) == (6, False, 2e-4)
        if not name.endswith("pretrained"):
            assert (top, recipe.model.initialization) == (1e-3, "xavier_uniform")
        if name.startswith("cityscapes"):
            assert recipe.data.resample == "box"  # INTER_AREA, of a whole factor
    check_mininet_geometry(of("mininet")[0])
    check_mininet_color(of("mininet")[0])
    net = create_model("mininet_v2_cpu", 11)
    torch.manual_seed(0)
    net.apply(xavier_uniform)
    for module in net.modules():
        if isinstance(module, torch.nn.Conv2d | torch.nn.ConvTranspose2d):
            # TensorFlow: sqrt(6 / (fan in + fan out)) of a kernel [3, 3, a, b], whatever of a and b goes in
            rows, columns, *sides = reversed(module.weight.shape)
            limit = math.sqrt(6 / (rows * columns * sum(sides)))
            assert 0.9 * limit < module.weight.abs().max() <= limit
            assert module.bias is None or not module.bias.any()


def check_mininet_geometry(recipe: AnyRecipe) -> None:
    """Scale U(.5, 2) about the middle, then a shift of U(-.3, .3) of the width and U(-.1, .1) of the height; mirrored
    pictures and void labels outside."""
    where = torch.stack([torch.arange(24)[:, None].expand(24, 40), torch.arange(40).expand(24, 40)])
    batch = noisy(200, 24, 40)
    batch["image"] = torch.cat([where, torch.zeros(1, 24, 40)])[None].expand(200, -1, -1, -1).to(torch.uint8)
    image, mask = augmented(recipe, batch, flip=0.0, border="black", color_p=0.0)
    moved, scales = [], []
    for picture, ids in zip(image * 255, mask, strict=True):
        outside = torch.nn.functional.pad((ids == VOID).float()[None], (2, 2, 2, 2), value=1.0)
        inside = torch.nn.functional.max_pool2d(outside, 5, stride=1)[0] == 0  # nothing mixed with black
        rows, columns = inside.nonzero(as_tuple=True)
        if len(rows) and rows.max() - rows.min() > 5 and columns.max() - columns.min() > 5:
            tall, wide = np.polyfit(picture[0][inside], rows, 1), np.polyfit(picture[1][inside], columns, 1)
            assert wide[0] == pytest.approx(tall[0], rel=0.01)
            scales.append(wide[0])
            moved.append((np.polyval(wide, 19.5) - 19.5, np.polyval(tall, 11.5) - 11.5))
    assert len(moved) > 150
    assert (min(scales), max(scales)) == (pytest.approx(0.5, abs=0.05), pytest.approx(2, abs=0.05))
    assert np.abs(moved).max(0) == pytest.approx([0.3 * 40, 0.1 * 24], rel=0.05)  # however large the scale
    image, mask = augmented(recipe, noisy(50, 24, 40), color_p=0.0)
    outside = (mask == VOID)[:, None].expand_as(image)
    assert outside.float().mean() > 0.05
    assert image[outside].mean() == pytest.approx(0.5, abs=0.03), "black outside"


def check_mininet_color(recipe: AnyRecipe) -> None:
    """Each with p .3: int(U(-12, 12)) levels added, contrast U(.93, 1.13) about 128, blur of at most .1 pixels."""
    gray = torch.full((2000, 3, 4, 4), 100, dtype=torch.uint8)
    batch = Batch(image=gray, mask=torch.zeros(2000, 4, 4, dtype=torch.uint8), name=[])
    still = {"flip": 0.0, "scale": (1.0, 1.0), "translate": (0.0, 0.0)}
    image, _ = augmented(recipe, batch, **still, mid_contrast=(1.0, 1.0))
    levels = (image[:, 0, 0, 0] * 255).round()
    assert torch.allclose(image[:, 0, 0, 0] * 255, levels, atol=1e-3)
    added = levels - 100
    assert (added.min(), added.max()) == (-11, 11)
    assert (added != 0).float().mean() == pytest.approx(0.3 * 22 / 24, abs=0.03)
    image, _ = augmented(recipe, batch, **still, offset=0.0)
    factor = (image[:, 0, 0, 0] * 255 - 128) / (100 - 128)
    assert (factor.min(), factor.max()) == (pytest.approx(0.93, abs=0.002), pytest.approx(1.13, abs=0.002))
    assert ((factor - 1).abs() > 1e-4).float().mean() == pytest.approx(0.3, abs=0.03)
    batch = noisy(20, 24, 40)
    image, _ = augmented(recipe, batch, **still, offset=0.0, mid_contrast=(1.0, 1.0))
    assert torch.allclose(image, batch["image"] / 255, atol=1e-4)  # .1 pixels are none


def test_protocol_coco_text():
    """Alonso et al., T-RO 2020, sec. VII-D: the protocol of sec. VII-A, for all networks of table VIII."""
    [like, *_] = of("mininet")
    for name, recipe in zip(FAMILIES["coco_text"], of("coco_text"), strict=True):
        assert recipe.augment == like.augment
        assert (recipe.loss, recipe.optim, recipe.schedule) == (like.loss, like.optim, like.schedule)
        assert (recipe.batch_size, recipe.drop_last) == (6, False)
        steps = recipe.epochs * steps_of(recipe, 14_324)  # pictures with legible, machine printed text in labels v1.4
        assert steps == pytest.approx(1_000_000, rel=2e-3)
        small = name.endswith(("v1", "cpu", "512x256"))
        # INTER_AREA: the mean of what shrinks, and bilinear where pictures of 640x480 are enlarged
        assert (recipe.data.size, recipe.data.resample) == (((256, 512), "box") if small else ((512, 1024), "bilinear"))


def test_protocol_mininet_v1():
    """Code of MiniNet (2019): train.py and its README's command for CamVid; Cityscapes has the epochs of MiniNet-v2."""
    for recipe, epochs in zip(of("mininet_v1"), (500, 200), strict=True):
        assert (recipe.epochs, recipe.batch_size, recipe.drop_last) == (epochs, 12, False)
        expected = [(1e-3 - 1e-8) * (1 - e / epochs) ** 0.9 + 1e-8 for e in (0, 1, epochs - 1)]
        assert rates(recipe, [0, 1, epochs - 1]) == [pytest.approx([each] * 3) for each in expected]
        assert (recipe.optim.name, recipe.optim.weight_decay, recipe.loss.weights) == ("adam", 0.0, "none")
        assert (recipe.data.size, recipe.model.options, recipe.model.initialization) == ((256, 512), {}, "network")
        change = recipe.augment
        assert (change.flip, change.scale, change.translate) == (0.5, (0.75, 1.5), (0.3, 0.1))
        assert (change.place, change.border, change.blur, change.rotate) == ("center", "mirror", 0.0, 0.0)
        gray = torch.full((2000, 3, 4, 4), 100, dtype=torch.uint8)
        batch = Batch(image=gray, mask=torch.zeros(2000, 4, 4, dtype=torch.uint8), name=[])
        still = {"flip": 0.0, "scale": (1.0, 1.0), "translate": (0.0, 0.0)}
        image, _ = augmented(recipe, batch, **still, mid_contrast=(1.0, 1.0))
        added = (image[:, 0, 0, 0] * 255).round() - 100  # U(-10, 10) with p .3, to whole levels
        assert (added.min(), added.max()) == (-9, 9)
        assert (added != 0).float().mean() == pytest.approx(0.3 * 18 / 20, abs=0.03)
        image, _ = augmented(recipe, batch, **still, offset=0.0)
        factor = (image[:, 0, 0, 0] * 255 - 128) / (100 - 128)  # U(.9, 1.2) with p .3
        assert (factor.min(), factor.max()) == (pytest.approx(0.9, abs=0.003), pytest.approx(1.2, abs=0.003))
        assert ((factor - 1).abs() > 1e-4).float().mean() == pytest.approx(0.3, abs=0.03)


def test_protocol_mininet_ablation():
    """Alonso et al., T-RO 2020, sec. VI-A: 'the sum of all per-pixel losses', plain cross entropy."""
    [recipe] = of("mininet_ablation")
    assert (recipe.epochs, recipe.batch_size, recipe.optim.lr, recipe.optim.weight_decay) == (250, 12, 1e-3, 2e-4)
    assert (recipe.data.train, recipe.data.size) == (("train",), (256, 512))
    assert (recipe.loss.weights, recipe.loss.average) == ("none", "none")
    logits, mask = torch.randn(2, 5, 4, 6), torch.randint(0, 5, (2, 4, 6)).to(torch.uint8)
    mask[0, 0] = VOID
    picked = logits.log_softmax(1).gather(1, torch.where(mask == VOID, 0, mask).long()[:, None])[:, 0]
    expected = -picked[mask != VOID].sum()
    assert torch.isclose(cross_entropy(logits, mask, average=recipe.loss.average), expected)
    assert (recipe.augment.flip, recipe.augment.translate, recipe.augment.scale) == (0.5, (0.3, 0.0), (1.0, 1.0))


def test_protocol_liteseg():
    """Emara et al., DICTA 2019, sec. IV-B and IV-C; code: train.py, its four loaders and their transforms."""
    for name, recipe in zip(FAMILIES["liteseg"], of("liteseg"), strict=True):
        check_liteseg(recipe)
        base = 1e-8 if "darknet" in name else 1e-7
        assert recipe.optim.lr == base
        # lr = base (1 - e / 100)^.9 every 5th of 100 epochs, each of four loaders
        expected = [base * (1 - e / 100) ** 0.9 for e in (0, 0, 5, 95)]
        assert rates(recipe, [0, 19, 20, 399]) == [pytest.approx([each] * 3) for each in expected]
        crops = [step.crop for step in recipe.augment.cycle]
        assert crops == [(512, 1024), (768, 1536), (360, 640), (720, 1280)]
        assert [step.turn for step in recipe.augment.cycle] == [5, 0, 0, 0]
        check_shrinking(recipe, (64, 128), {"cycle": (), "crop": (8, 16)}, kind=Image.Resampling.BILINEAR)


def test_protocol_liteseg_coarse():
    """As the fine stage, with its first loader alone, and a rate that changes every 10 epochs (code)."""
    for recipe in of("liteseg_coarse"):
        check_liteseg(recipe)
        base = recipe.optim.lr
        assert rates(recipe, [0, 9, 10, 19]) == [pytest.approx([base * s] * 3) for s in (1, 1, 0.5**0.9, 0.5**0.9)]
        assert (recipe.epochs, recipe.data.train) == (20, ("train_extra",))
        assert (recipe.augment.crop, recipe.augment.turn) == ((512, 1024), 5)


def check_liteseg(recipe: AnyRecipe) -> None:
    assert (recipe.augment.flip, recipe.augment.scale, recipe.augment.fill) == (0.5, (0.2, 0.8), True)
    assert (recipe.augment.resample, recipe.data.size, recipe.data.val_crop) == ("bilinear", None, (512, 1024))
    assert (recipe.loss.average, recipe.loss.weights, recipe.batch_size) == ("pictures", "none", 4)
    assert (recipe.optim.name, recipe.optim.nesterov, recipe.optim.weight_decay) == ("sgd", True, 4e-5)  # paper


def check_shrinking(recipe: AnyRecipe, size: tuple[int, int], changes: dict[str, object], kind: int) -> None:
    """A picture is shrunk from the original, with a share of each pixel, as Pillow does it."""
    batch = noisy(1, *size)
    picture = Image.fromarray(batch["image"][0].permute(1, 2, 0).numpy())
    [height, width] = changes["crop"]
    still = {"flip": 0.0, "color_p": 0.0, "stretch": 0.0, "turn": 0.0}
    scale = height / size[0]
    if recipe.augment.scale_of is not None:
        changes, scale = {**changes, "scale_of": (size[0] // 2, size[1] // 2)}, 2 * scale
    image, mask = augmented(recipe, batch, **still, scale=(scale, scale), **changes)
    expected = torch.from_numpy(np.array(picture.resize((width, height), kind))).permute(2, 0, 1)
    assert (image[0] * 255 - expected).abs().max() < 1.5
    ids = Image.fromarray(batch["mask"][0].numpy()).resize((width, height), Image.Resampling.NEAREST)
    assert torch.equal(mask[0], torch.from_numpy(np.array(ids)))


RARE = {"wall": 2, "fence": 2, "pole": 2, "rider": 2, "motorcycle": 2, "bicycle": 2, "truck": 3, "bus": 3, "train": 3}


def test_protocol_efficientseg():
    """Yesilkaynak et al., ECCV workshops 2020, sec. 4; code: train.py and its transforms. So is the U-Net."""
    for name, recipe in zip(FAMILIES["efficientseg"], of("efficientseg"), strict=True):
        assert (recipe.model.outputs, recipe.batch_size, recipe.seed) == (20, 4, 42)  # code
        assert (recipe.optim.name, recipe.optim.lr, recipe.optim.weight_decay) == ("adam", 1e-3, 1e-6)
        assert (recipe.loss.average, len(recipe.loss.values)) == ("weights", 19)
        assert sorted(each for each in recipe.loss.values if each > 1) == sorted(RARE.values())
        assert (set(recipe.data.rare.classes), recipe.data.rare.extra) == (set(RARE), 20)  # paper; the script's 40
        assert steps_of(recipe, 200 + 9 * 20) == 95
        # (512 sy, 1024 sx): sy ~ U(.75, 2), sx = max(.75, sy + U(-1, 1)), straight from the original, by Lanczos
        augment = recipe.augment
        assert (augment.scale, augment.stretch, augment.scale_of) == ((0.75, 2.0), 1.0, (512, 1024))
        assert (augment.crop, augment.flip, recipe.data.size) == ((384, 768), 0.5, None)
        check_shrinking(recipe, (64, 128), {"crop": (16, 32)}, kind=Image.Resampling.LANCZOS)
        assert (recipe.data.val_size, recipe.data.resample) == ((512, 1024), "lanczos")  # at test too
        check_gate(recipe)
        expected = [1e-3] * 4 if name.endswith("unet") else [1e-3, 1e-3, 1e-4, 1e-5]
        if name.endswith("unet"):
            assert recipe.epochs == 200  # the challenge's
        else:
            assert rates(recipe, [0, 199, 200, 400]) == [pytest.approx([each] * 3) for each in expected]
    texture = of("efficientseg")[0].augment
    assert (texture.hue_factor, texture.brightness) == (0.6, 0.6)
    assert (texture.jpeg, texture.jpeg_quality, texture.jpeg_first) == (1.0, (30, 100), True)  # compression 0 .. 70
    for recipe in of("efficientseg")[2:]:
        assert (recipe.augment.hue_factor, recipe.augment.brightness, recipe.augment.jpeg) == (0.0, 0.0, 0.0)


def check_gate(recipe: AnyRecipe) -> None:
    """JPEG, hue and rotation come together, of 0.7 of the pictures; the crop turns, and its corners are void."""
    batch = noisy(300, 32, 64)
    still = {"flip": 0.0, "scale": (1.0, 1.0), "stretch": 0.0, "scale_of": None, "crop": None, "jpeg": 0.0}
    image, mask = augmented(recipe, batch, **still)
    turned = (mask == VOID).flatten(1).any(1)
    changed = (image - batch["image"] / 255).abs().amax((1, 2, 3)) > 1e-3
    assert turned.float().mean() == pytest.approx(0.7, abs=0.07)
    assert (turned & ~changed).sum() == 0
    assert (changed & ~turned).float().mean() < 0.06  # by less than makes a corner
    corners = mask[:, [0, 0, -1, -1], [0, -1, 0, -1]]
    assert ((corners == VOID).sum(1) >= 2)[turned].float().mean() > 0.8


HRNET_WEIGHTS = (  # of Cityscapes' classes, which HRNet's code has, and PIDNet's
    "0.8373 0.918 0.866 1.0345 1.0166 0.9969 0.9754 1.0489 0.8786 1.0023 0.9539 0.9843 1.1116 0.9037 1.0865 1.0955"
    " 1.0865 1.1529 1.0507"
)


def check_hrnet(recipe: AnyRecipe, cards: int) -> None:
    """SGD .01, .9, 5e-4 on all, poly .9 over 484 (2975 // 12) steps; weights of the classes; 131072 pixels a card."""
    assert (recipe.optim.name, recipe.optim.lr, recipe.optim.momentum) == ("sgd", 0.01, 0.9)
    assert (recipe.optim.weight_decay, recipe.optim.no_decay, recipe.optim.nesterov) == (5e-4, (), False)
    assert (recipe.epochs, recipe.batch_size, steps_of(recipe, 2975)) == (484, 12, 2975 // 12)
    assert recipe.loss.values == tuple(map(float, HRNET_WEIGHTS.split()))
    ohem = recipe.loss.ohem
    assert (ohem.rule, ohem.threshold, ohem.min_kept) == ("hrnet", 0.9, cards * 131_072)
    assert (recipe.augment.flip, recipe.augment.place, recipe.augment.border) == (0.5, "corner", "black")
    assert (recipe.augment.crop, recipe.data.size, recipe.data.train) == ((1024, 1024), None, ("train",))
    assert (recipe.augment.brightness, recipe.augment.hue, recipe.augment.contrast) == (0.0, 0.0, 0.0)


def check_auxiliary(head: PixelHead) -> None:
    """.4 of the mean over all pixels, hard or not, ignored ones as 0."""
    assert (head.weight, head.ohem, head.average) == (0.4, False, "all")


def test_protocol_ddrnet():
    """Hong et al., arXiv 2101.06085, and HRNet's code, in which the authors say they trained."""
    [recipe] = of("ddrnet")
    check_hrnet(recipe, cards=4)
    assert recipe.augment.scale == (0.5, 2.0)
    check_auxiliary(recipe.heads["seghead_extra"])
    assert rates(recipe, [0, 242], steps=8)[0][0] == pytest.approx(0.01)
    assert rates(recipe, [242], steps=8)[0][0] == pytest.approx(0.01 * 0.5**0.9)


def test_protocol_pidnet():
    """Xu et al., CVPR 2023; code: its loss, its loader, its seed."""
    [recipe] = of("pidnet")
    check_hrnet(recipe, cards=2)
    assert recipe.seed == 304
    check_auxiliary(recipe.heads["seghead_p"])
    head = recipe.heads["seghead_d"]
    assert (head.loss, head.weight, head.aware, head.threshold) == ("boundary", 20.0, 1.0, 0.8)
    assert (recipe.data.edges.width, recipe.data.edges.border) == (4, 6)
    # step i + 1 has .01 (1 - i / N)^.9, and the first one .01
    share, n = schedule(recipe.schedule, recipe.epochs, 247), 484 * 247
    expected = [1.0, 1.0, *((1 - i / n) ** 0.9 for i in (1, 1000, n - 2))]
    assert [share(step) for step in (0, 1, 2, 1001, n - 1)] == pytest.approx(expected)
    geometry = Geometry(scale=recipe.augment.scale, scale_step=recipe.augment.scale_step)
    torch.manual_seed(0)
    drawn = geometry._scales(2000, (8, 16), (8, 16))[:, 0].unique()
    assert torch.allclose(drawn, 0.5 + torch.arange(17) / 10)  # .5 + randint(0 .. 16) / 10


def test_protocol_pp_liteseg():
    """Peng et al., arXiv 2204.02681; code: PaddleSeg's settings for a test at half of the size."""
    [recipe] = of("pp_liteseg")
    steps = steps_of(recipe, 2975)
    assert recipe.batch_size == 16
    assert recipe.epochs * steps == pytest.approx(160_000, abs=steps)
    assert (recipe.optim.name, recipe.optim.lr, recipe.optim.momentum) == ("sgd", 5e-3, 0.9)
    assert (recipe.optim.weight_decay, recipe.optim.no_decay) == (5e-4, ())
    share, total = schedule(recipe.schedule, recipe.epochs, steps), recipe.epochs * steps
    rate = [recipe.optim.lr * share(step) for step in (0, 500, 1000, 80_500)]
    half = 5e-3 * (1 - 79_500 / (total - 1000)) ** 0.9
    assert rate == pytest.approx([1e-5, 1e-5 + (5e-3 - 1e-5) / 2, 5e-3, half], rel=1e-4)
    assert {name: (head.weight, head.ohem) for name, head in recipe.heads.items()} == {
        "seg_heads.1": (1.0, True),
        "seg_heads.2": (1.0, True),
    }
    ohem = recipe.loss.ohem
    assert (ohem.rule, ohem.threshold, ohem.min_kept) == ("paddleseg", 0.7, 4 * 130_000)  # of four cards
    assert (recipe.loss.weights, recipe.loss.at) == ("none", "picture")
    change = recipe.augment
    assert (change.scale, change.scale_step, change.crop, change.flip) == ((0.125, 1.5), 0.125, (512, 1024), 0.5)
    assert (change.place, change.border, change.shuffle) == ("corner", "gray", True)
    assert (change.brightness, change.contrast, change.saturation) == (0.5, 0.5, 0.5)
    assert change.hue == pytest.approx(18 / 255, abs=1e-4)
    assert {change.brightness_p, change.contrast_p, change.saturation_p, change.hue_p} == {0.5}


def test_protocol_fast_scnn():
    """Poudel et al., BMVC 2019."""
    [recipe] = of("fast_scnn")
    assert (recipe.epochs, recipe.batch_size) == (1000, 12)
    assert (recipe.optim.name, recipe.optim.lr, recipe.optim.momentum) == ("sgd", 0.045, 0.9)
    assert (recipe.optim.weight_decay, recipe.optim.no_decay) == (4e-5, ("depthwise",))
    assert rates(recipe, [0, 500], steps=8)[1][0] == pytest.approx(0.045 * 0.5**0.9)
    assert (recipe.loss.weights, recipe.loss.ohem) == ("none", None)
    assert [head.weight for head in recipe.heads.values()] == [0.4, 0.4]
    change = recipe.augment
    assert (change.flip, change.scale) == (0.5, (0.5, 2.0))
    assert change.brightness > 0
    assert change.channel_balance > 0


def test_an_order_of_changes_is_an_order():
    """With JPEG first its noise is turned in hue; of a gray picture the noise is gray, and stays so."""
    batch, same = noisy(4, 32, 32), {"jpeg": 1.0, "jpeg_quality": (30, 30), "hue_factor": 0.6}
    seen = []
    for first in (False, True):
        torch.manual_seed(0)
        seen.append(augmentation(Augment(**same, jpeg_first=first), 1)(batch, 0)[0])
    assert (seen[0] - seen[1]).abs().mean() > 0.01
