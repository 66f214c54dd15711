"""The page of an evaluation: one file, every figure that of the report, every name escaped."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from kerbseg.apps.evaluation import LARGEST_TABLE, WRONG, WorstPictures, error_map, mistakes, page
from kerbseg.apps.html import LONGEST_PX, percent
from kerbseg.bundle import BundleCard
from kerbseg.cli import main
from kerbseg.core.labels import LabelSet, label_set
from kerbseg.core.types import VOID, Preprocessing, Sample
from kerbseg.data.scenes import Scenes
from kerbseg.evaluate import evaluate
from kerbseg.metrics.calibration import ReliabilityCounter


class Answers:
    """A runtime that answers with ids it was given."""

    name, precision, device, size = "answers", "exact", "nowhere", None

    def __init__(self, labels, answers):
        self.card = BundleCard("net<script>", labels, Preprocessing(), (64, 128), len(labels))
        self._answers = iter(answers)

    def __call__(self, pictures):
        return next(self._answers)[None]


class Pictures:
    """Drawn scenes whose classes are numbered anew."""

    name, split = "streets<script>", "val"

    def __init__(self, labels, count, rename=lambda mask: mask):
        scenes = Scenes("val", count, (64, 128))
        self.labels = labels
        self._samples = [
            Sample(scenes[i].image, rename(scenes[i].mask), f"p{i}<script>alert({i})</script>") for i in range(count)
        ]
        self.names = [each.name for each in self._samples]

    def __len__(self):
        return len(self._samples)

    def __getitem__(self, index):
        return self._samples[index]


def told(labels, count, rename=lambda mask: mask, spoil=lambda ids, i: ids):
    data = Pictures(labels, count, rename)
    answers = [spoil(np.where(data[i].mask == VOID, 0, data[i].mask).astype(np.uint8), i) for i in range(count)]
    worst = WorstPictures(labels)
    report = evaluate(Answers(labels, answers), data, details=True, input_size="own", on_prediction=worst)
    return report, worst, page(report, labels, worst.in_order())


def test_the_page_draws_how_far_confidence_can_be_believed():
    report, worst, before = told(label_set("cityscapes"), 1)
    counter = ReliabilityCounter(1.25)
    counter.update(torch.tensor([[2.0, 1.0], [0.0, 0.0]]), np.array([0, 1], np.uint8))
    made = counter.compute()
    html = page(replace(report, reliability=made), label_set("cityscapes"), worst.in_order())
    assert "Reliability diagram" not in before
    assert html.count("<svg") == before.count("<svg") + 1
    for figure in (made.calibration.ece, made.uncalibrated.ece, made.calibration.nll):
        assert f"<td>{figure:.4f}</td>" in html
    assert "&lt;svg" not in html, "a picture, not its markup as text"


def worse(ids, i):
    spoiled = ids.copy()
    spoiled[:, : 8 * (i % 5) + i] = 2
    return spoiled


@pytest.fixture(scope="module")
def nineteen():
    return told(label_set("cityscapes"), 12, spoil=worse)


def many(count):
    names = tuple(f"class {i}" if i % 7 else f"<script>alert({i})</script>" for i in range(count))
    return LabelSet("many<script>", names, tuple((i, 255 - i, i // 2) for i in range(count)))


def test_the_page_needs_no_other_file_and_runs_nothing(nineteen):
    text = nineteen[2]
    assert not re.search(r'(?:src|href)="(?!data:)', text)
    assert "url(" not in text
    assert "@import" not in text
    assert "<script" not in text
    assert "p0&lt;script&gt;alert(0)&lt;/script&gt;" in text or "p4&lt;script&gt;" in text
    assert "net&lt;script&gt; on streets&lt;script&gt;" in text


def test_the_figures_are_those_of_the_report(nineteen):
    report, _, text = nineteen
    metrics, details = report.metrics, report.details
    for value in (metrics.miou, metrics.category_miou, details.boundary_miou):
        assert f"<b>{value:.3f}</b>" in text
    for name, value in metrics.class_iou.items():
        shown = "absent" if value is None else f"{value:.3f}"
        row = next(line for line in text.split("<tr>") if f"</span>{name}</span></th>" in line)
        assert f"<td>{shown}</td>" in row
    for name, value in metrics.category_iou.items():
        assert f'<span class="name">{name}</span>' in text or f">{name}</th>" in text, name
        assert value is None or f"{value:.3f}" in text
    for figures in details.size_iou.values():
        assert f"<td>{figures.regions:,}</td>" in text
    first = mistakes(metrics.confusion.numpy(), label_set("cityscapes"))[0]
    assert first.pixels == int((metrics.confusion - metrics.confusion.diag().diag()).max())
    assert f"<td>{first.pixels:,}</td>" in text


def test_the_worst_pictures_are_those_that_the_report_names(nineteen):
    report, worst, text = nineteen
    assert [(shown.name, miou) for shown, miou in worst.in_order()] == [*report.details.worst]
    assert len(report.details.worst) == 10
    assert report.details.worst[0][1] < report.details.worst[-1][1]
    assert text.count("data:image/jpeg;base64,") == 4 * 10
    assert len(re.findall(r'<img loading="lazy" alt="p\d+[^"]*: (?:picture|truth|prediction|errors)"', text)) == 40


def test_what_is_kept_is_small_however_large_the_pictures_are(tmp_path):
    labels = label_set("camvid")
    worst = WorstPictures(labels)
    generator = np.random.default_rng(0)
    noise = generator.integers(0, 256, (700, 1500, 3), np.uint8)
    ids = generator.integers(0, 11, (700, 1500), np.uint8)
    worst(Sample(noise, ids, "large"), ids)
    ((shown, miou),) = worst.in_order()
    assert miou == 1
    assert shown.mistakes == ()
    for jpeg in shown.jpegs.values():
        (tmp_path / "small.jpg").write_bytes(jpeg)
        assert max(Image.open(tmp_path / "small.jpg").size) == LONGEST_PX
        assert len(jpeg) < 300_000


def test_errors_are_red_and_void_is_neither_right_nor_wrong():
    picture = np.full((1, 3, 3), 200, np.uint8)
    drawn = error_map(picture, np.array([[1, 2, 0]], np.uint8), np.array([[1, 1, VOID]], np.uint8))
    right, wrong, void = drawn[0].tolist()
    assert tuple(wrong) == WRONG
    assert len(set(right)) == 1
    assert sum(void) < 100 < sum(right)


@pytest.mark.parametrize("count", [LARGEST_TABLE, LARGEST_TABLE + 1, 100, 255])
def test_a_page_of_many_classes_stays_small_and_escapes_each_name(count):
    labels = many(count)
    rename = lambda mask: np.where(mask == VOID, VOID, mask.astype(int) * 13 % count).astype(np.uint8)  # noqa: E731
    report, _, text = told(labels, 2, rename, lambda ids, i: np.roll(ids, 5, 1))
    assert "<script" not in text
    assert ('<table class="matrix"' in text) == (count <= LARGEST_TABLE)
    assert ('role="img"' in text) == (count > LARGEST_TABLE)
    assert len(text) < 1_500_000
    assert report.metrics.category_iou is None


def test_a_page_of_a_perfect_model_and_of_a_drive():
    labels = label_set("cityscapes")
    report, _, text = told(labels, 1)
    assert report.metrics.miou == 1
    assert "None: every pixel is right." in text


def test_small_shares_are_not_told_as_none():
    assert [percent(share).replace("\N{NO-BREAK SPACE}", " ") for share in (0.0, 1e-5, 0.1234, 1.0)] == [
        "0.0 %", "<0.1 %", "12.3 %", "100.0 %",
    ]  # fmt: skip


def test_the_command_writes_page_and_figures(camvid_root, camvid_bundle, tmp_path, capsys):
    html, figures = tmp_path / "report.html", tmp_path / "figures.json"
    common = ["evaluate", str(camvid_bundle), "--data", "camvid", "--data-root", str(camvid_root), "--split", "val"]
    main([*common, "--html", str(html), "--json", str(figures), "--by", "drive"])
    written = json.loads(figures.read_text())
    assert {"boundary_miou", "boundary_iou", "trimap_miou", "interior_miou", "size_iou", "class_size_iou", "worst"} < (
        set(written)
    )
    assert {each["name"] for each in written["worst"]} == {"val_000", "val_001"}
    text = html.read_text()
    assert "val_000" in text
    assert "<h2>Drives</h2>" in text
    assert f"{written['boundary_miou']:.4f}" in capsys.readouterr().out
    main([*common, "--boundary", "--json", str(figures)])
    assert json.loads(figures.read_text())["boundary_iou"] == written["boundary_iou"]


def test_a_page_that_cannot_be_written_is_refused_before_the_work(camvid_root, camvid_bundle, tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["evaluate", str(camvid_bundle), "--data", "camvid", "--html", str(tmp_path)])
    assert ended.value.code == 2
    assert "it is a folder" in capsys.readouterr().err
