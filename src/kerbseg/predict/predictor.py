"""Class ids of any picture, from any runtime, at the picture's own size."""

from __future__ import annotations

import glob
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps

from kerbseg.bundle import Bundle
from kerbseg.core.errors import DataError, InputError, UserError
from kerbseg.core.files import replacing
from kerbseg.core.labels import LabelSet
from kerbseg.core.types import Prediction, Sample
from kerbseg.data.pictures import SUFFIXES, read_rgb
from kerbseg.predict.draw import overlay
from kerbseg.runtime import Runtime, Working, open_runtime, segment

VIDEO_SUFFIXES = frozenset({".mp4", ".mkv", ".avi", ".mov", ".webm", ".m4v", ".mpg", ".mpeg"})

Picture = str | Path | Image.Image | UInt8[np.ndarray, "h w 3"]


class Predictor:
    """Turns pictures into class ids: `Predictor("best.safetensors")("street.jpg").ids`.

    A picture is looked at with the height that the network was trained on, its proportions kept; `working="own"` looks
    at it as it is, and a (height, width) at that size. The ids come back at the picture's own size.
    """

    def __init__(
        self, model: str | Path | Bundle | Runtime, *, runtime: str | None = None, working: Working = "trained"
    ) -> None:
        self.runtime = open_runtime(model, runtime)
        self.working = working

    def __call__(self, picture: Picture) -> Prediction:
        """The ids of a path, a PIL picture or uint8 RGB [h w 3]. Raises InputError for anything else."""
        return Prediction(segment(self.runtime, as_rgb(picture), self.working), self.runtime.card.labels)


def as_rgb(picture: Picture) -> UInt8[np.ndarray, "h w 3"]:
    """The pixels of a picture, upright. Raises DataError for a file that cannot be read, InputError for other types."""
    if isinstance(picture, str | Path):
        return read_rgb(Path(picture))
    if isinstance(picture, Image.Image):
        return np.array(ImageOps.exif_transpose(picture).convert("RGB"))
    if isinstance(picture, np.ndarray) and picture.dtype == np.uint8 and picture.ndim == 3 and picture.shape[2] == 3:
        return picture
    found = f"{picture.dtype} {list(picture.shape)}" if isinstance(picture, np.ndarray) else type(picture).__name__
    raise InputError(f"a predictor takes a path, a PIL picture or uint8 RGB [h w 3], found {found}")


def predict_files(
    predictor: Predictor,
    inputs: Sequence[str | Path],
    out: str | Path,
    progress: Callable[[list[Path]], Any] = iter,
) -> list[Path]:
    """Writes `<stem>_ids.png` and `<stem>_overlay.png` of pictures, `<stem>_overlay.mp4` of videos; returns the inputs.

    Inputs are pictures, videos, folders (their pictures and videos) and globs. Raises DataError at the first that
    cannot be read; what was finished stays.
    """
    out = Path(out)
    paths = list(expand(inputs))
    _refuse_clashes(paths)
    for path in progress(paths):
        if path.suffix.lower() in VIDEO_SUFFIXES:
            from kerbseg.predict.video import predict_video

            predict_video(predictor, path, out / f"{path.stem}_overlay.mp4")
        else:
            picture = as_rgb(path)
            write(picture, predictor(picture), out / path.stem)
    return paths


def write(picture: UInt8[np.ndarray, "h w 3"], prediction: Prediction, stem: Path) -> None:
    """`<stem>_ids.png` (train ids) and `<stem>_overlay.png`."""
    with replacing(stem.with_name(f"{stem.name}_ids.png")) as temporary:
        Image.fromarray(prediction.ids).save(temporary)
    with replacing(stem.with_name(f"{stem.name}_overlay.png")) as temporary:
        overlay(picture, prediction).save(temporary)


def saving(folder: Path, labels: LabelSet) -> Callable[[Sample, UInt8[np.ndarray, "h w"]], None]:
    """What writes each sample's prediction into a folder, for `evaluate`'s `sink`."""

    def save(sample: Sample, ids: UInt8[np.ndarray, "h w"]) -> None:
        picture = np.ascontiguousarray(sample.image.transpose(1, 2, 0))
        write(picture, Prediction(ids, labels), folder / sample.name)

    return save


def expand(inputs: Sequence[str | Path]) -> Iterator[Path]:
    """The files that inputs name. Raises UserError for an input that names none."""
    if not inputs:
        raise UserError("nothing to predict: name a picture, a folder, a glob or a video")
    for given in inputs:
        path = Path(given)
        if path.is_file():
            yield path
            continue
        names = path.iterdir() if path.is_dir() else map(Path, glob.glob(str(given), recursive=True))
        found = [name for name in sorted(names) if name.suffix.lower() in SUFFIXES | VIDEO_SUFFIXES]
        if not found:
            raise DataError(f"{given} is no file, and no folder or glob with pictures or videos in it")
        yield from found


def _refuse_clashes(paths: Sequence[Path]) -> None:
    seen: dict[str, Path] = {}
    for path in paths:
        if seen.setdefault(path.stem, path) != path:
            raise UserError(f"{seen[path.stem]} and {path} would write to the same file; predict them into two folders")
