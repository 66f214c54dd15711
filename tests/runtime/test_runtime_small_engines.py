"""LiteRT, ExecuTorch and ncnn: what holds without their packages, and their files where they are installed."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from kerbseg.bundle import load
from kerbseg.core.errors import BundleError, KerbsegError, MissingExtra
from kerbseg.core.extras import first_missing
from kerbseg.data import open_dataset
from kerbseg.export import export, pictures_of, static_int8
from kerbseg.export.executorch import quantization_config
from kerbseg.export.int8 import Quantizer
from kerbseg.export.litert_converter import python
from kerbseg.export.logits_graph import (
    ATEN,
    LogitsGraph,
    constant,
    crop_transposed,
    exported_card,
    put,
    spread_by_product,
    traced,
)
from kerbseg.export.static_int8 import StaticQuantizer, left_in_float
from kerbseg.export.tflite import _with_metadata
from kerbseg.exported_card import LastStageCard
from kerbseg.runtime import ENGINES, open_runtime
from kerbseg.runtime.engines import files_of, suffix_of
from kerbseg.runtime.seal import TAIL_SEAL
from kerbseg.runtime.tflite import TfliteRuntime, unsigned

SIZE = (32, 48)
SMALL = ["litert", "executorch", "ncnn"]


def test_an_ending_of_two_dots_is_known_and_one_of_its_halves_is_not():
    assert suffix_of(Path("a.b/m.ncnn.param")) == ".ncnn.param"
    assert [each.name for each in files_of(Path("m.ncnn.param"))] == ["m.ncnn.bin", "m.ncnn.json", "m.ncnn.param"]
    assert suffix_of(Path("m.param")) == ".param"
    with pytest.raises(BundleError):
        open_runtime(Path("m.param"))


def test_ncnn_says_why_it_stays_in_float():
    with pytest.raises(KerbsegError, match="not in its Python package; choose"):
        ENGINES["ncnn"].graph()


@pytest.mark.parametrize("crop", [False, True])
def test_a_traced_graph_gives_the_same_logits_without_batch_norm(crop, camvid_bundle):
    graph = LogitsGraph(load(camvid_bundle), SIZE).eval()
    module = traced(graph)
    if crop:
        crop_transposed(module)
    picture = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (1, *SIZE, 3), np.uint8))
    with torch.no_grad():
        torch.testing.assert_close(module(picture), graph(picture), atol=1e-4, rtol=1e-4)
    assert ATEN.batch_norm.default not in {node.target for node in module.graph.nodes}


def test_an_average_is_spread_by_a_product():
    class Average(torch.nn.Module):
        def forward(self, x):
            return x + x.mean((2, 3), keepdim=True).expand(-1, -1, *x.shape[-2:])

    x = torch.randn(1, 3, 4, 5)
    module = torch.export.export(Average(), (x,), strict=False).module()
    spread_by_product(module)
    assert ATEN.expand.default not in {node.target for node in module.graph.nodes}
    assert torch.equal(module(x), Average()(x))


def test_a_new_constant_takes_no_name_of_another():
    module = torch.export.export(torch.nn.ReLU(), (torch.ones(1),), strict=False).module()
    node = next(iter(module.graph.nodes))
    first, second = (put(module, node, torch.full((1,), value)) for value in (1.0, 2.0))
    delattr(module, first.target)  # as quantization does with what it takes the place of
    third = put(module, node, torch.full((1,), 3.0))
    assert [constant(module, each).item() for each in (second, third)] == [2.0, 3.0]


class Counting(StaticQuantizer):
    """Whose model is what stays in float, and whose mIoU grows with it."""

    def _prepared(self, bundle):
        self._exported = exported_card(self._graph, bundle)
        return traced(self._graph)

    def _model(self, in_float):
        return in_float

    def _write(self, model, exported, path):
        raise NotImplementedError

    def _miou(self, quantized, eval_set, limit):
        return 0.5 + 0.1 * len(quantized.model) / len(self._convolutions())


@pytest.fixture(scope="module")
def counting(camvid_bundle):
    streets = open_dataset("scenes", "val", None)
    return Counting(load(camvid_bundle), ENGINES["executorch"], SIZE, streets, 1)


def test_what_carries_a_float_on_stays_in_float(counting):
    nodes = {node.name: node for node in counting._module.graph.nodes}
    names = counting._convolutions()
    left = left_in_float(counting._module, names[:1])
    assert left > {names[0]}
    assert left.isdisjoint(names[1:])
    assert all(any(each.name in left for each in nodes[name].all_input_nodes) for name in left - {names[0]})
    *_, last = (name for name, node in nodes.items() if node.op == "call_function")
    assert last in left_in_float(counting._module, names)


def test_what_int8_may_lose_is_counted_from_torch_in_float(counting, monkeypatch):
    exact = SimpleNamespace(metrics=SimpleNamespace(miou=0.6))
    monkeypatch.setattr(static_int8, "evaluate", lambda runtime, eval_set, limit: exact)
    count, streets = len(counting._convolutions()), open_dataset("scenes", "val", None)
    for max_drop in (0.09, 0.06, 0.02):
        least = next(n for n in (1, 2, 4, 8, 16, 32, count) if 0.5 + 0.1 * n / count >= 0.6 - max_drop)
        assert len(counting.quantize_within(max_drop, streets, None).model) == least


def test_a_file_that_was_cut_or_changed_is_refused(tmp_path):
    path = tmp_path / "m.pte"
    path.write_bytes(b"program")
    with pytest.raises(BundleError, match="kerbseg export did not write it"):
        TAIL_SEAL.read(path)
    TAIL_SEAL.put_on(path)
    assert TAIL_SEAL.read(path).startswith(b"program")
    path.write_bytes(b"Program" + path.read_bytes()[7:])
    with pytest.raises(BundleError, match="is damaged"):
        TAIL_SEAL.read(path)


def engine_or_skip(name):
    """The engine, where it can write and run files."""
    engine = ENGINES[name]
    if (package := first_missing(engine.extra)) is not None:
        pytest.skip(f"{package} is not installed (docs/engines.md)")
    if name == "litert":
        try:
            python()
        except KerbsegError:
            pytest.skip("LiteRT's converter is not installed (docs/engines.md)")
    return engine


def pictures_of_noise(count=2):
    return np.random.default_rng(1).integers(0, 256, (count, *SIZE, 3), np.uint8)


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL)
def test_a_file_gives_the_ids_of_torch(name, camvid_bundle, tmp_path):
    engine = engine_or_skip(name)
    path = tmp_path / f"m{engine.suffix}"
    assert export(camvid_bundle, path).equal >= 0.999
    pictures = pictures_of_noise()
    assert (open_runtime(path)(pictures) == open_runtime(camvid_bundle)(pictures)).mean() >= 0.999


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("measure", ["probability", "entropy", "margin"])
def test_the_confidence_of_a_file_is_that_of_torch(measure, name, camvid_bundle, tmp_path):
    engine = engine_or_skip(name)
    path, pictures = tmp_path / f"m{engine.suffix}", pictures_of_noise()
    export(camvid_bundle, path)
    _, exact = open_runtime(camvid_bundle).with_confidence(pictures, measure=measure)
    ids, sure = open_runtime(path).with_confidence(pictures, measure=measure)
    assert (np.abs(sure - exact) <= 1 / 255).mean() >= 0.999
    assert (ids == open_runtime(path)(pictures)).all()
    same_ids, in_bytes = open_runtime(path).with_confidence(pictures, measure=measure, dtype="uint8")
    assert (same_ids == ids).all()
    assert (np.abs(in_bytes - 255.0 * sure) <= 0.6).all()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["litert", "executorch"])
def test_an_int8_file_gives_nearly_the_ids_of_torch(name, tmp_path):
    engine, streets = engine_or_skip(name), open_dataset("scenes", "val", None)
    path, shown = tmp_path / f"m{engine.suffix}", np.stack(pictures_of(streets, (96, 128), 2))
    quantizer = Quantizer.of_bundle(load("mininet_v2_cpu-camvid"), engine, (96, 128), streets, 8)
    quantizer.save(quantizer.quantize_all(), path)
    runtime = open_runtime(path)
    assert runtime.precision == "int8"
    ids, exact = runtime(shown), open_runtime("mininet_v2_cpu-camvid")(shown)
    assert (ids == exact).mean() >= 0.9
    same, sure = runtime.with_confidence(shown)
    assert (same == ids).all()
    small, corners = torch.from_numpy(runtime.logits(shown)), bool(load("mininet_v2_cpu-camvid").model.align_corners)
    logits = torch.nn.functional.interpolate(small, (96, 128), mode="bilinear", align_corners=corners)
    assert np.abs(sure - (logits / (runtime.card.temperature or 1)).softmax(1).amax(1).numpy()).max() <= 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("name", ["litert", "executorch"])
def test_what_stays_in_float_is_brought_nearer_to_torch(name, tmp_path):
    engine, streets = engine_or_skip(name), open_dataset("scenes", "val", None)
    quantizer = Quantizer.of_bundle(load("mininet_v2_cpu-camvid"), engine, (96, 128), streets, 4)
    moved = {}
    for way, quantized in (
        ("all", quantizer.quantize_all()),
        ("none", quantizer._quantized(quantizer._convolutions())),
    ):
        path = tmp_path / f"{way}{engine.suffix}"
        quantizer.save(quantized, path)
        shown = np.stack(pictures_of(streets, (96, 128), 1))
        exact = open_runtime("mininet_v2_cpu-camvid").logits(shown)
        moved[way] = np.abs(open_runtime(path).logits(shown) - exact).mean()
    assert moved["none"] < 0.6 * moved["all"], "what is left is of the pixels, before the first convolution"


@pytest.mark.parametrize("size", [1.0, 2.0**-16])
def test_a_kernel_of_small_weights_keeps_them_in_int8(size):
    engine_or_skip("executorch")
    from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import XNNPACKQuantizer
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

    torch.manual_seed(0)
    convolution = torch.nn.Conv2d(3, 4, 3).eval()
    with torch.no_grad():
        convolution.weight[3] = 0  # a channel of no weight has a scale too
        convolution.weight *= size
        convolution.bias *= 0
        picture = torch.rand(1, 3, 8, 8) / size
        module = torch.export.export(convolution, (picture,), strict=False).module()
        watched = prepare_pt2e(module, XNNPACKQuantizer().set_global(quantization_config()))
        watched(picture)
        exact = convolution(picture)
        assert (convert_pt2e(watched)(picture) - exact).abs().max() <= 0.02 * exact.abs().max()


def test_constants_behind_the_end_of_a_model_are_kept():
    schema = pytest.importorskip("ai_edge_litert.schema_py_generated", reason="LiteRT is not installed")
    flatbuffers = pytest.importorskip("flatbuffers")

    def packed(offset):
        model, constant = schema.ModelT(), schema.BufferT()
        constant.data, constant.offset, constant.size = None, offset, 3
        model.buffers, model.version = [constant], 3
        builder = flatbuffers.Builder(64)
        builder.Finish(model.Pack(builder), b"TFL3")
        return bytes(builder.Output())

    content = packed(len(packed(1_000))) + b"\x07\x08\x09"
    with_card = schema.ModelT.InitFromPackedBuf(_with_metadata(content, {"card": "text"}))
    assert bytes(with_card.buffers[0].data) == b"\x07\x08\x09"
    assert bytes(with_card.buffers[with_card.metadata[0].buffer].data) == b"text"


def test_levels_of_litert_are_those_of_a_card():
    levels = np.array([[[[-128, -1, 0, 127]]]], np.int8)
    assert unsigned(levels).tolist() == [[[[0, 127, 128, 255]]]]


@pytest.mark.parametrize(("scale", "zero_point"), [(0.25, 4), (0.5, 3)])
def test_levels_that_mean_something_else_than_the_card_says_are_refused(scale, zero_point):
    opened = object.__new__(TfliteRuntime)  # of a file that LiteRT would have read
    opened._path = Path("m.tflite")
    opened.last_stage = LastStageCard(SIZE, False, "int8", dtype="uint8", scale=0.25, zero_point=131)
    opened._check_levels(0.25, 3)
    with pytest.raises(BundleError, match=f"scale {scale} and the zero point {zero_point}, its card says 0.25"):
        opened._check_levels(scale, zero_point)


@pytest.mark.parametrize("name", SMALL)
def test_without_its_package_an_engine_names_the_extra(name, tmp_path):
    engine = ENGINES[name]
    if first_missing(engine.extra) is None:
        pytest.skip("its packages are installed")
    (tmp_path / f"m{engine.suffix}").write_bytes(b"")
    with pytest.raises(MissingExtra, match=engine.extra):
        open_runtime(tmp_path / f"m{engine.suffix}")
