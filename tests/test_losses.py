"""Losses: VOID has no part, weights and averages are those of the papers' code."""

import torch
from torch.nn.functional import cross_entropy as reference
from torch.nn.functional import log_softmax, nll_loss

from kerbseg.core.types import VOID
from kerbseg.losses import at_scores, cross_entropy


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
    assert at_scores(mask, (2, 2)).tolist() == [[[0, 4], [32, 36]]]


def test_average_by_pictures_is_litesegs():
    logits, mask, weights = case()
    for w in (None, weights):
        total = reference(logits, mask.long(), w, ignore_index=VOID, reduction="sum")
        assert torch.isclose(cross_entropy(logits, mask, w, "pictures"), total / len(logits))
