"""Losses of DDRNet's, PIDNet's and PP-LiteSeg's authors, each against a second writing in numpy, pixel by pixel."""

import numpy as np
import pytest
import torch

from kerbseg.core.types import VOID
from kerbseg.losses import (
    boundary_loss,
    boundary_pixels,
    cross_entropy,
    hardest_hrnet,
    hardest_paddleseg,
    mean_of_hard,
)
from kerbseg.train.heads import HeadsLoss
from kerbseg.train.outputs import Outputs
from kerbseg.train.pixel_loss import pixel_loss
from kerbseg.train.recipe_loss import BoundaryHead, HrnetOhem, ListLoss, PaddleOhem, PixelHead, PlainLoss

WEIGHTS = (0.5, 2.0, 1.25, 0.0)


def case(seed: int = 0, sureness: float = 3.0) -> tuple[torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(seed)
    logits = sureness * torch.randn(2, 4, 6, 8, generator=draw)
    mask = torch.randint(0, 4, (2, 6, 8), generator=draw).to(torch.uint8)
    mask[:, :2, 3:] = VOID
    return logits, mask


def pixels_of(logits: torch.Tensor, mask: torch.Tensor) -> list[tuple[float, int]]:
    """Of each labelled pixel the probability of its class, and the class."""
    values, ids = logits.double().numpy(), mask.numpy()
    listed = []
    for b, y, x in np.argwhere(ids != VOID):
        powers = np.exp(values[b, :, y, x] - values[b, :, y, x].max())
        listed.append((float(np.float32(powers[ids[b, y, x]] / powers.sum())), int(ids[b, y, x])))
    return listed


def hrnet(logits, mask, threshold, min_kept, weights) -> float:
    """Sum of w CE over p < t, by their number; t = max(p[min(min_kept, n - 1)], threshold)."""
    pixels = pixels_of(logits, mask)
    if not pixels:
        return 0.0
    p = sorted(probability for probability, _ in pixels)
    t = max(p[min(min_kept, len(p) - 1)], threshold)
    kept = [-weights[k] * np.log(probability) for probability, k in pixels if probability < t]
    return float(np.mean(kept)) if kept else 0.0


def paddleseg(logits, mask, threshold, min_kept) -> float:
    """Sum of CE by (kept + 1e-5 pixels); all kept where n <= min_kept."""
    pixels = [probability for probability, _ in pixels_of(logits, mask)]
    t = 2.0 if len(pixels) <= min_kept else max(threshold, sorted(pixels)[min_kept - 1])
    kept = [-np.log(probability) for probability in pixels if probability < t]
    return float(np.sum(kept) / (len(kept) + 1e-5 * mask.numel()))


@pytest.mark.parametrize(
    ("threshold", "min_kept"),
    [(0.3, 20), (0.9, 20), (0.01, 40), (0.5, 10_000), (0.9, 76), (0.2, 75), (0.6, 1)],  # of 76 labelled pixels
)
@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_hard_pixels_of_hrnet(threshold, min_kept, weights):
    logits, mask = case()
    assert int((mask != VOID).sum()) == 76
    loss = PlainLoss() if weights is None else ListLoss(weights="list", values=weights)
    loss = type(loss)(**{**vars(loss), "ohem": HrnetOhem(rule="hrnet", threshold=threshold, min_kept=min_kept)})
    ours = pixel_loss(loss, None if weights is None else torch.tensor(weights))(logits, mask)
    assert float(ours) == pytest.approx(hrnet(logits, mask, threshold, min_kept, weights or (1,) * 4), rel=1e-5)


@pytest.mark.parametrize(("threshold", "min_kept"), [(0.3, 20), (0.9, 20), (0.01, 40), (0.5, 76), (0.5, 75), (0.6, 1)])
def test_hard_pixels_of_paddleseg(threshold, min_kept):
    logits, mask = case()
    loss = PlainLoss(ohem=PaddleOhem(rule="paddleseg", threshold=threshold, min_kept=min_kept))
    ours = pixel_loss(loss, None)(logits, mask)
    assert float(ours) == pytest.approx(paddleseg(logits, mask, threshold, min_kept), rel=1e-5)


def test_pixels_alike_at_the_threshold_do_not_count():
    """Both rules keep p < t alone: of pixels that are all alike and sure none, and the loss has no gradient."""
    _, mask = case()
    logits = torch.zeros(2, 4, 6, 8)
    ids = torch.where(mask == VOID, 0, mask).long()
    sure = logits.scatter(1, ids[:, None], 8.0).requires_grad_()
    for rule in (hardest_hrnet, hardest_paddleseg):
        hard = rule(sure, mask, 0.9, 10)
        assert (hard == VOID).all()
        loss = mean_of_hard(sure, hard)
        [gradient] = torch.autograd.grad(loss, sure)
        assert loss == 0
        assert not gradient.any()
    # with few pixels PaddleSeg keeps all, and HRNet's rule all but those alike to the surest
    assert torch.equal(hardest_paddleseg(sure, mask, 0.9, 1000), mask)
    assert (hardest_hrnet(sure, mask, 0.9, 1000) == VOID).all()
    unsure = sure.detach() / 8  # probability 0.475
    assert torch.equal(hardest_hrnet(unsure, mask, 0.9, 10), mask)


def test_of_void_alone_nothing_is_hard():
    logits, mask = case()
    void = torch.full_like(mask, VOID)
    for rule in (hardest_hrnet, hardest_paddleseg):
        assert torch.equal(rule(logits, void, 0.9, 10), void)
        assert mean_of_hard(logits, rule(logits, void, 0.9, 10), slack=1e-5) == 0


def test_the_auxiliary_mean_is_over_all_pixels():
    """PIDNet's code averages a map in which ignored pixels are 0."""
    logits, mask = case()
    expected = sum(-WEIGHTS[k] * np.log(p) for p, k in pixels_of(logits, mask)) / mask.numel()
    ours = cross_entropy(logits, mask, torch.tensor(WEIGHTS), "all")
    assert float(ours) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("edges", ["some", "none", "all"])
def test_the_boundarys_cross_entropy(edges):
    draw = torch.Generator().manual_seed(3)
    logits = 2 * torch.randn(2, 1, 5, 7, generator=draw)
    edge = (torch.rand(2, 5, 7, generator=draw) < {"some": 0.2, "none": 0.0, "all": 1.1}[edges]).to(torch.uint8)
    share = edge.double().mean().item()
    total = 0.0
    for z, e in zip(logits.flatten().double().numpy(), edge.flatten().numpy(), strict=True):
        probability = 1 / (1 + np.exp(-z))
        total += -(1 - share) * np.log(probability) if e else -share * np.log(1 - probability)
    assert float(boundary_loss(logits, edge)) == pytest.approx(total / edge.numel(), rel=1e-5, abs=1e-7)


def test_pixels_of_a_boundary_are_those_it_is_sure_of():
    logits = torch.tensor([[[[1.3, 1.39, -9.0, 9.0]]]])  # sigmoid(1.386) = 0.8
    mask = torch.tensor([[[0, 1, 2, VOID]]], dtype=torch.uint8)
    assert boundary_pixels(logits, mask, 0.8).tolist() == [[[VOID, 1, VOID, VOID]]]


def small(logits: torch.Tensor) -> torch.Tensor:
    """As a network's heads give it: at a part of the picture's size."""
    return torch.nn.functional.interpolate(logits, (3, 5), mode="bilinear", align_corners=True)


def test_pidnets_loss_is_the_sum_of_its_four_terms():
    """Logits to the label's size with corners aligned; aux + main + 20 bd + sb, as the authors' code."""
    main, mask = case(1)
    aux, boundary = case(2)[0], 4 * case(4)[0][:, :1]
    edge = (torch.rand(2, 6, 8, generator=torch.Generator().manual_seed(5)) < 0.3).to(torch.uint8)
    main, aux, boundary = (small(each).requires_grad_() for each in (main, aux, boundary))
    loss = ListLoss(weights="list", values=WEIGHTS, ohem=HrnetOhem(rule="hrnet", threshold=0.3, min_kept=12))
    heads = {
        "seghead_p": PixelHead(weight=0.4, ohem=False, average="all"),
        "seghead_d": BoundaryHead(loss="boundary"),
    }
    weights = torch.tensor(WEIGHTS)

    def up(logits: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.interpolate(logits, (6, 8), mode="bilinear", align_corners=True)

    outputs = Outputs(main, {"seghead_p": aux, "seghead_d": boundary}, up, align_corners=True)
    terms = HeadsLoss(heads, loss, weights)(outputs, mask, edge)
    ours = pixel_loss(loss, weights)(outputs.upsampled, mask) + sum(terms)

    large, large_aux, large_boundary = (up(each).detach() for each in (main, aux, boundary))
    expected = 0.4 * sum(-WEIGHTS[k] * np.log(p) for p, k in pixels_of(large_aux, mask)) / mask.numel()
    expected += hrnet(large, mask, 0.3, 12, WEIGHTS)
    share, z = edge.double().mean().item(), large_boundary[:, 0].double().numpy()
    probability = 1 / (1 + np.exp(-z))
    e = edge.numpy()
    expected += 20 * np.mean(np.where(e, -(1 - share) * np.log(probability), -share * np.log(1 - probability)))
    seen = torch.from_numpy(np.where(probability > 0.8, mask.numpy(), VOID).astype(np.uint8))
    assert 0 < (seen != VOID).sum() < (mask != VOID).sum()
    aware = hrnet(large, seen, 0.3, 12, WEIGHTS)
    assert aware > 0
    assert ours.item() == pytest.approx(expected + aware, rel=1e-5)
    ours.backward()
    assert all(each.grad.abs().max() > 0 for each in (main, aux, boundary))

    nowhere = Outputs(main, {"seghead_p": aux, "seghead_d": boundary - 100}, up)  # the authors' code fails here
    assert HeadsLoss(heads, loss, weights)(nowhere, mask, edge)[-1] == 0


def test_heads_have_the_cross_entropy_of_the_logits_where_nothing_else_is_said():
    main, mask = case(1)
    loss = PlainLoss(ohem=PaddleOhem(rule="paddleseg", threshold=0.3, min_kept=12), lovasz=0.5)
    outputs = Outputs(main, {"a": main, "b": main}, lambda logits: logits)
    heads = {"a": PixelHead(weight=1.0), "b": PixelHead(weight=0.4, ohem=False)}
    same, plain = HeadsLoss(heads, loss, None)(outputs, mask)
    assert torch.isclose(same, pixel_loss(PlainLoss(ohem=loss.ohem), None)(main, mask))
    assert torch.isclose(plain, 0.4 * cross_entropy(main, mask))
