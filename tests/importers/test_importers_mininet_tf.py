"""Import of MiniNet-v2's TensorFlow weights: the imported network computes what the authors' graph computes."""

import hashlib
import math
import pickle
import re
import struct
from collections import Counter
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from golden_rule import read_variables
from kerbseg.bundle import load, save
from kerbseg.cli import main
from kerbseg.core.errors import BundleError, KerbsegError
from kerbseg.core.labels import LabelSet, label_set
from kerbseg.core.normalize import Normalize, to_unit
from kerbseg.data import open_dataset
from kerbseg.importers import FORMATS, import_checkpoint
from kerbseg.importers.mininet_tf import tensorflow_names
from kerbseg.models import create_model

CPU = {"down": 2, "dilations": (1, 2, 1, 4, 1, 8), "up": 2}
GPU = {"down": 10, "dilations": (1, 2, 1, 4, 1, 8, 1, 16, 1, 1, 1, 2, 1, 8, 1, 16), "up": 4}


class Graph:
    """The authors' graph, written a second time from the facts: TensorFlow's names, layouts and padding.

    The first run draws the variables, later ones use them.
    """

    def __init__(self, classes: int, seed: int, biases: bool = False, **plan) -> None:
        self.draw = np.random.default_rng(seed)
        self.variables: dict[str, np.ndarray] = {}
        self.created: Counter[str] = Counter()
        self.classes, self.biases, self.plan = classes, biases, plan
        self(torch.zeros(1, 3, 64, 64))

    def layer(self, kind: str) -> str:
        number, self.created[kind] = self.created[kind], self.created[kind] + 1
        return f"{kind}_{number}" if number else kind

    def variable(self, name: str, *shape: int, around: float = 0.0) -> torch.Tensor:
        if name not in self.variables:
            scale = 1 / math.sqrt(math.prod(shape[:3])) if len(shape) == 4 and shape[3] > 1 else 0.3
            self.variables[name] = (around + scale * self.draw.uniform(-1, 1, shape)).astype(np.float32)
        return torch.from_numpy(self.variables[name])

    def conv(self, x, outputs, size, stride=1):
        w = self.variable(f"{self.layer('conv2d')}/kernel", size, size, x.shape[1], outputs)
        total = [max((-(-n // stride) - 1) * stride + size - n, 0) for n in x.shape[2:]]  # 'SAME'
        (top, left) = (n // 2 for n in total)
        return F.conv2d(F.pad(x, (left, total[1] - left, top, total[0] - top)), w.permute(3, 2, 0, 1), stride=stride)

    def depthwise(self, x, name, dilation=1):
        w = self.variable(f"{name}/depthwise_kernel", 3, 3, x.shape[1], 1)
        return F.conv2d(x, w.permute(2, 3, 0, 1), padding=dilation, dilation=dilation, groups=x.shape[1])

    def bn(self, x):
        name, c = self.layer("batch_normalization"), x.shape[1]
        gamma, beta = self.variable(f"{name}/gamma", c, around=1), self.variable(f"{name}/beta", c)
        mean, variance = (self.variable(f"{name}/moving_{of}", c, around=a) for of, a in (("mean", 0), ("variance", 1)))
        by_channel = (1, c, 1, 1)
        scale = gamma / torch.sqrt(variance + 1e-3)
        return (x - mean.view(by_channel)) * scale.view(by_channel) + beta.view(by_channel)

    def downsample(self, x, outputs):
        conv = self.conv(x, outputs - x.shape[1], 3, stride=2)
        return F.relu(self.bn(torch.cat([conv, F.max_pool2d(x, 2)], 1)))

    def separable(self, x):
        name, c = self.layer("separable_conv2d"), x.shape[1]
        y = self.depthwise(x, name)
        w = self.variable(f"{name}/pointwise_kernel", 1, 1, c, c)
        return F.relu(x + self.bn(F.conv2d(y, w.permute(3, 2, 0, 1))))

    def multi(self, x, dilation):
        both = 0
        for d in (1, dilation):
            name = self.layer("depthwise_conv2d")
            y = self.depthwise(x, name, d)
            if self.biases:
                y = y + self.variable(f"{name}/bias", x.shape[1]).view(1, -1, 1, 1)
            both = both + F.relu(self.bn(y))
        return F.relu(x + self.bn(self.conv(both, x.shape[1], 1)))

    def upsample(self, x, outputs):
        name, (h, w) = self.layer("conv2d_transpose"), x.shape[2:]
        kernel = self.variable(f"{name}/kernel", 3, 3, outputs, x.shape[1])
        y = F.conv_transpose2d(x, kernel.permute(3, 2, 0, 1), self.variable(f"{name}/bias", outputs), stride=2)
        return y[:, :, : 2 * h, : 2 * w]

    def __call__(self, image):
        self.created.clear()
        x = self.downsample(self.downsample(image, 16), 64)
        for _ in range(self.plan["down"]):
            x = self.separable(x)
        x = self.downsample(x, 128)
        for dilation in self.plan["dilations"]:
            x = self.multi(x, dilation)
        x = F.relu(self.bn(self.upsample(x, 64)))
        x = x + self.downsample(self.downsample(image, 16), 64)
        for _ in range(self.plan["up"]):
            x = self.separable(x)
        return self.upsample(x, self.classes)


@pytest.fixture(scope="module")
def graph() -> Graph:
    return Graph(11, seed=0, **CPU)


def npz(path: Path, variables) -> Path:
    np.savez(path, **variables)
    return path


def message(source, labels=None, model=None) -> str:
    """The one line that answers a source that cannot be imported."""
    with pytest.raises(KerbsegError) as caught:
        import_checkpoint("mininet-tf", source, labels, model)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("name", "plan", "classes", "biases", "variables"),
    [
        ("mininet_v2_cpu", CPU, 11, False, 147),
        ("mininet_v2_cpu", CPU, 19, False, 147),
        ("mininet_v2", GPU, 11, False, 357),
        ("mininet_v2", GPU, 19, True, 389),
    ],
)
def test_imported_network_computes_what_the_authors_graph_computes(tmp_path, name, plan, classes, biases, variables):
    graph = Graph(classes, 1, biases, **plan)
    assert len(graph.variables) == variables
    bundle = import_checkpoint("mininet-tf", npz(tmp_path / "a.npz", graph.variables))
    assert (bundle.card.model, bundle.card.outputs, len(bundle.card.labels)) == (name, classes, classes)
    image = torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(2)) - 0.5
    with torch.inference_mode():
        expected, found = graph(image), bundle.model.logits(image)
    assert expected.std() > 0.1  # the picture has a say
    assert (found - expected).abs().max() < 1e-4 * expected.abs().max()


def test_checkpoint_gives_the_same_bundle_as_npz_and_drops_the_optimisers_variables(tmp_path, graph, write_checkpoint):
    slots = {f"{name}/{slot}": value for name, value in graph.variables.items() for slot in ("Adam", "Adam_1")}
    other = {"global_step": np.array(18515), "beta1_power": np.float32(0.9), "beta2_power": np.float32(0.999)}
    other = {name: np.asarray(value) for name, value in other.items()}
    slots = {name: value for name, value in slots.items() if "moving" not in name and "/kernel/" not in name}  # fewer
    write_checkpoint(tmp_path / "model.ckpt", {**graph.variables, **slots, **other}, shards=2)
    found = import_checkpoint("mininet-tf", tmp_path / "model.ckpt").model.state_dict()
    expected = import_checkpoint("mininet-tf", npz(tmp_path / "a.npz", {**graph.variables, **other})).model.state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[key], expected[key]) for key in found)


def test_card_tells_all(tmp_path, graph):
    source = npz(tmp_path / "weights.npz", graph.variables)
    card = import_checkpoint("mininet-tf", source).card
    assert card.labels == label_set("camvid")
    assert card.preprocessing.channels == "bgr"
    assert (card.preprocessing.mean, card.preprocessing.std) == ((0.5, 0.5, 0.5), (1, 1, 1))
    assert card.input_size == (360, 480)
    assert "imported from weights.npz (sha256 " in card.source
    assert hashlib.sha256(source.read_bytes()).hexdigest() in card.source
    assert "AGPL-3.0" in card.source
    assert "do not redistribute" in card.source


@pytest.mark.parametrize(
    ("folder", "model", "classes", "size"),
    [
        ("camvid_960x720/iou", "mininet_v2_cpu", 11, (720, 960)),
        ("cityscapes_960x720", "mininet_v2_cpu", 11, (360, 480)),  # of another data set
        ("new_960x720", "mininet_v2_cpu", 11, (360, 480)),
        ("x", "mininet_v2_cpu", 19, (256, 512)),
        ("x", "mininet_v2", 19, (512, 1024)),
        ("cityscapes_512x256", "mininet_v2", 19, (256, 512)),
    ],
)
def test_input_size_is_that_of_the_authors_folder_or_of_the_paper(tmp_path, folder, model, classes, size):
    graph = Graph(classes, 0, **(CPU if model == "mininet_v2_cpu" else GPU))
    (tmp_path / folder).mkdir(parents=True)
    assert import_checkpoint("mininet-tf", npz(tmp_path / folder / "a.npz", graph.variables)).card.input_size == size


def test_bundle_of_it_is_saved_and_loaded(tmp_path, graph):
    bundle = import_checkpoint("mininet-tf", npz(tmp_path / "a.npz", graph.variables))
    save(bundle, tmp_path / "a.safetensors")
    loaded = load(tmp_path / "a.safetensors")
    assert loaded.card == bundle.card
    assert all(map(torch.equal, loaded.model.state_dict().values(), bundle.model.state_dict().values()))


def test_command_line(tmp_path, graph, capsys):
    source, out = npz(tmp_path / "a.npz", graph.variables), tmp_path / "m.safetensors"
    command = ["import", "mininet-tf", str(source), "-o", str(out), "--classes"]
    main([*command, "camvid"])
    assert load(out).card.model == "mininet_v2_cpu"
    out.unlink()
    with pytest.raises(SystemExit) as end:
        main([*command, "cityscapes"])
    assert end.value.code == 2
    error = capsys.readouterr().err
    assert "11 classes, label set 'cityscapes' has 19" in error
    assert error.count("\n") == 1
    assert not out.exists()


def test_labels_follow_from_the_count_or_are_asked_for(tmp_path, graph):
    source = npz(tmp_path / "a.npz", graph.variables)
    own = LabelSet("own", tuple("abcdefghijk"), ((0, 0, 0),) * 11)
    assert import_checkpoint("mininet-tf", source, own).card.labels == own
    assert "11 classes, label set 'cityscapes' has 19" in message(source, label_set("cityscapes"))
    for count in (2, 7):  # any two classes, not those of a label set of ours
        other = npz(tmp_path / f"{count}.npz", Graph(count, 0, **CPU).variables)
        assert f"has {count} classes, which is no number that its authors published" in message(other)
        assert "--classes (cityscapes, camvid, text, or your own dataset.yaml)" in message(other)
    assert import_checkpoint("mininet-tf", tmp_path / "2.npz", label_set("text")).card.labels.name == "text"


def test_unknown_format_and_model_are_answered_with_the_nearest(tmp_path, graph):
    assert "mininet-tf" in FORMATS
    with pytest.raises(KerbsegError, match="did you mean 'mininet-tf'"):
        import_checkpoint("mininet_tf", tmp_path)
    source = npz(tmp_path / "a.npz", graph.variables)
    assert "did you mean 'mininet_v2_cpu'" in message(source, model="mininet_cpu")
    assert "choose from" in message(source, model="erfnet")
    assert "for a MiniNetV2" in message(source, model="mininet_v2")


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"conv2d/kernel": None}, "lacks 'conv2d/kernel'"),
        ({"conv2d_transpose_1/bias": None}, "lacks 'conv2d_transpose_1/bias'"),
        ({"batch_normalization_27/moving_variance": None}, "lacks 'batch_normalization_27/moving_variance'"),
        ({"dense/kernel": np.zeros((3, 3))}, "unknown 'dense/kernel'"),
        ({"global_step/of_mine": np.zeros(1)}, "unknown 'global_step/of_mine'"),
        ({"depthwise_conv2d_3/bias": np.zeros(128, np.float32)}, "lacks 'depthwise_conv2d/bias'"),  # all or none
        ({"conv2d/kernel": np.zeros((13, 3, 3, 3))}, "[13, 3, 3, 3], the network needs float [3, 3, 3, 13]"),
        ({"conv2d_transpose/kernel": np.zeros((3, 3, 128, 64))}, "needs float [3, 3, 64, 128]"),
        ({"conv2d/kernel": np.zeros((3, 3, 3, 13), np.int32)}, "is int32"),
        ({"conv2d/kernel": np.zeros(7)}, "needs float [3, 3, 3, 13]"),
        ({"separable_conv2d/depthwise_kernel": np.full((3, 3, 64, 1), np.nan)}, "NaN"),
        ({"separable_conv2d/depthwise_kernel": np.full((3, 3, 64, 1), 1e300)}, "'separable_conv2d/depthwise_kernel'"),
        ({"batch_normalization/moving_mean": np.full(16, -1e39)}, "numbers beyond float32"),
        ({"batch_normalization/moving_variance": np.full(16, -1.0)}, "'batch_normalization/moving_variance' holds neg"),
        ({"conv2d_transpose_1/bias": np.zeros(0)}, "0 classes"),
        ({"conv2d_transpose_1/bias": np.zeros((11, 100))}, "1100 classes"),
    ],
)
def test_variables_that_do_not_fit_are_named(tmp_path, graph, changes, named):
    variables = {name: value for name, value in {**graph.variables, **changes}.items() if value is not None}
    assert named in message(npz(tmp_path / "a.npz", variables))


def test_foreign_and_damaged_npz_is_refused(tmp_path, graph):
    path = npz(tmp_path / "a.npz", graph.variables)
    data = path.read_bytes()
    path.write_bytes(b"")
    assert "is empty; copy it again" in message(path)
    for kept in (10, len(data) // 2, len(data) - 1):
        path.write_bytes(data[:kept])
        assert "damaged or foreign" in message(path)
    path.write_bytes(data[:3000] + b"????" + data[3004:])
    assert "damaged or foreign" in message(path)
    assert "lacks 'conv2d_transpose_1/bias'" in message(npz(tmp_path / "b.npz", {"a": np.zeros(3)}))
    assert "does not exist" in message(tmp_path / "none.npz")
    with (tmp_path / "c.npz").open("wb") as file:
        np.save(file, np.zeros(3))
    assert "damaged or foreign" in message(tmp_path / "c.npz")


@pytest.mark.parametrize(
    "header",
    [
        "{'descr': '<f4', 'fortran_order': False, 'shape': (11,",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (11,)} L\x80",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (" + "9" * 30 + ",)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (-1,)}",
        "{'descr': ['<f4'], 'fortran_order': False, 'shape': (11,)}",
        "{[]: '<f4', 'fortran_order': False, 'shape': (11,)}",
        "(" * 5000,
        "  }\n\t {",
        '"""',
    ],
)
def test_a_header_that_is_no_literal_is_refused(tmp_path, graph, header):
    variables = {name: value for name, value in graph.variables.items() if name != "conv2d_transpose_1/bias"}
    path = npz(tmp_path / "a.npz", variables)
    text = header.encode("latin1")
    with ZipFile(path, "a") as archive:
        archive.writestr("conv2d_transpose_1/bias.npy", b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text)
    assert "damaged or foreign" in message(path)


def test_a_member_that_unpacks_to_anything_is_refused(tmp_path, graph):
    path = npz(tmp_path / "a.npz", {n: v for n, v in graph.variables.items() if n != "conv2d_transpose_1/bias"})
    with ZipFile(path, "a", ZIP_DEFLATED) as archive:
        archive.writestr("conv2d_transpose_1/bias.npy", bytes(70 << 20))
    assert path.stat().st_size < 2 << 20
    assert "far too large" in message(path)


@pytest.mark.parametrize("call", [{"source": None}, {"format": None}, {"labels": "camvid"}])
def test_arguments_of_another_type_are_named(tmp_path, graph, call):
    usual = {"format": "mininet-tf", "source": npz(tmp_path / "a.npz", graph.variables)}
    with pytest.raises(KerbsegError, match=f"{'None' if 'labels' not in call else 'write: label_set'}") as caught:
        import_checkpoint(**(usual | call))
    assert "\n" not in str(caught.value)


class Malicious:
    """Unpickling it creates a file."""

    def __init__(self, victim: Path) -> None:
        self.victim = victim

    def __reduce__(self):
        return Path.touch, (self.victim,)


def test_pickles_never_run(tmp_path, graph):
    victim = tmp_path / "ran"
    bad = np.array([Malicious(victim)], object)
    np.savez(tmp_path / "a.npz", **{**graph.variables, "conv2d/kernel": bad})
    (tmp_path / "b.npz").write_bytes(pickle.dumps(Malicious(victim)))
    (tmp_path / "model.ckpt.index").write_bytes(pickle.dumps(Malicious(victim)))
    for name in ("a.npz", "b.npz", "model.ckpt"):
        with pytest.raises(BundleError):
            import_checkpoint("mininet-tf", tmp_path / name)
    assert not victim.exists()


# ---- against the authors' published weights, where they are


@pytest.fixture(scope="module")
def published(kerbseg_data) -> Path:
    folder = kerbseg_data / "published" / "mininet_v2_cpu_camvid_480x360"
    if not folder.is_dir():
        pytest.skip("needs the authors' weights: KERBSEG_DATA holds no published/mininet_v2_cpu_camvid_480x360")
    return folder


@pytest.fixture(scope="module")
def imported(published):
    return import_checkpoint("mininet-tf", published / "camvid_480x360.npz", label_set("camvid"))


def synthetic(height: int, width: int) -> torch.Tensor:
    """The network input that the golden numbers belong to."""
    y, x, c = np.mgrid[:height, :width, :3]
    values = (3 * y + 5 * x + 17 * c + x * y % 97 + 40 * ((x // 16 + y // 16) % 2)) % 256
    return torch.from_numpy((values.astype(np.float32) / 255 - 0.5).transpose(2, 0, 1)[None].copy())


def test_every_block_and_the_logits_equal_the_golden_numbers(published, imported):
    golden = np.load(published / "camvid_480x360_golden.npz")
    net = imported.model
    found: dict[str, torch.Tensor] = {}

    def through(names, layers, x):
        for name, layer in zip(names, layers, strict=True):
            x = found[f"small_{name}"] = layer(x)
        return x

    with torch.inference_mode():
        image = synthetic(64, 96)
        coarse = through(["d1", "d2", "m1", "m2"], net.downsample, image)
        coarse = through(["d3", *(f"f{i}" for i in range(6))], net.features, coarse)
        coarse = through(["up1"], [net.upsampling], coarse)
        fine = through(["r1", "r2"], net.refinement, image)
        through(["m3", "m4", "logits"], [*net.fusion, net.output], coarse + fine)
        found["synth_logits"] = net.logits(synthetic(360, 480))
        picture = torch.from_numpy(golden["real_input_bgr_u8"]).flip(-1).permute(2, 0, 1)[None]
        prepared = Normalize(imported.card.preprocessing)(picture / 255)
        found["real_logits"] = net.logits(prepared)
        ids = net(prepared).argmax(1)[0]
    assert found.keys() == {key for key in golden if key.startswith("small_") or key.endswith("logits")} - {"small_hw"}
    for name, tensor in found.items():
        assert np.abs(tensor[0].permute(1, 2, 0).numpy() - golden[name]).max() < 1e-4, name
    assert np.array_equal(ids.numpy(), golden["real_argmax_full"])


@pytest.mark.slow
def test_camvid_score_is_the_published_one(imported, camvid_data):
    data = open_dataset("camvid", "test", camvid_data)
    normalize, k = Normalize(imported.card.preprocessing), len(imported.card.labels)
    confusion = np.zeros((k, k), np.int64)
    with torch.inference_mode():
        for index in range(len(data)):
            sample = data[index]
            ids = imported.model(normalize(to_unit(torch.from_numpy(sample.image)[None]))).argmax(1)[0].numpy()
            known = sample.mask < k
            confusion += np.bincount(sample.mask[known] * k + ids[known], minlength=k * k).reshape(k, k)
    iou = confusion.diagonal() / (confusion.sum(0) + confusion.sum(1) - confusion.diagonal())
    # in percent; test split of 233 pictures, 480x360, one confusion matrix; the paper prints 59.9 at 960x720 labels
    published = [91.69, 77.32, 29.37, 91.93, 74.84, 69.82, 29.96, 28.46, 77.18, 44.61, 45.36]
    assert np.abs(100 * iou - published).max() < 0.1
    assert abs(iou.mean() - 0.6005) < 0.0003


# ---- against the names in the authors' published checkpoints


OUR_NAMES = (  # of the reference's roles
    (r"d([12])\.", lambda m: f"downsample.{int(m[1]) - 1}."),
    (r"d([45])\.", lambda m: f"refinement.{int(m[1]) - 4}."),
    (r"d3\.", lambda m: "features.0."),
    (r"m1\.(\d+)\.", lambda m: f"downsample.{int(m[1]) + 2}."),
    (r"m2\.(\d+)\.", lambda m: f"fusion.{m[1]}."),
    (r"fe\.(\d+)\.", lambda m: f"features.{int(m[1]) + 1}."),
    (r"up1\.cv\.", lambda m: "upsampling.deconv."),
    (r"up1\.", lambda m: "upsampling."),
    (r"out\.cv\.", lambda m: "output."),
)
OUR_PARTS = {
    "dw1": "near",
    "bn1": "near_bn",
    "dw2": "far",
    "bn2": "far_bn",
    "bn3": "bn",
    "dw": "depthwise",
    "pw": "pointwise",
}


def our_name(role: str) -> str:
    for pattern, replacement in OUR_NAMES:
        if re.match(pattern, role):
            role = re.sub(f"^{pattern}", replacement, role)
            break
    return ".".join(OUR_PARTS.get(part, part) for part in role.split("."))


@pytest.mark.parametrize(
    ("checkpoint", "name", "classes", "biases"),
    [
        ("mininet_v2_cpu_camvid_480x360", "mininet_v2_cpu", 11, 0),
        ("mininet_v2_cpu_cityscapes_512x256", "mininet_v2_cpu", 19, 0),
        ("mininet_v2_camvid_960x720", "mininet_v2", 11, 0),
        ("mininet_v2_cityscapes_512x256", "mininet_v2", 19, 0),
        ("mininet_v2_cityscapes_1024x512", "mininet_v2", 19, 32),
    ],
)
def test_names_are_those_of_all_published_checkpoints(tmp_path, checkpoint, name, classes, biases):
    variables = read_variables(checkpoint)
    expected = {our_name(role): theirs for theirs, (role, _) in variables.items()}
    folded = {ours: theirs for ours, theirs in expected.items() if re.search(r"\.(near|far)\.bias$", ours)}
    assert len(folded) == biases
    assert tensorflow_names(create_model(name, classes)).items() == expected.items() - folded.items()
    ones = {variable: np.ones(shape, np.float32) for variable, (_, shape) in variables.items()}
    card = import_checkpoint("mininet-tf", npz(tmp_path / f"{checkpoint}.npz", ones)).card
    assert (card.model, card.outputs) == (name, classes)
    width, height = map(int, checkpoint.rsplit("_", 1)[1].split("x"))
    assert card.input_size == (height, width)
