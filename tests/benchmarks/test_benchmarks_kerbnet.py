"""The search behind KerbNet: its candidates are networks, and the script times them."""

import importlib
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import kerbseg.models as models
from kerbseg.profiling.latency import Latency

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def search(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module("kerbnet")


def test_the_design_that_was_taken_is_the_shipped_network(search):
    for name in ("kerbnet_s", "kerbnet_m"):
        candidate, own = search.CANDIDATES[name](19), models.create_model(name, 19)
        assert {key: value.shape for key, value in candidate.state_dict().items()} == {
            key: value.shape for key, value in own.state_dict().items()
        }
    card = models.card("kerbnet_s")
    assert search.macs(search.CANDIDATES["kerbnet_s"](19), card.input) == card.macs


def test_each_candidate_is_another_network_with_logits_of_a_picture(search):
    seen = set()
    for name, make in search.CANDIDATES.items():
        net = make(5).eval()
        with torch.no_grad():
            assert net(torch.rand(1, 3, 32, 48)).shape == (1, 5, 32, 48), name
        seen.add(tuple(str(module) for module in net.modules()))
    assert len(seen) == len(search.CANDIDATES)


def test_what_is_timed_has_seen_streets(search, monkeypatch):
    import taught

    net, losses = models.create_model("kerbnet_s", 11), []
    plain = taught.cross_entropy
    monkeypatch.setattr(taught, "cross_entropy", lambda *given: losses.append(plain(*given)) or losses[-1])
    assert not taught.taught(net, 11, 12, size=(32, 64)).training
    assert sum(losses[-3:]) < 0.8 * sum(losses[:3])


@pytest.mark.slow
def test_candidates_are_timed_by_turns_beside_the_reference(search, monkeypatch, tmp_path, capsys):
    written = []

    def at_once(files, options, pictures, budget):
        assert [picture.shape for picture in pictures] == [(32, 64, 3)] * 2
        written.extend(Path(file).with_suffix(".bin").stat().st_size for file in files)
        latency = [Latency(ms, ms, 1) for ms in (2.0, 8.0)]
        return [SimpleNamespace(call=each, forward_only=each) for each in latency]

    monkeypatch.setattr(search, "time_models", at_once)
    figures = tmp_path / "figures" / "kerbnet.json"
    few = ["--only", "nearest in the merge", "--size", "32x64", "--steps", "1", "--json", str(figures)]
    monkeypatch.setattr(sys, "argv", ["kerbnet.py", *few])
    search.main()
    first, reference = json.loads(figures.read_text())["networks"]
    assert (first["network"], reference["network"]) == ("nearest in the merge", "mininet_v2_cpu")
    assert first["call_ratio"] == pytest.approx(0.25)
    assert reference["parameters"] == models.card("mininet_v2_cpu").parameters
    assert min(written) > 1000
    assert "| nearest in the merge | 0.207 M | 0.01 | 2.00 | 2.00 | 0.25 |" in capsys.readouterr().out
