"""`precision: auto`: what a network trains in, by what the processor says and by a few steps of both."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

import kerbseg.models as models
from kerbseg.core.precision import FloatPrecision
from kerbseg.train.machine import Machine
from kerbseg.train.recipe import AnyRecipe, Recipe

CPUINFO = Path("/proc/cpuinfo")
MULTIPLIES_BFLOAT16 = {"avx512_bf16", "amx_bf16", "bf16"}  # as Linux names them on x86 and on ARM
WORTH = 1.1  # times as fast, or it stays float32
ROUNDS = 3  # steps of each, after one


def choose_precision(recipe: AnyRecipe, machine: Machine) -> tuple[FloatPrecision, str]:
    """float32 or bfloat16, and why, in words.

    On a GPU bfloat16 where it has it. On a CPU that multiplies bfloat16, what is faster here: some steps of the
    recipe's network on made-up pictures are timed, since some layers have no fast code in bfloat16. Of several
    processes each would measure something else, so they take float32.
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
    """Seconds of a step in float32 and in bfloat16, the fastest of some by turns; None where one look is enough."""
    with torch.random.fork_rng(devices=[]):
        net = models.channels_last(models.create_model(recipe.model.name, **recipe.model.options)).train()
        height, width = _canvas(recipe)
        picture = torch.rand(recipe.batch_size, 3, height, width).contiguous(memory_format=torch.channels_last)
        full, half = (_stepper(net, picture, context) for context in (nullcontext, _in_bfloat16))
        best_full, best_half = min(_timed(full), _timed(full)), _timed(half)
        if best_half > 2 * best_full and _timed(half) > 2 * best_full:  # the first one makes kernels
            return best_full, None
        for _ in range(ROUNDS):
            best_full, best_half = min(best_full, _timed(full)), min(best_half, _timed(half))
    return best_full, best_half


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


def _canvas(recipe: Recipe) -> tuple[int, int]:
    """Height and width of what the network sees first, in whole strides."""
    card, augment = models.card(recipe.model.name), recipe.augment
    first = [*(step.crop for step in augment.cycle), *(stage.crop for stage in augment.progressive)]
    height, width = (*first, augment.crop or recipe.data.size or (360, 480))[0]
    return -(-height // card.stride) * card.stride, -(-width // card.stride) * card.stride
