"""A recipe made of data of one's own: shipped weights of the nearest purpose, and a training as long as they need.

What is chosen here, and why, stands in docs/own-data.md. The plan is an ordinary recipe, made without importing torch.
"""

from __future__ import annotations

import math
import os
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import Any

import kerbseg
from kerbseg.core.errors import KerbsegError, RecipeError
from kerbseg.core.strides import STRIDES
from kerbseg.core.text import counted, printable
from kerbseg.train.own_data import OwnData, look_at, title_of
from kerbseg.train.recipe import Recipe
from kerbseg.train.recipe_file import changed, with_overrides
from kerbseg.train.recipe_sense import check_names
from kerbseg.train.start_cards import NETWORK, StartCard, nearest_start, read_start, same_classes

OWN = "own"  # in place of a recipe's name
LEARNING_RATE = 3e-3  # from shipped weights and from random ones alike, as measured in docs/own-data.md
FROM_FOLDER = ("name", "train", "val", "train_names", "val_names")  # keys of data
STEPS = 1000  # of a training, within these epochs
EPOCHS = (10, 150)  # fewest, most
BATCH = 8  # pictures, where there are enough
LONGEST_SIDE = 960  # pixels; larger pictures are brought to it
CROP_PIXELS = 360 * 512  # at most
MULTIPLE = 16  # pixels, of which a crop's sides are multiples, or the network's stride if that is larger
STEP_BYTES = {"mininet_v2_cpu": 1_800}  # of memory that a step takes a pixel of its batch; measured on a CPU
MOST_STEP_BYTES = 5_000  # likewise, the most of the networks that were measured
MEMORY_SHARE = 0.5  # of the free memory, for a step


@dataclass(frozen=True)
class OwnPlan:
    """A recipe, and what it was made of."""

    recipe: Recipe
    data: OwnData
    start: StartCard | None
    note: str  # comment at the head of recipe.yaml

    @property
    def run(self) -> Path:
        """The folder of the run, where none is given."""
        return usual_run(self.data.reader, self.data.root)

    @property
    def lines(self) -> list[tuple[str, str]]:
        """What is going to be done, a word and a text each."""
        data, recipe, start = self.data, self.recipe, self.start
        sizes = [f"{height}x{width}" for height, width in data.sizes]
        form = "folder" if data.root is None else f"{data.root} ({data.reader})"
        brought = "" if recipe.data.size is None else f", brought to {_by(recipe.data.size)}"
        some = ", ".join(sizes[:2]) + (f" and {len(sizes) - 2} more sizes" if len(sizes) > 2 else "")
        held = " (drawn from those of training)" if data.held_out else ""
        batch = f"{counted(recipe.epochs, 'epoch')} of {counted(self.steps_per_epoch, 'step')}"
        canvas = _by(recipe.augment.crop) if recipe.augment.crop is not None else "the whole picture"
        patience = ""
        if recipe.patience is not None:
            patience = f", fewer if nothing improves for {counted(recipe.patience * recipe.validate_every, 'epoch')}"
        return [
            ("data", data.reader if data.root is None else form),
            ("pictures", f"{data.train} for training, {data.val} for validation{held}; {some} (HxW){brought}"),
            ("classes", self._classes()),
            ("network", f"{recipe.model.name}, {f'starts from {start.source}' if start else 'random weights'}"),
            ("training", f"{batch}{patience}; batch {recipe.batch_size}, crop {canvas}"),
        ]

    @property
    def steps_per_epoch(self) -> int:
        """Whole batches."""
        return max(self.data.train // self.recipe.batch_size, 1)

    def _classes(self) -> str:
        classes = self.data.labels.classes
        if self.start is None:
            return f"{len(classes)}: {_some(classes)}"
        same = same_classes(classes, self.start.classes)
        kept = [name if same[name] == name else f"{name} (from {same[name]})" for name in classes if name in same]
        fresh = [name for name in classes if name not in same]
        parts = [f"kept in the head: {_some(kept)}"] * bool(kept) + [f"fresh: {_some(fresh)}"] * bool(fresh)
        return f"{len(classes)}; {'; '.join(parts)}"


def usual_run(reader: str, root: Path | None) -> Path:
    """The folder of a run that is given none."""
    return Path("runs") / title_of(reader, root)


def is_own(recipe: object) -> bool:
    """Whether a recipe's name stands for one that is made of data: `own`, or a folder."""
    return recipe == OWN or (isinstance(recipe, str | Path) and Path(recipe).is_dir())


def plan(
    data: str | Path | None,
    *,
    data_root: str | Path | None = None,
    initial: str | Path | None = None,
    overrides: Sequence[str] = (),
) -> OwnPlan:
    """A recipe for data of one's own, with `key.path=value` overrides, which the rest is fitted to.

    `data` is a folder with `dataset.yaml`, or the name of a reader whose folder is `data_root`; `initial` are weights
    to start from in place of those with the nearest purpose. Raises KerbsegError for data or overrides that cannot be
    used.
    """
    wanted = with_overrides({}, overrides, "")
    _check_data(wanted)
    seen = look_at(data, data_root)
    size = _given_size(wanted, "data", "size", _working_size(seen))
    height, width = size or next(iter(seen.sizes))
    start = _start(wanted, initial, seen, (height, width))
    model = _model(wanted, start)
    batch = _given(wanted, "batch_size") or _batch(seen.train)
    crop = _given_size(wanted, "augment", "crop", _crop(height, width, max(MULTIPLE, STRIDES.get(model["name"], 1))))
    if "batch_size" not in wanted and crop is not None:
        batch = min(batch, _most_pictures(model["name"], crop))
    epochs = _given(wanted, "epochs") or _epochs(seen.train, batch)
    validations = epochs // (_given(wanted, "validate_every") or 1)
    raw: dict[str, Any] = {
        "model": model,
        "data": {
            "name": seen.reader,
            "val": seen.val_split,
            "train_names": [f"!{each}" for each in seen.held_out],
            "val_names": list(seen.held_out),
            "size": None if size is None else list(size),
        },
        "epochs": epochs,
        "batch_size": batch,
        "augment": {
            "flip": 0.5,
            "scale": [0.7, 1.8],
            "crop": None if crop is None else list(crop),
            "brightness": 0.3,
            "contrast": 0.3,
            "saturation": 0.3,
        },
        "loss": {"weights": "median_frequency", "power": 0.4},
        "optim": {"name": "adamw", "lr": LEARNING_RATE, "weight_decay": 1e-2},
        "schedule": {"name": "one_cycle", "pct_start": 0.15},
        "ema": 0.98,
        "norm_momentum": 0.1,  # the shipped network's own, 0.01, follows too slowly for a few hundred steps
        "validate_every": 1,
        # the rate falls to the end, and figures rise with that
        "patience": max(EPOCHS[0], validations // 3) if validations > EPOCHS[0] else None,
    }
    recipe = changed(raw, overrides, "recipe own")
    if not isinstance(recipe, Recipe):
        raise RecipeError("train own trains segmentation; leave task away")
    check_names(recipe)
    return OwnPlan(recipe, seen, start, _note(recipe, seen, start))


def _check_data(wanted: Mapping[str, Any]) -> None:
    """Raises RecipeError where an override says what is trained or validated on: the plan is made of the folder."""
    section = wanted.get("data")
    said = [key for key in FROM_FOLDER if isinstance(section, Mapping) and key in section]
    if said:
        raise RecipeError(
            f"override data.{said[0]}: train own takes this from the folder; move the pictures, or save the recipe with"
            " kerbseg recipe own, change it, and train on that"
        )


def _start(
    wanted: Mapping[str, Any], initial: str | Path | None, data: OwnData, size: tuple[int, int]
) -> StartCard | None:
    """The weights to start from: those asked for, or of the shipped ones the nearest."""
    model, given = wanted.get("model"), initial
    section = model if isinstance(model, Mapping) else {}
    if initial is None and "weights" in section:
        given = section["weights"]
        if given is None:
            return None
    name = section.get("name")
    if given is None:
        return nearest_start(data.labels.classes, size, name)
    start = read_start(given)
    if start is None and name is None:
        raise KerbsegError(f"{given} has no card that names its network; add model.name=, or give a bundle")
    if start is not None and name not in (None, start.model):
        return StartCard(start.source, str(name), section.get("options", {}), start.classes, start.input_size, 0)
    return start or StartCard(str(given), str(name), section.get("options", {}), (), size, 0)


def _model(wanted: Mapping[str, Any], start: StartCard | None) -> dict[str, Any]:
    if start is None:
        section = wanted.get("model")
        return {"name": section.get("name", NETWORK) if isinstance(section, Mapping) else NETWORK}
    return {"name": start.model, "options": dict(start.options), "weights": start.source}


def _given(wanted: Mapping[str, Any], key: str) -> int | None:
    """A whole number that an override gives; what is none is told when the recipe is checked."""
    value = wanted.get(key)
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None


def _given_size(
    wanted: Mapping[str, Any], section: str, key: str, usual: tuple[int, int] | None
) -> tuple[int, int] | None:
    inside = wanted.get(section)
    if not isinstance(inside, Mapping) or key not in inside:
        return usual
    value = inside[key]
    is_size = isinstance(value, list) and len(value) == 2 and all(isinstance(each, int) and each > 0 for each in value)
    return (value[0], value[1]) if is_size else None


def _working_size(data: OwnData) -> tuple[int, int] | None:
    """The size that pictures are brought to: where they differ, or are larger than a training here needs."""
    height, width = next(iter(data.sizes))
    zoom = LONGEST_SIDE / max(height, width)
    if zoom < 1:
        return max(8, round(height * zoom / 8) * 8), max(8, round(width * zoom / 8) * 8)
    return (height, width) if len(data.sizes) > 1 else None


def _crop(height: int, width: int, multiple: int) -> tuple[int, int] | None:
    """The canvas: as the picture, of no more pixels than a step should take; None where a picture is that small."""
    zoom = min(1.0, math.sqrt(CROP_PIXELS / (height * width)))
    sides = tuple(int(side * zoom) // multiple * multiple for side in (height, width))
    return (sides[0], sides[1]) if min(sides) > 0 else None


def _batch(pictures: int) -> int:
    """Eight, of fewer pictures half, so that an epoch has two steps; batch-norm wants two."""
    return min(BATCH, max(min(pictures, 2), pictures // 2))


def _most_pictures(model: str, crop: tuple[int, int]) -> int:
    """Pictures of a batch whose step fits into the free memory."""
    needed = STEP_BYTES.get(model, MOST_STEP_BYTES) * crop[0] * crop[1]
    return max(1, int(MEMORY_SHARE * _free_bytes() / needed))


def _free_bytes() -> int:
    try:
        text = Path("/proc/meminfo").read_text(encoding="ascii")
        return 1024 * int(next(line for line in text.splitlines() if line.startswith("MemAvailable")).split()[1])
    except (OSError, StopIteration):  # no Linux
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _epochs(pictures: int, batch: int) -> int:
    fewest, most = EPOCHS
    return min(max(math.ceil(STEPS / max(pictures // batch, 1)), fewest), most)


def _note(recipe: Recipe, data: OwnData, start: StartCard | None) -> str:
    """The head of the recipe's file, as shipped recipes have one."""
    begins = f"Fine-tuning of {start.source}" if start else f"{recipe.model.name} from random weights"
    root = "" if data.root is None else f" --data-root {quote(str(data.root))}"
    entries = {
        "": f"{begins} on {data.title}: {counted(data.train, 'picture')} for training, {data.val} for validation.",
        "Made": f"by `kerbseg train own` of kerbseg {kerbseg.__version__}, from the data and what shipped weights say.",
        "Expected": "not measured.",
        "Command": f"kerbseg train recipe.yaml{root} --out runs/again",
        "Cost": "not measured.",
    }
    lines: list[str] = []
    for key, text in entries.items():
        lines += textwrap.wrap(
            printable(text),
            116,
            initial_indent=f"{key}:".ljust(10) if key else "",
            subsequent_indent=" " * 10 if key else "",
            break_long_words=False,
            break_on_hyphens=False,
        )
    return "".join(f"# {line}\n" for line in lines)


def _by(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"


def _some(names: Sequence[str], most: int = 8) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
