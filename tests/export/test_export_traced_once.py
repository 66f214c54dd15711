"""What tests share of an export is told apart by all that a graph depends on."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from traced_once import digest, kept_in

from kerbseg.bundle import Bundle, load
from kerbseg.core.types import Preprocessing
from kerbseg.export.graph import DeployGraph

SIZE = (32, 48)


def graph(bundle, size=SIZE):
    return DeployGraph(bundle, size).eval()


def test_equal_networks_have_one_digest_and_others_another(camvid_bundle):
    same = digest(graph(load(camvid_bundle)), SIZE, None)
    assert digest(graph(load(camvid_bundle)), SIZE, None) == same
    other = load(camvid_bundle)
    with torch.no_grad():
        next(iter(other.model.parameters())).view(-1)[0] += 1e-6
    bundle = load(camvid_bundle)
    preprocessing = Bundle(bundle.model, replace(bundle.card, preprocessing=Preprocessing("bgr")))
    corners = load(camvid_bundle)
    corners.model.align_corners = not corners.model.align_corners
    changed = [
        digest(graph(other), SIZE, None),
        digest(graph(preprocessing), SIZE, None),
        digest(graph(corners), SIZE, None),
        digest(graph(bundle, (40, 48)), (40, 48), None),
        digest(graph(bundle), SIZE, 2),
    ]
    assert len({same, *changed}) == 1 + len(changed)


def test_a_graph_is_traced_once_and_each_caller_has_its_own(tmp_path, camvid_bundle):
    ir = pytest.importorskip("onnx_ir")
    weight = ir.tensor(np.ones(3, np.float32), name="weight")
    traced = []

    def trace(deployed, size, batch):
        traced.append(size)
        value = ir.Value(name="weight", const_value=weight)
        return ir.Model(ir.Graph([], [], nodes=[], initializers=[value], opset_imports={"": 20}), ir_version=9)

    kept = kept_in(tmp_path, trace)
    first, second = (kept(graph(load(camvid_bundle)), SIZE, None) for _ in range(2))
    assert traced == [SIZE]
    first.graph.initializers.clear()
    assert second.graph.initializers["weight"].const_value.numpy().tolist() == [1, 1, 1]
    assert len(list(tmp_path.iterdir())) == 1
