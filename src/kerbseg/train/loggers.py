"""Where figures go besides metrics.csv: TensorBoard, Weights & Biases, MLflow, each through Lightning's logger."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from lightning.pytorch.loggers import Logger, MLFlowLogger, TensorBoardLogger, WandbLogger

from kerbseg.core.errors import KerbsegError, MissingExtra, did_you_mean
from kerbseg.core.extras import EXTRAS
from kerbseg.core.telemetry import switch_off

LOGGERS = ("tensorboard", "wandb", "mlflow")
NONE = "none"
_ERRORS = {"wandb": ("wandb.errors", "Error"), "mlflow": ("mlflow.exceptions", "MlflowException")}
_REMEDIES = {
    "wandb": "log in with: wandb login, or set WANDB_MODE=offline",
    "mlflow": "correct MLFLOW_TRACKING_URI, or unset it to write into the run's folder",
}


def logger_names(words: Sequence[str]) -> tuple[str, ...]:
    """Loggers by name, each once; a word may list several with commas, and `none` is none of them.

    Raises KerbsegError for another name, MissingExtra for one whose package is not installed.
    """
    names = tuple(dict.fromkeys(name.strip() for word in words for name in word.split(",")))
    for name in names:
        if name not in (*LOGGERS, NONE):
            raise KerbsegError(f"unknown logger {name[:100]!r}; {did_you_mean(name, (*LOGGERS, NONE))}")
    if NONE in names and len(names) > 1:
        raise KerbsegError(f"loggers {', '.join(names)}: {NONE} stands alone; leave it away, or the others")
    names = tuple(name for name in names if name != NONE)
    for name in names:
        if find_spec(name) is None:
            raise MissingExtra(name, EXTRAS.get(name))
    return names


def open_loggers(names: Sequence[str], run: Path) -> list[Logger]:
    """Lightning's loggers, opened; their own environment variables say where they write, the run's folder without."""
    loggers = [_open(name, run) for name in names]
    for logger in loggers:
        _ = getattr(logger, "experiment", None)  # it is opened here, before anything is trained
    return loggers


@contextmanager
def plain_logger_errors(names: Sequence[str]) -> Iterator[None]:
    """A service that cannot be reached, or does not let us in, as a KerbsegError that names the way out."""
    switch_off()
    kinds = {getattr(import_module(module), kind): name for name in names for module, kind in _of(name)}
    try:
        yield
    except tuple(kinds) as error:
        name = next(name for kind, name in kinds.items() if isinstance(error, kind))
        why = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
        raise KerbsegError(f"logger {name}: {why}; {_REMEDIES[name]}") from error


def _of(name: str) -> list[tuple[str, str]]:
    return [_ERRORS[name]] if name in _ERRORS else []


def _open(name: str, run: Path) -> Logger:
    if name == "wandb":
        return WandbLogger(run.resolve().name, run, project=os.environ.get("WANDB_PROJECT", "kerbseg"))
    if name == "mlflow":
        experiment, server = os.environ.get("MLFLOW_EXPERIMENT_NAME", "kerbseg"), os.environ.get("MLFLOW_TRACKING_URI")
        folder = (run / "mlflow").resolve()  # MLflow's own default writes into the working folder
        if not server:
            folder.mkdir(parents=True, exist_ok=True)
        return MLFlowLogger(
            experiment,
            run.resolve().name,
            server or f"sqlite:///{folder / 'mlflow.db'}",
            artifact_location=None if server else folder.as_uri(),
        )
    return TensorBoardLogger(run, name="", version="tensorboard")
