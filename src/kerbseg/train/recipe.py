"""A recipe: what one run of one paper is, and whether it makes sense; checked without importing torch.

What decides the result stands here; what depends on the machine (data root, devices, output folder) does not. A file
is read in `recipe_file`. Keys that a chosen optimizer, schedule or weighting would not use do not exist in its section,
so a resolved recipe holds what the run used, and nothing else.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from itertools import pairwise
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field
from pydantic.dataclasses import dataclass

from kerbseg.core.resize import Resample
from kerbseg.train.recipe_loss import AuxHead, Head, Loss, PlainLoss
from kerbseg.train.recipe_optim import Adam, Optimizer, Poly, Schedule
from kerbseg.train.recipe_values import (
    STRICT,
    BelowOne,
    Count,
    Degrees,
    Factor,
    Few,
    Options,
    Percent,
    Pixels,
    Place,
    Positive,
    Range,
    Seed,
    Share,
    Size,
    ValSplit,
    ordered,
)


@dataclass(frozen=True, config=STRICT)
class Model:
    """Which network, and what it starts from."""

    name: str  # of the network; `kerbseg models --all` lists them
    options: Options = Field(default_factory=dict)  # of the network, such as `dropout`
    weights: str | None = None  # to start from, as --init: a file, a run folder or shipped weights; random without it
    init: str | tuple[str, ...] = ""  # only weights under these prefixes are taken; all that fit without one
    # random weights: as the network's code draws them, or convolutions by Glorot's uniform rule and biases 0
    initialization: Literal["network", "xavier_uniform"] = "network"
    # channels of the logits; one a class without it. Those beyond the classes, such as an authors' void, never win
    outputs: Annotated[int, Field(ge=1, le=256)] | None = None


@dataclass(frozen=True, config=STRICT)
class Rare:
    """Extra pictures of rare classes in each epoch, cropped so that one object of the class lies on the canvas."""

    classes: Annotated[tuple[str, ...], Field(min_length=1)]  # their names
    extra: Few = 20  # pictures a class and epoch


@dataclass(frozen=True, config=STRICT)
class Edges:
    """Lines where classes or void meet, drawn in the whole mask before any change of it (PIDNet)."""

    width: Annotated[int, Field(ge=1, le=100)] = 4  # pixels
    border: Annotated[int, Field(ge=0, le=1000)] = 0  # pixels at each border of the mask in which no line is drawn


@dataclass(frozen=True, config=STRICT)
class Data:
    """Which pictures; `best` is chosen on `val` and never on a test split.

    Names are restricted by patterns: `0001TP*` takes what it fits, `!0001TP*` leaves it away. CamVid's names begin with
    the drive, so one drive can be left out of training and validated on: `val: train`, `train_names: ["!0001TP*"]`,
    `val_names: ["0001TP*"]`.
    """

    name: str  # of the data set, such as `folder` for your own; several with the same classes: `coco+yolo`
    train: Annotated[tuple[str, ...], Field(min_length=1)] = ("train",)  # splits to train on
    val: ValSplit = "val"  # split that chooses the best weights
    train_names: tuple[str, ...] = ()  # patterns of names in `train`; all pictures without them
    val_names: tuple[str, ...] = ()  # patterns of names in `val`; all pictures without them
    size: Size | None = None  # height and width that pictures and masks are brought to first; as stored without it
    resample: Resample = "bilinear"  # how pictures come to `size`, in training and when the network is used
    val_size: Size | None = None  # as `size`, of validation pictures and of what the network is meant for
    val_crop: Size | None = None  # validation looks at the middle of its pictures only; at all of them without it
    limit: Count | None = None  # only the first so many pictures of each split, of those that the names leave
    rare: Rare | None = None  # more pictures of rare classes
    edges: Edges | None = None  # lines where classes meet, for a head that learns them


@dataclass(frozen=True, config=STRICT)
class CycleStep:
    """What one epoch of a cycle does otherwise."""

    crop: Size  # height and width of the canvas
    rotate: Degrees = 0.0  # degrees, either way
    turn: Degrees = 0.0  # degrees, either way, of the finished canvas


@dataclass(frozen=True, config=STRICT)
class ResizeStage:
    """A stretch of training at one resolution: pictures are drawn `zoom` times as large, on a canvas of `crop`."""

    until: Annotated[float, Field(gt=0, le=1)]  # share of the epochs at which it ends
    zoom: Factor  # size of what is drawn: 0.5 halves pictures
    crop: Size  # height and width of the canvas


def _in_turn(stages: tuple[ResizeStage, ...]) -> tuple[ResizeStage, ...]:
    for earlier, later in pairwise(stages):
        if later.until <= earlier.until:
            raise ValueError(f"a stage until {later.until} comes after one until {earlier.until}; sort them by `until`")
    return stages


@dataclass(frozen=True, config=STRICT)
class Augment:
    """Random changes of a batch, on the device; what geometry brings in from outside is VOID.

    Colors change in the order in which they stand here; `<key>_p` is the share of pictures, of those that `color_p`
    takes, that `<key>` changes.
    """

    flip: Share = 0.0  # share of pictures mirrored left to right
    scale: Range = (1.0, 1.0)  # lowest and highest factor of the size
    # the factors are the lowest, one by this more, and so on to the highest; all between them without it
    scale_step: Annotated[float, Field(ge=0, le=100)] = 0.0
    # the width's scale is the height's plus -s .. s, and at least the lowest of `scale`
    stretch: Annotated[float, Field(ge=0, le=100)] = 0.0
    scale_of: Size | None = None  # height and width that a scale of 1 means; the picture's own without it
    # `warp`: all geometry at once, of four pixels each, also where a picture shrinks; else a picture is resized as
    # Pillow does it, with a share of each of its pixels, and cropped, moved and mirrored by whole pixels
    resample: Literal["warp", Resample] = "warp"
    # a picture that has become smaller than the canvas is enlarged to it: in one step with `resample: warp`, else in a
    # second one after it has shrunk
    fill: bool = False
    rotate: Degrees = 0.0  # degrees, either way, before the crop
    turn: Degrees = 0.0  # degrees, either way, of the finished canvas; of the pictures that `color_p` takes
    translate: tuple[Share, Share] = (0.0, 0.0)  # share of width and of height, either way
    # whole pixels of width and of height, either way, each number as likely; nothing is mixed where nothing else moves
    shift: tuple[Annotated[int, Field(ge=0, le=8192)], Annotated[int, Field(ge=0, le=8192)]] = (0, 0)
    # where on the canvas a picture of another size lies; `corner`: a smaller one at the top left, a larger one anywhere
    place: Literal["anywhere", "center", "corner"] = "anywhere"
    border: Literal["black", "gray", "mirror"] = "black"  # what pictures have outside (gray: 0.5); masks have VOID
    crop: Size | None = None  # height and width of the canvas; the picture's size without it
    cycle: tuple[CycleStep, ...] = ()  # epochs take these by turns; replaces `crop`, `rotate` and `turn`
    # a schedule of resolutions; replaces `crop` while it lasts
    progressive: Annotated[tuple[ResizeStage, ...], AfterValidator(_in_turn)] = ()
    color_p: Share = 1.0  # share of pictures whose color is changed
    brightness: Share = 0.0  # factor 1 - b .. 1 + b
    brightness_p: Share = 1.0  # share of pictures that `brightness` changes
    offset: Share = 0.0  # added to values in 0..1: -o .. o, in whole levels of 255
    offset_p: Share = 1.0  # share of pictures that `offset` changes
    contrast: Share = 0.0  # factor 1 - c .. 1 + c
    contrast_p: Share = 1.0  # share of pictures that `contrast` changes
    mid_contrast: Range = (1.0, 1.0)  # lowest and highest factor of the distance from middle gray
    mid_contrast_p: Share = 1.0  # share of pictures that `mid_contrast` changes
    saturation: Share = 0.0  # factor 1 - s .. 1 + s
    saturation_p: Share = 1.0  # share of pictures that `saturation` changes
    hue: Annotated[float, Field(ge=0, le=0.5)] = 0.0  # turns of the color circle, either way
    hue_p: Share = 1.0  # share of pictures that `hue` changes
    shuffle: bool = False  # brightness, contrast, saturation and hue first, in an order of its own for each picture
    hue_factor: Share = 0.0  # the hue's angle times 1 - h .. 1 + h
    # values in 0..1 to the power exp(-g) .. exp(g): .4 makes .5 to .36 .. .63
    gamma: Annotated[float, Field(ge=0, le=10)] = 0.0
    gamma_p: Share = 1.0  # share of pictures that `gamma` changes
    channel_balance: Share = 0.0  # red, green and blue each times 1 - c .. 1 + c of its own
    channel_balance_p: Share = 1.0  # share of pictures that `channel_balance` changes
    gray: Share = 0.0  # how far towards gray: 1 leaves no color
    gray_p: Share = 1.0  # share of pictures that `gray` changes
    blur: Annotated[float, Field(ge=0, le=100)] = 0.0  # pixels of the canvas, a Gaussian's standard deviation: 0 .. b
    blur_p: Share = 1.0  # share of pictures that `blur` changes
    noise: Share = 0.0  # a Gaussian's standard deviation, of values in 0..1: 0 .. n
    noise_p: Share = 1.0  # share of pictures that `noise` changes
    jpeg: Share = 0.0  # share of pictures compressed
    jpeg_quality: Annotated[tuple[Percent, Percent], AfterValidator(ordered)] = (30, 95)  # lowest and highest
    jpeg_first: bool = False  # before all other changes of colors; it is the last without this

    def __post_init__(self) -> None:
        if self.resample != "warp" and (self.rotate or any(step.rotate for step in self.cycle)):
            raise ValueError(
                f"resample: {self.resample} moves by whole pixels and cannot rotate; write turn for rotate"
            )
        own = [] if self.crop is None else [self.crop]
        canvases = [*own, *(step.crop for step in self.cycle), *(stage.crop for stage in self.progressive)]
        for height, width in canvases:
            if self.shift[0] >= width or self.shift[1] >= height:
                raise ValueError(
                    f"shift: {list(self.shift)} (x, y) leaves nothing of a {height}x{width} canvas (HxW); lower it"
                )


def _one_or_more(value: Any) -> Any:
    return (value,) if isinstance(value, str) else tuple(value) if isinstance(value, list) else value


@dataclass(frozen=True, config=STRICT)
class Distill:
    """Trained networks whose logits are followed besides the labels; they stand still and are not saved."""

    # bundles of the same classes, or names of shipped weights; of several, the mean of their probabilities
    teacher: Annotated[tuple[str, ...], BeforeValidator(_one_or_more), Field(min_length=1)]
    weight: Positive = 1.0  # of its loss, added
    temperature: Positive = 2.0  # logits are divided by it, which shows what comes second
    at: Place = "picture"  # where both are compared


@dataclass(frozen=True, config=STRICT)
class Grouping:
    """Gradual grouping: grouped convolutions of the model begin dense, and lose little by little what is too much."""

    until: BelowOne  # share of the epochs at which alpha reaches 0; then fine-tuning
    schedule: Literal["linear", "cosine"] = "linear"  # how alpha falls
    by: Literal["epoch", "step"] = "epoch"  # when alpha is set anew
    select: tuple[str, ...] = ()  # name patterns; all grouped convolutions (but no depthwise one) without them


@dataclass(frozen=True, config=STRICT)
class Recipe:
    """One run of one paper."""

    model: Model  # which network
    data: Data  # which pictures
    epochs: Count  # times that all training pictures are seen
    batch_size: Count  # pictures a step, of all devices together
    augment: Augment = Augment()  # random changes of pictures
    loss: Loss = PlainLoss()  # what is made small
    optim: Optimizer = Adam()  # how weights move
    schedule: Schedule = Poly()  # how the learning rate moves
    grouping: Grouping | None = None  # fade dense convolutions into grouped ones
    auxiliary: tuple[AuxHead, ...] = ()  # more heads while training
    heads: dict[str, Head] = Field(default_factory=dict)  # those that the network has of its own, by their names
    distill: Distill | None = None  # learn from a trained network too
    drop_last: bool = True  # an epoch ends with its last whole batch; else with the pictures that are left
    # numbers that are computed with; auto: float32 or bfloat16, what is faster when the run begins, which keeps it
    precision: Literal["float32", "bfloat16", "float16", "auto"] = "float32"
    ema: BelowOne | None = None  # decay of the averaged weights; none without it
    # weight of a new batch in batch-norm's statistics; the network's own without it
    norm_momentum: Annotated[float, Field(gt=0, le=1)] | None = None
    validate_every: Count = 1  # epochs; the last one is always validated
    patience: Count | None = None  # validations without a better figure that end the training; off without it
    seed: Seed = 0  # of all random draws
    # steps in a row whose loss may be no number: of float16 alone, which skips them
    nonfinite_grace: Annotated[int, Field(ge=0)] = 20

    def __post_init__(self) -> None:
        learns_edges = any(head.loss == "boundary" for head in self.heads.values())
        if learns_edges and self.data.edges is None:
            raise ValueError("a head with loss: boundary learns edges, and there are none; add data.edges={}")
        if self.data.edges is not None and not learns_edges:
            raise ValueError("data.edges is for a head with loss: boundary, and heads has none; leave it away")
        if "heads" in self.model.options:
            raise ValueError("model.options.heads is set by the section heads; name there what shall train")

    @property
    def network_options(self) -> dict[str, Any]:
        """Options of the network as it trains; what is saved of it has `model.options`."""
        return {**self.model.options, "heads": True} if self.heads else dict(self.model.options)

    def to_dict(self) -> dict[str, Any]:
        """The resolved recipe as plain values; `recipe_file.read` of its YAML gives the same recipe."""
        return _plain(self)


@dataclass(frozen=True, config=STRICT)
class Classifier:
    """Which classifier; its body starts a segmentation network (`models.classifiers`)."""

    name: str  # of the classifier
    options: Options = Field(default_factory=dict)  # of the classifier


@dataclass(frozen=True, config=STRICT)
class ClassData:
    """A folder of pictures, `<split>/<class>/<picture>`, as ImageNet is unpacked."""

    name: str = "imagenet"  # its root is --data-root, or $KERBSEG_DATA/<name>
    train: str = "train"  # split to train on
    val: ValSplit = "val"  # split that chooses the best weights
    size: Pixels = 224  # height and width of what the network sees
    # share of a picture's area that a random crop takes
    scale: Annotated[tuple[Annotated[float, Field(gt=0, le=1)], Share], AfterValidator(ordered)] = (0.08, 1.0)
    ratio: Range = (0.75, 1.3333333333333333)  # width by height of that crop, lowest and highest
    limit: Count | None = None  # only the first so many pictures of each class


@dataclass(frozen=True, config=STRICT)
class Classification:
    """One training of a classifier, from whose body a segmentation network can start."""

    task: Literal["classification"]  # what makes it a recipe of this kind
    model: Classifier  # which classifier
    epochs: Count  # times that all training pictures are seen
    batch_size: Count  # pictures a step, of all devices together
    data: ClassData = ClassData()  # which pictures
    smoothing: Share = 0.0  # of labels: share of the target that all classes get
    optim: Optimizer = Adam()  # how weights move
    schedule: Schedule = Poly()  # how the learning rate moves
    grouping: Grouping | None = None  # fade dense convolutions into grouped ones
    drop_last: bool = True  # an epoch ends with its last whole batch; else with the pictures that are left
    # numbers that are computed with; auto: float32 or bfloat16, what is faster when the run begins, which keeps it
    precision: Literal["float32", "bfloat16", "float16", "auto"] = "float32"
    ema: BelowOne | None = None  # decay of the averaged weights; none without it
    validate_every: Count = 1  # epochs; the last one is always validated
    patience: Count | None = None  # validations without a better figure that end the training; off without it
    seed: Seed = 0  # of all random draws
    # steps in a row whose loss may be no number: of float16 alone, which skips them
    nonfinite_grace: Annotated[int, Field(ge=0)] = 20

    def to_dict(self) -> dict[str, Any]:
        """As a Recipe's."""
        return _plain(self)


AnyRecipe = Recipe | Classification


def _plain(recipe: AnyRecipe) -> dict[str, Any]:
    plain: dict[str, Any] = json.loads(json.dumps(asdict(recipe)))
    return plain
