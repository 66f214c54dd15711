"""`kerbseg.accelerate`: a network of another house, given our last stage and checked against its own."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32, Int, UInt8

import kerbseg.models as models
from kerbseg.accelerate.early_mixing import mix_early
from kerbseg.accelerate.onnx_file import opened, read_onnx, weights_beside
from kerbseg.accelerate.onnx_graph import OnnxGraph
from kerbseg.accelerate.tail import Reading, Tail, find_tail, learn_reading, up_to_the_named
from kerbseg.bundle import BundleCard, versions
from kerbseg.core.errors import BundleError, DataError, KerbsegError
from kerbseg.core.files import check_writable
from kerbseg.core.labels import LONGEST_NAME, LabelSet
from kerbseg.core.text import counted, printable
from kerbseg.core.types import Preprocessing
from kerbseg.data import open_dataset
from kerbseg.data.dataset_yaml import distinct_colors, find_labels
from kerbseg.data.plain_pictures import PlainPictures, plain_pictures
from kerbseg.export import pictures_of
from kerbseg.export.files import engine_of, install
from kerbseg.exported_card import ExportedCard, ForeignCard, LastStageCard
from kerbseg.runtime import Runtime, open_runtime
from kerbseg.runtime.engines import size_bytes

FLOOR = 0.9999  # share of equal pixels
COMPARED = 8  # pictures
EPSILON = 1e-5  # of the largest logit: two that are nearer to each other are equal but for rounding
ENDINGS = (".onnx", ".xml")

Picture = UInt8[np.ndarray, "h w 3"]
Usual = Callable[[Picture], tuple[Int[np.ndarray, "h w"], Float32[np.ndarray, "k H W"]]]


@dataclass(frozen=True)
class Accelerated:
    """What was done to a network, and how far it agrees with its untouched file."""

    network: str
    tail: str  # in words
    classes: int
    size: tuple[int, int]
    equal: float  # share of pixels of the same class
    differing: int  # pixels of another class
    ties: int  # of these: both classes have the largest logit, but for rounding
    pictures: int
    left_out: str | None = None  # the enlarged logits that were named, where the file does more with them than ours

    def __str__(self) -> str:
        whose = self.network if self.left_out is None else f"the largest of {self.left_out!r} in {self.network}"
        own = f"{self.differing} differ" if self.differing else "none differs"
        ties = f", {self.ties} of them ties (equal logits but for rounding)" if self.differing else ""
        agreed = f"{self.equal:.4%} of the pixels of {counted(self.pictures, 'picture')} as in {whose}; {own}{ties}"
        return agreed if self.left_out is None else f"{agreed}; what the file does behind that is left out"

    def to_dict(self) -> dict[str, Any]:
        """As `kerbseg accelerate --json` writes it."""
        return asdict(self)


@dataclass(frozen=True)
class Network:
    """An untouched network whose last stage is known."""

    path: Path
    graph: Any  # OnnxGraph or OpenvinoGraph
    tail: Tail[Any]
    reading: Reading
    engine: str  # that runs what is written, and the untouched file beside it
    logits: str | None = None  # the tensor that was chosen by name
    mixes_early: bool = True  # whether features are mixed before they are enlarged, see `early_mixing`

    def usual(self) -> Usual:
        """The untouched network: ids of a picture as its user sees them, and the logits that they follow from."""
        run, feed, tail = self._opened(), self.graph.input, self.tail
        channel = 1 if tail.layout == "nchw" else 3

        def ids(picture: Picture) -> tuple[Int[np.ndarray, "h w"], Float32[np.ndarray, "k H W"]]:
            outputs = run(feed.of(picture))
            logits = torch.from_numpy(np.moveaxis(outputs[-1], channel, 1)[:1].astype(np.float32))
            if tail.resize is None:
                logits = torch.nn.functional.interpolate(logits, tail.large, mode="bilinear")
                return logits[0].argmax(0).numpy(), logits[0].numpy()
            return self.reading.ids(outputs[0])[0], logits[0].numpy()

        return ids

    def _opened(self) -> Callable[[np.ndarray], Sequence[np.ndarray]]:
        chosen = [self.tail.end] if self.tail.resize is None else [self.tail.end, self.tail.resize.result]
        if isinstance(self.graph, OnnxGraph):
            model = self.graph.exposing(chosen)
            if self.engine == "onnx":
                name, run = self.graph.input.name, opened(model, str(self.path))
                return lambda values: run({name: values})
            from kerbseg.accelerate.openvino_graph import of_onnx

            whole = of_onnx(model, str(self.path))
        else:
            whole = self.graph.reference(chosen)
        from kerbseg.accelerate import openvino_graph

        return openvino_graph.opened(whole, str(self.path))

    def size_bytes(self) -> int:
        """Of the untouched network, with its weights where they lie beside it."""
        return size_bytes(self.path) + sum(file.stat().st_size for file in weights_beside(self.path))

    def converted(self) -> Any:
        """The graph from uint8 pictures to ids, as the engine of what is written has it."""
        model = self._cut()
        if isinstance(self.graph, OnnxGraph) and self.engine == "openvino":
            from kerbseg.accelerate.openvino_graph import of_onnx

            return of_onnx(model, str(self.path))
        return model

    def _cut(self) -> Any:
        model = self.graph.cut(self.tail)
        return mix_early(model) if self.mixes_early and isinstance(self.graph, OnnxGraph) else model

    def exported(self, labels: LabelSet) -> ExportedCard:
        """The cards of what is written."""
        feed, tail = self.graph.input, self.tail
        parameters, macs = self.graph.costs(self._cut())
        stem = _named(self.path.stem)
        own = {} if tail.temperature is None else {"calibration": {"temperature": tail.temperature}}
        card = BundleCard(
            model=f"{stem} (accelerated)" if stem in models.list_models() else stem,
            labels=labels,
            preprocessing=feed.preprocessing,
            input_size=feed.size,
            outputs=tail.classes,
            scores=own,
            source=f"{self.path.name}, by kerbseg accelerate",
            versions=versions(),
        )
        precision = self.graph.precision
        last_stage = LastStageCard(tail.large, tail.align_corners, precision, coordinates=tail.coordinates)
        return ExportedCard(card, last_stage, ForeignCard(self.path.name, parameters, macs, tail.softmax, self.logits))


def accelerate(
    network: str | Path,
    path: str | Path,
    *,
    classes: LabelSet | str | Path | None = None,
    preprocessing: Preprocessing | None = None,
    size: tuple[int, int] | None = None,
    logits: str | None = None,
    pictures: Sequence[Picture] | str | Path | None = None,
    floor: float = FLOOR,
) -> Accelerated:
    """Writes anyone's segmentation network (.onnx, .xml) as a file of ours (.onnx, .xml), with our last stage.

    What the network itself computes stays as it is, but for the order of sums (`early_mixing`); the enlargement of its
    logits to the pictures' size and the choice of a class are ours then, and pictures come as uint8 RGB.
    `preprocessing` must be that of its training: without it pixels are 0..1 (RGB / 255). `size` (height, width) is for
    graphs that take any. `logits` names the small logits, what enlarges them, or the output to follow, where there is a
    choice. `classes` are a label set, its name or a dataset.yaml; class_0, class_1 ... without.

    Raises BundleError for a file that is damaged, ours already, or has no such last stage, InputError for another size
    than the network's, KerbsegError where fewer than `floor` of the pixels of `pictures` (a folder or arrays; drawn
    streets without them) get the class that the untouched file gives; nothing is written then.
    """
    source, target = Path(network), Path(path)
    check_target(source, target)
    known = open_network(source, target, preprocessing, size, logits)
    labels = labels_for(classes, known)
    shown = shown_pictures(pictures, known.graph.input.size)
    with TemporaryDirectory() as folder:
        made = Path(folder) / target.name
        _, _, result = write_agreeing(known, labels, made, shown, floor)
        install(made, target)
    return result


def write_agreeing(
    known: Network, labels: LabelSet, made: Path, shown: Sequence[Picture], floor: float, threads: int | None = None
) -> tuple[Network, Runtime, Accelerated]:
    """Writes the accelerated file, opens it and compares it; the network is told as it was written.

    Sums in another order may round too far for a network: it is then written without that. Raises KerbsegError where
    it does not agree even so, and for a `floor` that is no fraction.
    """
    if not 0 <= floor <= 1:
        raise KerbsegError(f"parity is {floor:g}; give the fraction of equal pixels, from 0 to 1")
    usual = known.usual()
    for tried in (known, replace(known, mixes_early=False)):
        saver(made)(tried.converted(), tried.exported(labels), made)
        runtime = open_runtime(made, threads=threads)
        result = compared(tried, usual, runtime, shown)
        if result.equal >= floor:
            return tried, runtime, result
    raise KerbsegError(
        f"{known.path}: what is made of it would not agree with its network: {result}; nothing was written."
        f" If that is near enough, say --parity {math.floor(result.equal * 1e4) / 1e4:g}"
    )


def check_target(source: Path, target: Path) -> None:
    """Raises KerbsegError where the file to write cannot be written, or is the network itself."""
    check_writable(target)
    if target.suffix not in ENDINGS:
        raise KerbsegError(f"{target} has no ending of what is accelerated; choose {' or '.join(ENDINGS)}")
    if target.exists() and source.exists() and target.samefile(source):
        raise KerbsegError(f"{target} is the network itself; name another file to write: -o OUT")


def open_network(
    source: Path,
    target: Path,
    preprocessing: Preprocessing | None = None,
    size: tuple[int, int] | None = None,
    logits: str | None = None,
) -> Network:
    """The untouched network, its last stage found, for the engine of a file. Raises as `accelerate`."""
    engine = engine_of(target)
    if source.suffix not in ENDINGS:
        raise BundleError(f"{source} is no network that is accelerated; these are .onnx and OpenVINO .xml files")
    if not source.is_file():
        raise BundleError(f"network {source} is no file, or does not exist; check its path")
    if source.suffix == ".xml" and engine.suffix == ".onnx":
        raise KerbsegError(f"an OpenVINO model stays one: name the file to write {target.with_suffix('.xml')}")
    pixels = preprocessing or Preprocessing()
    graph: Any
    if source.suffix == ".onnx":
        graph = OnnxGraph(read_onnx(source), source, size, pixels)
    else:
        from kerbseg.accelerate.openvino_graph import OpenvinoGraph, read_openvino

        graph = OpenvinoGraph(read_openvino(source), source, size, pixels)
    tail = find_tail(graph, graph.input.size, logits)
    try:
        reading = learn_reading(graph, tail, graph.input.size)
    except BundleError:
        if logits is None or logits in graph.outputs or tail.resize is None or tail.left_out is not None:
            raise
        tail = up_to_the_named(graph, tail)  # whatever follows: this was asked for
        reading = learn_reading(graph, tail, graph.input.size)
    return Network(source, graph, tail, reading, engine.name, logits)


def saver(target: Path) -> Callable[[Any, ExportedCard, Path], None]:
    """What writes a graph with its cards."""
    if target.suffix == ".onnx":
        from kerbseg.export.onnx import save as save_onnx

        return save_onnx
    from kerbseg.export.openvino import save as save_openvino

    return save_openvino


def labels_for(classes: LabelSet | str | Path | None, network: Network) -> LabelSet:
    """The label set asked for, or one of numbers. Raises KerbsegError where it has another number of classes."""
    count = network.tail.classes
    if classes is None:
        names = tuple(f"class_{index}" for index in range(count))
        ids = {index: index for index in range(count)}
        return LabelSet(_named(network.path.stem), names, tuple(distinct_colors([None] * count)), ids)
    labels = classes if isinstance(classes, LabelSet) else find_labels(str(classes))
    if len(labels) != count:
        raise KerbsegError(
            f"{classes if isinstance(classes, str | Path) else labels.name} has {len(labels)} classes, the network has"
            f" {count}; name the data set that it was trained on, or leave --classes out"
        )
    return labels


def shown_pictures(pictures: Sequence[Picture] | str | Path | None, size: tuple[int, int]) -> Sequence[Picture]:
    """Pictures of a size to compare on: those given, some of a folder, or drawn streets."""
    if pictures is None:
        return pictures_of(open_dataset("scenes", "val"), size, COMPARED)
    if not isinstance(pictures, str | Path):
        if not len(pictures):
            raise DataError("there are no pictures to compare on; leave them out for drawn streets")
        return pictures
    return pictures_of(folder_of(pictures), size, COMPARED)


def folder_of(pictures: str | Path) -> PlainPictures:
    """The pictures of a folder; what their classes are called does not matter."""
    if not Path(pictures).is_dir():
        raise DataError(f"{pictures} is no folder of pictures; check its path")
    return plain_pictures(Path(pictures), LabelSet("any", ("class_0", "class_1"), ((0, 0, 0), (255, 255, 255))))


def compared(network: Network, usual: Usual, runtime: Runtime, pictures: Sequence[Picture]) -> Accelerated:
    """How far what was written agrees with the untouched network."""
    differing = ties = pixels = 0
    for picture in pictures:
        theirs, logits = usual(picture)
        ours = runtime(picture[None])[0].astype(np.int64)
        if theirs.shape != ours.shape:
            raise KerbsegError(
                f"{network.path} gives ids of {theirs.shape} in {network.engine}, not of {ours.shape} (HxW), as in"
                " onnxruntime; nothing was written"
            )
        rows, columns = np.nonzero(ours != theirs)
        gaps = logits[theirs[rows, columns], rows, columns] - logits[ours[rows, columns], rows, columns]
        differing, pixels = differing + len(rows), pixels + ours.size
        ties += int((gaps <= EPSILON * np.abs(logits).max()).sum())
    return Accelerated(
        network=network.path.name,
        tail=str(network.tail),
        classes=network.tail.classes,
        size=network.graph.input.size,
        equal=1 - differing / pixels,
        differing=differing,
        ties=ties,
        pictures=len(pictures),
        left_out=network.tail.left_out,
    )


def _named(stem: str) -> str:
    """A file's stem as a label set or a network may be called."""
    return printable(stem).strip()[: LONGEST_NAME - 20] or "network"
