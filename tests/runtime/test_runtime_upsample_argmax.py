"""The cheap last stage: the ids of torch's interpolation and argmax, over sizes, corners, batches and threads."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import njit
from torch.nn.functional import interpolate

from kerbseg.runtime.upsample_argmax import UpsampleArgmax
from kerbseg.runtime.upsample_kernels import compiled

sides = st.integers(1, 23)


def smooth(seed: int, shape: tuple[int, ...]) -> torch.Tensor:
    """Logits with regions, and borders between them, as networks have them."""
    rough = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.avg_pool2d(rough, 5, 1, 2)


def agree(logits: torch.Tensor, padded: tuple[int, int], size: tuple[int, int], corners: bool, threads: int) -> None:
    """Ids are those of the highest interpolated logit; where two are as good as equal, either will do."""
    stage = UpsampleArgmax((logits.shape[2], logits.shape[3]), padded, corners, size, threads)
    ids = torch.from_numpy(stage(logits.permute(0, 2, 3, 1).numpy())).long()
    full = interpolate(logits, padded, mode="bilinear", align_corners=corners)[..., : size[0], : size[1]]
    assert ids.shape == (len(logits), *size)
    chosen = full.gather(1, ids[:, None])[:, 0]
    assert (full.amax(1) - chosen).max() <= 1e-5
    assert (ids == full.argmax(1)).float().mean() > 0.99


@settings(max_examples=60, deadline=None)
@given(sides, sides, st.integers(1, 3), st.integers(1, 3), st.booleans(), st.integers(2, 9), st.integers(0, 9))
def test_ids_are_those_of_interpolation_and_argmax(height, width, tall, wide, corners, classes, seed):
    logits = smooth(seed, (2, classes, height, width))
    padded = (height * tall + seed % 3, width * wide + seed % 2)
    size = (max(1, padded[0] - seed), max(1, padded[1] - seed // 2))
    agree(logits, padded, size, corners, 1 + seed % 3)


@pytest.mark.parametrize("corners", [True, False])
@pytest.mark.parametrize("factor", [1, 2, 4, 8])
def test_at_the_sizes_of_real_networks(factor, corners):
    logits = smooth(factor, (1, 19, 128 // factor, 256 // factor))
    agree(logits, (128, 256), (120, 250), corners, 2)


def test_of_equal_scores_the_first_class_wins_as_in_torch():
    logits = np.zeros((1, 5, 6, 4), np.float32)
    logits[..., 2:] = 1
    assert (UpsampleArgmax((5, 6), (10, 12), False, (10, 12))(logits) == 2).all()


def test_shrinking_is_torchs_too():
    agree(smooth(3, (1, 5, 40, 60)), (20, 30), (20, 30), False, 1)


def test_numba_works_where_it_has_no_folder_for_what_it_compiles():
    names: dict = {}
    exec("def twice(x):\n    return 2 * x", names)  # of no file, so no folder fits
    with pytest.raises(RuntimeError, match="cannot cache"):
        njit(cache=True)(names["twice"])
    assert compiled(names["twice"])(21) == 42
