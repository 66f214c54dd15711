"""A recipe: one YAML file, one run. Read and checked without importing torch, so that a slip costs no time.

What decides the result stands here; what depends on the machine (data root, devices, output folder) does not.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, fields, is_dataclass
from importlib.resources import files
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, get_args, get_type_hints

import yaml
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from kerbseg.core.errors import RecipeError, did_you_mean

Share = Annotated[float, Field(ge=0, le=1)]
NotNegative = Annotated[float, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]
Size = tuple[Count, Count]  # height, width in pixels
Range = tuple[Positive, Positive]  # lowest, highest

_STRICT = ConfigDict(extra="forbid", strict=True)


@dataclass(frozen=True, config=_STRICT)
class Model:
    """Which network, and what of `--init` it starts from."""

    name: str
    options: dict[str, Any] = Field(default_factory=dict)
    init: str | tuple[str, ...] = ""  # only weights under these prefixes are taken from --init; all without one


@dataclass(frozen=True, config=_STRICT)
class Rare:
    """Extra pictures of rare classes in each epoch, cropped so that one object of the class lies on the canvas."""

    classes: tuple[str, ...]
    extra: Count = 20  # a class and epoch


@dataclass(frozen=True, config=_STRICT)
class Data:
    """Which pictures; `best` is chosen on `val` and never on a test split."""

    name: str
    train: tuple[str, ...] = ("train",)
    val: str = "val"
    size: Size | None = None  # pictures and masks are brought to this first; as stored without it
    limit: Count | None = None  # only the first so many pictures of each split
    rare: Rare | None = None


@dataclass(frozen=True, config=_STRICT)
class CycleStep:
    """What one epoch of a cycle does otherwise."""

    crop: Size
    rotate: NotNegative = 0.0  # degrees, either way


@dataclass(frozen=True, config=_STRICT)
class ResizeStage:
    """A stretch of training at one resolution: pictures are drawn `zoom` times as large, on a canvas of `crop`."""

    until: Share  # share of the epochs at which it ends
    zoom: Positive
    crop: Size


@dataclass(frozen=True, config=_STRICT)
class Augment:
    """Random changes of a batch, on the device; what geometry brings in from outside is VOID."""

    flip: Share = 0.0  # share of pictures mirrored left to right
    scale: Range = (1.0, 1.0)
    stretch: NotNegative = 0.0  # the width's scale is the height's plus -s .. s, and at least the lowest of `scale`
    fill: bool = False  # a picture that has become smaller than the canvas is enlarged to it
    rotate: NotNegative = 0.0  # degrees, either way
    translate: tuple[Share, Share] = (0.0, 0.0)  # share of width and of height, either way
    crop: Size | None = None  # the canvas; the picture's size without it
    cycle: tuple[CycleStep, ...] = ()  # epochs take these by turns; replaces `crop` and `rotate`
    progressive: tuple[ResizeStage, ...] = ()  # a schedule of resolutions; replaces `crop` while it lasts
    color_p: Share = 1.0  # share of pictures whose colour is changed
    brightness: Share = 0.0  # factor 1 - b .. 1 + b; likewise the next two
    contrast: Share = 0.0
    saturation: Share = 0.0
    hue: Annotated[float, Field(ge=0, le=0.5)] = 0.0  # turns of the colour circle, either way
    hue_factor: Share = 0.0  # the hue's angle times 1 - h .. 1 + h
    jpeg: Share = 0.0  # share of pictures compressed
    jpeg_quality: tuple[Count, Count] = (30, 95)


@dataclass(frozen=True, config=_STRICT)
class Ohem:
    """Online hard example mining: the cross entropy counts hard pixels only."""

    threshold: Share = 0.7  # a pixel is hard whose class has less probability
    min_kept: Share = 0.0625  # share of the pixels that counts, however easy they are


@dataclass(frozen=True, config=_STRICT)
class Boundary:
    """The cross entropy of the pixels near another class, added."""

    weight: Positive = 1.0
    radius: Count = 2  # pixels, either way


@dataclass(frozen=True, config=_STRICT)
class Loss:
    """Cross entropy; how classes are weighted and over what it is averaged."""

    weights: Literal["none", "enet", "median_frequency", "list"] = "none"
    constant: Positive = 1.02  # c of ENet's 1 / ln(c + p)
    power: NotNegative = 1.0  # of median frequency
    values: tuple[NotNegative, ...] = ()  # one a class, for `list`
    average: Literal["weights", "pixels", "pictures"] = (
        "pixels"  # divide by the sum of weights, or by the number of these
    )
    at: Literal["picture", "scores"] = "picture"  # compare at the picture's size, or where the network ends
    smoothing: Share = 0.0
    ohem: Ohem | None = None
    boundary: Boundary | None = None
    lovasz: NotNegative = 0.0  # weight of the Lovász-softmax loss, added


@dataclass(frozen=True, config=_STRICT)
class AuxHead:
    """A small head on features inside the network, judged as its scores are; it exists while training only."""

    at: str  # module of the network whose output it reads, such as `features`
    weight: Positive = 0.4  # of its loss, added
    channels: Count = 64  # between its two convolutions


@dataclass(frozen=True, config=_STRICT)
class Distill:
    """A trained network whose scores are followed besides the labels; it stands still and is not saved."""

    teacher: str  # a bundle of the same classes
    weight: Positive = 1.0  # of its loss, added
    temperature: Positive = 2.0  # scores are divided by it, which shows what comes second


@dataclass(frozen=True, config=_STRICT)
class ParamGroup:
    """A part of the network that moves at a rate of its own."""

    prefix: str  # of the names of its weights, such as `encoder.`
    lr: Positive
    until: NotNegative | None = None  # epochs after which it moves as the rest; all of training without it
    freeze_norm: bool = True  # its batch-norm keeps its statistics, and normalises by them, meanwhile


@dataclass(frozen=True, config=_STRICT)
class Optimizer:
    """How weights move."""

    name: Literal["adam", "adamw", "sgd"] = "adam"
    lr: Positive = 1e-3
    weight_decay: NotNegative = 0.0
    weight_decay_until: NotNegative | None = None  # epochs after which there is none; all of training without it
    momentum: Share = 0.9  # of sgd
    nesterov: bool = False  # of sgd
    betas: tuple[Share, Share] = (0.9, 0.999)  # of adam and adamw
    clip: Positive | None = None  # largest norm of the gradient
    groups: tuple[ParamGroup, ...] = ()  # the first whose prefix fits a weight has it; the rest moves at `lr`


@dataclass(frozen=True, config=_STRICT)
class Schedule:
    """How the learning rate moves; all but plateau change it at every step."""

    name: Literal["constant", "poly", "step", "plateau", "one_cycle", "cosine", "exponential"] = "poly"
    warmup: NotNegative = 0.0  # epochs of linear growth
    hold: Count | None = None  # epochs between two changes of the rate; it changes at every step without it
    power: Positive = 0.9  # of poly
    min_lr_ratio: Share = 0.0  # lowest share of the learning rate; of poly, cosine and one_cycle
    milestones: tuple[Count, ...] = ()  # epochs, of step
    factor: Share = 0.1  # of step and plateau; of exponential, an epoch
    after: NotNegative = 0.0  # epochs before exponential begins to fall
    patience: Count = 10  # validations without progress, of plateau
    watch: Literal["score", "loss"] = "score"  # of plateau: the validation's figure, or the loss in training
    pct_start: Share = 0.3  # share of training that one_cycle climbs


@dataclass(frozen=True, config=_STRICT)
class Grouping:
    """Gradual grouping: grouped convolutions of the model begin dense, and lose little by little what is too much."""

    until: Annotated[float, Field(ge=0, lt=1)]  # share of the epochs at which alpha reaches 0; then fine-tuning
    schedule: Literal["linear", "cosine"] = "linear"
    by: Literal["epoch", "step"] = "epoch"
    select: tuple[str, ...] = ()  # name patterns; all grouped convolutions (but no depthwise one) without them


@dataclass(frozen=True, config=_STRICT)
class Recipe:
    """One run of one paper."""

    model: Model
    data: Data
    epochs: Count
    batch_size: Count
    augment: Augment = Augment()
    loss: Loss = Loss()
    optim: Optimizer = Optimizer()
    schedule: Schedule = Schedule()
    grouping: Grouping | None = None
    auxiliary: tuple[AuxHead, ...] = ()
    distill: Distill | None = None
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    ema: Annotated[float, Field(ge=0, lt=1)] | None = None  # decay of the averaged weights; none without it
    norm_momentum: Positive | None = None  # weight of a new batch in batch-norm's statistics; the network's own without
    validate_every: Count = 1  # epochs; the last one is always validated
    seed: int = 0

    def to_dict(self) -> dict[str, Any]:
        """The resolved recipe as plain values; `read` of its YAML gives the same recipe."""
        return _plain(self)


@dataclass(frozen=True, config=_STRICT)
class Classifier:
    """Which classifier; its body starts a segmentation network (`models.classifiers`)."""

    name: str
    options: dict[str, Any] = Field(default_factory=dict)


@dataclass(frozen=True, config=_STRICT)
class ClassData:
    """A folder of pictures, `<split>/<class>/<picture>`, as ImageNet is unpacked."""

    name: str = "imagenet"  # its root is --data-root, or $KERBSEG_DATA/<name>
    train: str = "train"
    val: str = "val"
    size: Count = 224  # height and width of what the network sees
    scale: Range = (0.08, 1.0)  # share of a picture's area that a random crop takes
    ratio: Range = (0.75, 1.3333333333333333)  # its width by its height
    limit: Count | None = None  # only the first so many pictures of each class


@dataclass(frozen=True, config=_STRICT)
class Classification:
    """One training of a classifier, from whose body a segmentation network can start."""

    task: Literal["classification"]
    model: Classifier
    epochs: Count
    batch_size: Count
    data: ClassData = ClassData()
    smoothing: Share = 0.0
    optim: Optimizer = Optimizer()
    schedule: Schedule = Schedule()
    grouping: Grouping | None = None
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    ema: Annotated[float, Field(ge=0, lt=1)] | None = None
    validate_every: Count = 1  # epochs; the last one is always validated
    seed: int = 0

    def to_dict(self) -> dict[str, Any]:
        """As a Recipe's."""
        return _plain(self)


def _plain(recipe: Recipe | Classification) -> dict[str, Any]:
    plain: dict[str, Any] = json.loads(json.dumps(asdict(recipe)))
    return plain


def read(source: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """The recipe in a file, or the shipped one of that name, with `key.path=value` overrides.

    Raises RecipeError naming the key, what was found, and the nearest valid one.
    """
    recipe = read_any(source, overrides)
    if isinstance(recipe, Classification):
        raise RecipeError(f"{source} trains a classifier, which segments nothing; choose a recipe of segmentation")
    return recipe


def read_any(source: str | Path, overrides: Sequence[str] = ()) -> Recipe | Classification:
    """As `read`, and also a recipe that says `task: classification`."""
    path = find(str(source))
    raw = _parse(path.read_text(), str(path))
    if not isinstance(raw, dict):
        raise RecipeError(f"{path} holds no mapping of recipe keys")
    for override in overrides:
        _override(raw, override)
    kind: type[Recipe] | type[Classification] = Classification if "task" in raw else Recipe
    try:
        recipe: Recipe | Classification = TypeAdapter(kind).validate_json(json.dumps(raw), strict=True)
        return recipe
    except ValidationError as error:
        raise RecipeError(f"{path}: {_explain(error, kind)}") from None
    except TypeError as error:  # YAML knows dates and sets, recipes do not
        raise RecipeError(f"{path}: {error}; recipes hold numbers, words and lists") from error


def shipped() -> list[str]:
    """Names of the recipes that come with kerbseg."""
    root = _shipped_root()
    return sorted(str(path.relative_to(root).with_suffix("")) for path in root.rglob("*.yaml"))


def find(source: str) -> Path:
    """The file of a recipe: a path, or the name of a shipped one. Raises RecipeError with the nearest name."""
    for path in (Path(source), _shipped_root() / f"{source}.yaml"):
        if path.is_file():
            return path
    raise RecipeError(f"no recipe {source!r}; {did_you_mean(source, shipped())}")


def _shipped_root() -> Path:
    return Path(str(files("kerbseg") / "recipes"))


class _Loader(yaml.SafeLoader):
    """YAML 1.1 reads 1e-3 as a word and keeps the last of two equal keys; this one does neither."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(None, None, f"key {key!r} stands twice", node.start_mark)
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)$"),
    list("-+0123456789."),
)


def _parse(text: str, where: str) -> Any:
    try:
        return yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        raise RecipeError(f"{where} is no valid YAML: {error}") from error


def _override(raw: dict[str, Any], override: str) -> None:
    """Sets `key.path=value` in place, in a mapping that belongs to this call alone."""
    key, equals, value = override.partition("=")
    if not equals:
        raise RecipeError(f"override {override!r} is no key=value, such as optim.lr=1e-3")
    *parents, last = key.split(".")
    for parent in parents:
        raw = raw.setdefault(parent, {})
        if not isinstance(raw, dict):
            raise RecipeError(f"override {key!r}: {parent!r} is a value, not a section")
    raw[last] = _parse(value, f"override {key!r}")


def _explain(error: ValidationError, kind: type) -> str:
    """The first complaint as one line: key, what was found, way out."""
    unknown = ("unexpected_keyword_argument", "extra_forbidden")  # told first: a slip in a name also leaves one missing
    first = min(error.errors(), key=lambda complaint: complaint["type"] not in unknown)
    path = [
        part for part in first["loc"] if not (isinstance(part, str) and part.startswith(("function", "constrained")))
    ]
    key = ".".join(str(part) for part in path)
    if first["type"] in unknown:
        known = _keys_of(path[:-1], kind)
        return f"unknown key {key!r}; {did_you_mean(str(path[-1]), known)}"
    if first["type"] in ("missing", "missing_argument"):
        return f"key {key!r} is missing; add it"
    if first["type"] == "literal_error":
        choices = first["ctx"]["expected"].replace("'", "").replace(" or ", ", ").split(", ")
        return f"{key!r} is {first['input']!r}; {did_you_mean(str(first['input']), choices)}"
    return f"{key!r} is {first['input']!r}: {first['msg'][0].lower()}{first['msg'][1:]}"


def _keys_of(path: Sequence[str | int], kind: type) -> list[str]:
    """Valid keys of the section at `path`."""
    section: Any = kind
    for part in path:
        section = get_args(section)[0] if isinstance(part, int) else get_type_hints(section)[part]
        if isinstance(section, UnionType):  # a section that may be missing
            section = get_args(section)[0]
    return [f.name for f in fields(section)] if is_dataclass(section) else []
