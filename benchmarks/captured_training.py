"""Trains a recipe with each step captured once and replayed (CUDA graphs), for networks that a GPU waits for.

The networks here take a GPU less time than Python takes to ask for a step. So all that a step does - pictures from the
device's memory, random changes, forward, backward, optimizer, averaged weights - is captured once a resolution and
replayed; what is random or changes over time is drawn on the CPU for many steps at once and read from tables by a
counter on the device. Losses, teachers, networks, label weights and the measure are kerbseg's own.

Differences from `kerbseg train`: batches run on over the end of an epoch, so that all are whole; random changes are
other draws from the same distributions; noise and dropout are drawn on the device, and a run on a GPU does not repeat
to the last bit.
"""

from __future__ import annotations

import copy
import math
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

import kerbseg.models as models
from kerbseg.bundle import load, save_with_card
from kerbseg.compress.grouping import fade, groupings, make_dense
from kerbseg.core.distributed import SINGLE
from kerbseg.core.types import VOID
from kerbseg.data.augment import Geometry
from kerbseg.losses import cross_entropy, mask_at
from kerbseg.metrics import compute_metrics
from kerbseg.models import pad_to_stride
from kerbseg.train.builders import alpha_of
from kerbseg.train.initial import load_initial_weights
from kerbseg.train.machine import Machine
from kerbseg.train.optim import schedule
from kerbseg.train.outputs import Outputs
from kerbseg.train.pixel_loss import class_weights
from kerbseg.train.recipe import Augment, Recipe
from kerbseg.train.recorder import ValidationResult
from kerbseg.train.segmentation import Segmentation

TABLE = 256  # steps drawn at once
WARM = 3  # steps of each resolution that run as they are, before one is captured
GRAY = (0.299, 0.587, 0.114)
CAPTURED_CHANGES = {
    *("flip", "scale", "rotate", "translate", "stretch", "fill", "crop", "progressive", "color_p", "brightness"),
    *("contrast", "saturation", "gamma", "gamma_p", "channel_balance", "channel_balance_p", "gray", "gray_p"),
    *("blur", "blur_p", "noise", "noise_p"),
    *("offset_p", "mid_contrast_p", "jpeg_quality"),  # without effect but beside keys that are refused
}
CAPTURED_KEYS = {
    *("model", "data", "epochs", "batch_size", "augment", "loss", "optim", "schedule", "grouping", "heads", "distill"),
    *("precision", "ema", "norm_momentum", "validate_every", "seed", "nonfinite_grace"),
}
SOURCE = "trained by kerbseg (benchmarks/gpu_day.py: captured steps)"


class CapturedTraining:
    """One recipe's training: `launch` queues some steps, `ready` says whether the device wants more."""

    def __init__(
        self,
        recipe: Recipe,
        device: torch.device,
        data_root: Path,
        initial: Path | None = None,
        layout: torch.memory_format = torch.channels_last,
        compiler: str | None = None,
        priority: int = 0,
    ) -> None:
        supported(recipe)
        if recipe.precision == "auto":
            recipe = replace(recipe, precision="bfloat16" if device.type == "cuda" else "float32")
        self.layout = layout
        self.recipe, self.device, self.step = recipe, device, 0
        self._mixed = recipe.precision != "float32"
        machine = Machine(device, data_root=data_root, cache="device" if device.type == "cuda" else "ram", quiet=True)
        self.problem = Segmentation(recipe, machine)
        torch.manual_seed(recipe.seed)
        net = self.problem.create()
        groups = {} if recipe.grouping is None else make_dense(net, recipe.grouping.select)
        if initial is not None:
            load_initial_weights(net, initial, self.problem.init, self.problem.target())
        fade(net, groups)
        pictures = self.problem.train.batches
        self.per_epoch = -(-len(pictures) // recipe.batch_size)
        self.steps = recipe.epochs * self.per_epoch
        self.task = self.problem.task(net, self.per_epoch).to(device).train()
        weights = class_weights(recipe.loss, self.problem.train)
        self._weights = None if weights is None else weights.to(device)
        self.net = self.task.net.to(memory_format=layout)  # type: ignore[call-overload] # torch's stub lacks it
        everything = pictures.__getitems__(list(range(len(pictures))))
        self._batch, self._loss_of = make_batch, self._loss
        if compiler is not None:
            self.task.outputs.compile(backend=compiler, dynamic=False)
            self._batch = torch.compile(make_batch, backend=compiler, dynamic=False)
            self._loss_of = torch.compile(self._loss, backend=compiler, dynamic=False)
        self.pictures = everything["image"].permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)
        self.masks = everything["mask"]
        self.averaged = copy.deepcopy(self.net).eval().requires_grad_(False)
        self._pairs = [
            (own, other)
            for own, other in zip(
                [*self.net.parameters(), *self.net.buffers()],
                [*self.averaged.parameters(), *self.averaged.buffers()],
                strict=True,
            )
            if own.is_floating_point()
        ]
        captured = device.type == "cuda"
        self.rate = torch.zeros((), device=device)
        self.optimizer = torch.optim.AdamW(
            self.net.parameters(),
            self.rate,
            betas=recipe.optim.betas,
            weight_decay=recipe.optim.weight_decay,
            fused=True,
            capturable=captured,
        )
        self._alphas = [part for _, part in groupings(self.net)]
        self._alpha = torch.ones((), device=device)
        for part in [*self._alphas, *(part for _, part in groupings(self.averaged))]:
            part.alpha = self._alpha  # type: ignore[assignment] # a tensor, so that a captured step follows it
        self._share = schedule(recipe.schedule, recipe.epochs, self.per_epoch)
        self._fading = alpha_of(recipe, self.per_epoch)
        self._row = torch.zeros(1, dtype=torch.int64, device=device)
        self._table: dict[str, Tensor] = {}
        self._drawn = -1  # the step that the table on the device goes on with
        self._end = self._warm = 0
        self._graph: tuple[Any, torch.cuda.CUDAGraph] | None = None
        self._stream = torch.cuda.Stream(priority=priority) if captured else None
        self._events: list[torch.cuda.Event] = []
        self.loss_sum, self._loss_steps = torch.zeros((), device=device), 0
        self.curve: list[dict[str, float]] = []

    # ------------------------------------------------------------------ what changes from step to step

    def stage(self, step: int) -> tuple[tuple[int, int], float]:
        """Canvas and zoom at a step."""
        settings, done = self.recipe.augment, step / self.steps
        for stage in settings.progressive:
            if done < stage.until:
                return stage.crop, stage.zoom
        size = (self.pictures.shape[-2], self.pictures.shape[-1])
        return settings.crop or size, 1.0

    def _table_around(self, step: int) -> tuple[int, int]:
        """First step of the table that `step` is in, and its end: tables hold steps of one resolution."""
        first = step // TABLE * TABLE
        end = min(self.steps, first + TABLE)
        while self.stage(first) != self.stage(step):
            first += 1
        while self.stage(end - 1) != self.stage(step):
            end -= 1
        return first, end

    def _draw(self, first: int, last: int) -> dict[str, Tensor]:
        """All that is random or scheduled in steps first..last-1."""
        recipe, steps = self.recipe, last - first
        canvas, zoom = self.stage(first)
        b = recipe.batch_size
        n = steps * b
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed((recipe.seed * 1_000_003 + first) * 64)
            settings = recipe.augment
            geometry = Geometry(
                settings.flip, settings.scale, settings.rotate, settings.translate, settings.stretch, settings.fill
            )
            size = (self.pictures.shape[-2], self.pictures.shape[-1])
            matrix = geometry.draw(n, size, canvas, zoom)
            color = draw_color(settings, n)
        linear = torch.linalg.inv(matrix[:, :, :2])
        back = torch.cat([linear, -linear @ matrix[:, :, 2:]], 2)
        table = {"picture": self._order(first * b, n), "back": back, **color}
        table = {name: value.reshape(steps, b, *value.shape[1:]) for name, value in table.items()}
        span = range(first, last)
        table["rate"] = torch.tensor([self._share(step) * recipe.optim.lr for step in span])
        table["alpha"] = torch.tensor([self._fading(step // self.per_epoch, step) for step in span])
        decay = recipe.ema or 0.0
        table["follow"] = torch.tensor([1 - min(decay, (1 + step) / (10 + step)) for step in span])
        return {name: pad_rows(value, TABLE) for name, value in table.items()}

    def _order(self, first: int, n: int) -> Tensor:
        """Which pictures: one shuffled pass after the other."""
        count, passes, at = len(self.pictures), [], first
        while at < first + n:
            turn = torch.Generator().manual_seed(self.recipe.seed * 7919 + at // count)
            rows = torch.randperm(count, generator=turn)[at % count :][: first + n - at]
            passes.append(rows)
            at += len(rows)
        return torch.cat(passes)

    # ------------------------------------------------------------------ one step

    def _loss(self, logits: Tensor, mask: Tensor) -> Tensor:
        """The recipe's loss on the labels; `supported` refuses what it leaves out."""
        loss = self.recipe.loss
        if loss.at == "picture":
            logits = self.net.upsample(logits, (mask.shape[-2], mask.shape[-1]))
        else:
            mask = mask_at(mask, (logits.shape[-2], logits.shape[-1]))
        return cross_entropy(logits, mask, self._weights, loss.average, loss.smoothing)

    def _heads(self, logits: Tensor, features: tuple[Tensor, ...], mask: Tensor) -> Tensor:
        """The losses of the network's training heads."""
        net, size = self.net, (mask.shape[-2], mask.shape[-1])
        by_name = dict(zip(self.recipe.heads, features, strict=True))
        outputs = Outputs(logits, by_name, lambda logits: net.upsample(logits, size), net.align_corners)
        return torch.stack(self.task.network_loss.heads(outputs, mask)).sum()

    def _distillation(self, logits: Tensor, image: Tensor, mask: Tensor) -> Tensor:
        net, size = self.net, (image.shape[-2], image.shape[-1])
        outputs = Outputs(logits, {}, lambda logits: net.upsample(logits, size), net.align_corners)
        return self.task.network_loss.distillation(outputs, image, mask)

    def _run_step(self, canvas: tuple[int, int]) -> None:
        row = {name: value.index_select(0, self._row)[0] for name, value in self._table.items()}
        self.rate.copy_(row["rate"])
        self._alpha.copy_(row["alpha"])
        image, mask = self._batch(self.pictures, self.masks, row, canvas, self.recipe.augment)
        image = self.task.normalize(image).contiguous(memory_format=self.layout)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self._mixed, cache_enabled=False):
            logits, features = self.task.outputs(image)
            loss = self._loss_of(logits.float(), mask)
            if self.recipe.heads:
                loss = loss + self._heads(logits, features, mask)
            if self.recipe.distill is not None:
                loss = loss + self._distillation(logits.float(), image, mask)
        loss.backward()
        self.optimizer.step()
        with torch.no_grad():
            own, other = [pair[0].detach() for pair in self._pairs], [pair[1] for pair in self._pairs]
            way = torch._foreach_sub(own, other)
            torch._foreach_mul_(way, row["follow"])
            torch._foreach_add_(other, way)
            self.loss_sum += loss.detach()
            self._row += 1

    def launch(self, steps: int) -> None:
        """Queues up to so many steps; returns early where a table or the training ends."""
        with on(self._stream):
            if self._drawn != self.step:
                self._next_table()
            last = min(self.step + steps, self._end)
            canvas, zoom = self.stage(self.step)
            while self.step < last:
                if self._graph is not None and self._graph[0] == (canvas, zoom):
                    self._graph[1].replay()
                elif self._stream is not None and self._warm >= WARM:
                    self._capture(canvas, zoom)
                    continue
                else:
                    self.optimizer.zero_grad(set_to_none=True)
                    self._run_step(canvas)
                    self._warm += 1
                self.step += 1
                self._loss_steps += 1
            if self.step < self._end:
                self._drawn = self.step
            if self._stream is not None:
                event = torch.cuda.Event()
                event.record()
                self._events.append(event)

    def _next_table(self) -> None:
        first, self._end = self._table_around(self.step)
        for name, value in self._draw(first, self._end).items():
            if name not in self._table:
                self._table[name] = value.to(self.device)
            elif self._stream is None:
                self._table[name].copy_(value)
            else:
                self._table[name].copy_(value.pin_memory(), non_blocking=True)
        self._row.fill_(self.step - first)
        self._drawn = self.step
        if self._graph is None or self._graph[0] != self.stage(self.step):
            if self._stream is not None:
                self._stream.synchronize()  # what is replayed must not go
            self._graph, self._warm = None, 0

    def _capture(self, canvas: tuple[int, int], zoom: float) -> None:
        assert self._stream is not None
        self.optimizer.zero_grad(set_to_none=True)
        self._stream.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=self._stream, capture_error_mode="thread_local"):
            self._run_step(canvas)
        self._graph = ((canvas, zoom), graph)

    def ready(self, ahead: int = 2) -> bool:
        """Whether fewer than `ahead` launches wait on the device."""
        self._events = [event for event in self._events if not event.query()]
        return len(self._events) < ahead

    @property
    def over(self) -> bool:
        return self.step >= self.steps

    # ------------------------------------------------------------------ measure, save, go on

    @torch.no_grad()
    def validate(self) -> ValidationResult:
        """Figures of the averaged weights on the recipe's validation pictures."""
        with on(self._stream):
            net, labels = self.averaged, self.problem.train.labels
            card, k = models.card(self.recipe.model.name), len(self.problem.train.labels)
            confusion = torch.zeros(k * k, dtype=torch.int64, device=self.device)
            batches = self.problem.val.batches
            for start in range(0, len(batches), 16):
                batch = batches.__getitems__(list(range(start, min(start + 16, len(batches)))))
                image, mask = batch["image"].to(self.device), batch["mask"].to(self.device)
                x = self.task.normalize(pad_to_stride(image.float() / 255, card.stride))
                with torch.autocast(self.device.type, torch.bfloat16, enabled=self._mixed):
                    ids = net(x.contiguous(memory_format=self.layout))
                ids = ids[:, :k, : image.shape[-2], : image.shape[-1]].argmax(1)
                known = mask != VOID
                pairs = torch.where(known, mask.long() * k + ids, k * k)
                confusion += torch.bincount(pairs.flatten(), minlength=k * k + 1)[: k * k]
            metrics = compute_metrics(confusion.reshape(k, k).cpu(), labels)
            loss = float(self.loss_sum) / max(1, self._loss_steps)
            self.loss_sum.zero_()
            self._loss_steps = 0
        row = {"step": self.step, "epoch": self.step * self.recipe.epochs / self.steps, "loss": loss}
        self.curve.append({**row, "val_miou": float(metrics.miou)})
        figures = {
            "miou": metrics.miou,
            "class_iou": dict(metrics.class_iou),
            "pixel_accuracy": metrics.pixel_accuracy,
        }
        return ValidationResult("val_miou", float(metrics.miou), loss, {}, figures)

    def save(self, path: Path, result: ValidationResult) -> None:
        """The averaged weights as a bundle."""
        net = copy.deepcopy(self.averaged)
        for _, part in groupings(net):
            part.alpha = 0.0
        self.problem.save(net, path, self.recipe.epochs, result)
        save_with_card(path, replace(load(path).card, source=SOURCE), path)

    def state(self) -> dict[str, Any]:
        """What `load_state` needs to go on."""
        if self._stream is not None:
            self._stream.synchronize()
        return {
            "step": self.step,
            "net": self.net.state_dict(),
            "averaged": self.averaged.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "curve": self.curve,
            "recipe": self.recipe.to_dict(),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Goes on where another process stopped."""
        if state["recipe"] != self.recipe.to_dict():
            raise ValueError("the state is of another recipe; begin anew without --resume")
        self.net.load_state_dict(state["net"])
        self.averaged.load_state_dict(state["averaged"])
        self.optimizer.load_state_dict(state["optimizer"])
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate
        self.step, self.curve = state["step"], state["curve"]


def supported(recipe: Recipe) -> None:
    """Raises ValueError for a recipe that asks for what is not captured here, rather than train without it."""
    whole, plain = Recipe(recipe.model, recipe.data, 1, 1), Augment()
    parts: list[tuple[str, Any, Any, set[str]]] = [
        ("augment.", recipe.augment, plain, CAPTURED_CHANGES),
        ("", recipe, whole, CAPTURED_KEYS),
    ]
    asked = [
        f"{prefix}{each.name}"
        for prefix, part, other, known in parts
        for each in fields(part)
        if each.name not in known and getattr(part, each.name) != getattr(other, each.name)
    ]
    more = {
        "data.rare": recipe.data.rare,
        "loss.lovasz": recipe.loss.lovasz,
        "loss.ohem": recipe.loss.ohem,
        "loss.boundary": recipe.loss.boundary,
        "optim.groups": recipe.optim.groups,
        "optim.clip": recipe.optim.clip,
        "optim.no_decay": recipe.optim.no_decay,
        "heads (loss: boundary)": any(head.loss == "boundary" for head in recipe.heads.values()),
        "optim.weight_decay_until": recipe.optim.weight_decay_until,
        f"optim.name={recipe.optim.name}": recipe.optim.name != "adamw",
        "schedule.name=plateau": recipe.schedule.name == "plateau",
        "precision=float16": recipe.precision == "float16",
    }
    if asked := [*asked, *(name for name, value in more.items() if value)]:
        raise ValueError(f"{', '.join(asked)}: not for captured training; use kerbseg train")


def make_batch(
    pictures: Tensor, masks: Tensor, row: dict[str, Tensor], canvas: tuple[int, int], settings: Augment
) -> tuple[Tensor, Tensor]:
    """Pictures in 0..1 and masks of one step, changed as `row` says."""
    image = pictures.index_select(0, row["picture"]).float() / 255
    mask = masks.index_select(0, row["picture"])
    grid = sampling_grid(row["back"], (image.shape[-2], image.shape[-1]), canvas)
    image = F.grid_sample(image, grid, "bilinear", "zeros", align_corners=True)
    shifted = F.grid_sample(mask[:, None].float() + 1, grid, "nearest", "zeros", align_corners=True)
    ids = shifted[:, 0].round().to(torch.int16) - 1
    mask = torch.where(ids < 0, VOID, ids).to(torch.uint8)
    return change_color(image, row, settings), mask


def draw_color(settings: Augment, n: int) -> dict[str, Tensor]:
    """What `kerbseg.data.augment.Color` draws, of n pictures at once."""
    uniform = SINGLE.uniform
    chosen = uniform(n) < settings.color_p

    def factor(spread: float) -> Tensor:
        return torch.where(chosen, uniform(n, 1 - spread, 1 + spread), 1.0)

    def some(probability: float) -> Tensor:
        return chosen & (uniform(n) < probability)

    gains = uniform(n, 1 - settings.channel_balance, 1 + settings.channel_balance, 3)
    return {
        "brightness": factor(settings.brightness),
        "contrast": factor(settings.contrast),
        "saturation": factor(settings.saturation),
        "gamma": torch.where(some(settings.gamma_p), uniform(n, -settings.gamma, settings.gamma).exp(), 1.0),
        "gains": torch.where(some(settings.channel_balance_p)[:, None], gains, 1.0),
        "gray": torch.where(some(settings.gray_p), settings.gray, 0.0),
        "blur": torch.where(some(settings.blur_p), uniform(n, 0, settings.blur), 0.0).clamp(min=1e-3),
        "noise": torch.where(some(settings.noise_p), uniform(n, 0, settings.noise), 0.0),
    }


def change_color(image: Tensor, row: dict[str, Tensor], settings: Augment) -> Tensor:
    """As `kerbseg.data.augment.Color`, with what was drawn before."""

    def of(name: str) -> Tensor:
        return row[name][:, None, None, None]

    def gray(image: Tensor) -> Tensor:
        red, green, blue = image.unbind(1)
        return (GRAY[0] * red + GRAY[1] * green + GRAY[2] * blue)[:, None]

    if settings.brightness:
        image = (image * of("brightness")).clamp(0, 1)
    if settings.contrast:
        image = (image * of("contrast") + gray(image).mean((-2, -1), True) * (1 - of("contrast"))).clamp(0, 1)
    if settings.saturation:
        image = torch.lerp(gray(image), image, of("saturation")).clamp(0, 1)
    if settings.gamma:
        image = image ** of("gamma")
    if settings.channel_balance:
        image = (image * row["gains"][..., None, None]).clamp(max=1)
    if settings.gray:
        image = torch.lerp(image, gray(image).expand_as(image), of("gray"))
    if settings.blur:
        image = blur(image, row["blur"], math.ceil(3 * settings.blur))
    if settings.noise:
        image = (image + torch.randn_like(image) * of("noise")).clamp(0, 1)
    return image


def blur(image: Tensor, sigma: Tensor, radius: int) -> Tensor:
    """Each picture under its own Gaussian."""
    b, c, h, w = image.shape
    at = torch.arange(-radius, radius + 1, device=image.device)
    kernel = torch.softmax(-(at**2) / (2 * sigma[:, None] ** 2), 1).repeat_interleave(c, 0)
    flat = F.pad(image.reshape(1, b * c, h, w), (radius,) * 4, mode="replicate")
    with torch.autocast(image.device.type, enabled=False):
        flat = F.conv2d(flat, kernel[:, None, None, :], groups=b * c)
        flat = F.conv2d(flat, kernel[:, None, :, None], groups=b * c)
    return flat.reshape(b, c, h, w)


def sampling_grid(back: Tensor, size: tuple[int, int], canvas: tuple[int, int]) -> Tensor:
    """Where each pixel of the canvas comes from, in torch's -1..1; `back` maps canvas to picture coordinates."""
    x = torch.arange(canvas[1], device=back.device, dtype=torch.float32)[None, None, :]
    y = torch.arange(canvas[0], device=back.device, dtype=torch.float32)[None, :, None]

    def along(axis: int) -> Tensor:
        a, b, c = (back[:, axis, i, None, None] for i in range(3))
        return (a * x + b * y + c) * (2 / (size[1 - axis] - 1)) - 1

    return torch.stack([along(0), along(1)], -1)


def pad_rows(value: Tensor, rows: int) -> Tensor:
    """With its last row repeated up to `rows`."""
    return torch.cat([value, value[-1:].expand(rows - len(value), *value.shape[1:])]) if len(value) < rows else value


class on:
    """A stream's turn; nothing without one."""

    def __init__(self, stream: torch.cuda.Stream | None) -> None:
        self._context = None if stream is None else torch.cuda.stream(stream)

    def __enter__(self) -> None:
        if self._context is not None:
            self._context.__enter__()

    def __exit__(self, *error: Any) -> None:
        if self._context is not None:
            self._context.__exit__(*error)
