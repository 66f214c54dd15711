"""Pictures per second of training: a plain DataLoader against kerbseg's way, and each step between them.

    python benchmarks/train_throughput.py camvid/mininet_v2_cpu --data-root DATA/camvid --json throughput.json

Plain is what most training code does: pictures are decoded from disk and augmented one by one as float in the loader,
the network computes in float32 with channels first. Each arm changes one more thing. The arms take turns, so that what
else the computer does meets all of them; the ratio is the median over the rounds of an arm's speed by plain's. On a
shared CPU the clock says little: `--clock cpu` counts the seconds that the processor worked for this process.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

import kerbseg.models as models
from kerbseg.core.normalize import Normalize
from kerbseg.data.loading import Batches
from kerbseg.profiling.machine import this_machine
from kerbseg.train.builders import augmentation
from kerbseg.train.network_loss import build_loss
from kerbseg.train.optim import optimizer, parameter_groups
from kerbseg.train.outputs import NetworkOutputs
from kerbseg.train.recipe import Recipe
from kerbseg.train.recipe_file import read
from kerbseg.train.split import Cache, CachedSplit, open_split
from kerbseg.train.task import Augmentation

Pairs = Iterator[tuple[Tensor, Tensor]]  # float pictures in 0..1 and masks, on the device


@dataclass(frozen=True)
class Arm:
    """A way to train."""

    name: str
    cache: Cache
    batched: bool  # augmented as a batch on the device, not one by one in the loader
    channels_last: bool
    dtype: torch.dtype
    compiled: bool


PLAIN = Arm("plain DataLoader", "none", False, False, torch.float32, False)


def ladder(device: torch.device, dtype: torch.dtype, compiled: bool) -> list[Arm]:
    """From plain to all of it."""
    arms = [PLAIN]
    arms.append(replace(arms[-1], name="+ kept in memory", cache="ram"))
    arms.append(replace(arms[-1], name="+ augmented in batches on the device", batched=True))
    if device.type != "cpu":
        arms.append(replace(arms[-1], name="+ kept on the device", cache="device"))
    arms.append(replace(arms[-1], name="+ channels last", channels_last=True))
    if dtype != torch.float32:
        arms.append(replace(arms[-1], name=f"+ {str(dtype).removeprefix('torch.')}", dtype=dtype))
    if compiled:
        arms.append(replace(arms[-1], name="+ compiled", compiled=True))
    return arms


class OneByOne(Dataset[tuple[Tensor, Tensor]]):
    """Augmented pictures; a batch is collated by torch."""

    def __init__(self, batches: Batches, augment: Callable[[Any], tuple[Tensor, Tensor]]) -> None:
        self._batches, self._augment = batches, augment

    def __len__(self) -> int:
        return len(self._batches)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        image, mask = self._augment(self._batches.__getitems__([index]))
        return image[0], mask[0]


class Trainer:
    """One arm's network, its loss and its pictures."""

    def __init__(self, arm: Arm, recipe: Recipe, train: CachedSplit, device: torch.device, workers: int) -> None:
        torch.manual_seed(0)
        self.arm, self._recipe, self._train, self._device, self._workers = arm, recipe, train, device, workers
        self._augment: Augmentation = augmentation(recipe.augment, recipe.epochs)
        net = models.create_model(recipe.model.name, len(train.labels), **recipe.network_options).to(device)
        net = models.channels_last(net) if arm.channels_last else net
        self._network_loss = build_loss(recipe, net, train).to(device)
        self._outputs = NetworkOutputs(net, [*(head.at for head in recipe.auxiliary), *recipe.heads])
        if arm.compiled:
            self._outputs.compile()
        self._normalize = Normalize(models.card(recipe.model.name).preprocessing).to(device)
        groups = parameter_groups(net, recipe.optim.groups, self._network_loss.parameters())
        self._optimizer = optimizer(groups, recipe.optim)

    def pairs(self, count: int) -> Pairs:
        """So many batches, in random order."""
        batches, size = self._train.batches, self._recipe.batch_size
        order = [int(i) for i in torch.randint(len(batches), (count * size,))]
        if self.arm.batched:
            for start in range(0, len(order), size):
                batch = batches.__getitems__(order[start : start + size])
                batch["image"], batch["mask"] = batch["image"].to(self._device), batch["mask"].to(self._device)
                yield self._augment(batch, self._recipe.epochs - 1)[:2]
            return
        loader: DataLoader[tuple[Tensor, Tensor]] = DataLoader(
            OneByOne(batches, lambda batch: self._augment(batch, self._recipe.epochs - 1)[:2]),
            batch_size=size,
            sampler=order,
            num_workers=self._workers,
            pin_memory=self._device.type == "cuda",
        )
        for image, mask in loader:
            yield image.to(self._device, non_blocking=True), mask.to(self._device, non_blocking=True)

    def step(self, image: Tensor, mask: Tensor) -> None:
        """Forward, backward, and the optimiser's step."""
        memory = torch.channels_last if self.arm.channels_last else torch.contiguous_format
        with self._precision():
            pixels = self._normalize(image).contiguous(memory_format=memory)
            loss = self._network_loss(self._outputs.of(pixels), pixels, mask)
        self._optimizer.zero_grad()
        loss.backward()
        self._optimizer.step()

    def _precision(self) -> AbstractContextManager[Any]:
        if self.arm.dtype == torch.float32:
            return nullcontext()
        return torch.autocast(self._device.type, self.arm.dtype)

    def pictures_per_second(self, warmup: int, steps: int, clock: Callable[[], float]) -> float:
        """Of `steps` steps after `warmup` ones, loading included."""
        pairs = self.pairs(warmup + steps)
        for _ in range(warmup):
            self.step(*next(pairs))
        self._wait()
        began = clock()
        for image, mask in pairs:
            self.step(image, mask)
        self._wait()
        return steps * self._recipe.batch_size / (clock() - began)

    def _wait(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)


def measure(
    trainers: list[Trainer], rounds: int, warmup: int, steps: int, clock: Callable[[], float]
) -> list[list[float]]:
    """Pictures per second of each arm in each round."""
    return [[trainer.pictures_per_second(warmup, steps, clock) for trainer in trainers] for _ in range(rounds)]


CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}


def report(trainers: list[Trainer], speeds: list[list[float]]) -> list[dict[str, Any]]:
    """A row for each arm."""
    rows = []
    for index, trainer in enumerate(trainers):
        own = [row[index] for row in speeds]
        ratios = [row[index] / row[0] for row in speeds]
        rows.append(
            {
                "arm": trainer.arm.name,
                "pictures_per_second": {"median": statistics.median(own), "lowest": min(own), "highest": max(own)},
                "ratio_to_plain": {"median": statistics.median(ratios), "lowest": min(ratios), "highest": max(ratios)},
            }
        )
    return rows


def main() -> None:
    """Measures, prints, and writes JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe")
    parser.add_argument("overrides", nargs="*", help="recipe keys to change, such as batch_size=16")
    parser.add_argument("--data-root", type=Path)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, help="of the processor, in this process; torch's choice without it")
    parser.add_argument("--workers", type=int, help="loader processes of the first arms; 0 on a CPU, else all cores")
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="bfloat16")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=8, help="timed ones of an arm in each round")
    parser.add_argument("--warmup", type=int, default=2, help="steps before those")
    parser.add_argument("--clock", choices=tuple(CLOCKS), default="wall")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()

    device = torch.device(options.device)
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    workers = options.workers if options.workers is not None else (os.cpu_count() or 1) * (device.type == "cuda")
    if options.clock == "cpu" and (workers or device.type != "cpu"):
        parser.error("--clock cpu sees neither a GPU nor workers; leave it away, or add --device cpu --workers 0")
    recipe = read(options.recipe, options.overrides)
    arms = ladder(device, getattr(torch, options.precision), options.compile)
    opened = {
        cache: open_split(recipe.data, recipe.data.train, options.data_root, cache, device)
        for cache in dict.fromkeys(arm.cache for arm in arms)
    }
    trainers = [Trainer(arm, recipe, opened[arm.cache], device, workers) for arm in arms]
    height, width = opened["none"].size
    protocol = {
        "recipe": options.recipe,
        "overrides": options.overrides,
        "model": recipe.model.name,
        "batch_size": recipe.batch_size,
        "pictures": len(opened["none"].batches),
        "stored_size": [height, width],
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "threads": torch.get_num_threads(),
        "workers": workers,
        "clock": options.clock,
        "rounds": options.rounds,
        "steps": options.steps,
        "warmup": options.warmup,
        "load_average": os.getloadavg()[0],
        **this_machine(options.device).to_dict(),
    }
    print("\n".join(f"{key}: {value}" for key, value in protocol.items()), end="\n\n", flush=True)
    rows = report(trainers, measure(trainers, options.rounds, options.warmup, options.steps, CLOCKS[options.clock]))
    print(f"{'':38}{'pictures/s':>12}{'(lowest - highest)':>22}{'by plain':>10}{'(lowest - highest)':>22}")
    for row in rows:
        speed, ratio = row["pictures_per_second"], row["ratio_to_plain"]
        print(f"{row['arm']:38}{speed['median']:12.2f}{_range(speed):>22}{ratio['median']:10.2f}{_range(ratio):>22}")
    if options.json is not None:
        options.json.write_text(json.dumps({"protocol": protocol, "arms": rows}, indent=1) + "\n")


def _range(spread: dict[str, float]) -> str:
    return f"({spread['lowest']:.2f} - {spread['highest']:.2f})"


if __name__ == "__main__":
    main()
