"""`kerbseg profile`: the same figures on the terminal and as JSON, for names, bundles and exported files."""

import json

import pytest
from kerbseg.apps.profile import profile_models

import kerbseg.models as models
from kerbseg.bundle import load
from kerbseg.cli import main
from kerbseg.core.errors import InputError, UserError
from kerbseg.data import open_dataset
from kerbseg.export import export, pictures_of


def profile_model(name, size=None, convention="true"):
    return profile_models([name], size, convention)[0]


def test_a_registered_network_costs_what_its_card_says(tmp_path, capsys):
    main(["profile", "mininet_v2_cpu", "--runs", "0", "--layers", "--json", str(tmp_path / "p.json")])
    found = json.loads((tmp_path / "p.json").read_text())
    card = models.card("mininet_v2_cpu")
    assert (found["parameters"], found["macs"]) == (card.parameters, card.macs)
    assert found["gflops"] == pytest.approx(2e-9 * card.macs)
    assert sum(layer["parameters"] for layer in found["layers"]) == card.parameters
    assert sum(layer["macs"] for layer in found["layers"]) == card.macs
    assert found["size_bytes"] >= 4 * card.parameters
    assert found["latency_ms"] is None
    printed = capsys.readouterr().out
    assert f"{card.parameters:,}" in printed
    assert "GFLOP" in printed
    assert "not measured" in printed


def test_a_bundle_is_counted_at_its_own_size(camvid_bundle):
    found = profile_model(str(camvid_bundle))
    assert found.cost.size == (32, 48)
    assert found.cost.macs == profile_model(str(camvid_bundle), (64, 96)).cost.macs // 4
    assert found.size_bytes == camvid_bundle.stat().st_size


def test_a_papers_way_to_count_stands_beside_the_true_one():
    found = profile_model("erfnet_dg4", None, "grouping_paper").to_dict()
    assert found["grouping_paper"]["parameters"] < found["parameters"]


def test_bad_requests_are_named(camvid_bundle, tmp_path):
    with pytest.raises(UserError, match="did you mean 'grouping_paper'"):
        profile_model("erfnet", None, "groupingpaper")
    with pytest.raises(InputError, match="multiple"):
        profile_model("erfnet", (100, 100))
    with pytest.raises(UserError, match="runs is -1"):
        profile_models(["erfnet"], runs=-1)


def test_two_models_are_timed_by_turns_each_in_its_process(camvid_bundle, tmp_path, capsys):
    bundle, exported = load(camvid_bundle), tmp_path / "m.xml"
    size = bundle.card.input_size
    export(bundle, exported, pictures=pictures_of(open_dataset("scenes", "val", None), size, 1))
    arguments = [str(camvid_bundle), "--against", str(exported), "--runs", "12", "--threads", "1", "--layers"]
    main(["profile", *arguments, "--json", str(tmp_path / "p.json")])
    torch, openvino = json.loads((tmp_path / "p.json").read_text())
    for found, runtime in ((torch, "torch"), (openvino, "openvino")):
        assert found["protocol"]["runtime"] == runtime
        assert found["protocol"]["threads"] == 1
        assert found["protocol"]["size"] == [32, 48]
        assert 0 < found["latency_ms"]["median"] <= found["latency_ms"]["p95"]
        assert found["latency_ms"]["runs"] == found["network_latency_ms"]["runs"] == 12
        assert 0 < len(found["slowest_layers"]) <= 10
        times = [row["ms"] for row in found["slowest_layers"]]
        assert times == sorted(times, reverse=True)
    assert torch["parameters"] == openvino["parameters"]
    assert openvino["size_bytes"] == exported.stat().st_size + exported.with_suffix(".bin").stat().st_size
    assert "12 runs" in " ".join(capsys.readouterr().out.split())
    with pytest.raises(UserError, match=r"32x48 \(HxW\) only, not of 64x96"):
        profile_models([str(exported)], (64, 96))
