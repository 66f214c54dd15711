"""The zoo's scripts: figures are kept for their weights alone, test is looked at once, pages tell what is known."""

import csv
import importlib
import json
import re
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from kerbseg.bundle import Bundle, load, locate, random_bundle, save
from kerbseg.core.labels import label_set
from kerbseg.data.scenes import Scenes

ROOT = Path(__file__).parents[2]
NAME = "mininet_v2_cpu-camvid"


@pytest.fixture
def finish(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module("zoo_finish")


@pytest.fixture
def pages(finish):
    return importlib.import_module("zoo_pages")


@pytest.fixture
def root(tmp_path) -> Path:
    """A repository with one set of weights, nothing of which is measured."""
    root = tmp_path / "repository"
    (root / "docs").mkdir(parents=True)
    marks = "# Title\n\n<!-- zoo -->\nold\n<!-- end of zoo -->\n\nrest\n"
    for path in ("README.md", "docs/zoo.md"):
        (root / path).write_text(marks)
    line = '      - "Weights: {0}": repository/src/kerbseg/weights/{0}.md\n'
    (root / "mkdocs.yml").write_text(
        "nav:\n" + line.format("gone-camvid") + line.format("old-camvid") + "  - Last: a\n"
    )
    put_weights(root, seed=0)
    return root


def put_weights(root: Path, seed: int) -> Path:
    path = root / "src/kerbseg/weights" / f"{NAME}.safetensors"
    path.parent.mkdir(parents=True, exist_ok=True)
    bundle = random_bundle("mininet_v2_cpu", label_set("camvid"), seed=seed)
    card = replace(bundle.card, input_size=(64, 64), recipe={"data": {"name": "camvid"}, "epochs": 3})
    save(Bundle(bundle.model, card), path)
    return path


@pytest.fixture
def steps(finish, monkeypatch) -> list[tuple[str, str]]:
    """Steps that measure nothing, and a list of those that were done."""
    done: list[tuple[str, str]] = []

    def of(step: str):
        def act(job, name):
            done.append((step, name))
            entry = {"miou": 0.5 + len(done) / 1000, "confusion": [[1]], "protocol": {"split": step}}
            return {finish.WRITES.get(step, step): entry}

        return act

    names = ("calibrate", "test", "corruptions", "flip_scales")
    monkeypatch.setattr(finish, "STEPS", {step: of(step) for step in names})
    return done


def run(script, monkeypatch, *arguments) -> None:
    monkeypatch.setattr(sys, "argv", ["x", *map(str, arguments)])
    script.main()


def test_each_step_is_done_once_for_the_same_weights(finish, root, steps, monkeypatch):
    go = ("--root", root, "--no-pages")
    run(finish, monkeypatch, *go)
    assert [step for step, _ in steps] == ["calibrate", "test", "corruptions", "flip_scales"]
    results = root / "benchmarks/results/zoo.json"
    before = json.loads(results.read_text())["networks"][NAME]
    assert "confusion" not in before["test"]
    run(finish, monkeypatch, *go)
    assert len(steps) == 4
    assert json.loads(results.read_text())["networks"][NAME] == before
    run(finish, monkeypatch, *go, "--again", "test")
    assert steps[4:] == [("test", NAME)]
    looks = json.loads(results.read_text())["networks"][NAME]["looks_at_test"]
    assert [look["step"] for look in looks] == ["test", "corruptions", "flip_scales", "test"]


def test_other_weights_lose_the_figures_of_those_before(finish, root, steps, monkeypatch):
    go = ("--root", root, "--no-pages", "--steps")
    run(finish, monkeypatch, *go, "test", "corruptions")
    put_weights(root, seed=1)
    run(finish, monkeypatch, *go, "test")
    entry = json.loads((root / "benchmarks/results/zoo.json").read_text())["networks"][NAME]
    assert "corruptions" not in entry
    assert len({look["weights"] for look in entry["looks_at_test"]}) == 2
    card = load(root / "src/kerbseg/weights" / f"{NAME}.safetensors").card
    assert card.scores["test"]["miou"] == entry["test"]["miou"]
    assert "corruptions" not in card.scores


def test_weights_stay_bit_for_bit_and_their_card_has_the_figures(finish, root, steps, monkeypatch):
    path = root / "src/kerbseg/weights" / f"{NAME}.safetensors"
    before = {key: value.clone() for key, value in load(path).model.state_dict().items()}
    run(finish, monkeypatch, "--root", root, "--no-pages")
    after = load(path)
    assert all(torch.equal(before[key], value) for key, value in after.model.state_dict().items())
    assert after.card.scores["calibration"]["miou"] == 0.501


def test_results_of_another_machine_count_for_the_same_weights_alone(finish, root, steps, tmp_path, monkeypatch):
    go = ("--root", root, "--no-pages", "--steps")
    run(finish, monkeypatch, *go, "test")
    results, other = root / "benchmarks/results/zoo.json", tmp_path / "other.json"
    known = json.loads(results.read_text())
    test = known["networks"][NAME]["test"]
    theirs = {
        "test": test | {"miou": 0.9},
        "corruptions": {"kept": 0.7, "weights": test["weights"]},
        "test_flip_scales": {"miou": 0.8, "weights": "of others"},
        "looks_at_test": [{"step": "test"}, {"step": "corruptions"}],
    }
    other.write_text(json.dumps({"networks": {NAME: theirs}}))
    run(finish, monkeypatch, *go, "corruptions", "--merge", other)
    entry = json.loads(results.read_text())["networks"][NAME]
    assert (entry["test"], entry["corruptions"]["kept"]) == (test, 0.7)
    assert "test_flip_scales" not in entry
    assert [look["step"] for look in entry["looks_at_test"]] == ["test", "corruptions"]
    assert len(steps) == 1


def test_figures_of_weights_that_are_not_shipped_are_kept_apart(finish, root, steps, tmp_path, monkeypatch, capsys):
    other = tmp_path / "other.json"
    other.write_text(json.dumps({"networks": {"fast_scnn-camvid": {"test": {"miou": 0.4}}}}))
    go = ("--root", root, "--no-pages", "--steps", "--merge", other, "--not-shipped")
    run(finish, monkeypatch, *go, "fast_scnn-camvid")
    known = json.loads((root / "benchmarks/results/zoo.json").read_text())
    assert known["not_shipped"] == {"fast_scnn-camvid": {"test": {"miou": 0.4}}}
    assert "fast_scnn-camvid" not in known["networks"]
    with pytest.raises(SystemExit):
        run(finish, monkeypatch, *go, "enet-camvid")
    assert "no results of --merge know 'enet-camvid'" in capsys.readouterr().err


def test_the_plot_tells_what_is_shipped_from_what_is_not(pages, monkeypatch, tmp_path):
    figures = []
    monkeypatch.setattr(pages, "_store", lambda figure, path: figures.append(figure))
    other = ENTRY | {"model": "fast_scnn", "test": {"miou": 0.45}}
    pages.plot({NAME: ENTRY, "untimed": {"test": {"miou": 0.5}}}, tmp_path / "zoo.png", {"fast_scnn-camvid": other})
    [axes] = figures[0].axes
    drawn = [(round(float(line.get_ydata()[0]), 6), line.get_fillstyle()) for line in axes.lines]
    assert drawn == [(62.34, "full"), (45.0, "none")]
    assert [text.get_text() for text in axes.texts] == ["mininet_v2_cpu", "fast_scnn\n(not shipped)"]


def test_a_trial_touches_no_card_of_the_repository(finish, steps, monkeypatch, capsys):
    with pytest.raises(SystemExit):
        run(finish, monkeypatch, "--limit", 2)
    assert "--root COPY" in capsys.readouterr().err
    assert steps == []


def test_a_run_is_taken_with_its_curve(finish, root, steps, tmp_path, monkeypatch):
    runs = tmp_path / "day"
    runs.mkdir()
    shutil.copy(put_weights(tmp_path / "other", seed=3), runs / "cpu.safetensors")
    rows = [
        {"step": 9 * i, "epoch": i, "loss": 1 / i, "val_miou": i / 1000 if i % 2 == 0 else ""} for i in range(1, 701)
    ]
    with (runs / "cpu.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, list(rows[0]))
        table.writeheader()
        table.writerows(rows)
    run(finish, monkeypatch, "--root", root, "--take", runs / "cpu.safetensors", "--no-pages", "--steps", "test")
    weights = root / "src/kerbseg/weights"
    assert finish.digest(load(weights / f"{NAME}.safetensors").model.state_dict()) == finish.digest(
        load(runs / "cpu.safetensors").model.state_dict()
    )
    with (weights / f"{NAME}.csv").open(newline="") as file:
        kept = list(csv.DictReader(file))
    assert list(kept[0]) == ["epoch", "loss", "val_miou"]
    assert len(kept) <= 150
    assert kept[-1] == {"epoch": "700", "loss": "0.0014286", "val_miou": "0.7"}


def test_every_nth_picture_is_taken(finish):
    some = finish.EveryNth(Scenes("test", 7, (32, 48)), 3)
    assert some.names == ["test_00000", "test_00003", "test_00006"]
    assert some[1].name == "test_00003"


ENTRY = {
    "model": "mininet_v2_cpu",
    "size_bytes": 600_000,
    "test": {"miou": 0.6234},
    "latency": {"int8": {"median": 8.25}, "protocol": {}},
}
HOW = {"size": [360, 480], "threads": 2, "processor": "a processor", "load": 0.1, "date": "2000-01-01"}


def test_tables_have_what_is_known_the_best_first(pages):
    networks = {"a-camvid": {"test": {"miou": 0.5}}, "b-camvid": ENTRY}
    table = pages.readme_table(networks).splitlines()
    assert table[2] == "| [`b-camvid`](src/kerbseg/weights/b-camvid.md) | 0.623 | 8.2 | 0.6 |"
    assert table[3] == "| [`a-camvid`](src/kerbseg/weights/a-camvid.md) | 0.500 | not measured | not measured |"
    row = pages.zoo_table(networks).splitlines()[2]
    assert row.count("not measured") == 5
    assert " 0.599 " in row


def test_what_was_aimed_at_and_missed_is_said(pages):
    networks = {
        "a-camvid": {"model": "erfnet", "test": {"miou": 0.59}},
        "b-camvid": {"model": "mininet_v2_cpu", "test": {"miou": 0.63}},
        "c-camvid": {"model": "enet", "test": {"miou": 0.58}},
        "d-camvid": {"model": "enet"},
    }
    words = pages.missed_words(networks)
    assert "`a-camvid` (0.590; 0.66), `c-camvid` (0.580; 0.60)." in words
    assert "b-camvid" not in words
    assert "d-camvid" not in words


def test_an_ece_above_the_aim_is_told(pages):
    def of(ece):
        return {"model": "erfnet", "test": {"miou": 0.7, "calibration": {"ece": ece}}}

    words = pages.missed_ece_words({"a-camvid": of(0.0104), "b-camvid": of(0.01), "c-camvid": {"model": "erfnet"}})
    assert words.startswith("ECE above the 0.01 that was aimed at: `a-camvid` (0.010). The")
    assert pages.missed_ece_words({"b-camvid": of(0.01)}) == "The ECE of every network that was tested is at most 0.01."


def test_marks_and_navigation_are_written_anew(pages):
    text = "a\n<!-- zoo -->\nold\n<!-- end of zoo -->\nb\n"
    assert pages.between(text, "zoo", "new") == "a\n<!-- zoo -->\n\nnew\n\n<!-- end of zoo -->\nb\n"
    with pytest.raises(SystemExit, match="<!-- zoo -->"):
        pages.between("a", "zoo", "new")


def test_zoo_pages_runs_and_draws(pages, root, monkeypatch):
    monkeypatch.setattr(pages, "SCENES", 2)
    monkeypatch.setattr(pages, "SCENE_SIZE", (64, 96))
    pages.drawn_streets.cache_clear()
    results = root / "benchmarks/results/zoo.json"
    results.parent.mkdir(parents=True)
    results.write_text(json.dumps({"networks": {NAME: ENTRY | {"latency": ENTRY["latency"] | {"protocol": HOW}}}}))
    (root / "src/kerbseg/weights" / f"{NAME}.csv").write_text("epoch,loss,val_miou\n1,2.0,\n2,1.0,0.3\n3,0.9,0.4\n")
    run(pages, monkeypatch, "--root", root)
    readme = (root / "README.md").read_text()
    assert f"| [`{NAME}`]" in readme
    assert readme.startswith("# Title\n")
    assert readme.endswith("\nrest\n")
    assert max(map(len, readme.splitlines())) <= 120
    card = (root / "src/kerbseg/weights" / f"{NAME}.md").read_text()
    drawn = re.findall(r"!\[.*?\]\((.*?)\)", card)
    assert len(drawn) == 2
    for target in [*drawn, "../../../docs/images/zoo.png"]:
        with Image.open(root / "src/kerbseg/weights" / target) as picture:
            assert len(np.unique(np.asarray(picture))) > 10
    navigation = (root / "mkdocs.yml").read_text()
    assert navigation.count("Weights: ") == 1
    assert f'"Weights: {NAME}"' in navigation
    assert navigation.endswith("  - Last: a\n")
    run(pages, monkeypatch, "--root", root, "--no-drawings")
    assert (root / "mkdocs.yml").read_text() == navigation
    assert (root / "README.md").read_text() == readme


def test_classes_of_drawn_scenes_that_camvid_lacks_are_void(pages):
    theirs, ours = label_set("cityscapes"), label_set("camvid")
    ids = pages.as_camvid(
        np.array([[theirs.classes.index(name) for name in ("sidewalk", "sky", "train")]]), theirs, ours
    )
    assert ids.tolist() == [[ours.classes.index("pavement"), ours.classes.index("sky"), 255]]


@pytest.mark.slow
def test_zoo_finish_runs_as_it_is_run(finish, pages, root, tmp_path, monkeypatch):
    shutil.copy(locate(NAME), root / "src/kerbseg/weights")  # random weights say nothing that could be calibrated
    data = tmp_path / "camvid"
    for split, count in {"train": 4, "val": 2, "test": 2}.items():
        scenes = Scenes("val", count, (96, 128))
        for folder in (split, f"{split}annot"):
            (data / folder).mkdir(parents=True)
        for sample in (scenes[index] for index in range(count)):
            ids = pages.as_camvid(sample.mask, scenes.labels, label_set("camvid"))
            Image.fromarray(sample.image).save(data / split / f"{sample.name}.png")
            Image.fromarray(np.minimum(ids, 11)).save(data / f"{split}annot" / f"{sample.name}.png")
    few = ["--limit", 2, "--calibration", 2, "--every", 1, "--threads", 1]
    run(finish, monkeypatch, "--root", root, "--data-root", data, "--work", tmp_path / "work", "--no-pages", *few)
    entry = json.loads((root / "benchmarks/results/zoo.json").read_text())["networks"][NAME]
    assert set(entry) >= {"val", "float16", "calibration", "test", "int8", "latency", "corruptions", "test_flip_scales"}
    assert len(entry["corruptions"]["miou"]) == 8
    scores = load(root / "src/kerbseg/weights" / f"{NAME}.safetensors").card.scores
    assert scores["int8"]["int8"]["latency_ms"] == entry["latency"]["int8"]
    assert scores["calibration"]["temperature"] > 0
