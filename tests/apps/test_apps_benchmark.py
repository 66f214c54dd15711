"""`kerbseg benchmark`: a line an engine of the table, whatever becomes of it; figures that others can recompute."""

import io
import json
import shutil
import sys
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

from kerbseg.apps import benchmark as app
from kerbseg.apps.benchmark import benchmark, render
from kerbseg.bundle import load, random_bundle, save
from kerbseg.cli import main
from kerbseg.core.errors import KerbsegError
from kerbseg.core.labels import label_set
from kerbseg.data import open_dataset
from kerbseg.evaluate import evaluate
from kerbseg.profiling import workers
from kerbseg.profiling.latency import Budget, Latency, Skipped
from kerbseg.profiling.machine import this_machine
from kerbseg.profiling.workers import Facts, Timing, time_each
from kerbseg.runtime import ENGINES, Engine, RuntimeOptions, open_runtime
from kerbseg.runtime.engines import size_bytes

SIZE = (32, 48)


def fake_times(models, options, picture, budget):
    """1 ms for the first file, 2 for the second ..."""
    return [
        timing(name, how.engine, number + 1.0) for number, (name, how) in enumerate(zip(models, options, strict=True))
    ]


def timing(name, engine, ms):
    facts = Facts(engine, "float32", "cpu", 1, SIZE, "of the file", this_machine())
    return Timing(facts, Latency(ms, 1.5 * ms, 10), Skipped("not asked for"), [])


def copying_engine(tmp_path, **broken):
    """An engine whose files name a bundle, and whose class ids are those of torch but for the first row."""

    class Copy:
        def __init__(self, path, options):
            self._torch = open_runtime(path.read_text(), threads=options.threads)
            self.card, self.size, self.name, self.precision = self._torch.card, None, "copy", "float32"
            self.device, self.threads = "cpu", 1

        def __call__(self, pictures):
            ids = self._torch(pictures).copy()
            ids[:, 0] = (ids[:, 0] + 1) % len(self.card.labels)
            return ids

    return Engine("copy", ".copy", Copy, **{"write": f"{__name__}:write_copy", **broken})


def write_copy(bundle, path, size, logits):
    save(bundle, path.with_suffix(".safetensors"))
    path.write_text(str(path.with_suffix(".safetensors")))


def broken_write(bundle, path, size, logits):
    raise RuntimeError("operator\nnot known")


def printed(report, width=80):
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(render(report))
    return console.export_text()


def measured(model, formats, **more):
    return benchmark(str(model), formats=formats, threads=1, time_files=fake_times, **more)


def test_an_engine_of_the_table_is_a_row_with_its_figures(camvid_bundle, camvid_root, tmp_path, monkeypatch):
    monkeypatch.setitem(ENGINES, "copy", copying_engine(tmp_path))
    val = open_dataset("camvid", "val", camvid_root)
    report = measured(camvid_bundle, "torch,copy", data=val)
    torch, copy = report.rows
    assert [row.way for row in report.rows] == ["torch", "copy"]
    assert (torch.timing.call.median_ms, copy.timing.call.median_ms) == (1.0, 2.0)
    assert torch.miou == evaluate(open_runtime(camvid_bundle), val).metrics.miou
    assert copy.miou != torch.miou
    assert torch.equal == 1.0
    assert copy.equal == pytest.approx(31 / 32)  # all rows but one
    assert not report.failed
    written = report.to_dict()
    assert [row["fps"] for row in written["engines"]] == [1000.0, 500.0]
    assert written["protocol"]["split"] == "val"
    assert written["protocol"]["pictures"] == 2
    assert written["protocol"]["processor"]
    text = printed(report)
    assert "96.8750%" in text
    assert f"{torch.miou:.4f}" in text
    assert "mIoU: 2 pictures of camvid val" in text


def test_without_data_the_accuracy_is_not_measured(camvid_bundle):
    report = measured(camvid_bundle, "torch")
    assert report.rows[0].miou == Skipped("needs --data")
    assert report.to_dict()["engines"][0]["miou"] is None
    assert "mIoU: not measured; give --data NAME" in printed(report)


def test_an_engine_that_fails_is_a_row_with_its_reason_and_the_others_go_on(camvid_bundle, tmp_path, monkeypatch):
    monkeypatch.setitem(ENGINES, "copy", copying_engine(tmp_path, write=f"{__name__}:broken_write"))
    report = measured(camvid_bundle, "copy,torch")
    by_name = {row.way: row for row in report.rows}
    assert by_name["copy"].failure == "operator not known"
    assert by_name["torch"].failure is None
    assert report.failed
    text = printed(report)
    assert "copy failed: operator not known" in text
    assert report.to_dict()["engines"][-1]["error"] == "operator not known"


def test_a_failure_is_status_1_after_the_table_and_the_json(camvid_bundle, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(ENGINES, "copy", copying_engine(tmp_path, write=f"{__name__}:broken_write"))
    monkeypatch.setattr(app.benchmark, "__kwdefaults__", {**app.benchmark.__kwdefaults__, "time_files": fake_times})
    figures = tmp_path / "b.json"
    with pytest.raises(SystemExit) as left:
        main(["benchmark", str(camvid_bundle), "--formats", "copy,torch", "--threads", "1", "--json", str(figures)])
    assert left.value.code == 1
    assert {row["engine"] for row in json.loads(figures.read_text())["engines"]} == {"copy", "torch"}
    assert "copy failed: operator not known" in capsys.readouterr().out


def test_what_is_not_installed_is_no_failure_and_listed_with_the_command(camvid_bundle, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    report = measured(camvid_bundle, "onnx,torch")
    assert [row.way for row in report.rows] == ["torch"]
    assert "pip install" in report.missing["onnx"]
    assert not report.failed
    assert "onnxruntime is not installed" in printed(report, 200)


def test_files_stay_only_where_they_are_asked_for(camvid_bundle, tmp_path, monkeypatch):
    monkeypatch.setitem(ENGINES, "copy", copying_engine(tmp_path))
    monkeypatch.chdir(tmp_path)
    measured(camvid_bundle, "copy")
    assert not list(tmp_path.iterdir())
    report = measured(camvid_bundle, "copy,torch", out=tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == [f"{camvid_bundle.stem}.copy"]
    assert report.rows[1].size_bytes == (tmp_path / "out" / f"{camvid_bundle.stem}.copy").stat().st_size


def test_an_exported_file_is_run_by_its_engines_and_compared_with_nothing(camvid_bundle, tmp_path, monkeypatch):
    monkeypatch.setitem(ENGINES, "copy", copying_engine(tmp_path))
    file = tmp_path / "m.copy"
    file.write_text(str(camvid_bundle))
    report = measured(file, "all")
    assert [row.way for row in report.rows] == ["copy"]
    assert isinstance(report.rows[0].equal, Skipped)
    assert report.rows[0].size_bytes == size_bytes(file)
    assert "not measured" in printed(report)
    with pytest.raises(KerbsegError, match="runs on copy, not on torch"):
        measured(file, "torch")
    with pytest.raises(KerbsegError, match=r"32x48 \(HxW\) only, not of 64x96"):
        measured(file, "all", size=(64, 96))


def test_torch_sees_pictures_of_the_size_that_is_asked_for(camvid_bundle, camvid_root, tmp_path):
    val = open_dataset("camvid", "val", camvid_root)
    bundle = load(camvid_bundle)
    resized = tmp_path / "resized.safetensors"
    save(replace(bundle, card=replace(bundle.card, input_size=(64, 96))), resized)
    report = measured(camvid_bundle, "torch", size=(64, 96), data=val)
    assert report.rows[0].miou == evaluate(open_runtime(resized), val).metrics.miou
    assert report.rows[0].miou != evaluate(open_runtime(camvid_bundle), val).metrics.miou


def test_other_classes_are_refused_before_any_work(tmp_path, camvid_root, monkeypatch):
    other = tmp_path / "other.safetensors"
    save(random_bundle("mininet_v2_cpu", label_set("cityscapes")), other)
    with pytest.raises(KerbsegError, match="classes"):
        measured(other, "torch", data=open_dataset("camvid", "val", camvid_root))


def test_a_table_of_all_engines_fits_80_columns(camvid_bundle):
    ways = [way.name for way in app.find_ways("all", int8=True)]
    rows = tuple(app.Row(name, timing(name, name, 1234.56), 0.5, 999_990_000, 0.99999) for name in ways)
    report = app.Benchmark("m", rows, {}, measured(camvid_bundle, "torch").protocol, this_machine(), 0.0)
    text = printed(report)
    assert "…" not in text
    table = [line.split()[0] for line in text.splitlines() if line.endswith("99.9990%")]
    assert sorted(table) == sorted(ways)


def test_a_model_that_a_process_cannot_run_is_left_out_and_the_other_is_timed(camvid_bundle, tmp_path):
    bad = tmp_path / "bad.safetensors"
    bad.write_bytes(b"no bundle")
    picture = np.zeros((*SIZE, 3), np.uint8)
    good, failed = time_each(
        [str(camvid_bundle), str(bad)], [RuntimeOptions("torch", threads=1)] * 2, picture, Budget(runs=2)
    )
    assert good.call.runs == 2
    assert "bad.safetensors" in failed.reason


def test_a_process_that_ends_amid_its_timing_takes_no_other_with_it():
    told = []

    def ends(count):
        raise KerbsegError("gone")

    survive = workers._surviving(ends, told.append)
    assert survive(3) == [0.0, 0.0, 0.0]
    assert told == [Skipped("gone")]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nothing"], "does not exist"),
        (["mininet_v2_cpu-camvid", "--formats", "onx"], "did you mean 'onnx'"),
        (["mininet_v2_cpu-camvid", "--formats", "torch", "--int8"], "none of torch runs in int8"),
        (["mininet_v2_cpu-camvid", "--threads", "0"], "threads is 0"),
        (["mininet_v2_cpu-camvid", "--limit", "0", "--data", "scenes"], "limit is 0"),
        (["mininet_v2_cpu-camvid", "--data", "scenes"], "classes"),
        (["mininet_v2_cpu-camvid", "--size", "8x8"], "8x8"),
    ],
)
def test_bad_requests_are_one_line_and_status_2(arguments, says, capsys):
    with pytest.raises(SystemExit) as left:
        main(["benchmark", *arguments])
    lines = capsys.readouterr().err.splitlines()
    assert left.value.code == 2
    assert len(lines) == 1
    assert says in lines[0]


@pytest.mark.slow
def test_the_real_engines(camvid_bundle, camvid_root, tmp_path, capsys):
    shutil.copy(camvid_bundle, tmp_path / "m.safetensors")
    data = ["--data", "camvid", "--data-root", str(camvid_root)]
    formats = "torch,torch-eager,onnx,openvino"
    arguments = ["--formats", formats, "--int8", "--threads", "1", "--runs", "3", "-o", str(tmp_path / "out")]
    main(["benchmark", str(tmp_path / "m.safetensors"), *data, *arguments, "--json", str(tmp_path / "b.json")])
    report = json.loads((tmp_path / "b.json").read_text())
    rows = {row["engine"]: row for row in report["engines"]}
    assert list(rows) == ["torch", "torch-eager", "onnx", "openvino", "onnx-int8", "openvino-int8"]
    for name, row in rows.items():
        assert row["error"] is None
        assert row["latency_ms"]["runs"] == 3
        assert row["equal_to_torch"] > (0.5 if "int8" in name else 0.999)
    assert rows["onnx"]["size_bytes"] == (tmp_path / "out" / "m.onnx").stat().st_size
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "m.onnx", "m_int8.onnx", "m.xml", "m.bin", "m_int8.xml", "m_int8.bin"
    }  # fmt: skip
    assert "openvino-int8" in capsys.readouterr().out
