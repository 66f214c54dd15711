"""Losses: VOID has no part, weights and averages are those of the papers' code."""

import torch
from torch.nn.functional import cross_entropy as reference
from torch.nn.functional import log_softmax, nll_loss

from kerbseg.core.types import VOID
from kerbseg.losses import (
    cross_entropy,
    distillation,
    hardest,
    lovasz_softmax,
    mask_at,
    near_boundaries,
)


def case(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, 4, 6, 8, generator=draw, requires_grad=True)
    mask = torch.randint(0, 4, (2, 6, 8), generator=draw).to(torch.uint8)
    mask[:, :2] = VOID
    return logits, mask, torch.tensor([0.5, 2.0, 0.0, 1.0])


def test_void_pixels_have_no_gradient_and_no_say():
    logits, mask, _ = case()
    loss = cross_entropy(logits, mask)
    loss.backward()
    assert logits.grad[:, :, :2].abs().max() == 0
    assert logits.grad[:, :, 2:].abs().min() > 0
    assert torch.isclose(loss, reference(logits[:, :, 2:], mask[:, 2:].long()))


def test_average_by_weights_is_erfnets():
    logits, mask, weights = case()
    expected = nll_loss(log_softmax(logits, 1), mask.long(), weights, ignore_index=VOID)  # mean by sum of weights
    assert torch.isclose(cross_entropy(logits, mask, weights, "weights"), expected)


def test_average_by_pixels_is_mininets():
    logits, mask, weights = case()
    each = reference(logits, mask.long(), weights, ignore_index=VOID, reduction="none")
    pixels = ((mask != VOID) & (mask != 2)).sum()  # class 2 has weight 0
    assert torch.isclose(cross_entropy(logits, mask, weights, "pixels"), each.sum() / pixels)


def test_a_picture_of_void_costs_nothing():
    logits, mask, weights = case()
    for w in (None, weights):
        loss = cross_entropy(logits, torch.full_like(mask, VOID), w, "weights")
        loss.backward()
        assert loss == 0
    assert torch.isfinite(logits.grad).all()


def test_labels_at_the_networks_own_size_are_taken_not_mixed():
    mask = torch.arange(64, dtype=torch.uint8).view(1, 8, 8)
    assert mask_at(mask, (2, 2)).tolist() == [[[18, 22], [50, 54]]]


def test_average_by_pictures_is_litesegs():
    logits, mask, weights = case()
    for w in (None, weights):
        total = reference(logits, mask.long(), w, ignore_index=VOID, reduction="sum")
        assert torch.isclose(cross_entropy(logits, mask, w, "pictures"), total / len(logits))


def test_hard_pixels_are_those_of_little_probability():
    logits, mask, _ = case()
    probability = logits.softmax(1).gather(1, mask.where(mask != VOID, 0).long()[:, None])[:, 0]
    for threshold in (0.1, 0.5):
        hard = hardest(logits, mask, threshold, min_kept=1e-9)
        kept = (hard != VOID) & (mask != VOID)
        expected = (probability < threshold) & (mask != VOID)
        assert 0 < expected.sum() < (mask != VOID).sum()
        assert torch.equal(kept, expected)
        assert torch.equal(hard[kept], mask[kept])


def test_online_hard_example_mining_equals_its_definition():
    logits, mask, _ = case()
    each = reference(logits, mask.long(), ignore_index=VOID, reduction="none")
    labelled = each[mask != VOID]
    min_kept = 0.25
    top = labelled.topk(round(min_kept * len(labelled))).values  # the least probable are those of the largest loss
    loss = cross_entropy(logits, hardest(logits, mask, threshold=0.0, min_kept=min_kept))
    assert torch.isclose(loss, top.mean())
    all_hard = hardest(logits, mask, threshold=1.0, min_kept=min_kept)
    assert torch.equal(all_hard, mask)


def test_a_picture_of_void_has_no_hard_pixels():
    logits, mask, _ = case()
    assert torch.equal(hardest(logits, torch.full_like(mask, VOID), 0.7, 0.1), torch.full_like(mask, VOID))


def test_near_a_boundary_means_another_class_within_reach():
    mask = torch.zeros(1, 5, 9, dtype=torch.uint8)
    mask[:, :, 5:] = 3
    mask[:, :, 0] = VOID  # no class, so no boundary beside it
    near = near_boundaries(mask, radius=1)
    assert (near[0, 0] != VOID).tolist() == [False, False, False, False, True, True, False, False, False]
    assert torch.equal(near[near != VOID], mask[near != VOID])
    assert (near_boundaries(mask, radius=2)[0, 0] != VOID).sum() == 4


def test_beside_void_alone_is_near_no_boundary():
    mask = torch.full((1, 5, 9), 3, dtype=torch.uint8)  # not class 0, which a void pixel could be taken for
    mask[:, 2, 4] = VOID
    mask[:, :, 0] = VOID
    assert (near_boundaries(mask, radius=1) == VOID).all()
    mask[:, :, 8] = 5
    near = near_boundaries(mask, radius=1)
    assert (near[0, 1] != VOID).tolist() == [False] * 7 + [True, True]


def test_lovasz_of_sure_answers_is_what_lacks_to_the_mean_iou():
    _, mask, _ = case()
    ids = torch.randint(0, 4, mask.shape, generator=torch.Generator().manual_seed(7))
    sure = torch.nn.functional.one_hot(ids, 4).movedim(-1, 1).float() * 100
    labelled = mask != VOID
    ious = [
        ((ids == c) & (mask == c)).sum() / (((ids == c) & labelled) | (mask == c)).sum()
        for c in mask[labelled].unique()
    ]
    assert torch.isclose(lovasz_softmax(sure, mask), 1 - torch.stack(ious).mean())


def test_lovasz_leaves_void_alone():
    logits, mask, _ = case()
    lovasz_softmax(logits, mask).backward()
    assert logits.grad[:, :, :2].abs().max() == 0
    assert logits.grad[:, :, 2:].abs().max() > 0
    assert lovasz_softmax(logits, torch.full_like(mask, VOID)) == 0


def test_distillation_is_nothing_where_both_agree_and_the_divergence_where_not():
    logits, mask, _ = case()
    assert distillation(logits, logits.detach() + 3, mask, 2.0).abs() < 1e-6  # a constant changes no probability
    other, _, _ = case(1)
    p, q = (other / 2).softmax(1), (logits / 2).softmax(1)
    each = (p * (p.log() - q.log())).sum(1)[mask != VOID]
    loss = distillation(logits, other.detach(), mask, 2.0)
    assert torch.isclose(loss, 4 * each.mean())
    loss.backward()
    assert logits.grad[:, :, :2].abs().max() == 0
