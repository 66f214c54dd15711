"""Imports MiniNet-v2 as its authors published it: TensorFlow variables, in an `.npz` or in a checkpoint.

The variables carry no module names: TensorFlow numbered every kind of layer in the order in which the authors'
code created it. That order is the order of our modules (`GRAPH_ORDER`), so the names follow from the network.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tokenize import TokenError
from zipfile import BadZipFile, ZipFile

import numpy as np
import torch
from torch import Tensor, nn

import kerbseg.models as models
from kerbseg.bundle import Bundle, BundleCard, check_variance, load_strictly, versions
from kerbseg.core.errors import BundleError, KerbsegError, did_you_mean
from kerbseg.core.labels import LABEL_SETS, LabelSet
from kerbseg.importers import origin
from kerbseg.importers._files import require_file
from kerbseg.importers.tf_checkpoint import Checkpoint
from kerbseg.models.mininet import Downsample, MultiDilation, Separable, Transposed, Upsample

MODELS = ("mininet_v2", "mininet_v2_cpu")
LICENSE = "its authors' repository is AGPL-3.0 and grants no other terms for the weights: do not redistribute them"

GRAPH_ORDER = ("downsample", "features", "upsampling", "refinement", "fusion", "output")
NOT_WEIGHTS = re.compile(r"(.*/)?(global_step|beta[12]_power(_\d+)?|Adam(_\d+)?)")  # the optimiser's own variables
DEFAULT_LABELS = {11: "camvid", 19: "cityscapes"}
LARGEST_MEMBER = 64 << 20  # bytes; a MiniNet's largest variable has 0.3 MB, a zip may unpack to anything
# RuntimeError: encrypted, or a compression that Python lacks; MemoryError: a header that claims a huge array
# SyntaxError, TokenError ...: a header that is no Python literal
ZIP_ERRORS = (
    BadZipFile, zlib.error, OSError, EOFError, ValueError, KeyError, RuntimeError, MemoryError,
    SyntaxError, TokenError, TypeError, ArithmeticError, struct.error,
)  # fmt: skip

Layers = tuple[tuple[str, Mapping[str, str]], ...]  # (TensorFlow's kind of layer, {our name: its variable})


def _bn(name: str) -> tuple[str, Mapping[str, str]]:
    variables = {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean", "running_var": "moving_variance"}
    return "batch_normalization", {f"{name}.{ours}": theirs for ours, theirs in variables.items()}


def _depthwise(name: str) -> tuple[str, Mapping[str, str]]:
    return "depthwise_conv2d", {f"{name}.weight": "depthwise_kernel"}


LAYERS: dict[type[nn.Module], Layers] = {  # of every block, in the order in which the authors' code creates them
    Downsample: (("conv2d", {"conv.weight": "kernel"}), _bn("bn")),
    Separable: (
        (
            "separable_conv2d",
            {"depthwise.weight": "depthwise_kernel", "pointwise.weight": "pointwise_kernel"},
        ),
        _bn("bn"),
    ),
    MultiDilation: (
        _depthwise("near"),
        _bn("near_bn"),
        _depthwise("far"),
        _bn("far_bn"),
        ("conv2d", {"pointwise.weight": "kernel"}),
        _bn("bn"),
    ),
    Upsample: (("conv2d_transpose", {"deconv.weight": "kernel", "deconv.bias": "bias"}), _bn("bn")),
    Transposed: (("conv2d_transpose", {"weight": "kernel", "bias": "bias"}),),
}


def convert(source: Path, labels: LabelSet | None = None, model: str | None = None) -> Bundle:
    """The bundle of an authors' `.npz` or checkpoint prefix; network and classes follow from its variables.

    Raises BundleError for a damaged file and for variables that are missing, unknown or of another shape.
    """
    if model is not None and model not in MODELS:
        raise KerbsegError(f"mininet-tf holds no {model!r}; {did_you_mean(model, MODELS)}")
    variables = Archive(source) if source.suffix == ".npz" else Checkpoint(source)
    weights = {name for name in variables if not NOT_WEIGHTS.fullmatch(name)}
    name = model or min(MODELS, key=lambda name: len(_names_of(name) ^ weights))
    outputs = _count_classes(name, variables, source)
    labels = _labels(labels, outputs, source)
    network = models.create_model(name, outputs)
    load_strictly(network, _state(network, variables, weights, source), str(source))
    card = BundleCard(
        model=name,
        labels=labels,
        preprocessing=models.card(name).preprocessing,
        input_size=_input_size(source, labels, name),
        outputs=outputs,
        source=origin(variables.files, LICENSE),
        versions=versions(),
    )
    return Bundle(network.eval(), card)


def tensorflow_names(network: nn.Module) -> dict[str, str]:
    """TensorFlow's name of every weight and statistic of ours, in the order of the authors' graph."""
    names: dict[str, str] = {}
    created: Counter[str] = Counter()
    for path, block in _blocks(network):
        for kind, variables in LAYERS[type(block)]:
            layer = f"{kind}_{created[kind]}" if created[kind] else kind
            created[kind] += 1
            names |= {f"{path}.{ours}": f"{layer}/{theirs}" for ours, theirs in variables.items()}
    return names


def _blocks(network: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    for part in GRAPH_ORDER:
        module = network.get_submodule(part)
        if isinstance(module, nn.Sequential):
            yield from ((f"{part}.{index}", block) for index, block in module.named_children())
        else:
            yield part, module


def _names_of(model: str) -> set[str]:
    return set(tensorflow_names(models.create_model(model)).values())


def _state(
    network: nn.Module, variables: Mapping[str, np.ndarray], weights: set[str], where: Path
) -> dict[str, Tensor]:
    """Our state of their variables, layouts turned; the file's `weights` must be those of the network, no more."""
    names = tensorflow_names(network)
    biases = _depthwise_biases(names)
    wanted = {*names.values(), *(biases.values() if weights.intersection(biases.values()) else ())}
    for name in [*sorted(wanted - weights), *sorted(weights - wanted)]:
        problem = "lacks" if name in wanted else "holds an unknown"
        raise BundleError(f"{where} {problem} {name!r} for a {type(network).__name__}; is it another network?")
    state = network.state_dict()  # keeps BN's counters of batches, which TensorFlow does not have
    for key, name in names.items():
        state[key] = _tensor(variables, name, state[key].shape, where)
        check_variance(key, state[key], f"{where}: {name!r}")
    for key, name in biases.items():
        if name in wanted:  # bn(x + bias) is the BN of x with its mean lowered by the bias
            state[key] = state[key] - _tensor(variables, name, state[key].shape, where)
    return state


def _depthwise_biases(names: Mapping[str, str]) -> dict[str, str]:
    """Our key of the mean behind every depthwise convolution of MultiDilation -> TensorFlow's name of its bias.

    Only the authors' Cityscapes weights of 1024x512 have them: they come from an older revision of the code.
    """
    kernels = {key: name for key, name in names.items() if name.startswith("depthwise_conv2d")}
    return {
        f"{key.removesuffix('.weight')}_bn.running_mean": name.replace("depthwise_kernel", "bias")
        for key, name in kernels.items()
    }


def _tensor(variables: Mapping[str, np.ndarray], name: str, shape: Sequence[int], where: Path) -> Tensor:
    """One variable in our layout. Raises BundleError if it is not a finite one of that shape."""
    axes = _axes(name, len(shape))
    expected = [shape[i] for i in np.argsort(axes)]
    array = variables[name]
    if list(array.shape) != expected or array.dtype.kind != "f":
        raise BundleError(
            f"{where}: {name!r} is {array.dtype} {list(array.shape)}, the network needs float {expected};"
            " is it another network?"
        )
    with np.errstate(over="ignore"):  # float64 beyond float32 becomes infinite
        single = np.array(array.transpose(axes), dtype=np.float32, order="C")
    if not np.isfinite(single).all():
        raise BundleError(
            f"{where}: {name!r} holds NaN, infinite values or numbers beyond float32; copy the file again"
        )
    return torch.from_numpy(single)


def _axes(name: str, ndim: int) -> tuple[int, ...]:
    if ndim == 1:
        return (0,)
    if name.endswith("/depthwise_kernel"):
        return 2, 3, 0, 1  # [h w channel 1] -> [channel 1 h w]
    return 3, 2, 0, 1  # [h w in out] -> [out in h w]; transposed: [h w out in] -> [in out h w]


def _count_classes(model: str, variables: Mapping[str, np.ndarray], where: Path) -> int:
    name = tensorflow_names(models.create_model(model))["output.bias"]
    if name not in variables:
        raise BundleError(f"{where} lacks {name!r} for a {model}; is it another network?")
    return variables[name].size


def _labels(labels: LabelSet | None, outputs: int, where: Path) -> LabelSet:
    if labels is None:
        if outputs not in DEFAULT_LABELS:
            raise BundleError(
                f"{where} has {outputs} classes, which is no number that its authors published; say what they are with"
                f" --classes ({', '.join(LABEL_SETS)}, or your own dataset.yaml)"
            )
        return LABEL_SETS[DEFAULT_LABELS[outputs]]
    if len(labels) != outputs:
        raise BundleError(
            f"{where} has {outputs} classes, label set {labels.name!r} has {len(labels)}; name another with --classes"
        )
    return labels


def _input_size(source: Path, labels: LabelSet, model: str) -> tuple[int, int]:
    """Height and width that the network was trained for, which its weights do not tell.

    The authors' folders do (`camvid_960x720`); without one it is the paper's size for Cityscapes, and that of
    the weights known to us for CamVid.
    """
    for part in reversed(source.parts[-4:]):
        if match := re.search(rf"{re.escape(labels.name)}_(\d+)x(\d+)", part):
            return int(match[2]), int(match[1])
    return (360, 480) if labels.name == "camvid" else models.card(model).input


class Archive(Mapping[str, np.ndarray]):
    """Arrays of an `.npz`, each read when asked for; a pickle in it is refused, never run."""

    def __init__(self, path: Path) -> None:
        require_file(path)
        self.files = [path]
        with self._opened() as archive:
            self._names = [name.removesuffix(".npy") for name in archive.namelist()]

    def __getitem__(self, name: str) -> np.ndarray:
        if name not in self._names:
            raise KeyError(name)
        with self._opened() as archive:
            member = archive.getinfo(f"{name}.npy")
            if member.file_size > LARGEST_MEMBER:
                raise ValueError(f"{name!r} is far too large")
            with archive.open(member) as file:
                array: np.ndarray = np.lib.format.read_array(file, allow_pickle=False)
            return array

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    @contextmanager
    def _opened(self) -> Iterator[ZipFile]:
        try:
            with ZipFile(self.files[0]) as archive:
                yield archive
        except ZIP_ERRORS as error:
            raise BundleError(
                f"{self.files[0]} cannot be read as .npz ({error}); it is damaged or foreign: copy it again"
            ) from error
