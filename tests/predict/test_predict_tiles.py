"""Tiles: where the overlap is as wide as a network looks, there is no seam; what cannot be tiled is refused."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from kerbseg.bundle import random_bundle
from kerbseg.cli import main
from kerbseg.core.errors import InputError, KerbsegError, KerbsegWarning
from kerbseg.core.labels import label_set
from kerbseg.models import create_model
from kerbseg.predict import Predictor
from kerbseg.predict.looks import Looks
from kerbseg.predict.reach import REACH, reach_of
from kerbseg.predict.tiles import TiledRuntime, Tiles, plan_tiles, segment_tiles
from kerbseg.runtime import Runtime, open_runtime


def looking(far: int, size: tuple[int, int] | None = None) -> SimpleNamespace:
    """A runtime whose ids depend on pixels so far away, to all sides, and on the picture's edges."""

    class Looking(SimpleNamespace):
        def __call__(self, pictures: np.ndarray) -> np.ndarray:
            assert self.size in (None, pictures.shape[1:3])
            self.largest = max(getattr(self, "largest", 0), pictures.shape[1] * pictures.shape[2])
            gray = np.pad(pictures[..., 0], ((0, 0), (far, far), (far, far)), mode="edge")
            height, width = pictures.shape[1:3]
            corners = [gray[:, y : y + height, x : x + width] for y in (0, 2 * far) for x in (0, 2 * far)]
            return np.max(corners, axis=0) % 7

    return Looking(size=size)


def noise(*size: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)


@pytest.mark.parametrize("size", [(700, 1000), (320, 320), (100, 90), (129, 321), (640, 192)])
def test_there_is_no_seam_where_the_overlap_is_as_wide_as_the_network_looks(size):
    picture, runtime = noise(*size), looking(64)
    whole = runtime(picture[None])[0]
    runtime.largest = 0
    assert (segment_tiles(runtime, picture, (320, 192), 64) == whole).all()
    assert runtime.largest <= 320 * 192


@pytest.mark.parametrize("size", [(700, 1000), (320, 192), (321, 500)])
def test_tiles_of_a_file_of_one_size_are_all_of_it(size):
    picture = noise(*size)
    assert (segment_tiles(looking(64, (320, 192)), picture, overlap=64) == looking(64)(picture[None])[0]).all()


def test_a_narrower_overlap_shows():
    picture = noise(700, 1000)
    assert (segment_tiles(looking(65), picture, (320, 192), 64) != looking(65)(picture[None])[0]).any()


@pytest.mark.parametrize(
    ("tile", "overlap", "message"),
    [
        (None, 64, "any size"),
        ((100, 192), 64, "multiples of 64"),
        ((192, 192), 32, "multiples of 64"),
        ((128, 192), 64, "more than twice"),
        ((192, 192), -64, "multiples of 64"),
    ],
)
def test_tiles_that_cannot_be_are_refused(tile, overlap, message):
    with pytest.raises(KerbsegError, match=message):
        segment_tiles(looking(1), noise(300, 300), tile, overlap)


@pytest.mark.slow
def test_erfnet_has_no_seam_from_640_pixels_on():
    runtime = open_runtime(random_bundle("erfnet", label_set("camvid"), seed=0), threads=1)
    picture = noise(64, 3500)
    whole = runtime(picture[None])[0]
    assert len(np.unique(whole)) > 1
    assert (segment_tiles(runtime, picture, (1536, 1536), 640) == whole).all()


def test_files_of_one_size_refuse_other_tiles_and_smaller_pictures():
    with pytest.raises(KerbsegError, match="320x192 only"):
        segment_tiles(looking(1, (320, 192)), noise(700, 700), (192, 192), 64)
    with pytest.raises(InputError, match="smaller"):
        segment_tiles(looking(1, (320, 192)), noise(300, 700), overlap=64)


def kerbnet() -> Runtime:
    return open_runtime("kerbnet_s-camvid", threads=1)


def test_tiles_that_overlap_as_far_as_a_network_looks_are_the_whole_picture():
    runtime = kerbnet()
    tiles = plan_tiles(runtime, (448, 448))
    assert (tiles.overlap, tiles.reach, tiles.exact) == (192, 154, True)
    picture = noise(96, 900)
    ids, confidence = TiledRuntime(runtime, tiles).with_confidence(picture[None])
    whole, sure = runtime.with_confidence(picture[None])
    assert len(np.unique(whole)) > 1
    assert (ids == whole).all()
    assert (TiledRuntime(runtime, tiles)(picture[None]) == whole).all()
    np.testing.assert_allclose(confidence, sure, atol=1e-5)
    assert (Predictor(TiledRuntime(runtime, tiles), input_size="own")(picture).ids == whole[0]).all()


def test_seams_that_are_not_exact_are_said():
    with pytest.warns(KerbsegWarning, match=r"kerbnet_s looks 154 .* overlap of 192 in tiles of 448x448"):
        tiles = plan_tiles(kerbnet(), (320, 320))
    assert (tiles.overlap, tiles.exact) == (128, False)
    with pytest.warns(KerbsegWarning, match="no overlap is known"):
        tiles = plan_tiles(made_runtime("mininet_v2_cpu"), (320, 192))
    assert tiles.to_dict() == {"size": [320, 192], "overlap": 64, "reach": None, "exact": False}
    with pytest.warns(KerbsegWarning, match="no overlap is known"):
        assert plan_tiles(made_runtime("mininet_v2_cpu"), (1024, 1024)).overlap == 128


def test_a_file_of_one_size_says_of_which_pictures_its_seams_are_not_exact(recwarn):
    runtime = looking(64, (320, 320))
    runtime.card, runtime.name, runtime.device = SimpleNamespace(model="kerbnet_s", options={}), "onnx", "cpu"
    runtime.precision, runtime.threads = "float32", 1
    tiled = TiledRuntime(runtime, Tiles((320, 320), 128, reach=64))
    tiled(noise(320, 640)[None])
    assert not recwarn.list
    with pytest.warns(KerbsegWarning, match="not exact in pictures of 320x650"):
        tiled(noise(320, 650)[None])


def made_runtime(model: str, foreign: object = None, **options: object) -> SimpleNamespace:
    return SimpleNamespace(card=SimpleNamespace(model=model, options=options), foreign=foreign, size=None)


def test_how_far_a_network_looks_is_known_of_its_usual_form_alone():
    assert reach_of(made_runtime("erfnet")) == 616
    assert reach_of(made_runtime("erfnet", grouped={"groups": 2})) == 616
    assert reach_of(made_runtime("erfnet", width=2)) is None
    assert reach_of(made_runtime("erfnet", foreign="net.onnx")) is None


@pytest.mark.parametrize("name", REACH)
@pytest.mark.slow
def test_the_table_says_how_far_networks_look(name):
    assert max(measured_reach(create_model(name, 4).eval(), -(-REACH[name] // 64) * 64)) == REACH[name]


@pytest.mark.parametrize("name", ["enet", "segnet_basic", "segnet", "kerbnet_m", "erfnet_dg2"])
@pytest.mark.slow
def test_tiles_that_overlap_by_what_the_table_says_have_no_seam(name):
    network = open_runtime(random_bundle(name, label_set("camvid"), seed=0), threads=1)

    class Logits(SimpleNamespace):
        def with_confidence(self, pictures: np.ndarray) -> tuple[np.ndarray, np.ndarray]:  # random ids are all alike
            return network(pictures), network.upsampled_logits(pictures)[:, 0].numpy()

    runtime = Logits(**{each: getattr(network, each) for each in ("card", "size", "name", "device", "precision")})
    runtime.threads = 1
    least = 2 * -(-REACH[name] // 64) * 64 + 64
    tiles = plan_tiles(runtime, (least, least))
    assert tiles.exact
    picture = noise(64, 2 * least + 200)
    _, tiled = TiledRuntime(runtime, tiles).with_confidence(picture[None])
    _, whole = runtime.with_confidence(picture[None])
    assert np.abs(tiled - whole).max() < 1e-3 * whole.std()  # sums in another order


def measured_reach(net: nn.Module, far: int) -> list[int]:
    """How far NaN in a block of 64 pixels comes to the left, right, top and bottom: `far` at most."""
    distances = []
    for axis in (2, 3):
        size = [64, 64]
        size[axis - 2] = 2 * far + 64 + 128
        clean = torch.zeros(1, 3, *size)
        damaged = clean.clone()
        damaged.narrow(axis, far + 64, 64).fill_(torch.nan)

        def damage(module: nn.Module, inputs: tuple, clean=clean, damaged=damaged) -> tuple | None:
            return (damaged, *inputs[1:]) if inputs[0].shape == clean.shape else None  # past the check of the input

        hooks = [each.register_forward_pre_hook(damage) for each in net.modules() if not list(each.children())]
        with torch.inference_mode():
            lost = net(clean).isnan().any(1)[0].any(3 - axis).nonzero().flatten()
        for hook in hooks:
            hook.remove()
        distances += [far + 64 - int(lost.min()), int(lost.max()) - (far + 64 + 63)]
    return distances


def test_the_command_looks_in_tiles_and_refuses_what_contradicts(tmp_path, capsys):
    Image.fromarray(noise(96, 500)).save(tmp_path / "wide.png")
    common = ["predict", "kerbnet_s-camvid", str(tmp_path / "wide.png"), "-o", str(tmp_path / "out"), "--save", "ids"]
    main([*common, "--tiles", "448x448", "--json", str(tmp_path / "run.json")])
    run = json.loads((tmp_path / "run.json").read_text())
    assert run["protocol"]["tiles"] == {"size": [448, 448], "overlap": 192, "reach": 154, "exact": True}
    whole = Predictor("kerbnet_s-camvid", input_size="own")(tmp_path / "wide.png").ids
    assert (np.asarray(Image.open(tmp_path / "out" / "wide_ids.png")) == whole).all()
    for more, message in (
        (["--tiles", "448x448", "--size", "64x64"], "leave --size or --tiles out"),
        (["--overlap", "64"], "give both"),
        (["--tiles", "100x100"], "multiples of 64"),
        (["--tiles", "448"], "HEIGHTxWIDTH"),
    ):
        with pytest.raises(SystemExit) as left:
            main([*common, *more])
        assert left.value.code == 2
        assert message in capsys.readouterr().err


def test_a_file_of_one_size_refuses_another_before_it_reads_a_picture():
    runtime = SimpleNamespace(size=(64, 96), name="onnx", card=SimpleNamespace(model="erfnet", options={}))
    with pytest.raises(KerbsegError, match=r"takes pictures of 64x96 .* only, not of 32x48.*export"):
        Looks(size=(32, 48)).open(runtime, fit="letterbox")
    with pytest.raises(KerbsegError, match="64x96 only, not tiles of 448x448"):
        Looks(tile=(448, 448)).open(runtime, fit="letterbox")
