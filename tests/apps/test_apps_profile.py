"""`kerbseg profile`: the same figures on the terminal and as JSON, for a name and for a bundle."""

import json

import pytest

import kerbseg.models as models
from kerbseg.apps.profile import profile_model
from kerbseg.cli import main
from kerbseg.core.errors import InputError, UserError


def test_a_registered_network_costs_what_its_card_says(tmp_path, capsys):
    main(["profile", "mininet_v2_cpu", "--layers", "--json", str(tmp_path / "p.json")])
    found = json.loads((tmp_path / "p.json").read_text())
    card = models.card("mininet_v2_cpu")
    assert (found["parameters"], found["macs"]) == (card.parameters, card.macs)
    assert found["gflops"] == pytest.approx(2e-9 * card.macs)
    assert sum(layer["parameters"] for layer in found["layers"]) == card.parameters
    assert sum(layer["macs"] for layer in found["layers"]) == card.macs
    assert found["size_bytes"] >= 4 * card.parameters
    printed = capsys.readouterr().out
    assert f"{card.parameters:,}" in printed
    assert "GFLOP" in printed


def test_a_bundle_is_counted_at_its_own_size(camvid_bundle):
    found = profile_model(str(camvid_bundle), None)
    assert found.cost.size == (32, 48)
    assert found.cost.macs == profile_model(str(camvid_bundle), (64, 96)).cost.macs // 4


def test_a_papers_way_to_count_stands_beside_the_true_one():
    found = profile_model("erfnet_dg4", None, "grouping_paper").to_dict()
    assert found["grouping_paper"]["parameters"] < found["parameters"]


def test_bad_requests_are_named():
    with pytest.raises(UserError, match="did you mean 'grouping_paper'"):
        profile_model("erfnet", None, "groupingpaper")
    with pytest.raises(InputError, match="multiple"):
        profile_model("erfnet", (100, 100))
