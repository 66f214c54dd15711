"""Logits of a byte each: the graph, the card and the runtime have the same levels, used where they cost little."""

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from kerbseg.bundle import load
from kerbseg.cli import main
from kerbseg.core.errors import BundleError, KerbsegError
from kerbseg.data import open_dataset
from kerbseg.export import export_int8, int8_report
from kerbseg.export import openvino as openvino_export
from kerbseg.export.int8 import Quantized
from kerbseg.export.uint8_logits import uint8_levels
from kerbseg.exported_card import LAST_STAGE_KEY, ExportedCard
from kerbseg.profiling.latency import Budget
from kerbseg.runtime import open_runtime
from kerbseg.runtime.cpu_head import CpuArgmaxHead
from kerbseg.runtime.openvino import core

SIZE, PADDED = (33, 50), (40, 56)
PICTURES = np.random.default_rng(0).integers(0, 256, (3, *SIZE, 3), np.uint8)


@pytest.fixture(scope="module")
def in_float(camvid_bundle):
    """An OpenVINO graph of MiniNet-v2-cpu and its cards, with a temperature."""
    bundle = load(camvid_bundle)
    card = replace(bundle.card, scores={"calibration": {"temperature": 1.7}})
    return openvino_export.converted(replace(bundle, card=card), SIZE)


@pytest.fixture(scope="module")
def last_stage(in_float):
    """Of levels that the logits of the pictures show."""
    model, exported = in_float
    logits = openvino_export.OpenvinoGraph().logits_of(model)
    scale, zero_point = uint8_levels(logits(picture[None]) for picture in PICTURES)
    return replace(exported.last_stage, dtype="uint8", scale=scale, zero_point=zero_point)


@pytest.fixture(scope="module")
def files(in_float, last_stage, tmp_path_factory):
    """The same network with float32 and with uint8 logits."""
    folder, (model, exported) = tmp_path_factory.mktemp("logits"), in_float
    openvino_export.save(model.clone(), exported, folder / "float32.xml")
    graph = openvino_export.OpenvinoGraph()
    graph.save(graph.on_levels(model, last_stage), replace(exported, last_stage=last_stage), folder / "uint8.xml")
    return folder


@pytest.fixture(scope="module")
def runtimes(files):
    return open_runtime(files / "float32.xml", threads=1), open_runtime(files / "uint8.xml", threads=1)


def logits_of(*pixels):
    """Logits [1 k 1 w] of some pixels."""
    return np.array(pixels, np.float32).T[None, :, None]


@pytest.mark.parametrize(
    ("logits", "low", "high"),
    [
        ([logits_of((-90, -5, 7)), logits_of((20, -3, -80))], -5, 20),  # of what wins nowhere no level is kept
        ([logits_of((9, 4, 3))], 0, 9),  # a zero point is one of the levels
        ([logits_of((-9, -4, -30))], -9, 0),
        ([logits_of((-2.5,), (4,))], -2.5, 4),  # of one class, which has no runner-up
        ([logits_of((6, 6, -50))], 0, 6),
    ],
)
def test_levels_reach_from_the_least_runner_up_to_the_largest_logit(logits, low, high):
    scale, zero_point = uint8_levels(logits)
    assert scale == pytest.approx((high - low) / 255)
    assert -zero_point * scale == pytest.approx(low, abs=scale / 2)
    assert 0 <= zero_point <= 255


def test_a_network_that_says_nothing_has_levels_too():
    assert uint8_levels([np.zeros((1, 3, 2, 2), np.float32)]) == (1.0, 0)


def test_logits_that_are_no_numbers_have_no_levels():
    with pytest.raises(KerbsegError, match="NaN or infinite"):
        uint8_levels([logits_of((1, np.nan))])


def test_logits_stand_for_the_nearest_level(runtimes, last_stage):
    in_float, in_uint8 = (runtime.logits(PICTURES) for runtime in runtimes)
    low, high = last_stage.bounds
    assert in_uint8.dtype == np.float32
    levels = in_uint8 / last_stage.scale + last_stage.zero_point
    assert np.abs(levels - levels.round()).max() < 1e-3
    assert len(np.unique(levels.round())) > 100
    assert np.abs(in_uint8 - in_float.clip(low, high)).max() <= last_stage.scale * 0.501
    assert (in_float < low).any(), "nothing of what wins nowhere was left out"


def test_the_engine_hands_out_bytes_and_the_ids_are_those_of_the_levels(runtimes):
    runtime = runtimes[1]
    raw = runtime.forward_only(PICTURES)()
    assert (raw.dtype, raw.shape) == (np.uint8, (3, *(n // 2 for n in PADDED), 11))
    levels = torch.from_numpy(raw.copy()).permute(0, 3, 1, 2).float()
    whole = torch.nn.functional.interpolate(levels, PADDED, mode="bilinear", align_corners=True)
    assert (runtime(PICTURES) == whole[..., : SIZE[0], : SIZE[1]].argmax(1).numpy()).mean() > 0.9999
    assert (runtime(PICTURES[:1]) == runtime(PICTURES)[:1]).all()


def test_confidence_follows_from_the_levels_and_the_temperature(runtimes):
    ids, confidence = runtimes[1].with_confidence(PICTURES)
    assert (ids == runtimes[1](PICTURES)).all()
    small = torch.from_numpy(runtimes[1].logits(PICTURES)) / 1.7
    whole = torch.nn.functional.interpolate(small, PADDED, mode="bilinear", align_corners=True)
    expected = whole[..., : SIZE[0], : SIZE[1]].softmax(1).gather(1, torch.from_numpy(ids)[:, None].long())[:, 0]
    np.testing.assert_allclose(confidence, expected.numpy(), atol=1e-6)


def test_other_programs_compute_the_same_ids(files, runtimes):
    compiled = core().compile_model(files / "uint8.xml", "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    assert (compiled(PICTURES)["ids"] == runtimes[1](PICTURES)).mean() > 0.999


def test_info_tells_of_the_levels(files, last_stage, tmp_path, capsys):
    main(["info", str(files / "uint8.xml"), "--json", str(tmp_path / "facts.json")])
    assert f"{last_stage.scale:.4g} * (q - {last_stage.zero_point})" in capsys.readouterr().out
    told = json.loads((tmp_path / "facts.json").read_text())["logits"]
    assert told == {"dtype": "uint8", "scale": last_stage.scale, "zero_point": last_stage.zero_point}


def test_a_card_is_read_as_written_and_one_of_float_logits_is_that_of_before(in_float, last_stage):
    exported = replace(in_float[1], last_stage=last_stage)
    assert ExportedCard.from_metadata(exported.to_metadata(), "m.xml") == exported
    before = json.loads(in_float[1].to_metadata()[LAST_STAGE_KEY])
    assert before == {"padded": list(PADDED), "align_corners": True, "precision": "float32"}


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"dtype": "uint8"}, "logits of uint8 with scale None"),
        ({"dtype": "uint8", "scale": 0.1}, "zero point None"),
        ({"scale": 0.1, "zero_point": 3}, "logits of float32 with scale 0.1"),
        ({"dtype": "uint8", "scale": 0.0, "zero_point": 3}, "damaged"),
        ({"dtype": "uint8", "scale": "inf", "zero_point": 3}, "damaged"),
        ({"dtype": "uint8", "scale": 0.1, "zero_point": 256}, "damaged"),
        ({"dtype": "uint4"}, "damaged"),
        ({"tiles": 4}, "its card has tiles, which this version of kerbseg does not know; install a newer one"),
    ],
)
def test_a_card_that_says_no_levels_is_refused(entries, message, in_float):
    metadata = in_float[1].to_metadata()
    metadata[LAST_STAGE_KEY] = json.dumps(json.loads(metadata[LAST_STAGE_KEY]) | entries)
    with pytest.raises(BundleError, match=message):
        ExportedCard.from_metadata(metadata, "m.xml")


@pytest.mark.parametrize("other", ["scale", "zero_point", "none"])
def test_a_graph_of_other_levels_than_the_cards_is_refused(other, in_float, last_stage, tmp_path):
    graph, (model, exported) = openvino_export.OpenvinoGraph(), in_float
    own = replace(last_stage, **{"scale": {"scale": 0.5}, "zero_point": {"zero_point": 1}, "none": {}}[other])
    made = model.clone() if other == "none" else graph.on_levels(model, own)
    graph.save(made, replace(exported, last_stage=last_stage), tmp_path / "m.xml")
    with pytest.raises(BundleError, match="gives other logits than the uint8 of its card"):
        open_runtime(tmp_path / "m.xml")


def test_an_engine_that_gives_floats_where_the_card_says_uint8_is_refused(in_float, last_stage):
    exported = replace(in_float[1], last_stage=last_stage)
    head = CpuArgmaxHead(lambda _: np.zeros((1, 20, 28, 11), np.float32), exported, 1)
    with pytest.raises(BundleError, match="gives logits of float32, its card says uint8"):
        head(PICTURES[:1])


@pytest.mark.parametrize(
    ("before", "in_float", "in_uint8", "max_drop", "used"),
    [
        (0.70, 0.695, 0.6945, 0.01, True),
        (0.70, 0.695, 0.6935, 0.01, False),  # more than .001 lost
        (0.70, 0.695, 0.72, 0.01, True),
        (0.70, 0.6905, 0.6899, 0.01, False),  # float logits are within the limit
        (0.70, 0.60, 0.5995, 0.01, True),  # neither is
        (0.70, 0.60, 0.5995, None, True),
    ],
)
def test_uint8_logits_are_used_where_they_lose_little_and_break_no_limit(before, in_float, in_uint8, max_drop, used):
    reports = [SimpleNamespace(metrics=SimpleNamespace(miou=miou)) for miou in (before, in_float, in_uint8)]
    chosen = int8_report._chosen(*reports, max_drop)
    assert (chosen.used, chosen.miou_drop) == (used, pytest.approx(in_float - in_uint8))


@pytest.mark.parametrize("way", ["used", "too dear", "asked for float"])
def test_a_file_has_the_logits_that_its_report_tells_of(
    way, in_float, camvid_bundle, camvid_root, tmp_path, monkeypatch
):
    graph, (model, cards) = openvino_export.OpenvinoGraph(), in_float

    def write(_bundle, path, *_):
        graph.save(model.clone(), cards, path)

    class Unquantized:
        """Leaves weights as they are, which takes no time."""

        pictures = 1
        save = staticmethod(lambda quantized, path: graph.save(quantized.model, quantized.exported, path))

        @classmethod
        def of_bundle(cls, *_):
            return cls()

        def quantize_all(self):
            return Quantized(model.clone(), cards, [], 34)

        def with_uint8_logits(self, quantized):
            assert way != "asked for float"
            stage = replace(quantized.exported.last_stage, dtype="uint8", scale=0.01, zero_point=128)
            exported = replace(quantized.exported, last_stage=stage)
            return replace(quantized, model=graph.on_levels(quantized.model, stage), exported=exported)

    monkeypatch.setattr(int8_report, "engine_of", lambda _: SimpleNamespace(suffix=".xml", writer=lambda: write))
    monkeypatch.setattr(int8_report, "Quantizer", Unquantized)
    monkeypatch.setattr(int8_report, "TIMING", Budget(runs=1))
    monkeypatch.setattr(int8_report, "MAX_LOGITS_DROP", {"too dear": -1.0}.get(way, 1.0))
    val = open_dataset("camvid", "val", camvid_root)
    report = export_int8(
        load(camvid_bundle), tmp_path / "m.xml", SIZE, calibration=val, eval_set=val, max_drop=1.0, threads=1,
        float_logits=way == "asked for float",
    )  # fmt: skip
    assert open_runtime(tmp_path / "m.xml").last_stage.dtype == ("uint8" if way == "used" else "float32")
    told = report.to_dict()["uint8_logits"]
    assert told == (None if way == "asked for float" else {"used": way == "used", "miou_drop": report.logits.miou_drop})
    assert report.after.report.protocol["model"] == "mininet_v2_cpu"


def test_float_logits_are_asked_for_with_int8_only(camvid_bundle, tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["export", str(camvid_bundle), "-o", str(tmp_path / "m.xml"), "--float-logits"])
    assert stopped.value.code == 2
    assert "--float-logits is for --int8 only" in capsys.readouterr().err
