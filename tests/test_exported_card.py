"""The cards of exported files: read as written, and refused where they do not belong to each other or to the graph."""

import json
from dataclasses import replace

import numpy as np
import pytest

from kerbseg.bundle import METADATA_KEY, Bundle, load
from kerbseg.core.errors import BundleError
from kerbseg.export import onnx as onnx_export
from kerbseg.export import openvino as openvino_export
from kerbseg.exported_card import FOREIGN_KEY, LAST_STAGE_KEY, ExportedCard, ForeignCard
from kerbseg.runtime import open_runtime


@pytest.fixture(scope="module")
def converted(camvid_bundle):
    """A graph of 33x50, which the network pads, and its cards."""
    return onnx_export.converted(load(camvid_bundle), (33, 50))


def changed(exported, key, **entries):
    """The metadata of a file with other entries in one of its cards."""
    metadata = exported.to_metadata()
    return metadata | {key: json.dumps(json.loads(metadata[key]) | entries)}


def test_cards_are_read_as_written(converted):
    _, exported = converted
    assert ExportedCard.from_metadata(exported.to_metadata(), "m.onnx") == exported


def test_background_is_kept(converted):
    _, exported = converted
    labels = replace(exported.card.labels, background=frozenset({"road"}))
    kept = replace(exported, card=replace(exported.card, labels=labels))
    assert ExportedCard.from_metadata(kept.to_metadata(), "m.onnx").card.labels.background == {"road"}


@pytest.mark.parametrize(
    ("key", "entries", "message"),
    [
        (LAST_STAGE_KEY, {"padded": [32, 50]}, "pictures of 33x50 padded to 32x50, where mininet_v2_cpu needs 40x56"),
        (LAST_STAGE_KEY, {"padded": [40, 64]}, "padded to 40x64, where mininet_v2_cpu needs 40x56"),
        (LAST_STAGE_KEY, {"padded": [10**9, 10**9]}, "padded to 1000000000x1000000000"),
        (LAST_STAGE_KEY, {"padded": [-8, 56]}, "padded to -8x56"),
        (LAST_STAGE_KEY, {"padded": [40]}, "damaged"),
        (LAST_STAGE_KEY, {"precision": "int4"}, "damaged"),
        (LAST_STAGE_KEY, {"align_corners": "perhaps"}, "damaged"),
        (
            METADATA_KEY,
            {"input_size": [41, 50]},
            "of 41x50 padded to 40x56, where mininet_v2_cpu needs 48x56",
        ),
        (METADATA_KEY, {"model": "mininet"}, "unknown model 'mininet'"),
        (METADATA_KEY, {"outputs": 257}, "257 outputs for 11 classes"),
        (METADATA_KEY, {"input_size": [20000, 20000]}, "input size 20000x20000"),
        (METADATA_KEY, {"scores": {"miou": float("nan")}}, "not JSON compliant"),
        (METADATA_KEY, {"preprocessing": {"std": [0, 1, 1]}}, "std "),
    ],
)
def test_cards_that_do_not_belong_together_are_refused(key, entries, message, converted):
    _, exported = converted
    with pytest.raises(BundleError, match=message) as caught:
        ExportedCard.from_metadata(changed(exported, key, **entries), "m.onnx")
    assert str(caught.value).startswith("m.onnx: its card is damaged")
    assert "export it again" in str(caught.value) or "export or train it again" in str(caught.value)


@pytest.mark.parametrize(
    ("pictures", "logits", "message"),
    [
        ((1, 33, 48, 3), (1, 11, 20, 28), "its graph takes"),
        ((1, 3, 33, 50), (1, 11, 20, 28), "its graph takes"),
        ((33, 50, 3), (1, 11, 20, 28), "its graph takes"),
        ((None, 33, 50, 3), (None, 12, 20, 28), "11 classes of at most 40x56"),
        ((None, 33, 50, 3), (None, 11, 41, 28), "11 classes of at most 40x56"),
        ((None, 33, 50, 3), (None, 11, 20, 57), "11 classes of at most 40x56"),
        ((None, 33, 50, 3), (None, 11, 20), "11 classes of at most 40x56"),
    ],
)
def test_a_graph_of_other_shapes_than_the_cards_is_refused(pictures, logits, message, converted):
    _, exported = converted
    with pytest.raises(BundleError, match=message):
        exported.check_tensors(pictures, logits, "m.onnx")


@pytest.mark.parametrize("shape", [(2, 11, 40, 56), (None, 11, 5, 7), (None,) * 4])
def test_a_graph_of_the_cards_shapes_is_taken_where_an_engine_knows_them_or_not(shape, converted):
    _, exported = converted
    exported.check_tensors((None, 33, 50, 3), shape, "m.onnx")


@pytest.mark.parametrize("suffix", [".onnx", ".xml"])
@pytest.mark.parametrize("other", ["size", "classes", "logits"])
def test_a_graph_under_the_card_of_another_is_refused_when_it_is_opened(suffix, other, camvid_bundle, tmp_path):
    bundle, size = load(camvid_bundle), (32, 48)
    if other == "classes":
        card = bundle.card
        labels = type(card.labels)("ten", card.labels.classes[:10], card.labels.colors[:10])
        bundle = Bundle(bundle.model, type(card)(card.model, labels, card.preprocessing, (32, 48), 11))
    if other == "size":
        size = (40, 48)
    _, exported = onnx_export.converted(load(camvid_bundle), (32, 48))
    model, _ = onnx_export.converted(bundle, size)
    if other == "logits":
        for node in model.graph.node:
            for names in (node.input, node.output):
                names[:] = ["scores" if name == "logits" else name for name in names]
    path = tmp_path / f"m{suffix}"
    if suffix == ".onnx":
        onnx_export.save(model, exported, path)
    else:
        openvino_export.save(openvino_export.of_onnx(model), exported, path)
    message = {"size": "its graph takes", "classes": "its graph gives", "logits": "holds no tensor 'logits'"}[other]
    with pytest.raises(BundleError, match=message):
        open_runtime(path)


def test_an_honest_file_of_a_size_that_is_padded_runs(converted, tmp_path):
    model, exported = converted
    onnx_export.save(model, exported, tmp_path / "m.onnx")
    openvino_export.save(openvino_export.of_onnx(model), exported, tmp_path / "m.xml")
    for name in ("m.onnx", "m.xml"):
        assert open_runtime(tmp_path / name)(np.zeros((1, 33, 50, 3), np.uint8)).shape == (1, 33, 50)


def test_a_foreign_card_is_read_as_written_and_refused_where_it_does_not_fit(converted):
    _, exported = converted
    foreign = ForeignCard("net.onnx", 10, None, softmax=False, logits="scores")
    last_stage = replace(exported.last_stage, padded=(64, 64), coordinates="asymmetric")
    kept = ExportedCard(replace(exported.card, model="net"), last_stage, foreign)
    metadata = kept.to_metadata()
    assert ExportedCard.from_metadata(metadata, "m.onnx") == kept
    small = json.loads(metadata[LAST_STAGE_KEY]) | {"padded": [32, 64]}
    for key, text in ((LAST_STAGE_KEY, json.dumps(small)), (FOREIGN_KEY, "{}"), (FOREIGN_KEY, "[")):
        with pytest.raises(BundleError, match=r"m\.onnx: its card is damaged"):
            ExportedCard.from_metadata(metadata | {key: text}, "m.onnx")
