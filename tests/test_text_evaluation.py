"""Text beside the mean in `evaluate`, the threshold in the weights, and table VIII beside both."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import made_coco_text as made
from kerbseg.apps.text import printed_and_ours
from kerbseg.apps.threshold import choose_threshold, shift
from kerbseg.bundle import load, random_bundle, save
from kerbseg.cli import main
from kerbseg.core.errors import DataError, KerbsegError, KerbsegWarning
from kerbseg.core.labels import label_set
from kerbseg.core.resize import resize_ids, resize_picture
from kerbseg.core.types import samples
from kerbseg.data import open_dataset
from kerbseg.evaluate import evaluate
from kerbseg.metrics.text import TextFigures, text_confusion
from kerbseg.models import create_model
from kerbseg.runtime import open_runtime, segment
from kerbseg.tables import find_table
from kerbseg.train.recipe_file import read, shipped

SIZE = (64, 128)


@pytest.fixture
def root(tmp_path):
    return made.make(tmp_path / "coco_text")


@pytest.fixture(scope="module")
def bundle():
    torch.manual_seed(0)
    made_up = random_bundle("mininet_v2_cpu", label_set("text"))
    with torch.no_grad():  # says text here and there
        made_up.model.output.bias.copy_(torch.tensor([0.1, 0.0]))
    return replace(made_up, card=replace(made_up.card, input_size=SIZE))


def test_figures_are_those_of_the_confusion_matrix_at_both_sizes(root, bundle):
    dataset = open_dataset("coco_text:subset=all", "train", root)
    report = evaluate(bundle, dataset)
    text = report.text
    assert text.own.iou == report.metrics.class_iou["text"]
    assert text.own.miou == pytest.approx(report.metrics.miou)
    runtime, both = open_runtime(bundle), np.zeros((2, 2), int)
    for sample in samples(dataset):
        ids = runtime(resize_picture(sample.image, SIZE)[None])[0]
        both += text_confusion(ids, resize_ids(sample.mask, SIZE))
    assert (text.stretched, text.stretched_size) == (TextFigures.of(both), SIZE)
    assert text.presence.with_text == 1  # picture 9 shows handwriting, which is void
    assert sum(each.words for each in text.words.values()) == 2
    assert text.void_share == pytest.approx(240 / (2 * 48 * 64))
    assert text.threshold.iou >= text.own.iou - 1e-3
    assert "others void" in text.labels


def test_the_report_says_text_and_the_paper_beside_it(root, bundle, tmp_path, capsys):
    save(bundle, tmp_path / "m.safetensors")
    figures = tmp_path / "figures.json"
    call = ["evaluate", str(tmp_path / "m.safetensors"), "--data", "coco_text:paper", "--split", "val"]
    main([*call, "--data-root", str(root), "--json", str(figures), "--html", str(tmp_path / "page.html")])
    assert "IoU of text" in (tmp_path / "page.html").read_text()
    written = json.loads(figures.read_text())
    assert written["iou_text"] == written["class_iou"]["text"] == written["text"]["own"]["iou"]
    assert written["protocol"]["data"] == "coco_text:geometry=box,others=background"
    assert written["text"]["labels"] == "labels v2, geometry box, others background, subset legible_printed"
    shown = capsys.readouterr().out
    wide = [
        line for line in shown.splitlines() if len(line) > 80 and str(tmp_path) not in line and str(root) not in line
    ]
    assert not [line for line in wide if not line.startswith("next:")]
    assert "IoU of text" in shown
    assert shown.count("not measured") == 6
    assert "0.2882" in shown


def test_our_figure_stands_in_table_8_where_it_is_of_the_whole_public_split(root, bundle):
    report = evaluate(
        replace(bundle, card=replace(bundle.card, input_size=(256, 512))), open_dataset("coco_text", "val", root)
    )
    assert [ours for *_, ours in printed_and_ours(report)] == [None] * 6
    whole = replace(report, text=replace(report.text, whole=True))
    rows = {(name, size): ours for name, size, _, ours in printed_and_ours(whole)}
    assert rows.pop(("MiniNet-v2-cpu", (256, 512))) == report.text.stretched.iou
    assert set(rows.values()) == {None}
    train = replace(whole, protocol={**whole.protocol, "split": "train"})
    assert {ours for *_, ours in printed_and_ours(train)} == {None}


def test_other_classes_have_no_text(camvid_bundle, camvid_root):
    report = evaluate(load(camvid_bundle), open_dataset("camvid", "val", camvid_root), limit=1)
    assert report.text is None
    assert "iou_text" not in report.to_dict()


@pytest.mark.parametrize("name", ["mininet_v1", "mininet_v2", "mininet_v2_cpu", "erfnet"])
def test_a_threshold_in_the_weights_is_that_of_the_probability(name):
    torch.manual_seed(1)
    net, picture = create_model(name, 2).eval(), torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        probability = net(picture).softmax(1)[:, 1]
        threshold = float(probability.quantile(0.9))
        assert ((shift(net, threshold)(picture).argmax(1) == 1) == (probability > threshold)).float().mean() > 0.999


def test_a_network_without_a_bias_at_its_end_cannot_carry_a_threshold():
    class NoBias(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = torch.nn.Conv2d(3, 2, 1)

        def logits(self, image):
            return self.conv(image).square()

    with pytest.raises(KerbsegError, match="do not end in a bias"):
        shift(NoBias(), 0.3)


def test_the_chosen_threshold_keeps_its_promise(root, bundle, tmp_path, capsys):
    source, out = tmp_path / "m.safetensors", tmp_path / "t.safetensors"
    save(bundle, source)
    figures = tmp_path / "figures.json"
    main(["threshold", str(source), "--data-root", str(root), "-o", str(out), "--json", str(figures)])
    told = json.loads(figures.read_text())
    val = open_dataset("coco_text", "val", root)
    before, after = evaluate(source, val), evaluate(out, val)
    assert told["threshold"] == before.text.threshold.value
    assert after.text.own.iou == pytest.approx(told["iou_text"], abs=1e-3)
    assert told["iou_text_before"] == pytest.approx(before.text.own.iou, abs=1e-3)
    card = load(out).card
    assert card.scores["threshold"] == told["threshold"]
    assert card.scores["protocol"]["split"] == "val"
    assert f"text from probability {told['threshold']:g} on" in card.source
    main(["info", str(out)])
    assert "coco_text val" in capsys.readouterr().out


def test_a_threshold_for_stretched_pictures(root, bundle):
    val = open_dataset("coco_text:subset=all", "train", root)
    chosen = choose_threshold(bundle, val, stretch=True)
    ids = [segment(open_runtime(chosen.bundle), each.image, SIZE, "stretch") for each in samples(val)]
    both = sum(text_confusion(each, sample.mask) for each, sample in zip(ids, samples(val), strict=True))
    assert TextFigures.of(both).iou == pytest.approx(chosen.after, abs=1e-3)
    assert chosen.protocol["input_size"] == list(SIZE)


def test_a_temperature_does_not_stay_with_a_threshold(root, bundle):
    warm = replace(bundle, card=replace(bundle.card, scores={"calibration": {"temperature": 2.0}}))
    val = open_dataset("coco_text", "val", root)
    assert warm.card.temperature == 2.0
    with pytest.warns(KerbsegWarning, match="kerbseg calibrate"):
        chosen = choose_threshold(warm, val)
    assert chosen.bundle.card.temperature is None
    assert chosen.threshold == choose_threshold(bundle, val).threshold


def test_an_engine_that_gives_ids_alone_has_no_threshold(root, bundle):
    class IdsAlone:
        def __init__(self, runtime):
            self.card, self.name, self.device = runtime.card, "ids", "cpu"
            self.precision, self.threads, self.size = "float32", 1, None
            self._runtime = runtime

        def __call__(self, pictures):
            return self._runtime(pictures)

    val = open_dataset("coco_text", "val", root)
    text, full = (evaluate(each, val).text for each in (IdsAlone(open_runtime(bundle)), bundle))
    assert (text.threshold, text.stretched_threshold) == (None, None)
    assert (text.own, text.stretched) == (full.own, full.stretched)


def test_what_a_threshold_cannot_be_chosen_on(root, bundle, camvid_root, camvid_bundle):
    with pytest.raises(KerbsegError, match="has 11: sky"):
        choose_threshold(load(camvid_bundle), open_dataset("camvid", "val", camvid_root))
    with pytest.raises(DataError, match="shows no text"):
        choose_threshold(bundle, open_dataset("coco_text", "test", root))
    with pytest.raises(KerbsegError, match="limit is 0"):
        choose_threshold(bundle, open_dataset("coco_text", "val", root), limit=0)


def test_recipes_have_the_protocol_that_the_paper_has_for_all_its_data():
    common = read("cityscapes/mininet_v2_512x256")
    for name in [name for name in shipped() if name.startswith("coco_text/")]:
        recipe = read(name)
        for key in ("augment", "loss", "optim", "schedule", "batch_size", "drop_last", "validate_every"):
            assert getattr(recipe, key) == getattr(common, key), key
        assert recipe.data.name == "coco_text:geometry=box,others=background"
        steps = -(-14_324 // recipe.batch_size) * recipe.epochs
        assert steps == pytest.approx(1e6, rel=0.002)


def test_table_8_names_the_labels_that_ours_would_be_of(capsys):
    (column,) = (each for each in find_table("mininet", "8").columns if each.name == "MIoU")
    main(["table", "mininet", "8"])
    shown = " ".join(capsys.readouterr().out.split())
    for word in ("iou_text", "labels v1 or v2", "geometry box", "others background", "split val", "size"):
        assert word in column.reason
        assert word in shown


BY_HEART = [  # no changes of pictures, and statistics that follow a short run
    "epochs=70",
    "batch_size=2",
    "validate_every=10",
    "data.val=train",
    "augment={}",
    "model.options={dropout: 0}",
    "model.initialization=network",
    "norm_momentum=0.1",
    "optim.weight_decay=0",
    "optim.lr=2e-3",
]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mininet_v1", "mininet_v2_cpu"])
def test_thirteen_real_pictures_are_learned_by_heart(name, kerbseg_data: Path, tmp_path):
    root = kerbseg_data / "coco_text" / "sample61"
    if not root.is_dir():
        pytest.skip("needs 61 real pictures: KERBSEG_DATA holds no coco_text/sample61/")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    main(
        ["train", f"coco_text/{name}", *BY_HEART, "--data-root", str(root), "--out", str(tmp_path), "--device", device]
    )
    report = evaluate(tmp_path / "last.safetensors", open_dataset("coco_text:paper", "train", root))
    assert report.images == 13
    assert report.text.stretched.iou > 0.6
