"""Scores against the public Cityscapes scripts, and what is absent."""

import math

import numpy as np
import pytest
import torch
from cityscapesscripts.evaluation import evalPixelLevelSemanticLabeling as public

from kerbseg.core.labels import label_set
from kerbseg.core.types import VOID
from kerbseg.metrics import compute_metrics, confusion_metric, iou

CITYSCAPES = label_set("cityscapes")


def random_maps(seed: int, absent: tuple[int, ...] = ()) -> tuple[np.ndarray, np.ndarray]:
    """Truth and prediction as train ids, half of the pixels right, an eighth of the truth void."""
    draw = np.random.default_rng(seed)
    present = [i for i in range(19) if i not in absent]
    truth = draw.choice(present, (3, 64, 96)).astype(np.uint8)
    prediction = np.where(draw.random(truth.shape) < 0.5, truth, draw.choice(present, truth.shape)).astype(np.uint8)
    truth[draw.random(truth.shape) < 0.125] = VOID
    return truth, prediction


def confusion_of(truth: np.ndarray, prediction: np.ndarray) -> torch.Tensor:
    metric = confusion_metric(19)
    for one_truth, one_prediction in zip(truth, prediction, strict=True):
        metric.update(torch.from_numpy(one_prediction)[None], torch.from_numpy(one_truth).long()[None])
    return metric.compute()


def public_confusion(truth: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    """As the public scripts count: over labelIds, void pixels as id 0."""
    label_ids = np.array(CITYSCAPES.submission_ids)
    ids = np.where(truth == VOID, 0, label_ids[np.minimum(truth, 18)])
    matrix = public.generateMatrix(public.args)
    np.add.at(matrix, (ids.ravel(), label_ids[prediction].ravel()), 1)
    return matrix


@pytest.mark.parametrize(("seed", "absent"), [(0, ()), (1, (3,)), (2, (13, 14, 15, 16, 17, 18)), (3, (10,))])
def test_class_and_category_iou_are_the_public_scripts(seed, absent):
    truth, prediction = random_maps(seed, absent)
    matrix = public_confusion(truth, prediction)
    ours = compute_metrics(confusion_of(truth, prediction), CITYSCAPES)
    classes = {
        name: public.getIouScoreForLabel(label_id, matrix, public.args)
        for name, label_id in zip(CITYSCAPES.classes, CITYSCAPES.submission_ids, strict=True)
    }
    categories = {name: public.getIouScoreForCategory(name, matrix, public.args) for name in CITYSCAPES.categories}
    for expected, found in ((classes, ours.class_iou), (categories, ours.category_iou)):
        assert list(expected) == list(found)
        for name, value in expected.items():
            assert (found[name] is None) if math.isnan(value) else found[name] == pytest.approx(value, abs=1e-12), name
    assert ours.miou == pytest.approx(public.getScoreAverage(classes, public.args))
    assert ours.category_miou == pytest.approx(public.getScoreAverage(categories, public.args))
    assert sum(value is None for value in ours.class_iou.values()) == len(absent)


def test_categories_are_the_public_ones():
    from cityscapesscripts.helpers.labels import labels as public_labels

    rows = [(x.name, x.id, x.color, x.category) for x in public_labels if x.trainId not in (255, -1)]
    category = {name: key for key, names in CITYSCAPES.categories.items() for name in names}
    ours = zip(CITYSCAPES.classes, CITYSCAPES.submission_ids, CITYSCAPES.colors, strict=True)
    assert rows == [(name, label_id, color, category[name]) for name, label_id, color in ours]


def test_a_class_only_in_the_predictions_counts_as_nothing_found():
    confusion = torch.tensor([[4, 2], [0, 0]])
    assert iou(confusion).tolist() == pytest.approx([4 / 6, 0])
    two = compute_metrics(confusion, label_set("text"))
    assert two.miou == pytest.approx(1 / 3)
    assert two.mean_accuracy == pytest.approx(4 / 6)  # of the one class that the labels hold
    assert two.category_iou is None


def test_void_is_left_out_and_the_whole_set_is_one_matrix():
    truth, prediction = random_maps(5)
    confusion = confusion_of(truth, prediction)
    assert confusion.sum() == (truth != VOID).sum()
    assert torch.equal(confusion, sum(confusion_of(truth[i : i + 1], prediction[i : i + 1]) for i in range(3)))
    expected = (truth == prediction)[truth != VOID].mean()
    assert compute_metrics(confusion, CITYSCAPES).pixel_accuracy == pytest.approx(expected)
