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
    assert search.cost(search.CANDIDATES["kerbnet_s"](19), card.input).macs == card.macs


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
        facts = SimpleNamespace(to_dict=lambda: {"runtime": "openvino", "versions": {"openvino": "2026.0"}})
        return [SimpleNamespace(call=each, forward_only=each, facts=facts) for each in latency]

    monkeypatch.setattr(search, "time_models", at_once)
    figures = tmp_path / "figures" / "kerbnet.json"
    few = ["--only", "nearest in the merge", "--size", "32x64", "--steps", "1", "--json", str(figures)]
    monkeypatch.setattr(sys, "argv", ["kerbnet.py", *few])
    search.main()
    run = json.loads(figures.read_text())["candidates"]["32x64"]
    assert run["protocol"]["versions"] == {"openvino": "2026.0"}
    assert run["protocol"]["weights"] == "1 steps on drawn scenes, 19 classes"
    first, reference = run["networks"]
    assert (first["network"], reference["network"]) == ("nearest in the merge", "mininet_v2_cpu")
    assert first["call_ratio"] == pytest.approx(0.25)
    assert reference["parameters"] == models.card("mininet_v2_cpu").parameters
    assert min(written) > 1000
    assert "| nearest in the merge | 0.207 M | 0.01 | 2.00 | 2.00 | 0.25 |" in capsys.readouterr().out


# ---- the page


def test_the_page_says_what_the_results_say(search):
    page, figures = (FOLDER.parent / "docs" / "kerbnet.md").read_text(), json.loads(search.FIGURES.read_text())
    for mark, table in search.tables(figures).items():
        assert search.between(page, mark, table) == page, "python benchmarks/kerbnet.py --page docs/kerbnet.md"


def test_all_candidates_and_shipped_weights_are_in_the_results(search):
    figures = json.loads(search.FIGURES.read_text())
    timed = [row["network"] for row in figures["candidates"]["512x1024"]["networks"]]
    assert timed == [*search.CANDIDATES, "mininet_v2_cpu", "fast_scnn"]
    assert set(figures["shipped"]) == {"512x1024", "360x480"}
    for runs in figures.values():
        for size, run in runs.items():
            assert "x".join(map(str, run["protocol"]["size"])) == size
            assert "openvino" in run["protocol"]["versions"]
            assert {"processor", "instructions", "threads", "date", "precision", "weights"} <= set(run["protocol"])
    assert {row["network"] for row in figures["shipped"]["512x1024"]["networks"]} == set(search.SHIPPED)


def run_of(**call_ms):
    return {"networks": [{"network": name, "call_ms": ms} for name, ms in call_ms.items()]}


def test_bars_say_plainly_what_is_missed(search):
    figures = {"candidates": {"512x1024": run_of(kerbnet_s=4.6, kerbnet_m=7.9, mininet_v2_cpu=10.0, fast_scnn=5.0)}}
    zoo = {
        "networks": {
            "mininet_v2_cpu-camvid": {"test": {"miou": 0.60}},
            "kerbnet_s-camvid": {
                "test": {"miou": 0.595},
                "int8": {"miou_drop": 0.0, "protocol": {"calibration_pictures": 7}},
            },
            "kerbnet_m-camvid": {"test": {"miou": 0.615}, "val": {"miou": 0.7}},
        }
    }
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in search.bars(figures, zoo, {}).splitlines()[2:]]
    assert [row[1:] for row in rows] == [
        ["at most 0.45", "0.46", "**no**"],
        ["at most 1.10", "0.92", "yes"],
        ["at most 0.80", "0.79", "yes"],
        ["at least 0.5900", "0.5950", "yes"],
        ["at least 0.6200", "0.6150", "**no**"],
        ["at most 0.0040", "0.0000", "yes"],
        ["at most 0.0040", "not measured", "not measured"],
    ]
    assert rows[-2][0].endswith("calibrated on 7")
    lost, how = search.int8_loss(zoo["networks"]["kerbnet_m-camvid"], {"miou": {"uint8": 0.695}}, "12")
    assert (lost, how) == (pytest.approx(0.005), ", calibrated on 12")


def test_a_run_leaves_the_figures_of_others(search, tmp_path):
    file = tmp_path / "new" / "kerbnet.json"
    for what, size, ms in (("candidates", (32, 64), 1), ("shipped", (32, 64), 2), ("candidates", (512, 1024), 3)):
        search.put(file, what, size, {"ms": ms})
    search.put(file, "candidates", (32, 64), {"ms": 4})
    figures = json.loads(file.read_text())
    assert figures == {"candidates": {"512x1024": {"ms": 3}, "32x64": {"ms": 4}}, "shipped": {"32x64": {"ms": 2}}}
    assert list(figures["candidates"]) == ["512x1024", "32x64"]


def test_weights_for_one_size_serve_for_another(search, tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(search, "taught", lambda net, *rest: calls.append(rest) or net.eval())
    first = search.kept("96 and 32", search.CANDIDATES["96 and 32"](5), tmp_path, 3)
    again = search.kept("96 and 32", search.CANDIDATES["96 and 32"](5), tmp_path, 3)
    assert len(calls) == 1
    assert not again.training
    assert all(torch.equal(a, b) for a, b in zip(first.state_dict().values(), again.state_dict().values(), strict=True))


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        (["--only", "kerbnet_x"], "--only kerbnet_x: no candidate and no registered network"),
        (["--export-only"], "--export-only fills the folder of --work; name one"),
    ],
)
def test_what_would_be_ignored_is_refused(typed, told, search, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["kerbnet.py", *typed])
    with pytest.raises(SystemExit) as end:
        search.main()
    assert end.value.code == 2
    assert told in capsys.readouterr().err
