"""Evaluation: one confusion matrix over the whole split, at the labels' own size, with its protocol."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from PIL import Image

from kerbseg.apps.evaluation_table import render_corruptions, render_table
from kerbseg.bundle import load
from kerbseg.cli import main
from kerbseg.core.errors import BundleError, DataError, KerbsegError
from kerbseg.core.labels import label_set
from kerbseg.core.types import VOID, Sample
from kerbseg.data import open_dataset
from kerbseg.data.corrupt import corrupt_picture, kinds_of
from kerbseg.data.drives import drive_of
from kerbseg.evaluate import evaluate
from kerbseg.runtime import open_runtime

# mean IoU and IoU of each class as the weights' fact sheet gives them: test split, 480x360, no TTA
PUBLISHED_MIOU = 0.6005
PUBLISHED_IMAGES = 233


class Oracle:
    """A runtime that answers with masks it was given, whatever it is shown."""

    name, precision, device, size = "oracle", "exact", "nowhere", None

    def __init__(self, card, answers):
        self.card = card
        self._answers = iter(answers)

    def __call__(self, pictures):
        return next(self._answers)[None]


class Two:
    """Two samples of 4x6 with the classes of CamVid."""

    name, split, labels = "two", "val", label_set("camvid")

    def __init__(self, *masks):
        self._masks = masks

    def __len__(self):
        return len(self._masks)

    def __getitem__(self, index):
        return Sample(np.zeros((4, 6, 3), np.uint8), self._masks[index], str(index))


@pytest.fixture
def card(camvid_bundle):
    return load(camvid_bundle).card


def mask(*rows):
    return np.array(rows, np.uint8).repeat(2, 0)


def test_one_matrix_over_the_whole_set(card):
    truth = [mask([0] * 6, [1] * 6), mask([1] * 6, [VOID] * 6)]
    found = [mask([0] * 6, [0] * 3 + [1] * 3), mask([1] * 6, [5] * 6)]
    report = evaluate(Oracle(card, found), Two(*truth), input_size="own")
    # class 0: 12 hits of 12 + 6 wrong; class 1: 6 + 12 hits of 24; a mean over pictures would give other figures
    assert report.metrics.class_iou["sky"] == pytest.approx(12 / 18)
    assert report.metrics.class_iou["building"] == pytest.approx(18 / 24)
    assert report.metrics.class_iou["pole"] is None, "absent, not 0 or 1"
    assert report.metrics.miou == pytest.approx((12 / 18 + 18 / 24) / 2)
    assert report.metrics.pixel_accuracy == pytest.approx(30 / 36), "void does not count"
    assert report.images == 2


def test_ids_are_scored_at_the_size_of_the_labels(card):
    truth = mask([0] * 6, [1] * 6)
    half = np.array([[0] * 3, [1] * 3], np.uint8)
    report = evaluate(Oracle(card, [half]), Two(truth), input_size=(2, 3))
    assert report.metrics.miou == 1
    assert report.protocol["label_size"] == [4, 6]
    assert report.protocol["input_size"] == [2, 3]


def test_the_command_writes_what_the_contract_says(camvid_root, camvid_bundle, tmp_path, capsys):
    scores, saved = tmp_path / "scores.json", tmp_path / "saved"
    main([
        "evaluate", str(camvid_bundle), "--data", "camvid", "--data-root", str(camvid_root), "--split", "val",
        "--json", str(scores), "--save", str(saved),
    ])  # fmt: skip
    found = json.loads(scores.read_text())
    assert set(found) == {
        "miou", "class_iou", "pixel_accuracy", "mean_accuracy", "category_miou", "category_iou", "images", "confusion",
        "calibration", "risk_coverage", "protocol",
    }  # fmt: skip
    assert found["images"] == 2
    assert {"data", "split", "label_size", "tta", "runtime", "precision", "device", "versions"} <= set(
        found["protocol"]
    )
    assert f"{found['miou']:.4f}" in capsys.readouterr().out
    assert {path.name for path in saved.iterdir()} == {
        "confusion.png", "reliability.svg", "risk_coverage.svg",
        "val_000_ids.png", "val_000_overlay.png", "val_001_ids.png", "val_001_overlay.png",
    }  # fmt: skip
    # the saved ids are those that were scored
    confusion = np.zeros((11, 11), int)
    for stem in ("val_000", "val_001"):
        ids = np.array(Image.open(saved / f"{stem}_ids.png"))
        truth = np.array(Image.open(camvid_root / "valannot" / f"{stem}.png"))
        np.add.at(confusion, (truth[truth < 11], ids[truth < 11]), 1)
    assert confusion.tolist() == found["confusion"]


class WithNames(Two):
    """Samples with the names that are given."""

    def __init__(self, **masks):
        super().__init__(*masks.values())
        self.names = list(masks)

    def __getitem__(self, index):
        return Sample(np.zeros((4, 6, 3), np.uint8), self._masks[index], self.names[index])


def test_each_drive_has_metrics_of_its_own(card):
    sky, building, void = mask([0] * 6, [0] * 6), mask([1] * 6, [1] * 6), mask([VOID] * 6, [VOID] * 6)
    half = mask([0] * 6, [1] * 6)
    data = WithNames(dusk_1=sky, day_1=sky, dusk_2=building, night_1=void, day_2=building)
    report = evaluate(Oracle(card, [half, sky, building, sky, building]), data, by="drive", input_size="own")
    assert {name: drive.images for name, drive in report.drives.items()} == {"day": 2, "dusk": 2, "night": 1}
    assert report.drives["day"].metrics.miou == 1
    # dusk: of 24 sky 12 are hit, of 24 building all, and 12 too many
    assert report.drives["dusk"].metrics.miou == pytest.approx((12 / 24 + 24 / 36) / 2)
    together = sum(drive.metrics.confusion for drive in report.drives.values())
    assert together.tolist() == report.metrics.confusion.tolist()
    written = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert written["drives"]["night"]["miou"] is None, "no labels, no figure"
    assert written["drives"]["dusk"]["class_iou"]["building"] == pytest.approx(24 / 36)
    rows = [str(cell) for cell in render_table(report).columns[0].cells]
    assert rows[-3:] == ["mIoU of day: 2 picture(s)", "mIoU of dusk: 2 picture(s)", "mIoU of night: 1 picture(s)"]


@pytest.mark.parametrize(
    ("name", "drive"),
    [("0001TP_006690", "0001TP"), ("ulm_000001_000019", "ulm"), ("yard/north_1", "yard"), ("12", "")],
)
def test_a_drive_is_what_names_begin_with(name, drive):
    assert drive_of(name) == drive


def test_the_command_measures_each_drive(camvid_root, camvid_bundle, tmp_path, capsys):
    figures = tmp_path / "figures.json"
    main([
        "evaluate", str(camvid_bundle), "--data", "camvid", "--data-root", str(camvid_root), "--split", "val",
        "--by", "drive", "--json", str(figures),
    ])  # fmt: skip
    written = json.loads(figures.read_text())
    assert written["drives"]["val"]["miou"] == written["miou"]
    assert "mIoU of val: 2 picture(s)" in capsys.readouterr().out


class Threshold:
    """A runtime that says sky (0) where a picture is bright and building (1) elsewhere."""

    name, precision, device, size = "threshold", "exact", "nowhere", None

    def __init__(self, card):
        self.card = card

    def __call__(self, pictures):
        return (pictures.mean(3) < 128).astype(np.uint8)


class Stripes:
    """Noisy pictures whose left half is sky and bright, with names of their own."""

    name, split, labels = "stripes", "val", label_set("camvid")

    def __init__(self, order):
        self.names = [f"drive_{i}" for i in order]

    def __len__(self):
        return len(self.names)

    def __getitem__(self, index):
        drawn = np.random.default_rng(int(self.names[index][-1])).integers(0, 70, (32, 40, 3), np.uint8)
        drawn[:, :20] += 150
        mask = np.repeat([[0] * 20 + [1] * 20], 32, 0).astype(np.uint8)
        return Sample(drawn, mask, self.names[index])


def test_corrupted_pictures_are_scored_beside_the_clean_ones(card):
    seen, shown = [], []
    report = evaluate(
        Threshold(card),
        Stripes(range(3)),
        input_size="own",
        corrupt="weather,contrast",
        severity=4,
        on_prediction=lambda sample, ids: seen.append(sample.name),
        on_corrupted=lambda kind, sample, ids: shown.append((kind, sample, ids)),
    )
    assert report.metrics.miou == 1
    assert seen == ["drive_0", "drive_1", "drive_2"], "predictions are those of clean pictures"
    kinds = kinds_of("weather,contrast")
    assert [kind for kind, _, _ in shown] == 3 * list(kinds)
    confusion = {kind: np.zeros((2, 2)) for kind in kinds}
    for name, sample in ((f"drive_{i}", Stripes([i])[0]) for i in range(3)):
        for kind in kinds:
            changed = corrupt_picture(sample.image, kind, 4, name)
            np.add.at(confusion[kind], (sample.mask, (changed.mean(2) < 128).astype(int)), 1)
    for kind, counts in confusion.items():
        hits = counts.diagonal()
        expected = (hits / (counts.sum(0) + counts.sum(1) - hits)).mean()
        assert report.corruptions.miou[kind] == pytest.approx(expected), kind
    assert report.corruptions.miou["contrast"] < 1 or report.corruptions.miou["fog"] < 1
    written = json.loads(json.dumps(report.to_dict(), allow_nan=False))["corruptions"]
    assert set(written) == {"severity", "package", "clean", "miou", "kept"}
    assert (written["severity"], written["clean"], list(written["miou"])) == (4, 1, list(kinds))
    assert written["kept"] == pytest.approx(np.mean(list(written["miou"].values())))
    assert "imagecorruptions-imaug 1.1.5" in written["package"]


def test_the_order_of_pictures_changes_no_corruption(card):
    there, back = (
        evaluate(Threshold(card), Stripes(order), input_size="own", corrupt="noise")
        for order in (range(4), range(3, -1, -1))
    )
    assert there.corruptions == back.corruptions
    assert there.corruptions.severity == 3
    assert 0 < there.corruptions.kept < 1


def test_what_is_kept_is_shown_in_a_table(card):
    table = render_corruptions(evaluate(Threshold(card), Stripes([1]), input_size="own", corrupt=["fog"]).corruptions)
    assert [str(cell) for cell in table.columns[0].cells] == ["none", "fog", "mean"]
    assert next(iter(table.columns[2].cells)) == "1.0000"


def test_the_command_scores_corrupted_pictures(camvid_root, camvid_bundle, tmp_path, capsys):
    figures, report = tmp_path / "figures.json", tmp_path / "report.html"
    main([
        "evaluate", str(camvid_bundle), "--data", "camvid", "--data-root", str(camvid_root), "--split", "val",
        "--corrupt", "fog,gaussian_noise", "--severity", "2", "--limit", "1", "--json", str(figures),
        "--html", str(report),
    ])  # fmt: skip
    written, printed = json.loads(figures.read_text()), capsys.readouterr().out
    assert list(written["corruptions"]["miou"]) == ["gaussian_noise", "fog"]
    assert written["corruptions"]["clean"] == written["miou"]
    assert f"{written['corruptions']['miou']['fog']:.4f}" in printed
    assert all(len(line) <= 80 for line in printed.splitlines() if line.startswith(("│", "┃")))
    page = report.read_text()
    assert "severity 2 of 5" in page
    assert 'alt="fog: prediction"' in page


def test_flip_averaging_does_not_care_which_way_a_picture_faces(camvid_bundle):
    from kerbseg.evaluate import with_tta

    runtime = with_tta(open_runtime(camvid_bundle), "flip")
    picture = np.random.default_rng(0).integers(0, 256, (1, 32, 48, 3), np.uint8)
    mirrored = runtime(np.ascontiguousarray(picture[:, :, ::-1]))[:, :, ::-1]
    assert (runtime(picture) == mirrored).mean() > 0.999
    assert (open_runtime(camvid_bundle)(picture) != runtime(picture)).any()


def test_averaging_over_scales_is_the_mean_of_what_each_size_says(camvid_bundle):
    from kerbseg.core.resize import resize_picture
    from kerbseg.evaluate import TTA_SCALES, with_tta

    plain, averaged = open_runtime(camvid_bundle), with_tta(open_runtime(camvid_bundle), "flip_scales")
    picture = np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)
    views = []
    for scale in TTA_SCALES:
        small = resize_picture(picture, (round(64 * scale), round(96 * scale)))
        for mirror in (False, True):
            seen = plain.probabilities(np.ascontiguousarray(small[:, ::-1] if mirror else small)[None])
            grown = torch.nn.functional.interpolate(seen, (64, 96), mode="bilinear")
            views.append(grown.flip(3) if mirror else grown)
    expected = torch.stack(views).mean(0)
    assert torch.allclose(averaged.probabilities(picture[None]), expected, atol=1e-6)
    assert (torch.from_numpy(averaged(picture[None])) == expected.argmax(1)).float().mean() > 0.999


def test_a_model_of_other_classes_is_refused(camvid_bundle, folder_root):
    with pytest.raises(
        BundleError, match="the model knows 11 classes of 'camvid', data set 'folder' has 3 classes of 'park'"
    ):
        evaluate(open_runtime(camvid_bundle), open_dataset("folder", "val", folder_root))


def test_a_model_of_the_same_classes_in_another_order_is_refused(card):
    labels = label_set("camvid")
    classes = (labels.classes[1], labels.classes[0], *labels.classes[2:])
    swapped = dataclasses.replace(card, labels=dataclasses.replace(labels, classes=classes))
    with pytest.raises(BundleError, match="class 0 is 'building' there and 'sky' here"):
        evaluate(Oracle(swapped, []), Two(mask([0] * 6)), input_size="own")


def test_a_split_without_labels_is_refused(card):
    void = np.full((4, 6), VOID, np.uint8)
    with pytest.raises(DataError, match="has no labels"):
        evaluate(Oracle(card, [void * 0]), Two(void), input_size="own")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"limit": 0}, "at least 1"),
        ({"tta": "flips"}, "'flip'"),
        ({"by": "drives"}, "'drive'"),
        ({"corrupt": "fogg"}, "did you mean 'fog'"),
        ({"corrupt": "fog", "severity": 6}, "1 .slight. to 5"),
        ({"corrupt": "fog", "severity": 0}, "1 .slight. to 5"),
        ({"severity": 2}, "none is named; add --corrupt"),
    ],
)
def test_bad_options_are_named(card, options, says):
    with pytest.raises(KerbsegError, match=says):
        evaluate(Oracle(card, []), Two(mask([0] * 6)), **options)


@pytest.mark.slow
@pytest.mark.camvid
def test_the_authors_weights_score_what_they_are_known_to_score(kerbseg_data, camvid_data, tmp_path):
    source = kerbseg_data / "published" / "mininet_v2_cpu_camvid_480x360" / "camvid_480x360.npz"
    if not source.is_file():
        pytest.skip("needs the authors' weights: KERBSEG_DATA holds no published/mininet_v2_cpu_camvid_480x360")
    model, scores = tmp_path / "m.safetensors", tmp_path / "r.json"
    main(["import", "mininet-tf", str(source), "-o", str(model), "--classes", "camvid"])
    main(["evaluate", str(model), "--data", "camvid", "--data-root", str(camvid_data), "--json", str(scores)])
    found = json.loads(scores.read_text())
    assert found["images"] == PUBLISHED_IMAGES
    assert found["miou"] == pytest.approx(PUBLISHED_MIOU, abs=3e-4)
