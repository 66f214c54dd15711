"""Networks of other houses: their tails are found, cut, and give the same ids; what has none is told in one line."""

import json
import warnings
from functools import partial

import numpy as np
import onnx
import onnx.reference
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper
from PIL import Image
from tails import CLASSES, GOOD, SIZE, SMALL, network, written

import kerbseg
from kerbseg.accelerate.early_mixing import mix_early
from kerbseg.accelerate.files import open_network
from kerbseg.accelerate.int8 import accelerate_int8
from kerbseg.accelerate.normalization import read_preprocessing
from kerbseg.accelerate.usual_way import untouched
from kerbseg.bundle import random_bundle
from kerbseg.cli import main
from kerbseg.core.errors import BundleError, DataError, InputError, KerbsegError
from kerbseg.core.labels import label_set
from kerbseg.core.types import Preprocessing
from kerbseg.data.scenes import Scenes
from kerbseg.runtime import open_runtime

IMAGENET = Preprocessing("rgb", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@pytest.fixture(scope="module")
def streets():
    return [Scenes("val", size=SIZE)[index].image for index in range(2)]


@pytest.fixture(scope="module")
def accelerate(streets):
    return partial(kerbseg.accelerate, pictures=streets)


def in_onnx(model, picture):
    """Ids by ONNX's own reference implementation, which shares nothing with what is tested."""
    values = (picture / 255).astype(np.float32).transpose(2, 0, 1)[None]
    name = model.graph.input[0].name
    return onnx.reference.ReferenceEvaluator(model).run(None, {name: values})[0]


# ---- tails


OPSETS = [pytest.param(11, marks=pytest.mark.slow), 17, pytest.param(22, marks=pytest.mark.slow)]


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize("name", GOOD)
def test_a_tail_of_an_exporter_is_found_and_gives_the_same_ids(name, opset, tmp_path, accelerate):
    source = written(network(GOOD[name], opset=opset), tmp_path / "net.onnx")
    result = accelerate(source, tmp_path / "fast.onnx")
    assert result.equal >= 0.9999
    assert result.classes == CLASSES
    runtime = open_runtime(tmp_path / "fast.onnx")
    assert runtime.size == SIZE
    assert runtime.last_stage.coordinates == ("asymmetric" if name == "paddle_asymmetric" else None)
    assert runtime.last_stage.align_corners == (name == "align_corners")


@pytest.mark.parametrize("name", ["torch_argmax", "tensorflow_nhwc", "paddle_asymmetric", "ends_in_softmax", "top_k"])
def test_a_tail_is_found_in_openvino_too(name, tmp_path, accelerate, streets):
    ov = pytest.importorskip("openvino", reason="OpenVINO is not installed")
    source = written(network(GOOD[name]), tmp_path / "net.onnx")
    ov.save_model(ov.convert_model(str(source)), str(tmp_path / "net.xml"), compress_to_fp16=False)
    accelerate(source, tmp_path / "one.xml")
    assert accelerate(tmp_path / "net.xml", tmp_path / "other.xml").equal >= 0.9999
    one, other = (open_runtime(tmp_path / f"{each}.xml") for each in ("one", "other"))
    for picture in streets:
        assert (one(picture[None]) == other(picture[None])).mean() >= 0.9999
    assert one.foreign.parameters == other.foreign.parameters
    assert one.foreign.macs == other.foreign.macs


def test_ids_are_those_of_onnx_itself(tmp_path, accelerate, streets):
    model = network(GOOD["torch_argmax"])
    accelerate(written(model, tmp_path / "net.onnx"), tmp_path / "fast.onnx")
    ours = open_runtime(tmp_path / "fast.onnx")(streets[0][None])
    assert len(np.unique(ours)) > 2
    assert (in_onnx(model, streets[0]) == ours).mean() >= 0.9999


def test_the_written_file_gives_the_same_ids_without_kerbseg(tmp_path, accelerate, streets):
    accelerate(written(network(GOOD["cropped"]), tmp_path / "net.onnx"), tmp_path / "fast.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "fast.onnx")
    (ids,) = session.run(None, {"pictures": streets[0][None]})
    assert ids.dtype == np.uint8
    assert (ids == open_runtime(tmp_path / "fast.onnx")(streets[0][None])).mean() >= 0.9999


def test_parameters_and_macs_are_those_of_the_graph(tmp_path, accelerate):
    accelerate(written(network(GOOD["torch_argmax"]), tmp_path / "net.onnx"), tmp_path / "fast.onnx")
    foreign = open_runtime(tmp_path / "fast.onnx").foreign
    weights = (8 * 3 * 25, 8 * 8 * 9, CLASSES * 8)
    assert foreign.parameters == sum(weights)
    assert foreign.macs == sum(weights) * SMALL[0] * SMALL[1]


def test_logits_of_one_house_may_have_our_names(tmp_path, accelerate):
    """Names that the cards use are free for others."""
    model = network(GOOD["torch_argmax"], name="pictures")
    for node in model.graph.node:
        for names in (node.input, node.output):
            names[:] = [{model.graph.output[0].name: "logits", "relu_1_0": "ids"}.get(each, each) for each in names]
    model.graph.output[0].name = "logits"
    assert accelerate(written(model, tmp_path / "net.onnx"), tmp_path / "fast.onnx").equal >= 0.9999


def test_external_weights_come_into_the_file(tmp_path, accelerate):
    onnx.save(network(GOOD["torch_argmax"]), tmp_path / "net.onnx", save_as_external_data=True, size_threshold=0)
    accelerate(tmp_path / "net.onnx", tmp_path / "out" / "fast.onnx")
    assert [each.name for each in (tmp_path / "out").iterdir()] == ["fast.onnx"]


# ---- confidence


@pytest.mark.parametrize("name", ["align_corners", "paddle_asymmetric"])
def test_confidence_is_the_softmax_of_enlarged_logits(name, tmp_path, accelerate, streets):
    rule = "align_corners" if name == "align_corners" else "asymmetric"

    def tail(net, logits):
        large = net.resize(logits, [1, CLASSES, *SIZE], coordinate_transformation_mode=rule)
        return [net.add("Softmax", large, axis=1)]

    model = network(tail)
    accelerate(written(model, tmp_path / "net.onnx"), tmp_path / "fast.onnx")
    _, confidence = open_runtime(tmp_path / "fast.onnx").with_confidence(streets[0][None])
    np.testing.assert_allclose(confidence[0], in_onnx(model, streets[0]).max(1)[0], atol=1e-5)


@pytest.mark.parametrize("ending", [".onnx", ".xml"])
def test_confidence_of_an_accelerated_network_is_within_a_level_of_torchs_softmax(
    ending, tmp_path, accelerate, streets
):
    bundle = random_bundle("mininet_v2_cpu", label_set("camvid"), seed=0)
    with torch.no_grad():
        bundle.model.output.weight *= 40
        bundle.model.output.bias *= 40
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch's exporter
        torch.onnx.export(bundle.model, (torch.zeros(1, 3, *SIZE),), tmp_path / "net.onnx", dynamo=True, verbose=False)
    accelerate(tmp_path / "net.onnx", tmp_path / f"fast{ending}", preprocessing=bundle.card.preprocessing)
    expected = open_runtime(bundle).upsampled_logits(streets[0][None]).double().softmax(1).amax(1).numpy()
    assert expected.std() > 0.05
    _, levels = open_runtime(tmp_path / f"fast{ending}").with_confidence(streets[0][None], dtype="uint8")
    assert (np.abs(levels / 255 - expected) <= 1 / 255 + 1e-9).mean() >= 0.999


@pytest.mark.parametrize("name", ["softmax_before", "sigmoid"])
def test_confidence_in_probabilities_of_its_own_is_refused(name, tmp_path, accelerate, streets):
    accelerate(written(network(GOOD[name]), tmp_path / "net.onnx"), tmp_path / "fast.onnx")
    with pytest.raises(KerbsegError, match="probabilities of its own"):
        open_runtime(tmp_path / "fast.onnx").with_confidence(streets[0][None])


# ---- inputs


def nhwc(net, picture):
    return net.add("Transpose", picture, perm=[0, 3, 1, 2])


def from_uint8(net, picture):
    return net.add(
        "Div", net.add("Cast", nhwc(net, picture), to=TensorProto.FLOAT), net.add("Constant", value_float=255.0)
    )


def from_half(net, picture):
    return net.add("Cast", picture, to=TensorProto.FLOAT)


@pytest.mark.parametrize("channels", ["rgb", "bgr"])
@pytest.mark.parametrize("kind", ["nchw", "nhwc", "uint8", "half", "any size"])
@pytest.mark.parametrize("ending", [".onnx", ".xml"])
def test_pictures_reach_the_network_as_it_wants_them(kind, channels, ending, tmp_path, accelerate, streets):
    if ending == ".xml":
        pytest.importorskip("openvino", reason="OpenVINO is not installed")
        if (kind, channels) not in (("nchw", "bgr"), ("uint8", "bgr")):
            pytest.skip("the same graph as for ONNX Runtime")
    plain = written(network(GOOD["torch_argmax"]), tmp_path / "plain.onnx")
    fronts = {"nhwc": nhwc, "uint8": from_uint8, "half": from_half}
    kinds = {"uint8": TensorProto.UINT8, "half": TensorProto.FLOAT16}
    shape = (1, *SIZE, 3) if kind in ("nhwc", "uint8") else (1, 3, *SIZE)
    tail = GOOD["torch_sizes" if kind == "any size" else "torch_argmax"]
    front = fronts.get(kind, lambda net, picture: picture)
    model = network(tail, front=front, dtype=kinds.get(kind, TensorProto.FLOAT), shape=shape)
    if kind == "any size":
        for dim, name in zip(model.graph.input[0].type.tensor_type.shape.dim, ("b", None, "h", "w"), strict=True):
            dim.dim_param = name or ""
            if name is None:
                dim.dim_value = 3
    source = written(model, tmp_path / "net.onnx")
    size = SIZE if kind == "any size" else None
    accelerate(source, tmp_path / f"fast{ending}", preprocessing=Preprocessing(channels), size=size)
    accelerate(plain, tmp_path / "plain_fast.onnx")
    turned = [picture[..., ::-1] if channels == "bgr" else picture for picture in streets]
    one, other = open_runtime(tmp_path / f"fast{ending}"), open_runtime(tmp_path / "plain_fast.onnx")
    least = 0.98 if kind == "half" else 0.9999
    for picture, seen in zip(streets, turned, strict=True):
        assert (one(picture[None]) == other(np.ascontiguousarray(seen)[None])).mean() >= least


def test_normalization_is_that_of_training(tmp_path, accelerate, streets):
    source = written(network(GOOD["ends_in_resize"]), tmp_path / "net.onnx")
    accelerate(source, tmp_path / "fast.onnx", preprocessing=IMAGENET)
    values = torch.from_numpy(streets[0]).permute(2, 0, 1) / 255
    mean, std = (torch.tensor(each)[:, None, None] for each in (IMAGENET.mean, IMAGENET.std))
    (logits,) = onnxruntime.InferenceSession(source).run(None, {"x": ((values - mean) / std)[None].numpy()})
    assert (open_runtime(tmp_path / "fast.onnx")(streets[0][None]) == logits.argmax(1)).mean() >= 0.9999


def test_a_network_of_four_pictures_takes_any_number(tmp_path, accelerate, streets):
    def tail(net, logits):
        return [net.add("ArgMax", net.resize(logits, [4, CLASSES, *SIZE]), axis=1, keepdims=0)]

    accelerate(written(network(tail, shape=(4, 3, *SIZE)), tmp_path / "net.onnx"), tmp_path / "four.onnx")
    accelerate(written(network(GOOD["torch_argmax"]), tmp_path / "one.onnx"), tmp_path / "fast.onnx")
    four, one = (open_runtime(tmp_path / name) for name in ("four.onnx", "fast.onnx"))
    for pictures in (np.stack(streets), streets[0][None]):
        assert (four(pictures) == one(pictures)).mean() >= 0.9999


# ---- a choice by name


def two_outputs(net, logits):
    aux = net.resize(net.add("Conv", logits, net.random(3, CLASSES, 1, 1)), [1, 3, *SIZE])
    return [aux, *GOOD["torch_argmax"](net, logits)]


def test_several_outputs_are_told_and_one_is_chosen(tmp_path, accelerate):
    model = network(two_outputs)
    source = written(model, tmp_path / "net.onnx")
    with pytest.raises(BundleError, match=r"2 outputs .*say which one .*--logits"):
        accelerate(source, tmp_path / "fast.onnx")
    aux, ids = (value.name for value in model.graph.output)
    assert accelerate(source, tmp_path / "fast.onnx", logits=ids).classes == CLASSES
    assert accelerate(source, tmp_path / "fast.onnx", logits=aux).classes == 3
    small = next(node.input[0] for node in model.graph.node if node.output[0] == aux)
    assert accelerate(source, tmp_path / "fast.onnx", logits=small).classes == 3


def test_small_logits_at_the_end_are_taken_by_name_alone(tmp_path, accelerate, streets):
    model = network(lambda net, logits: [logits])
    source, name = written(model, tmp_path / "net.onnx"), model.graph.output[0].name
    with pytest.raises(BundleError, match=f"smaller than its pictures.*--logits {name}"):
        accelerate(source, tmp_path / "fast.onnx")
    assert accelerate(source, tmp_path / "fast.onnx", logits=name).equal >= 0.9999
    small = torch.from_numpy(in_onnx(model, streets[0]))
    ids = torch.nn.functional.interpolate(small, SIZE, mode="bilinear").argmax(1).numpy()
    assert (open_runtime(tmp_path / "fast.onnx")(streets[0][None]) == ids).mean() >= 0.9999


# ---- features mixed before they are enlarged


def pyramid(net, logits, bias=True):
    """SegFormer's head in small: a linear layer, features of two sizes, and a pointwise convolution over both."""
    tokens = net.add("Transpose", net.add("Reshape", logits, net.constant([1, CLASSES, -1])), perm=[0, 2, 1])
    linear = net.add("Add", net.constant(np.arange(8), np.float32), net.add("MatMul", tokens, net.random(CLASSES, 8)))
    turned = net.add("Transpose", linear, perm=[0, 2, 1])
    fine = net.add("Reshape", turned, net.constant([1, 8, *SMALL]))
    coarse = net.add("AveragePool", logits, kernel_shape=[2, 2], strides=[2, 2])
    larger = net.resize(coarse, [1, CLASSES, *SMALL])
    joined = net.add("Concat", larger, net.resize(fine, [1, 8, *SMALL]), axis=1)
    more = [net.random(8)] if bias else []
    mixed = net.add("Relu", net.add("Conv", joined, net.random(8, CLASSES + 8, 1, 1), *more))
    return GOOD["torch_argmax"](net, net.add("Conv", mixed, net.random(CLASSES, 8, 1, 1)))


@pytest.mark.parametrize("bias", [True, False])
def test_features_are_mixed_before_they_are_enlarged(bias, tmp_path, accelerate):
    source = written(network(partial(pyramid, bias=bias)), tmp_path / "net.onnx")
    assert accelerate(source, tmp_path / "fast.onnx").equal >= 0.9999
    known = open_network(source, tmp_path / "fast.onnx")
    before = known.graph.cut(known.tail)
    after = mix_early(before)
    assert known.graph.costs(after)[1] < known.graph.costs(before)[1]
    assert not any(node.op_type == "Concat" for node in after.graph.node)
    assert sum(node.op_type == "MatMul" for node in after.graph.node) == 1
    picture = np.random.default_rng(0).integers(0, 256, (1, *SIZE, 3), np.uint8)
    one, other = (logits_of(model, picture) for model in (before, after))
    np.testing.assert_allclose(other, one, atol=1e-5 * np.abs(one).max())


def logits_of(model, picture):
    model = onnx.ModelProto.FromString(model.SerializeToString())
    del model.graph.output[:]
    model.graph.output.append(helper.make_empty_tensor_value_info("logits"))
    return onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"pictures": picture})[0]


def test_a_network_without_such_features_stays_as_it_is(tmp_path):
    known = open_network(written(network(GOOD["torch_argmax"]), tmp_path / "net.onnx"), tmp_path / "fast.onnx")
    model = known.graph.cut(known.tail)
    assert [node.op_type for node in mix_early(model).graph.node] == [node.op_type for node in model.graph.node]


# ---- a network of another house


@pytest.mark.slow
@pytest.mark.parametrize("ending", [".onnx", ".xml"])
def test_segformer_of_transformers_gives_the_same_ids(ending, tmp_path):
    transformers = pytest.importorskip(
        "transformers", reason="transformers is not installed (pip install transformers)"
    )
    torch.manual_seed(0)
    net = transformers.SegformerForSemanticSegmentation(transformers.SegformerConfig(num_labels=19)).eval()

    class Whole(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.net = net

        def forward(self, x):
            logits = self.net(x).logits
            return torch.nn.functional.interpolate(logits, size=x.shape[2:], mode="bilinear").argmax(1)

    whole, picture = Whole().eval(), torch.rand(1, 3, 128, 192)
    torch.onnx.export(whole, (picture,), tmp_path / "net.onnx", opset_version=17, dynamo=False)
    result = kerbseg.accelerate(tmp_path / "net.onnx", tmp_path / f"fast{ending}", preprocessing=IMAGENET)
    assert result.equal >= 0.9999
    assert result.classes == 19
    ours = open_runtime(tmp_path / f"fast{ending}").foreign
    known = open_network(tmp_path / "net.onnx", tmp_path / f"fast{ending}")
    assert ours.macs < 0.5 * known.graph.costs(known.graph.cut(known.tail))[1]


# ---- refusals


def full_size(net, logits):
    return [net.add("ConvTranspose", logits, net.random(CLASSES, CLASSES, 4, 4), strides=[4, 4])]


def nearest(net, logits):
    how = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    return [net.add("ArgMax", net.resize(logits, [1, CLASSES, *SIZE], **how), axis=1)]


def cubic(net, logits):
    return [net.add("ArgMax", net.resize(logits, [1, CLASSES, *SIZE], mode="cubic"), axis=1)]


def smaller(net, logits):
    return [net.add("ArgMax", net.resize(logits, [1, CLASSES, 8, 12]), axis=1)]


def half_size(net, logits):
    return [net.add("ArgMax", net.resize(logits, [1, CLASSES, 32, 48]), axis=1)]


def classifier(net, logits):
    return [net.add("Flatten", net.add("GlobalAveragePool", logits))]


def flipped(net, logits):
    """The least likely class."""
    return [net.add("ArgMin", net.resize(logits, [1, CLASSES, *SIZE]), axis=1)]


def other_ids(net, logits):
    """Ids of another numbering."""
    best = net.add("ArgMax", net.resize(logits, [1, CLASSES, *SIZE]), axis=1, keepdims=0)
    return [net.add("Gather", net.constant(list(range(CLASSES))[::-1]), best)]


def without_background(net, logits):
    large = net.resize(logits, [1, CLASSES, *SIZE])
    few = net.add("Slice", large, net.constant([1]), net.constant([CLASSES]), net.constant([1]))
    return [net.add("ArgMax", few, axis=1, keepdims=0)]


def least_of_two(net, logits):
    large = net.resize(logits, [1, CLASSES, *SIZE])
    return [net.add("TopK", large, net.constant([1]), outputs=2, axis=1, largest=0)[1]]


def threshold(net, logits):
    one = net.add("Conv", logits, net.random(1, CLASSES, 1, 1))
    return [net.add("Sigmoid", net.resize(one, [1, 1, *SIZE]))]


def own_input(net, logits):
    half = net.add("AveragePool", "x", kernel_shape=[2, 2], strides=[2, 2])
    return [net.add("ArgMax", net.resize(half, [1, 3, *SIZE]), axis=1)]


def by_chance(net, logits):
    noisy = net.add("Add", logits, net.add("RandomUniformLike", logits))
    return [net.add("ArgMax", net.resize(noisy, [1, CLASSES, *SIZE]), axis=1)]


def dropout_in_training(net, logits):
    half = net.add("Dropout", logits, net.constant(0.5, np.float32), net.constant(True, np.bool_))
    return [net.add("ArgMax", net.resize(half, [1, CLASSES, *SIZE]), axis=1)]


def scales_of_no_whole_size(net, logits):
    """Scales that are computed: 16 rows 4.03 times are 64.48, which ONNX cuts to 64 and still divides by 4.03."""
    scales = net.add("Concat", net.constant([1, 1], np.float32), net.constant([4.03, 4.03], np.float32), axis=0)
    return [net.add("ArgMax", net.add("Resize", logits, "", scales, mode="linear"), axis=1)]


def bias_behind(net, logits):
    bias = net.constant(np.arange(CLASSES).reshape(1, -1, 1, 1) / 3, np.float32)
    return [net.add("ArgMax", net.add("Add", net.resize(logits, [1, CLASSES, *SIZE]), bias), axis=1, keepdims=0)]


def turned_round(net, logits):
    large = net.resize(logits, [1, CLASSES, *SIZE])
    return [net.add("ArgMax", net.add("Mul", net.constant(-2, np.float32), large), axis=1, keepdims=0)]


def levels(net, logits):
    """Ids as shades of gray."""
    best = net.add("ArgMax", net.resize(logits, [1, CLASSES, *SIZE]), axis=1, keepdims=0)
    return [net.add("Mul", best, net.constant(30))]


def squeezed_if(net, logits, condition):
    """PyTorch's old exporter: a squeeze of an axis whose size it does not know."""
    best = net.add("ArgMax", net.resize(logits, [1, CLASSES, *SIZE]), axis=1, keepdims=1)
    branches = {}
    for name, kind, more in (("then_branch", "Squeeze", [net.constant([1])]), ("else_branch", "Identity", [])):
        value = helper.make_tensor_value_info("end", TensorProto.INT64, None)
        branches[name] = helper.make_graph([helper.make_node(kind, [best, *more], ["end"])], name, [], [value])
    return [net.add("If", condition(net, best), **branches)]


def decided_by_size(net, logits):
    def one_channel(net, best):
        return net.add("Equal", net.add("Gather", net.add("Shape", best), net.constant(1)), net.constant(1))

    return squeezed_if(net, logits, one_channel)


def decided_by_pixels(net, logits):
    def bright(net, best):
        return net.add("Greater", net.add("ReduceMean", "x", keepdims=0), net.constant(0, np.float32))

    return squeezed_if(net, logits, bright)


BAD = {
    dropout_in_training: r"Dropout.*model\.eval\(\)",
    scales_of_no_whole_size: "which is not whole",
    full_size: "picture's size already|comes of ConvTranspose",
    nearest: "is nearest",
    cubic: "is cubic",
    smaller: "makes 16x24 smaller",
    half_size: "not the size of its pictures",
    classifier: "classifier",
    flipped: "stands ArgMin",
    other_ids: "not the class of the largest",
    without_background: "not the class of the largest logit",
    least_of_two: "TopK of another kind",
    threshold: "one channel",
    by_chance: r"model\.eval\(\)",
    bias_behind: r"stands Add -> ArgMax, which is not understood;.*--logits conv_4_0",
    turned_round: r"stands Mul -> ArgMax, which is not understood",
    levels: r"is not the class of the largest logit.*--logits conv_4_0",
    decided_by_pixels: r"comes of If; what it does depends on the pixels",
}


@pytest.mark.parametrize("tail", BAD, ids=lambda tail: tail.__name__)
def test_what_has_no_such_tail_is_told_in_one_line(tail, tmp_path, accelerate):
    source = written(network(tail), tmp_path / "net.onnx")
    with pytest.raises(BundleError, match=BAD[tail]) as error:
        accelerate(source, tmp_path / "fast.onnx")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "fast.onnx").exists()


@pytest.mark.parametrize("ending", [".onnx", ".xml"])
def test_a_branch_that_no_pixel_decides_is_taken(ending, tmp_path, accelerate, streets):
    source = written(network(decided_by_size), tmp_path / "net.onnx")
    fast = tmp_path / f"fast{ending}"
    assert accelerate(source, fast).equal == 1
    model = onnx.load(source)
    assert (kerbseg.Predictor(fast)(streets[0]).ids == in_onnx(model, streets[0])).all()


@pytest.mark.parametrize("ending", [".onnx", ".xml"])
def test_a_temperature_of_the_graph_is_passed_and_kept(ending, tmp_path, accelerate, streets):
    """Logits divided by 0.1 before their softmax, which is in parts of 50: the confidence is that of the graph."""

    def warm(net, logits):
        large = net.add("Div", net.resize(logits, [1, CLASSES, *SIZE]), net.constant(0.1, np.float32))
        return [net.add("Mul", net.add("Softmax", large, axis=1), net.constant(50.0, np.float32))]

    source = written(network(warm), tmp_path / "net.onnx")
    fast = tmp_path / f"fast{ending}"
    assert accelerate(source, fast).equal == 1
    (expected,) = in_onnx(onnx.load(source), streets[0])
    _, confidence = open_runtime(fast).with_confidence(streets[0][None])
    np.testing.assert_allclose(confidence[0], expected.max(0) / 50, atol=1e-5)


@pytest.mark.parametrize("ending", [".onnx", ".xml"])
def test_what_stands_behind_named_logits_is_compared_or_told(ending, tmp_path, accelerate):
    fast = tmp_path / f"fast{ending}"
    plain = written(network(GOOD["torch_argmax"]), tmp_path / "plain.onnx")
    assert "left out" not in str(accelerate(plain, fast, logits="conv_4_0"))
    for tail in (levels, bias_behind):
        source = written(network(tail), tmp_path / "net.onnx")
        result = accelerate(source, fast, logits="conv_4_0")
        assert result.left_out == "resize_5_0"
        assert "the largest of 'resize_5_0' in net.onnx" in str(result)
        assert "what the file does behind that is left out" in str(result)


@pytest.mark.parametrize("ending", [".tflite", ".pte", ".ncnn.param"])
def test_other_endings_are_refused_before_anything_is_done(ending, tmp_path, accelerate):
    source = written(network(GOOD["torch_argmax"]), tmp_path / "net.onnx")
    with pytest.raises(KerbsegError, match=r"choose \.onnx or \.xml"):
        accelerate(source, tmp_path / f"fast{ending}")


def test_help_names_no_endings_but_those_that_are_written(capsys):
    main(["accelerate", "--help"])
    assert ".tflite" not in capsys.readouterr().out


def test_what_onnxruntime_cannot_run_is_named_by_its_own_file(tmp_path, accelerate):
    def narrow(net, picture):
        return net.add("Cast", net.add("Relu", net.add("Cast", picture, to=TensorProto.BFLOAT16)), to=TensorProto.FLOAT)

    source = written(network(GOOD["torch_argmax"], front=narrow), tmp_path / "net.onnx")
    with pytest.raises(BundleError, match=r"onnxruntime cannot open .*net\.onnx"):
        accelerate(source, tmp_path / "fast.onnx")


@pytest.mark.parametrize("side", [4, 8])
def test_a_renumbered_class_is_seen_where_pictures_have_fewer_pixels_than_classes(side, tmp_path):
    def swapped(net, logits):
        best = net.add("ArgMax", net.resize(logits, [1, 200, side, side]), axis=1, keepdims=0)
        return [net.add("Gather", net.constant([*range(198), 199, 198]), best)]

    source = written(network(swapped, shape=(1, 3, side, side), classes=200), tmp_path / "net.onnx")
    with pytest.raises(BundleError, match="not the class of the largest"):
        kerbseg.accelerate(source, tmp_path / "fast.onnx")


def test_scales_of_two_axes_are_read_like_those_of_four(tmp_path, accelerate):
    def tail(scale):
        def of_axes(net, logits):
            scales = net.constant([scale, scale], np.float32)
            return [net.add("ArgMax", net.add("Resize", logits, "", scales, axes=[-2, 3], mode="linear"), axis=1)]

        return of_axes

    uneven = written(network(tail(4.03), opset=18), tmp_path / "uneven.onnx")
    with pytest.raises(BundleError, match="which is not whole"):
        accelerate(uneven, tmp_path / "fast.onnx")
    whole = written(network(tail(4.0), opset=18), tmp_path / "whole.onnx")
    assert accelerate(whole, tmp_path / "fast.onnx").equal == 1


def test_what_openvino_cannot_read_is_told_in_one_line(tmp_path, accelerate):
    def symmetric(net, logits):
        how = {"coordinate_transformation_mode": "half_pixel_symmetric"}
        return [net.add("ArgMax", net.resize(logits, scales=[1, 1, 4, 4], **how), axis=1)]

    source = written(network(symmetric, opset=19), tmp_path / "net.onnx")
    with pytest.raises(BundleError, match=r"openvino cannot read .*Resize-19.*an \.onnx file") as error:
        accelerate(source, tmp_path / "fast.xml")
    assert "\n" not in str(error.value)
    assert not [*tmp_path.glob("fast*")]
    assert accelerate(source, tmp_path / "fast.onnx").equal == 1


def test_ids_of_another_size_in_openvino_are_refused(tmp_path, accelerate):
    """OpenVINO has no `keep_aspect_ratio_policy`: it gives the size asked for, ONNX Runtime one of the proportions."""

    def kept(net, logits):
        how = {"axes": [2, 3], "keep_aspect_ratio_policy": "not_larger", "mode": "linear"}
        return [net.add("ArgMax", net.add("Resize", logits, "", "", net.constant([64, 93]), **how), axis=1, keepdims=0)]

    source = written(network(kept, opset=18, shape=(1, 3, 62, 93)), tmp_path / "net.onnx")
    with pytest.raises(KerbsegError, match=r"in openvino, not of \(62, 93\)"):
        kerbseg.accelerate(source, tmp_path / "fast.xml")
    assert kerbseg.accelerate(source, tmp_path / "fast.onnx").equal == 1


def test_a_file_that_disagrees_is_not_written_in_float_or_int8(tmp_path, accelerate, monkeypatch, streets):
    """A network whose ids are read wrongly is found by the comparison on pictures, and named."""
    source = written(network(GOOD["torch_argmax"]), tmp_path / "net.onnx")
    (tmp_path / "pictures").mkdir()
    for index, street in enumerate(streets):
        Image.fromarray(street).save(tmp_path / "pictures" / f"{index}.png")
    in_int8 = partial(accelerate_int8, calibration=tmp_path / "pictures")
    wrong = {"half_pixel": (True, None)}
    monkeypatch.setattr("kerbseg.accelerate.tail.COORDINATES", wrong)
    for write in (accelerate, in_int8):
        with pytest.raises(KerbsegError, match=r"net\.onnx: .* would not agree with its network.*nothing was written"):
            write(source, tmp_path / "fast.onnx")
        assert not (tmp_path / "fast.onnx").exists()


def test_damaged_and_foreign_files_are_told_in_one_line(tmp_path, accelerate, camvid_bundle):
    source = written(network(GOOD["torch_argmax"]), tmp_path / "net.onnx")
    (tmp_path / "cut.onnx").write_bytes(source.read_bytes()[:2000])
    unknown = network(lambda net, logits: [net.add("Upscale", logits)])
    onnx.save(unknown, tmp_path / "unknown.onnx")
    (tmp_path / "text.onnx").write_text("no graph")
    for name in ("cut", "unknown", "text", "absent"):
        with pytest.raises(BundleError, match=f"{name}.onnx"):
            accelerate(tmp_path / f"{name}.onnx", tmp_path / "fast.onnx")
    accelerate(source, tmp_path / "fast.onnx")
    with pytest.raises(BundleError, match="is a file of kerbseg already"):
        accelerate(tmp_path / "fast.onnx", tmp_path / "again.onnx")
    with pytest.raises(KerbsegError, match="is the network itself"):
        accelerate(source, source)
    with pytest.raises(BundleError, match="no network that is accelerated"):
        accelerate(camvid_bundle, tmp_path / "again.onnx")
    with pytest.raises(KerbsegError, match=r"no ending|choose"):
        accelerate(source, tmp_path / "again.pt")
    assert not (tmp_path / "again.onnx").exists()


def test_options_that_do_not_fit_are_told(tmp_path, accelerate, folder_root):
    source, out = written(network(GOOD["torch_argmax"]), tmp_path / "net.onnx"), tmp_path / "fast.onnx"
    with pytest.raises(KerbsegError, match="3 classes, the network has 7"):
        accelerate(source, out, classes=folder_root / "dataset.yaml")
    with pytest.raises(InputError, match=r"64x96 .*not of 32x48"):
        accelerate(source, out, size=(32, 48))
    with pytest.raises(BundleError, match="no tensor 'scores'"):
        accelerate(source, out, logits="scores")
    with pytest.raises(DataError, match="no folder"):
        kerbseg.accelerate(source, out, pictures=tmp_path / "nothing")
    uint8 = network(GOOD["torch_argmax"], front=from_uint8, dtype=TensorProto.UINT8, shape=(1, *SIZE, 3))
    with pytest.raises(KerbsegError, match="normalizes them itself"):
        accelerate(written(uint8, tmp_path / "uint8.onnx"), out, preprocessing=IMAGENET)
    gray = helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, 1, *SIZE))
    model = network(GOOD["torch_argmax"])
    del model.graph.input[:]
    model.graph.input.append(gray)
    with pytest.raises(BundleError, match=r"three channels|whole ONNX"):
        accelerate(written(model, tmp_path / "gray.onnx"), out)
    assert not out.exists()


# ---- the command line, and all that takes the file


def test_the_command_writes_what_all_others_take(tmp_path, capsys, folder_root, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = network(lambda net, logits: [net.resize(logits, [1, 3, *SIZE])], classes=3)
    written(model, tmp_path / "net.onnx")
    pictures = folder_root / "images"
    main(
        f"accelerate net.onnx -o fast.onnx --classes {folder_root} --json told.json --calibration {pictures}"
        " --mean 123.675,116.28,103.53 --std 58.395,57.12,57.375".split()
    )
    told = json.loads((tmp_path / "told.json").read_text())
    assert told["equal"] >= 0.9999
    assert "next: kerbseg profile fast.onnx --against net.onnx" in capsys.readouterr().out
    runtime = open_runtime(tmp_path / "fast.onnx")
    assert runtime.card.labels.classes == ("path", "grass", "water")
    assert np.allclose(runtime.card.preprocessing.mean, (0.485, 0.456, 0.406))
    main(["predict", "fast.onnx", str(pictures / "val"), "-o", "out"])
    assert list((tmp_path / "out").rglob("*_ids.png"))
    main(f"evaluate fast.onnx --data folder --data-root {folder_root} --split val --json scores.json".split())
    assert json.loads((tmp_path / "scores.json").read_text())["protocol"]["model"] == "net"
    main(["info", "fast.onnx", "--card", "card.md"])
    assert "made of net.onnx" in (tmp_path / "card.md").read_text()
    assert "net.onnx" in capsys.readouterr().out


@pytest.mark.usefixtures("timed_here")
def test_profile_times_the_usual_way_beside_it(tmp_path, capsys, accelerate):
    source = tmp_path / "net.onnx"
    onnx.save(
        network(GOOD["ends_in_resize"]), source, save_as_external_data=True, size_threshold=0, location="net.data"
    )
    accelerate(source, tmp_path / "fast.onnx")
    fast, told = str(tmp_path / "fast.onnx"), str(tmp_path / "told.json")
    main(["profile", fast, "--against", str(source), "--runs", "2", "--threads", "1", "--json", told])
    ours, usual = json.loads((tmp_path / "told.json").read_text())
    assert usual["protocol"]["runtime"] == "onnx to its own end"
    assert ours["macs"] == usual["macs"] > 0
    assert usual["latency_ms"]["median"] > 0
    assert usual["size_bytes"] == source.stat().st_size + (tmp_path / "net.data").stat().st_size


def gray(net, picture):
    return net.add("Conv", picture, net.random(3, 3, 1, 1))


def test_profile_times_no_other_network_beside_it(tmp_path, accelerate):
    source = written(network(GOOD["torch_argmax"]), tmp_path / "net.onnx")
    fast = tmp_path / "fast.onnx"
    accelerate(source, fast)
    untouched(str(source), str(fast))
    others = {"ends": network(GOOD["softmax_before"]), "channels": network(GOOD["torch_argmax"], front=gray)}
    for name, model in others.items():
        written(model, tmp_path / f"{name}.onnx")
        with pytest.raises(KerbsegError, match=rf"fast\.onnx was made of net\.onnx, not of .*{name}\.onnx"):
            untouched(str(tmp_path / f"{name}.onnx"), str(fast))


def test_a_network_of_others_is_led_to_accelerate(tmp_path):
    source = written(network(GOOD["torch_argmax"]), tmp_path / "net.onnx")
    with pytest.raises(BundleError, match=r"kerbseg accelerate .*net\.onnx -o OUT"):
        kerbseg.Predictor(source)


@pytest.mark.parametrize("text", ["1,2", "a,b,c", ""])
def test_numbers_that_are_none_are_refused(text, tmp_path, capsys):
    source = written(network(GOOD["torch_argmax"]), tmp_path / "net.onnx")
    with pytest.raises(SystemExit) as end:
        main(["accelerate", str(source), "-o", str(tmp_path / "fast.onnx"), f"--mean={text}"])
    assert end.value.code == 2
    assert "three numbers" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("mean", "std"), [("0.485,0.456,0.406", "58.4,57.1,57.4"), ("123.7,116.3,103.5", "0.229,0.224,0.225")]
)
def test_numbers_of_different_pixels_are_refused(mean, std):
    with pytest.raises(KerbsegError, match=r"one of 0\.\.1 and one of 0\.\.255"):
        read_preprocessing(mean, std)


@pytest.mark.parametrize(
    ("mean", "std", "expected"),
    [
        ("127.5", "127.5", Preprocessing("rgb", (0.5,) * 3, (0.5,) * 3)),
        ("51,102,153", None, Preprocessing("rgb", (0.2, 0.4, 0.6), (1 / 255,) * 3)),
        ("0", "51", Preprocessing("rgb", (0.0,) * 3, (0.2,) * 3)),
        ("0.5", "0.25", Preprocessing("rgb", (0.5,) * 3, (0.25,) * 3)),
    ],
)
def test_numbers_of_pixels_of_both_kinds_are_read(mean, std, expected):
    assert read_preprocessing(mean, std) == expected


@pytest.mark.parametrize("floor", [float("nan"), -0.1, 1.5])
def test_a_parity_that_is_no_fraction_is_refused(floor, tmp_path, accelerate):
    source = written(network(GOOD["torch_argmax"]), tmp_path / "net.onnx")
    with pytest.raises(KerbsegError, match="from 0 to 1"):
        accelerate(source, tmp_path / "fast.onnx", floor=floor)
    assert not (tmp_path / "fast.onnx").exists()


@pytest.mark.slow
@pytest.mark.parametrize("ending", [".onnx", ".xml"])
def test_int8_tells_how_many_ids_stay(ending, tmp_path, capsys, streets):
    pytest.importorskip("nncf", reason="nncf is not installed")
    (tmp_path / "pictures").mkdir()
    for index in range(4):
        Image.fromarray(streets[index % 2]).save(tmp_path / "pictures" / f"{index}.png")
    source, out = written(network(GOOD["torch_argmax"]), tmp_path / "net.onnx"), tmp_path / f"fast{ending}"
    told = tmp_path / "told.json"
    main(f"accelerate {source} -o {out} --int8 --calibration {tmp_path / 'pictures'} --json {told}".split())
    report = json.loads(told.read_text())
    assert "ids as in the float file" in capsys.readouterr().out
    assert report["equal"] >= 0.9999
    assert 0.8 < report["int8"]["equal"] < 1
    assert report["int8"]["in_float"] == 0
    assert open_runtime(out).precision == "int8"


@pytest.mark.parametrize(("options", "message"), [("--int8", "--calibration"), ("--threads 2", "--int8")])
def test_options_that_need_another_are_refused(options, message, tmp_path, capsys):
    source = written(network(GOOD["torch_argmax"]), tmp_path / "net.onnx")
    with pytest.raises(SystemExit) as end:
        main(f"accelerate {source} -o {tmp_path / 'fast.onnx'} {options}".split())
    assert end.value.code == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "fast.onnx").exists()
