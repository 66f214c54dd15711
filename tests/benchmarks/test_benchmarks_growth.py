"""Start, growth and peers: each script from its command line to its page, on the smallest things that it takes."""

import importlib
import json
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def script(monkeypatch):
    """A script of the folder as a module, and what runs it from its command line in this process."""
    monkeypatch.syspath_prepend(str(FOLDER))

    def load(name):
        module = importlib.import_module(name)

        def run(*arguments):
            monkeypatch.setattr(sys, "argv", [f"{name}.py", *map(str, arguments)])
            module.main()

        return module, run

    return load


def test_start_runs_both_versions_by_turns_and_prints_medians_and_ratio(script, monkeypatch, tmp_path, capsys):
    module, run = script("start")
    calls = []

    def pretended(version, code, *arguments, **variables):
        calls.append((version.name, arguments, variables))
        if arguments[:1] == ("export",):
            Path(arguments[arguments.index("-o") + 1]).write_text("")
        return {"before": 3.0, "now": 1.5}[version.name]

    monkeypatch.setattr(module.Version, "run", pretended)
    run("--before", tmp_path, "--rounds", 3, "--json", tmp_path / "start.json", "--files", tmp_path / "files")
    shown = capsys.readouterr().out.splitlines()
    assert "| bundle | 3.00 | 1.50 | 2.00 |" in shown
    assert sum(line.endswith("| 3.00 | 1.50 | 2.00 |") for line in shown) == len(module.EXPORTED) + 3
    figures = json.loads((tmp_path / "start.json").read_text())
    assert figures["seconds"]["int8.xml"] == {"before": [3.0] * 3, "now": [1.5] * 3}
    assert figures["protocol"]["processor"]
    bundles = [name for name, arguments, _ in calls if arguments[:2] == ("predict", module.BUNDLE)]
    assert bundles == ["now", "before", "now", "before", "before", "now", "now", "before"]
    caches = [variables["NUMBA_CACHE_DIR"] for _, _, variables in calls if variables]
    assert len(set(caches)) == len(caches) == 6  # each first run has an empty one


def test_growth_runs_each_point_once_and_writes_page_and_plot(script, monkeypatch, tmp_path, capsys):
    module, run = script("growth")
    small = [
        module.Point("pixels", "mininet_v2_cpu", "torch", (32, 48), 3),
        module.Point("pixels", "mininet_v2_cpu", "torch", (64, 96), 3),
    ]
    monkeypatch.setattr(module, "points", lambda cores: iter(small))
    monkeypatch.setattr(module, "in_process", module.measure)  # in this process, which has torch already
    monkeypatch.setattr(module, "SECONDS", 0)
    page, plot, figures = tmp_path / "growth.md", tmp_path / "growth.svg", tmp_path / "growth.json"
    page.write_text(f"# Growth\n\n{module.BEGIN}\nold\n{module.END}\n\nafter\n")
    run("--json", figures, "--page", page, "--plot", plot)
    rows = json.loads(figures.read_text())["points"]
    assert [row["size"] for row in rows.values()] == [[32, 48], [64, 96]]
    assert all(row["call_ms"] > 0 and row["peak_mb"] >= row["before_mb"] > 1 for row in rows.values())
    written = page.read_text()
    assert "old" not in written
    assert written.startswith("# Growth")
    assert written.endswith("after\n")
    assert "| mininet_v2_cpu | torch | 64x96 | 3 | 1 | all |" in written
    assert "4 times as many" in written
    assert "<svg" in plot.read_text()
    monkeypatch.setattr(module, "in_process", lambda point, file: pytest.fail("measured again"))
    run("--json", figures)
    assert "| mininet_v2_cpu | torch | 64x96 |" in capsys.readouterr().out
    assert json.loads(figures.read_text())["points"] == rows


def test_a_point_of_growth_that_fails_says_why(script, tmp_path):
    module, _ = script("growth")
    point = module.Point("pixels", "erfnet", "torch")
    assert "missing.safetensors" in module.in_process(point, str(tmp_path / "missing.safetensors"))["not_measured"]


def test_the_large_picture_of_growth_is_segmented_by_tiles(script, monkeypatch):
    module, _ = script("growth")
    monkeypatch.setattr(module, "LARGE", (300, 500))
    monkeypatch.setattr(module, "OVERLAP", 0)

    class Runtime:
        size = (128, 192)

        def __call__(self, pictures):
            return pictures[..., 0]

    made = module.large(Runtime(), module.Point("large", "mininet_v2_cpu", "openvino", (128, 192), tiles=True))
    assert made["megapixels"] == 0.15


def written(path: Path, *, tail: bool) -> Path:
    """A network of one convolution, with or without an enlargement and an argmax at its end."""
    weights = np.random.default_rng(0).normal(size=(3, 3, 4, 4)).astype(np.float32)
    nodes = [helper.make_node("Conv", ["x", "w"], ["logits"], strides=[4, 4])]
    shape, kind, end = (1, 3, 16, 24), TensorProto.FLOAT, "logits"
    if tail:
        nodes += [
            helper.make_node("Resize", ["logits", "", "", "sizes"], ["large"], mode="linear"),
            helper.make_node("ArgMax", ["large"], ["ids"], axis=1, keepdims=0),
        ]
        shape, kind, end = (1, 64, 96), TensorProto.INT64, "ids"
    held = [numpy_helper.from_array(weights, "w"), numpy_helper.from_array(np.array([1, 3, 64, 96]), "sizes")]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, 3, 64, 96))],
        [helper.make_tensor_value_info(end, kind, shape)],
        held if tail else held[:1],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path


def test_peers_runs_a_file_of_others_beside_ours_and_says_what_it_cannot_measure(script, tmp_path, capsys):
    _, run = script("peers")
    good, broken = written(tmp_path / "theirs.onnx", tail=True), tmp_path / "broken.onnx"
    broken.write_bytes(b"no network")
    run(good, broken, "--seconds", 0.2, "--threads", 1, "--json", tmp_path / "peers.json")
    shown = capsys.readouterr().out
    figures = json.loads((tmp_path / "peers.json").read_text())
    rows = {row["network"]: row for row in figures["rows"]}
    assert set(rows) == {"theirs", "mininet_v2_cpu-camvid"}
    assert rows["theirs"]["equal"] >= 0.9999
    assert all(min(row["usual_ms"], row["network_ms"], row["ours_ms"]) > 0 for row in rows.values())
    assert all(row["size"] == [64, 96] for row in rows.values())
    assert figures["protocol"]["threads"] == 1
    assert "| theirs, float32 | 0.0 | 64x96 |" in shown
    assert "(ours)" in shown
    assert "broken.onnx: not measured: " in shown


def test_peers_in_int8_asks_for_pictures(script, tmp_path, capsys):
    _, run = script("peers")
    with pytest.raises(SystemExit) as left:
        run(tmp_path / "any.onnx", "--int8")
    assert left.value.code == 2
    assert "--calibration FOLDER" in capsys.readouterr().err
