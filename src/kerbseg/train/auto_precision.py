"""`precision: auto`: what a network trains in, by what the processor says and by a few steps of both."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

import kerbseg.models as models
from kerbseg.core.precision import FloatPrecision
from kerbseg.train.builders import check_options
from kerbseg.train.machine import Machine
from kerbseg.train.recipe import AnyRecipe, Recipe

CPUINFO = Path("/proc/cpuinfo")
MULTIPLIES_BFLOAT16 = {"avx512_bf16", "amx_bf16", "bf16"}  # as Linux names them on x86 and on ARM
WORTH = 1.1  # times as fast, or it stays float32
ROUNDS = 2  # steps of each, by turns, after the first, which makes kernels


def choose_precision(recipe: AnyRecipe, machine: Machine) -> tuple[FloatPrecision, str]:
    """float32 or bfloat16, and why, in words.

    On a GPU bfloat16 where it has it. On a CPU that multiplies bfloat16, what is faster here: some steps of the
    recipe's network on made-up pictures of all its resolutions are timed, since some layers have no fast code in
    bfloat16, or none for some sizes. Of several processes each would measure something else, so they take float32.
    Raises KerbsegError for options that make no network.
    """
    if machine.device.type == "cuda":
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return "bfloat16", "the GPU has it"
        return "float32", "the GPU has no bfloat16"
    if machine.rank.count > 1:
        return "float32", "several processes"
    if not MULTIPLIES_BFLOAT16 & processor_flags():
        return "float32", "the processor does not multiply bfloat16"
    if not isinstance(recipe, Recipe):
        return "float32", "not measured for classifiers"
    full, half = _measure(recipe)
    if half is None:
        return "float32", f"a step takes {full:.2f} s, in bfloat16 more than twice as long"
    return ("bfloat16" if full / half >= WORTH else "float32"), f"a step takes {full:.2f} s, in bfloat16 {half:.2f} s"


def processor_flags() -> set[str]:
    """What the processor says that it can do; nothing where it cannot be asked."""
    if not CPUINFO.exists():
        return set()
    line = re.search(r"^(?:flags|Features)\s*:\s*(.+)$", CPUINFO.read_text(encoding="utf-8"), re.MULTILINE)
    return set(line.group(1).split()) if line else set()


def _measure(recipe: Recipe) -> tuple[float, float | None]:
    """Seconds of a mean step of the run in float32 and in bfloat16; None where one look is enough."""
    name, options = recipe.model.name, recipe.network_options
    check_options(lambda: models.create_model(name, **options))
    with torch.random.fork_rng(devices=[]):
        net = models.channels_last(models.create_model(name, **options)).train()
        total_full = total_half = 0.0
        for size, share in _canvases(recipe):
            full, half = _measure_size(net, size, recipe.batch_size)
            if half is None:
                return full, None
            total_full, total_half = total_full + share * full, total_half + share * half
    return total_full, total_half


def _measure_size(net: nn.Module, size: tuple[int, int], batch: int) -> tuple[float, float | None]:
    """As `_measure`, at one size: of each the fastest step."""
    picture = torch.rand(batch, 3, *size).contiguous(memory_format=torch.channels_last)
    full, half = (_stepper(net, picture, context) for context in (nullcontext, _in_bfloat16))
    first_full, first_half = _timed(full), _timed(half)
    if first_half > 2 * first_full and _timed(half) > 2 * min(first_full, _timed(full)):
        return first_full, None
    pairs = [(_timed(full), _timed(half)) for _ in range(ROUNDS)]
    return min(pair[0] for pair in pairs), min(pair[1] for pair in pairs)


def _stepper(
    net: nn.Module, picture: torch.Tensor, context: Callable[[], AbstractContextManager[Any]]
) -> Callable[[], None]:
    labels = torch.zeros(len(picture), *picture.shape[-2:], dtype=torch.long)

    def step() -> None:
        with context():
            logits = net(picture)
            loss = F.cross_entropy(logits.float(), labels)
        net.zero_grad()
        loss.backward()

    return step


def _in_bfloat16() -> AbstractContextManager[Any]:
    return torch.autocast("cpu", torch.bfloat16, cache_enabled=False)  # as lightning has it


def _timed(step: Callable[[], None]) -> float:
    began = time.perf_counter()
    step()
    return time.perf_counter() - began


def _canvases(recipe: Recipe) -> list[tuple[tuple[int, int], float]]:
    """Height and width of what the network sees, in whole strides, and the share of the epochs that each lasts."""
    stride, augment = models.card(recipe.model.name).stride, recipe.augment
    sizes = [augment.crop or recipe.data.size or (360, 480)]
    sizes = [step.crop for step in augment.cycle] or sizes
    shares = [1 / len(sizes)] * len(sizes)
    if augment.progressive:
        ends = [0.0, *(stage.until for stage in augment.progressive)]
        staged = [end - before for before, end in pairwise(ends)]
        sizes = [*(stage.crop for stage in augment.progressive), *sizes]
        shares = [*staged, *(share * (1 - ends[-1]) for share in shares)]
    whole = [(-(-height // stride) * stride, -(-width // stride) * stride) for height, width in sizes]
    return [(size, share) for size, share in zip(whole, shares, strict=True) if share > 0]
