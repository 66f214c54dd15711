"""Every script of the folder runs from its command line to its last figure, at its smallest setting."""

import importlib
import json
import os
import runpy
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from PIL import Image

import kerbseg
from kerbseg.bundle import load, random_bundle, save
from kerbseg.core.labels import label_set
from kerbseg.data.corruption_kinds import CORRUPTIONS
from kerbseg.export import openvino as openvino_export
from kerbseg.profiling.latency import Budget, Latency
from kerbseg.profiling.machine import processor_name

FOLDER = Path(__file__).parents[2] / "benchmarks"
LIBRARIES = {
    "trainings",
    "captured_training",
    "timed_training",
    "taught",
    "marked",
}  # of scripts, and tested by themselves or with them
ELSEWHERE = {
    "confidence",
    "train_throughput",
    "train_trees",
    "journey",
    "gpu_day",
    "zoo_finish",
    "zoo_pages",
    "start",
    "growth",
    "ray_scaling",
    "peers",
    "kerbnet",
    "kerbnet_trained",
    "which_network",
}  # in files of their own


@pytest.fixture
def script(monkeypatch):
    """What runs a script of the folder in this process."""
    monkeypatch.syspath_prepend(str(FOLDER))

    def run(name, *arguments):
        monkeypatch.setattr(sys, "argv", [f"{name}.py", *map(str, arguments)])
        importlib.import_module(name).main()

    return run


@pytest.fixture(scope="module")
def small_camvid(tmp_path_factory):
    """A made-up CamVid: 8 / 2 / 2 pictures of 64x64, enough for one batch of the scripts."""
    root, generator = tmp_path_factory.mktemp("data") / "camvid", np.random.default_rng(0)
    for split, count in {"train": 8, "val": 2, "test": 2}.items():
        for folder in (split, f"{split}annot"):
            (root / folder).mkdir(parents=True)
        for i in range(count):
            ids = generator.integers(0, 12, (8, 8), np.uint8).repeat(8, 0).repeat(8, 1)
            Image.fromarray(generator.integers(0, 256, (64, 64, 3), np.uint8)).save(root / split / f"{i:03}.png")
            Image.fromarray(ids).save(root / f"{split}annot" / f"{i:03}.png")
    return root


def shown(path):
    """Whether a plot has something on it."""
    return len(np.unique(np.array(Image.open(path)))) > 10


def test_no_script_is_left_out():
    scripts = {path.stem for path in FOLDER.glob("*.py")}
    tested = {name.removeprefix("test_").partition("_runs")[0] for name in globals() if "_runs" in name}
    assert scripts == tested | LIBRARIES | ELSEWHERE


@pytest.mark.slow
def test_engines_runs_and_keeps_refusals_with_their_reasons(script, tmp_path, capsys):
    pytest.importorskip("nncf")
    figures = tmp_path / "engines.json"
    script(
        *("engines", "kerbnet_s", "--engines", "openvino", "ncnn", "--size", 32, 48, "--threads", 1),
        *("--calibration", 1, "--pictures", 1, "--limit", 1, "--seconds", 1, "--work", tmp_path, "--json", figures),
        *("--cell-seconds", 0),
    )
    rows = json.loads(figures.read_text())["rows"]
    in_float, in_int8 = (rows[f"kerbnet_s openvino {way}"] for way in ("float", "int8"))
    assert in_float["equal"] >= 0.999
    assert in_int8["bytes"] < 0.6 * in_float["bytes"]
    assert in_int8["latency_ms"]["median"] > 0
    assert ("refused" in rows["kerbnet_s ncnn float"]) == (find_spec("ncnn") is None)
    assert "int8" in rows["kerbnet_s ncnn int8"]["refused"] or rows["kerbnet_s ncnn int8"]["refused"] == "no float file"


def test_a_table_of_engines_gives_each_reason_once(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    made = {"equal": 0.99999, "bytes": 2_000, "latency_ms": {"median": 3.14}}
    rows = {
        "erfnet litert float": made,
        "erfnet litert int8": made | {"miou_drop": 0.0123},
        "enet ncnn float": {"refused": "no such layer"},
        "enet ncnn int8": {"refused": "no float file"},
        "espnet ncnn float": {"refused": "no such layer"},
        "espnet ncnn int8": {"not_measured": "it took longer than 600 s"},
    }
    assert importlib.import_module("engines").table(rows).splitlines()[2:] == [
        "| erfnet | .tflite | 99.999 % | 99.999 % | +0.0123 | 3.1 | 3.1 | 2 | 2 |",
        "| enet | .ncnn.param | refused (1) |  |  |  |  |  |  |",
        "| espnet | .ncnn.param | refused (1) | not measured (2) |  |  |  |  |  |",
        "",
        "1. no such layer",
        "2. it took longer than 600 s",
    ]


def test_the_table_of_engines_on_the_page_is_the_results(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    engines = importlib.import_module("engines")
    results, page = json.loads(engines.RESULTS.read_text()), (FOLDER.parent / "docs" / "engines.md").read_text()
    assert engines.between(page, engines.MARK, engines.inside(results)) == page, "benchmarks/engines.py --page"
    rows = results["rows"]
    assert {key.split()[0] for key in rows} == set(engines.NETWORKS)
    for key, row in rows.items():
        assert {"bytes", "refused", "not_measured"} & set(row), key
        if key.endswith("float") and "bytes" in row:
            assert row["equal"] >= 0.999, key
        if isinstance(row.get("miou_drop"), float):
            assert row["miou_drop"] == row["miou_float"] - row["miou_int8"]
            assert row["weights"].endswith(("-camvid", "epochs on scenes")), key  # whatever was trained


def test_drawn_bag_runs_and_is_a_healthy_bag(script, tmp_path, capsys):
    pytest.importorskip("rosbags", reason="rosbags is not installed")
    from kerbseg.robots.bag_report import examine_bag

    script("drawn_bag", "--out", tmp_path / "drive.mcap", "--frames", 4)
    report = examine_bag(tmp_path / "drive.mcap")
    assert [(each.topic, each.messages) for each in report.topics] == [
        ("/cam/camera_info", 4),
        ("/cam/image_raw", 4),
        ("/imu/data", 21),
    ]
    assert not report.problems


@pytest.mark.slow
def test_gradual_grouping_runs_and_shows_what_it_has_done_again(script, small_camvid, tmp_path, capsys):
    out, plot = tmp_path / "runs" / "results.jsonl", tmp_path / "plots" / "grouping.png"
    few = ["--networks", "liteseg", "--arms", "dense", "grouped", "faded", "--seeds", 0]
    script(
        "gradual_grouping", *few, "--epochs", 2, "--size", 64, 64, "--data-root", small_camvid, "--out", out,
        "--plot", plot,
    )  # fmt: skip
    rows = [row for row in capsys.readouterr().out.splitlines() if row.startswith("| liteseg")]
    assert [row.split(" | ")[1] for row in rows] == ["dense", "grouped", "faded"]
    lines = {line["arm"]: line for line in map(json.loads, out.read_text().splitlines())}
    assert lines["faded"]["parameters"] == lines["grouped"]["parameters"] < lines["dense"]["parameters"]
    assert all(0 <= line["test_best"] <= 1 for line in lines.values())
    assert shown(plot)
    script("gradual_grouping", "--out", out, "--only-read")
    assert capsys.readouterr().out.splitlines()[2:] == rows


def test_upsample_argmax_runs_with_all_in_one_process(script, tmp_path, monkeypatch, capsys):
    import upsample_argmax

    @contextmanager
    def here(prepare, *arguments):
        ready = prepare(*arguments)
        yield SimpleNamespace(facts=ready.facts, batch=lambda what: ready.answers[what])

    once = upsample_argmax.interleaved
    monkeypatch.setattr(upsample_argmax, "worker", here)
    monkeypatch.setattr(upsample_argmax, "interleaved", lambda batches, *_: once(batches, Budget(runs=1), warm_up=0))
    script("upsample_argmax", "--threads", 1, "--json", tmp_path / "figures.json")
    written = json.loads((tmp_path / "figures.json").read_text())
    assert written["protocol"]["processor"] == processor_name()
    equal = {name: row["equal_to_torch"] for name, row in written["last_stage_ms"].items()}
    assert min(share for name, share in equal.items() if "uint8" not in name) > 0.9999
    assert equal["kerbseg uint8"] > 0.98
    assert "x openvino" in capsys.readouterr().out


def test_overlays_runs_and_draws_at_every_size(script, tmp_path, monkeypatch):
    monkeypatch.setattr("overlays.LARGE", (270, 480))
    script("overlays", "--out", tmp_path / "images")
    drawn = {path.name: path for path in (tmp_path / "images").iterdir()}
    assert drawn.keys() == {"overlay.png", "overlay-night.png", "overlay-4k.jpg"}
    assert all(shown(path) for path in drawn.values())


@pytest.mark.slow
def test_own_pictures_runs_from_both_starts(script, small_camvid, tmp_path, capsys):
    out, figures = tmp_path / "runs", tmp_path / "figures" / "own.json"
    few = ["--sets", "camvid_40", "--rates", "1e-3", "--seeds", 0, "--epochs", 1, "--data-root", small_camvid]
    script("own_pictures", *few, "--out", out, "--json", figures)
    rows = [row for row in capsys.readouterr().out.splitlines() if row.startswith("| 40 pictures")]
    assert [row.split(" | ")[1] for row in rows] == ["scratch", "weights"]
    written = json.loads(figures.read_text())
    runs = written["runs"]
    assert [run.get("initial") for run in runs] == [None, "mininet_v2_cpu-camvid"]
    first, second = (run["recipe"] for run in runs)
    assert first.pop("model") != second.pop("model"), "what is taken of the weights"
    assert first == second, "equal steps of the same network"
    assert "no test split" in written["protocol"]["figure"]
    mask = np.array(Image.open(out / "camvid_40" / "masks" / "train" / "0000.png"))
    assert set(np.unique(mask)) <= {0, 1, 2, 3, 255}
    assert (out / "camvid_40" / "dataset.yaml").read_text().startswith('classes: ["sky", "rest", "street", "vehicle"]')


@pytest.mark.slow
def test_modern_recipes_runs_with_its_teacher(script, small_camvid, tmp_path, capsys):
    out = tmp_path / "results.jsonl"
    arms = ["--arms", "modern", "+ boundaries", "+ distillation"]
    script("modern_recipes", *arms, "--seeds", 0, "--epochs", 1, "--data-root", small_camvid, "--out", out)
    rows = capsys.readouterr().out.splitlines()[-3:]
    assert [row.split(" | ")[0] for row in rows] == ["| modern", "| + boundaries", "| + distillation"]
    assert json.loads(out.read_text().partition("\n")[0])["arm"] == "teacher"


@pytest.mark.slow
def test_keyframes_runs_by_labels_and_without(script, tmp_path, monkeypatch, capsys):
    pytest.importorskip("cv2", reason="OpenCV is not installed")
    from kerbseg.data.scenes import Scenes

    street = np.concatenate([Scenes("val", size=(60, 160))[i].image for i in (0, 4)], 1)
    root, plain = tmp_path / "camvid", tmp_path / "plain"
    for folder in (root / "val", root / "valannot", plain):
        folder.mkdir(parents=True)
    for i in range(14):
        view = Image.fromarray(street[:, 12 * i : 12 * i + 96])
        view.save(root / "val" / f"0016E5_{i:05}.png")
        view.save(plain / f"{1_341_847_980 + i}.000000.png")
        ids = np.full((60, 96), 3, np.uint8)
        ids[20:40, max(0, 60 - 6 * i) : 75 - 6 * i if i < 12 else 0] = 9
        Image.fromarray(ids).save(root / "valannot" / f"0016E5_{i:05}.png")
    figures = tmp_path / "keyframes.json"
    figures.write_text('{"another": {}}')
    script(
        "keyframes", "--data", root, "--films", "0016E5", "--pictures", plain, "--seeds", 1, "--out", figures
    )  # fmt: skip
    every = json.loads(figures.read_text())
    assert every.keys() == {"another", "mininet_v2_cpu-camvid"}, "those of other networks stay"
    written = every["mininet_v2_cpu-camvid"]
    assert written["protocol"]["versions"]["opencv"]
    assert len(written["0016E5"]["target ratio by beginnings"]) == 3
    film = written["0016E5"]["due by clean flow"]
    assert film.keys() == {"first", "window", "gate", "middle", "uniform", "dp", "coverage"}
    assert all(0 <= row["degraded"] <= 1 for row in film.values())
    assert film["window"]["target ratio"] is not None
    assert "target ratio" not in written["plain"]["due by degraded flow"]["window"]
    assert "ms of CPU a frame" in capsys.readouterr().out


@pytest.mark.slow
def test_serve_runs_and_every_answer_is_right(script, tmp_path, capsys):
    pytest.importorskip("fastapi", reason="fastapi is not installed (extra serve)")
    figures = tmp_path / "serve.json"
    few = ["--model", "kerbnet_s-camvid", "--clients", 1, 2, "--requests", 3, "--queue", 1, "--many", 10]
    script("serve", *few, "--json", figures)
    rows = json.loads(figures.read_text())["rows"]
    assert {"plain loop", "1 client", "2 clients", "queue of 1, 2 clients", "many small pictures"} <= rows.keys()
    assert all(row["answered"] == 3 for name, row in rows.items() if name != "many small pictures")
    assert not any(row.get("lost") or row.get("wrong") for row in rows.values())
    assert len(rows["many small pictures"]["resident_mb"]) == 10
    assert "| plain loop |" in capsys.readouterr().out


def test_the_page_on_the_service_says_what_was_measured():
    rows = json.loads((FOLDER / "results" / "serve.json").read_text())["rows"]
    page = (FOLDER.parent / "docs" / "serve.md").read_text()
    memory = rows.pop("many small pictures")
    for row in rows.values():
        assert f"| {row['requests_per_second']:.1f} | {row['median_ms']:.0f} | {row['p99_ms']:.0f} |" in page
        assert not row.get("lost")
        assert not row.get("wrong")
    assert f"{rows['queue of 8, 64 clients']['queue_ms']:.0f} ms at" in page
    assert f"{memory['resident_mb'][0]:.1f} MB after the first 1,000, {memory['resident_mb'][-1]:.1f} MB" in page
    assert (memory["answered"], memory["lost"], memory["wrong"]) == (10_000, 0, 0)


def test_keyframe_picture_runs_and_shows_both_rules(script, tmp_path):
    pytest.importorskip("cv2", reason="OpenCV is not installed")
    script("keyframe_picture", "--out", tmp_path)
    assert shown(tmp_path / "keyframes.jpg")


def test_video_runs_both_ways(script, camvid_bundle, tmp_path, capsys):
    pytest.importorskip("av", reason="PyAV is not installed")
    figures = tmp_path / "video.json"
    few = ["--size", "64x96", "--frames", 5, "--turns", 1, "--threads", 1, "--flicker"]
    script("video", camvid_bundle, *few, "--json", figures)
    written = json.loads(figures.read_text())
    speeds = written["frames_per_second"]
    assert written["ratio"] == pytest.approx(speeds["overlapped"] / speeds["in_turn"])
    parts = ["decode", "resize", "network", "last stage", "flicker", "overlay", "encode", "count"]
    assert list(written["stage_ms"]) == parts
    assert all(cost["wall"] >= 0 and cost["cpu"] >= 0 for cost in written["stage_ms"].values())
    assert written["protocol"]["video"] == "drawn drive, 64x96"
    assert "frames/s" in capsys.readouterr().out


@pytest.mark.slow
def test_video_against_runs_two_versions(camvid_bundle, tmp_path):
    pytest.importorskip("av", reason="PyAV is not installed")
    figures, source = tmp_path / "against.json", Path(kerbseg.__file__).parents[1]
    few = ["--size", "64x96", "--frames", "5", "--turns", "2", "--threads", "1", "--json", figures]
    command = [sys.executable, FOLDER / "video_against.py", camvid_bundle, "--source", source, *few]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(source)}
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    written = json.loads(figures.read_text())
    assert written["bytes"]["this"] == written["bytes"]["against"] > 0, "one version wrote as the other"
    assert len(written["ratios"]) == 2
    assert all(speed > 0 for speed in written["frames_per_second"].values())
    assert "ms of CPU a frame" in ran.stdout


@pytest.mark.slow
def test_cpu_runs_with_all_in_one_process(script, camvid_bundle, small_camvid, tmp_path, monkeypatch, capsys):
    # the real one starts a process for each engine, which takes a minute; see below
    import cpu

    @contextmanager
    def here(prepare, *arguments):
        ready = prepare(*arguments)
        yield SimpleNamespace(facts=ready.facts, batch=lambda what: ready.answers[what])

    once = cpu.interleaved
    monkeypatch.setattr(cpu, "worker", here)
    monkeypatch.setattr(cpu, "interleaved", lambda batches, *_, **__: once(batches, Budget(runs=1), warm_up=0))
    figures, plot = tmp_path / "cpu.json", tmp_path / "cpu.png"
    engines = ["torch-eager", "openvino"]
    script(
        "cpu", "--bundle", camvid_bundle, "--models", "--engines", *engines, "--sizes", "32x64", "--threads", 1,
        "--data", "camvid", "--data-root", small_camvid, "--json", figures, "--plot", plot,
    )  # fmt: skip
    written = json.loads(figures.read_text())
    assert [row["engine"] for row in written["rows"]] == engines
    assert all(row["size"] == [32, 64] and 0 < row["miou"] < 1 and row["floor_ms"] > 0 for row in written["rows"])
    assert min(written["ceilings"].values()) > 0
    assert written["protocol"]["processor"] == processor_name()
    assert "openvino" in written["rows"][1]["versions"]
    stages = {name: stage["equal_to_torch"] > 0.9999 for name, stage in written["last_stage_ms"].items()}
    assert stages == {"kerbseg": True, "openvino": True, "torch": True}
    assert shown(plot)
    assert "x torch-eager" in capsys.readouterr().out
    assert torch.get_num_threads() == 1


def test_the_table_of_a_processor_says_what_the_results_say(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    cpu = importlib.import_module("cpu")
    results, page = json.loads(cpu.MODERN.read_text()), (FOLDER.parent / "docs" / "deployment.md").read_text()
    made = cpu.between(page, cpu.MODERN.stem, cpu.page_table(results))
    assert made == page, "python benchmarks/cpu.py --page docs/deployment.md"
    assert {row["model"] for row in results["rows"]} >= {"fast_scnn", "ddrnet_23_slim", "pp_liteseg_t", "pidnet_s"}
    eager = {"model": "enet", "size": [32, 64], "engine": "torch-eager", "latency": {"median": 5.0}, "floor_ms": 1.0}
    int8 = eager | {"engine": "openvino-int8", "latency": {"median": 2.0}}
    assert cpu.page_table({"rows": [eager, int8]}).endswith("| enet | 64x32 | 5.0 ms | 2.0 ms (2.50x) | 50 % |")


@pytest.mark.slow
def test_cpu_as_it_is_run(camvid_bundle, tmp_path):
    figures = tmp_path / "cpu.json"
    engines = ["torch-eager", "torch", "onnx", "openvino", "openvino-int8"]
    networks = ["--bundle", camvid_bundle, "--models", "erfnet_dg2_light"]
    few = [*networks, "--engines", *engines, "--sizes", "32x64", "--threads", "1", "--runs", "2", "--json", figures]
    done = subprocess.run([sys.executable, FOLDER / "cpu.py", *few], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    rows = json.loads(figures.read_text())["rows"]
    assert [(row["model"], row["engine"]) for row in rows] == [
        (name, engine) for name in ("mininet_v2_cpu", "erfnet_dg2_light") for engine in engines
    ]


def test_eightbit_logits_runs_on_files_of_before(script, camvid_bundle, small_camvid, tmp_path, monkeypatch, capsys):
    model, exported = openvino_export.converted(load(camvid_bundle), (32, 48))
    stage = replace(exported.last_stage, dtype="uint8", scale=0.01, zero_point=128)
    graph, stem = openvino_export.OpenvinoGraph(), tmp_path / f"{Path(camvid_bundle).stem}-32x48"
    graph.save(model.clone(), exported, Path(f"{stem}-float32.xml"))
    graph.save(graph.on_levels(model, stage), replace(exported, last_stage=stage), Path(f"{stem}-uint8.xml"))

    def at_once(paths, *_):
        assert [Path(path).stem.rpartition("-")[2] for path in paths] == ["float32", "uint8"]
        return [SimpleNamespace(call=Latency(ms, ms, 1)) for ms in (20.0, 17.0)]

    import eightbit_logits

    monkeypatch.setattr(eightbit_logits, "time_models", at_once)
    figures = tmp_path / "figures" / "eightbit.json"
    few = ["--size", "32x48", "--runs", 1, "--threads", 1, "--work", tmp_path, "--json", figures]
    script("eightbit_logits", camvid_bundle, "--data", "camvid", "--data-root", small_camvid, *few)
    [row] = json.loads(figures.read_text())["networks"].values()
    assert row["ratio"] == pytest.approx(0.85)
    miou = row["miou"]
    assert miou["float32"] - miou["uint8"] == row["miou_drop"]
    assert 0 < miou["uint8"] < 1
    assert "0.850" in capsys.readouterr().out


@pytest.mark.slow
def test_eightbit_logits_as_it_is_run(camvid_bundle, small_camvid, tmp_path):
    figures = tmp_path / "eightbit.json"
    few = ["--size", "32x64", "--runs", "2", "--threads", "1", "--calibration-pictures", "2", "--json", figures]
    data = ["--data", "camvid", "--data-root", small_camvid]
    networks = [camvid_bundle, "erfnet_dg2_light"]
    command = [sys.executable, FOLDER / "eightbit_logits.py", *networks, *data, *few]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    first, second = json.loads(figures.read_text())["networks"].values()
    assert first["ratio"] > 0
    assert "miou" in first
    assert second["ratio"] > 0
    assert "miou" not in second, "of other classes than the data"


@pytest.mark.slow
def test_photometric_runs_and_draws_each_change(script, tmp_path):
    script("photometric", "--out", tmp_path / "strengths.png")
    with Image.open(tmp_path / "strengths.png") as picture:
        assert min(picture.size) > 300


def test_corruptions_runs_and_draws_and_times_all(script, tmp_path, capsys):
    script("corruptions", "--out", tmp_path / "kinds.jpg", "--time", "32x48")
    with Image.open(tmp_path / "kinds.jpg") as picture:
        assert min(picture.size) > 900
    rows = capsys.readouterr().out.splitlines()
    assert [row.split()[0] for row in rows] == list(CORRUPTIONS)


def test_reliability_runs_and_draws_both_panels(script, tmp_path):
    bundle = random_bundle("mininet_v2_cpu", label_set("cityscapes"), seed=0)
    with torch.no_grad():  # a network that finds nothing but what it saw of the first pictures would take minutes
        bundle.model.output.bias[label_set("cityscapes").classes.index("road")] += 3
    save(bundle, tmp_path / "m.safetensors")
    script("reliability", tmp_path / "m.safetensors", "--limit", 1, "--out", tmp_path / "r.svg")
    drawn = ElementTree.parse(tmp_path / "r.svg").getroot()
    assert len(drawn.findall("{http://www.w3.org/2000/svg}g")) == 2


@pytest.mark.slow
def test_out_of_place_runs_and_tells_by_every_figure(script, tmp_path, capsys):
    few = ["augment.progressive=[]", "augment.crop=[64,128]", "batch_size=2", "validate_every=1"]
    small = ["--epochs", 1, "--scenes", 4, "--size", "64x128", "--hold", "car,building"]
    script("out_of_place", *small, "--json", tmp_path / "figures.json", "--set", *few)
    written = json.loads((tmp_path / "figures.json").read_text())["held_out"]
    assert all(0 <= figure <= 1 for each in written.values() for figure in each["max_logit"])
    assert "energy" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("", "is no file"),
        ("--size abc", "HEIGHTxWIDTH"),
        ("--calibration nowhere", "no folder"),
        ("--mean 1,2", "three"),
    ],
)
def test_peers_that_measures_nothing_says_why_and_ends_with_2(options, said, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["peers.py", str(tmp_path / "absent.onnx"), *options.split()])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(FOLDER / "peers.py"), run_name="__main__")
    told = capsys.readouterr()
    assert ended.value.code == 2
    assert said in told.out + told.err
