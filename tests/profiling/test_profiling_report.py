"""`kerbseg profile`: the same figures on the terminal and as JSON, for names, bundles and exported files."""

import io
import json
import subprocess
import sys
from importlib.metadata import version

import numpy as np
import pytest
from rich.console import Console

import kerbseg.models as models
from kerbseg.bundle import load
from kerbseg.cli import main
from kerbseg.core.errors import InputError, KerbsegError
from kerbseg.data import open_dataset
from kerbseg.export import export, pictures_of
from kerbseg.profiling.cost import cost
from kerbseg.profiling.latency import Budget, Latency, Skipped
from kerbseg.profiling.machine import Machine
from kerbseg.profiling.report import Profile, options_for, profile_models, render
from kerbseg.profiling.workers import Facts, Timing, time_models
from kerbseg.runtime import ENGINES, Engine, RuntimeOptions

ONLY_COUNT = Budget(runs=0)


def profile_model(name, size=None, convention="true"):
    return profile_models([name], size, convention, budget=ONLY_COUNT)[0]


def printed(profiles, layers=False):
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(render(profiles, layers))
    return console.export_text()


@pytest.fixture(scope="module")
def exported(camvid_bundle, tmp_path_factory):
    """The same network as an OpenVINO file."""
    path = tmp_path_factory.mktemp("exported") / "m.xml"
    bundle = load(camvid_bundle)
    export(bundle, path, pictures=pictures_of(open_dataset("scenes", "val", None), bundle.card.input_size, 1))
    return path


def test_a_registered_network_costs_what_its_card_says(tmp_path, capsys):
    main(["profile", "mininet_v2_cpu", "--runs", "0", "--layers", "--json", str(tmp_path / "p.json")])
    profile = json.loads((tmp_path / "p.json").read_text())
    card = models.card("mininet_v2_cpu")
    assert (profile["parameters"], profile["macs"]) == (card.parameters, card.macs)
    assert profile["gflops"] == pytest.approx(2e-9 * card.macs)
    assert sum(layer["parameters"] for layer in profile["layers"]) == card.parameters
    assert sum(layer["macs"] for layer in profile["layers"]) == card.macs
    assert profile["size_bytes"] >= 4 * card.parameters
    assert profile["latency_ms"] is None
    shown = capsys.readouterr().out
    assert f"{card.parameters:,}" in shown
    assert "GFLOP" in shown
    assert "not measured" in shown


def test_a_bundle_is_counted_at_its_own_size(camvid_bundle):
    profile = profile_model(str(camvid_bundle))
    assert profile.cost.size == (32, 48)
    assert profile.cost.macs == profile_model(str(camvid_bundle), (64, 96)).cost.macs // 4
    assert profile.size_bytes == camvid_bundle.stat().st_size


def test_a_papers_way_to_count_stands_beside_the_true_one():
    profile = profile_model("erfnet_dg4", None, "grouping_paper")
    assert profile.to_dict()["grouping_paper"]["parameters"] < profile.to_dict()["parameters"]
    assert "parameters, grouping_paper" in printed([profile])


def test_bad_requests_are_named(exported):
    with pytest.raises(KerbsegError, match="did you mean 'grouping_paper'"):
        profile_model("erfnet", None, "groupingpaper")
    with pytest.raises(InputError, match="multiple"):
        profile_model("erfnet", (100, 100))
    with pytest.raises(KerbsegError, match=r"32x48 \(HxW\) only, not of 64x96"):
        profile_model(str(exported), (64, 96))


def test_two_models_are_timed_by_turns_each_in_its_process(camvid_bundle, exported, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    arguments = [str(camvid_bundle), "--against", str(exported), "--runs", "12", "--threads", "1", "--layers"]
    main(["profile", *arguments, "--json", str(tmp_path / "p.json")])
    torch, openvino = json.loads((tmp_path / "p.json").read_text())
    for profile, runtime in ((torch, "torch"), (openvino, "openvino")):
        protocol = profile["protocol"]
        assert {"runtime", "threads", "size", "precision", "device", "versions"} <= set(protocol)
        assert protocol["runtime"] == runtime
        assert protocol["threads"] == 1
        assert protocol["size"] == [32, 48]
        assert protocol["processor"]
        assert protocol["cores"] >= 1
        assert protocol["date"].startswith("20")
        assert protocol["versions"][runtime] == version(runtime)
        assert 0 < profile["latency_ms"]["median"] <= profile["latency_ms"]["p95"]
        assert profile["latency_ms"]["runs"] == profile["network_latency_ms"]["runs"] == 12
        assert 0 < len(profile["slowest_layers"]) <= 10
        times = [row["ms"] for row in profile["slowest_layers"]]
        assert times == sorted(times, reverse=True)
    assert "openvino" not in torch["protocol"]["versions"]  # a process loads only what it runs
    assert torch["parameters"] == openvino["parameters"]
    assert openvino["size_bytes"] == exported.stat().st_size + exported.with_suffix(".bin").stat().st_size
    shown = capsys.readouterr().out
    assert "12 runs" in shown
    assert torch["protocol"]["processor"] in shown
    ratio = torch["latency_ms"]["median"] / openvino["latency_ms"]["median"]
    [line] = [line for line in shown.splitlines() if "latency, picture to ids, median" in line]
    assert float(line.split("│")[4]) == pytest.approx(ratio, rel=0.01)


def made_up(name, median_ms, forward_only=None):
    """A profile whose times are given."""
    facts = Facts("torch", "float32", "cpu", 2, (256, 512), "random", Machine("A CPU", 2, None, {}, "2026-11-26"))
    counted = cost(models.create_model("mininet_v2_cpu"), (256, 512))
    call = Latency(median_ms, 2 * median_ms, 50)
    return Profile(name, counted, 1000, "true", None, Timing(facts, call, forward_only or call, []))


def test_two_models_stand_in_one_table_with_the_ratio():
    text = printed([made_up("a.xml", 10.0), made_up("b.safetensors", 40.0)])
    assert text.count("┏") == 1
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in text.splitlines() if "│" in line]
    lines = {row[0]: row[1:] for row in rows}
    assert lines["latency, picture to ids, median"] == ["10.00 ms", "40.00 ms", "0.25"]
    assert lines["pictures per second"] == ["100.0", "25.0", "4"]
    assert lines["parameters"][2] == "1"
    assert lines["device"] == ["cpu, 2 threads", "cpu, 2 threads", ""]
    assert text.count("A CPU, 2 cores") == 1


def test_what_a_runtime_does_not_show_is_not_measured():
    profile = made_up("a.xml", 10.0, Skipped("it does not show its network"))
    assert profile.to_dict()["network_latency_ms"] is None
    assert "latency, network only, median   │ not measured" in printed([profile])


def test_an_engine_is_that_of_the_model_it_runs(camvid_bundle, exported):
    asked = RuntimeOptions("torch-eager", threads=1, precision="bfloat16")
    options = options_for([str(camvid_bundle), str(exported), "erfnet"], asked)
    assert options == [asked, RuntimeOptions(threads=1), asked]
    with pytest.raises(KerbsegError, match=r"onnx runs \.onnx files"):
        options_for([str(exported)], RuntimeOptions("onnx"))


class Plain:
    """A runtime that shows nothing of its inside."""

    name, device, precision, threads = "plain", "cpu", "float32", 1

    def __init__(self, path, options):
        self.card, self.size = load(path.read_text()).card, None

    def __call__(self, pictures):
        return np.zeros(pictures.shape[:3], np.uint8)


def test_an_engine_of_the_table_is_timed_without_another_edit(camvid_bundle, tmp_path, monkeypatch):
    monkeypatch.setitem(ENGINES, "plain", Engine("plain", ".plain", Plain))
    (tmp_path / "m.plain").write_text(str(camvid_bundle))
    [profile] = profile_models([str(tmp_path / "m.plain")], budget=Budget(runs=2), layers=True)
    assert profile.timing.facts.runtime == "plain"
    assert profile.timing.call.runs == 2
    assert str(profile.timing.forward_only) == "not measured: plain does not show its network by itself"
    assert profile.slowest() == []


def test_what_is_being_done_is_said_before_it_is_done(camvid_bundle):
    said = []
    picture = np.zeros((32, 48, 3), np.uint8)
    time_models([str(camvid_bundle)], [RuntimeOptions(threads=1)], [picture], Budget(runs=1), say=said.append)
    assert [line.split()[0] for line in said] == ["loading", "timing"]
    assert said[1].endswith("1 run each")


def test_a_model_that_cannot_be_run_is_named_by_its_process(camvid_bundle):
    with pytest.raises(KerbsegError, match="threads is 0"):
        time_models([str(camvid_bundle)], [RuntimeOptions(threads=0)], [np.zeros((32, 48, 3), np.uint8)])


def test_the_first_line_comes_before_anything_heavy_is_imported():
    code = """if True:
        import sys
        from kerbseg.cli import main, measure
        measure.say = lambda line: sys.exit(str({"torch", "numpy"} & set(sys.modules)))
        main(["profile", "erfnet"])
    """
    left = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert left.stderr.strip() == "set()"


@pytest.mark.parametrize("name", ["mininet_v2_cpu", "enet", "liteseg_mobilenet_v2"])
def test_a_convention_refuses_networks_that_it_does_not_count(name):
    with pytest.raises(KerbsegError, match="'grouping_paper' counts ERFNet and its grouped variants only"):
        profile_models([name], (64, 64), "grouping_paper", budget=Budget(runs=0))
