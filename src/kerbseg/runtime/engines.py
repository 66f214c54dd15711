"""The one table of inference engines: what each runs, writes and needs. Whoever asks about a suffix asks here."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields, replace
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeGuard, Unpack

from kerbseg.core.errors import BundleError, KerbsegError, MissingExtra, did_you_mean
from kerbseg.model_files import locate
from kerbseg.runtime.protocols import Runtime, RuntimeKeywords, RuntimeOptions

if TYPE_CHECKING:
    from kerbseg.bundle import Bundle

BUNDLE_SUFFIX = ".safetensors"
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Engine:
    """An inference engine as the rest of the program knows it.

    What lies above this room, or is slow to import, is named by 'module:attribute' and looked up when it is used.
    """

    name: str
    suffix: str  # of the files that it runs
    open: Callable[[Any, RuntimeOptions], Runtime]  # of a path, or of a Bundle where it runs bundles
    summary: str = ""  # for a reader who knows torch
    companions: tuple[str, ...] = ()  # suffixes of files that belong beside
    extra: str | None = None  # of kerbseg's packages; None for what is always installed
    write: str | None = None  # (bundle, path, size, logits, batch=N) -> ExportedCard; None: nothing is exported
    quantizes: str | None = None  # its graph for int8, or what quantizes for it; None where it stays in float
    int8_extra: str = "int8"  # what that needs beside
    why_float: str = ""  # where nothing is brought to int8, the reason
    logits_layout: Literal["nchw", "nhwc"] = "nchw"  # in the engine's own memory; `Runtime.logits` is always nchw
    devices: tuple[str, ...] = ("cpu",)  # for help; an engine may know more

    def files(self, path: Path) -> tuple[Path, ...]:
        """All files of a model, the one that is opened last: once it is there, the model is whole."""
        stem = path.name.removesuffix(self.suffix)
        return (*(path.with_name(stem + suffix) for suffix in self.companions), path)

    def missing(self, package: str) -> MissingExtra:
        """The error for a package of this engine that is not installed."""
        return MissingExtra(package, self.extra or "all")

    def writer(self) -> Callable[..., Any]:
        """The function behind `write`. Raises KerbsegError where this engine has none."""
        if self.write is None:
            raise KerbsegError(f"nothing is exported for {self.name}; choose {_either(exporting())}")
        return _attribute(self.write)

    def graph(self) -> Any:
        """The class behind `quantizes`. Raises KerbsegError where this engine has none."""
        if not self.quantizes:
            choices = (engine.suffix for engine in ENGINES.values() if engine.quantizes)
            why = f": {self.why_float}" if self.why_float else ""
            raise KerbsegError(f"{self.suffix} files are not brought to int8{why}; choose {_either(choices)}")
        return _attribute(self.quantizes)


def _open_torch(model: Path | Bundle, options: RuntimeOptions, how: str = "channels_last") -> Runtime:
    from kerbseg.bundle import load
    from kerbseg.runtime.torch import TorchRuntime

    return TorchRuntime(load(model) if isinstance(model, Path) else model, options, how)


def _open_onnx(path: Path, options: RuntimeOptions) -> Runtime:
    from kerbseg.runtime.onnx import OnnxRuntime

    return OnnxRuntime(path, options)


def _open_with_last_stage(path: Path, options: RuntimeOptions, name: str, runtime: str) -> Runtime:
    """A runtime 'module:class' whose last stage is ours, with all that it needs in the extra of its engine."""
    try:
        opened: Runtime = _attribute(runtime)(path, options)
    except MissingExtra as error:
        if error.package != "numba":
            raise
        raise ENGINES[name].missing(error.package) from error
    return opened


_torch = partial(Engine, suffix=BUNDLE_SUFFIX, devices=("cpu", "cuda"))

ENGINES: dict[str, Engine] = {
    engine.name: engine
    for engine in (
        _torch("torch", open=_open_torch, summary="torch, channels last"),
        _torch("torch-eager", open=partial(_open_torch, how="eager"), summary="torch, as it comes"),
        _torch("torch-compiled", open=partial(_open_torch, how="compiled"), summary="torch.compile"),
        Engine(
            "onnx",
            ".onnx",
            _open_onnx,
            summary="ONNX Runtime",
            extra="export",
            write="kerbseg.export.onnx:write_onnx",
            quantizes="kerbseg.export.onnx:OnnxGraph",
            logits_layout="nhwc",
            devices=("cpu", "cuda", "tensorrt"),
        ),
        Engine(
            "openvino",
            ".xml",
            partial(_open_with_last_stage, name="openvino", runtime="kerbseg.runtime.openvino:OpenvinoRuntime"),
            summary="OpenVINO",
            companions=(".bin",),
            extra="openvino",
            write="kerbseg.export.openvino:write_openvino",
            quantizes="kerbseg.export.openvino:OpenvinoGraph",
            logits_layout="nhwc",
        ),
        Engine(
            "litert",
            ".tflite",
            partial(_open_with_last_stage, name="litert", runtime="kerbseg.runtime.tflite:TfliteRuntime"),
            summary="LiteRT",
            extra="tflite",
            write="kerbseg.export.tflite:write_tflite",
            quantizes="kerbseg.export.tflite:TfliteQuantizer",
            int8_extra="tflite",
            logits_layout="nhwc",
        ),
        Engine(
            "executorch",
            ".pte",
            partial(_open_with_last_stage, name="executorch", runtime="kerbseg.runtime.executorch:ExecutorchRuntime"),
            summary="ExecuTorch",
            extra="executorch",
            write="kerbseg.export.executorch:write_executorch",
            quantizes="kerbseg.export.executorch:ExecutorchQuantizer",
            int8_extra="executorch",
            logits_layout="nhwc",
        ),
        Engine(
            "ncnn",
            ".ncnn.param",
            partial(_open_with_last_stage, name="ncnn", runtime="kerbseg.runtime.ncnn:NcnnRuntime"),
            summary="ncnn",
            companions=(".ncnn.bin", ".ncnn.json"),
            extra="ncnn",
            write="kerbseg.export.ncnn:write_ncnn",
            why_float="ncnn's tool for that is not in its Python package",
        ),
    )
}
"""By name; of the engines that run one kind of file the first is the one that is taken without a word."""


def suffix_of(path: Path) -> str:
    """The ending of a model's file: the one that the table knows, which may have two dots, else the last."""
    known = (engine.suffix for engine in ENGINES.values() if path.name.endswith(engine.suffix))
    return max(known, key=len, default=path.suffix)


def fitting(suffix: str) -> dict[str, Engine]:
    """The engines that run files of a suffix, by name."""
    return {name: engine for name, engine in ENGINES.items() if engine.suffix == suffix}


def suffixes() -> list[str]:
    """Of all files that some engine runs."""
    return list(dict.fromkeys(engine.suffix for engine in ENGINES.values()))


def exporting() -> dict[str, Engine]:
    """The engines that something is exported for, by the suffix of their files."""
    return {engine.suffix: engine for engine in ENGINES.values() if engine.write is not None}


def devices() -> list[str]:
    """All devices that an engine names; where not all files run on one, with the suffixes of those that do."""
    known = suffixes()
    texts = []
    for device in dict.fromkeys(device for engine in ENGINES.values() for device in engine.devices):
        on = {engine.suffix for engine in ENGINES.values() if device in engine.devices}
        texts.append(device if on == set(known) else f"{device} ({', '.join(each for each in known if each in on)})")
    return texts


def files_of(path: Path) -> tuple[Path, ...]:
    """All files of a model, the one that is opened last."""
    return next((engine.files(path) for engine in fitting(suffix_of(path)).values()), (path,))


def size_bytes(path: Path) -> int:
    """Of a model's file, and of its weights where they are beside it."""
    return sum(file.stat().st_size for file in files_of(path))


def open_runtime(
    model: str | Path | Bundle | Runtime, options: RuntimeOptions | None = None, **keywords: Unpack[RuntimeKeywords]
) -> Runtime:
    """The runtime for a bundle or an exported model, on the first engine that runs it, or the one named.

    The model is a file, a run's folder, the name of shipped weights or a bundle; a bundle's network is copied, and so
    stays as it was. A runtime is returned as it is. Options are those of `RuntimeOptions`, as one object or as
    keywords. Raises BundleError for a file that is missing, damaged or foreign, MissingExtra without the engine's
    package, KerbsegError for an engine, device or precision that cannot run it, or that an opened runtime does not
    have.
    """
    wanted = replace(options or RuntimeOptions(), **keywords)
    named = isinstance(model, str | Path)
    if not named and not _is_bundle(model) and not _is_runtime(model):
        raise KerbsegError(
            f"a model is a file, a run's folder, the name of shipped weights, a bundle or a runtime, not"
            f" {type(model).__name__}; kerbseg.load reads a file as a bundle"
        )
    if _is_runtime(model):
        _check_opened(model, wanted, keywords)
        return model
    if wanted.engine is not None and wanted.engine not in ENGINES:
        raise KerbsegError(f"unknown runtime {wanted.engine!r}; {did_you_mean(wanted.engine, ENGINES)}")
    source = locate(model) if isinstance(model, str | Path) else model
    suitable = fitting(suffix_of(source) if isinstance(source, Path) else BUNDLE_SUFFIX)
    if not suitable:
        raise BundleError(f"{model} is no model that runs here; models are {', '.join(suffixes())} files")
    name = wanted.engine or next(iter(suitable))
    if name not in suitable:
        given = model if named else "a bundle"
        raise KerbsegError(f"{given} runs on {_either(suitable)}, not on {name}; export it first, or name no runtime")
    logger.debug("open %s with %s on %s", model if named else "a bundle", name, wanted.device)
    return suitable[name].open(source, replace(wanted, engine=name))


def _is_bundle(model: object) -> TypeGuard[Bundle]:
    """Whether this is a bundle, without loading torch: whoever has one has loaded it."""
    bundles = sys.modules.get("kerbseg.bundle")
    return bundles is not None and isinstance(model, bundles.Bundle)


def _is_runtime(model: object) -> TypeGuard[Runtime]:
    return callable(model) and hasattr(model, "card")


def _check_opened(runtime: Runtime, wanted: RuntimeOptions, keywords: RuntimeKeywords) -> None:
    """Raises KerbsegError for an option that a runtime was not opened with: it cannot be honoured any more."""
    for field in fields(RuntimeOptions):
        value = getattr(wanted, field.name)
        if value is None or (value == field.default and field.name not in keywords):
            continue
        has = getattr(runtime, "name" if field.name == "engine" else field.name)
        if value != has:
            raise KerbsegError(
                f"{field.name} {value!r} cannot be had of a runtime that was opened with {has!r}; leave it out, or open"
                " the model with it"
            )


def _attribute(path: str) -> Any:
    module, _, name = path.partition(":")
    return getattr(import_module(module), name)


def _either(choices: Iterable[str]) -> str:
    return " or ".join(choices)
