"""Exported files that are damaged, foreign or ask for too much: one line that says so, before an engine sees them."""

import random
from dataclasses import replace

import numpy as np
import onnx
import pytest

from kerbseg.bundle import load
from kerbseg.cli import main
from kerbseg.core.errors import BundleError, KerbsegError
from kerbseg.export import onnx as onnx_export
from kerbseg.export import openvino as openvino_export
from kerbseg.exported_card import ExportedCard
from kerbseg.runtime import open_runtime
from kerbseg.runtime.cpu_head import CpuArgmaxHead
from kerbseg.runtime.seal import ONNX_SEAL, XML_SEAL
from kerbseg.runtime.upsample_argmax import UpsampleArgmax

SIZE = (32, 48)


@pytest.fixture(scope="module")
def converted(camvid_bundle):
    return onnx_export.converted(load(camvid_bundle), SIZE)


@pytest.fixture(scope="module")
def folder(converted, tmp_path_factory):
    folder = tmp_path_factory.mktemp("damaged")
    model, exported = converted
    onnx_export.save(model, exported, folder / "m.onnx")
    openvino_export.save(openvino_export.of_onnx(model), exported, folder / "m.xml")
    return folder


def copied(folder, tmp_path, changed, content):
    """The files of a model with one of them changed; the path that is opened."""
    for each in folder.iterdir():
        (tmp_path / each.name).write_bytes(content if each.name == changed else each.read_bytes())
    return tmp_path / changed.replace(".bin", ".xml")


@pytest.mark.parametrize("name", ["m.onnx", "m.xml", "m.bin"])
def test_one_changed_byte_is_seen_before_an_engine_sees_the_file(name, folder, tmp_path):
    content, chance = (folder / name).read_bytes(), random.Random(name)
    for _ in range(20):
        changed = bytearray(content)
        changed[chance.randrange(len(changed) - 120)] ^= 1 << chance.randrange(8)
        path = copied(folder, tmp_path, name, bytes(changed))
        with pytest.raises(
            BundleError, match=r"damaged, or was changed since kerbseg export wrote it|does not belong to"
        ):
            open_runtime(path)


@pytest.mark.parametrize("name", ["m.onnx", "m.xml", "m.bin"])
@pytest.mark.parametrize("kept", [0, 1, 100, 0.5, -1])
def test_a_file_that_was_cut_off_is_refused(name, kept, folder, tmp_path):
    content = (folder / name).read_bytes()
    length = int(kept * len(content)) if isinstance(kept, float) else kept
    with pytest.raises(BundleError, match=r"copy or export|export it again|export both again"):
        open_runtime(copied(folder, tmp_path, name, content[:length]))


@pytest.mark.parametrize(("suffix", "seal"), [(".onnx", ONNX_SEAL), (".xml", XML_SEAL)])
def test_a_file_from_before_there_was_a_digest_opens(suffix, seal, folder, tmp_path):
    content = (folder / f"m{suffix}").read_bytes()
    body, mark, _ = content.rpartition(seal.before)
    assert mark
    path = copied(folder, tmp_path, f"m{suffix}", body)
    picture = np.random.default_rng(0).integers(0, 256, (1, *SIZE, 3), np.uint8)
    assert (open_runtime(path)(picture) == open_runtime(folder / f"m{suffix}")(picture)).all()


def test_other_programs_read_a_sealed_file(folder):
    model = onnx.load(folder / "m.onnx")
    onnx.checker.check_model(model)
    assert len({each.key for each in model.metadata_props}) == len(model.metadata_props)


def unsealed(model, exported, path):
    """A file as somebody else may write it: all that is checked is checked in the file itself."""
    onnx.helper.set_model_props(model, exported.to_metadata())
    path.write_bytes(model.SerializeToString())
    return path


def changed_graph(model, what):
    other = onnx.ModelProto()
    other.CopyFrom(model)
    if what == "operator":
        other.graph.node[5].op_type = "NoSuchOperator"
    elif what == "opset":
        other.opset_import[0].version = 999
    elif what == "weights":
        del other.graph.initializer[0].dims[:]
    elif what == "beside":
        weight = other.graph.initializer[0]
        onnx.external_data_helper.set_external_data(weight, "/etc/passwd")
    else:
        other.graph.node[5].input[0] = "nowhere"
    return other


@pytest.mark.parametrize("what", ["operator", "opset", "weights", "input", "beside"])
def test_what_onnxruntime_refuses_is_one_line(what, converted, tmp_path, capsys):
    path = unsealed(changed_graph(converted[0], what), converted[1], tmp_path / "m.onnx")
    for command in (["info", str(path)], ["predict", str(path), "street.jpg", "-o", str(tmp_path)]):
        with pytest.raises(SystemExit) as left:
            main(command)
        assert left.value.code == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert "m.onnx" in line
        assert "export it again" in line


@pytest.mark.parametrize(
    "text", ["", "<net/>", "<net", "\0" * 100, "<?xml version='1.0'?><net name='a' version='11'/>"]
)
def test_a_foreign_xml_is_one_line(text, tmp_path, capsys):
    (tmp_path / "m.xml").write_text(text)
    (tmp_path / "m.bin").write_bytes(b"")
    with pytest.raises(SystemExit) as left:
        main(["info", str(tmp_path / "m.xml")])
    assert left.value.code == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.parametrize(
    "option", [["--device", "tpu"], ["--precision", "float16"], ["--precision", "int4"], ["--runtime", "tflite"]]
)
@pytest.mark.parametrize("name", ["m.onnx", "m.xml"])
def test_what_an_engine_does_not_have_is_one_line(name, option, folder, capsys):
    with pytest.raises(SystemExit) as left:
        main(["predict", str(folder / name), "street.jpg", "-o", "out", *option])
    assert left.value.code == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


# ---- the last stage, whose memory is not initialized


@pytest.mark.parametrize(
    ("logits", "padded", "size"),
    [((16, 24), (32, 24), (32, 48)), ((16, 24), (31, 48), (32, 48)), ((0, 24), (32, 48), (32, 48))],
)
def test_a_last_stage_that_does_not_reach_the_pictures_end_is_refused(logits, padded, size):
    with pytest.raises(BundleError, match="do not fit each other"):
        UpsampleArgmax(logits, padded, False, size)


@pytest.fixture
def head(converted):
    """What makes the end of a runtime whose engine gives these logits."""
    return lambda logits, exported=converted[1]: CpuArgmaxHead(lambda _: logits, exported, 1)


PICTURE = np.zeros((1, *SIZE, 3), np.uint8)


def test_logits_of_other_classes_than_the_cards_are_refused(head):
    with pytest.raises(BundleError, match="gives 12 classes, its card says 11"):
        head(np.zeros((1, 16, 24, 12), np.float32))(PICTURE)


def test_logits_that_change_their_size_are_refused(head):
    shapes = iter([(16, 24), (16, 25)])
    end = head(None)
    end._infer = lambda _: np.zeros((1, *next(shapes), 11), np.float32)
    end(PICTURE)
    with pytest.raises(BundleError, match=r"logits of \(16, 25\), after \(16, 24\) before"):
        end(PICTURE)


@pytest.mark.parametrize("batch", [-1, 0, 10**9])
def test_a_batch_that_would_take_all_memory_is_refused_before_it_does(batch, converted):
    with pytest.raises(BundleError, match=f"takes batches of {batch} pictures"):
        CpuArgmaxHead(lambda _: None, converted[1], 1, batch=batch)


@pytest.mark.parametrize("threads", [0, -1, 10**6])
def test_threads_that_no_system_gives_are_refused(threads, folder):
    with pytest.raises(KerbsegError, match=f"threads is {threads}; give at least 1"):
        open_runtime(folder / "m.onnx", threads=threads)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_logits_that_are_no_numbers_become_no_class(head, value):
    logits = np.zeros((1, 16, 24, 11), np.float32)
    logits[0, 3, 4, 5] = value
    with pytest.raises(KerbsegError, match="NaN or infinite"):
        head(logits)(PICTURE)


def test_a_card_whose_last_stage_is_another_is_refused(converted, tmp_path):
    model, exported = converted
    stage = replace(exported.last_stage, padded=(32, 24))
    with pytest.raises(BundleError, match="padded to 32x24"):
        open_runtime(unsealed(model, ExportedCard(exported.card, stage), tmp_path / "m.onnx"))
