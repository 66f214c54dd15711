"""Class ids of any picture, from any runtime, at the picture's own size."""

from __future__ import annotations

import glob
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps

from kerbseg.bundle import Bundle
from kerbseg.core.errors import DataError, InputError, UserError
from kerbseg.core.files import atomic_write
from kerbseg.core.labels import LabelSet
from kerbseg.core.types import Prediction, Sample
from kerbseg.data.pictures import SUFFIXES, read_rgb
from kerbseg.predict.draw import overlay
from kerbseg.predict.sources.pyav import frame_count
from kerbseg.predict.sources.streams import RAW_FORMAT, Stream, as_stream
from kerbseg.predict.video import VideoOptions
from kerbseg.runtime import InputSizePolicy, Runtime, open_runtime, segment, segment_with_confidence

VIDEO_SUFFIXES = frozenset(
    {".mp4", ".mkv", ".avi", ".mov", ".webm", ".m4v", ".mpg", ".mpeg", ".ts", ".m2ts", ".mts", ".wmv"}
)

ENDINGS = ("_ids.png", "_overlay.png")  # of a picture's results

Picture = str | Path | Image.Image | UInt8[np.ndarray, "h w 3"]


class Predictor:
    """Turns pictures into class ids: `Predictor("best.safetensors")("street.jpg").ids`.

    A picture is looked at with the height that the network was trained on, its proportions kept; `working="own"` looks
    at it as it is, and a (height, width) at that size. The ids come back at the picture's own size.
    """

    def __init__(
        self,
        model: str | Path | Bundle | Runtime,
        *,
        runtime: str | None = None,
        device: str = "cpu",
        threads: int | None = None,
        input_size: InputSizePolicy = "trained",
    ) -> None:
        self.runtime = open_runtime(model, runtime, device, threads)
        self.input_size = input_size

    def with_runtime(self, runtime: Runtime) -> Predictor:
        """One that looks at pictures as this one does, with another runtime."""
        return Predictor(runtime, input_size=self.input_size)

    def __call__(self, picture: Picture, *, confidence: bool = False) -> Prediction:
        """The ids of a path, a PIL picture or uint8 RGB [h w 3]. Raises InputError for anything else.

        With `confidence`, `extras["confidence"]` is the probability (float32 [h w]) of each pixel's class.
        """
        rgb, labels = as_rgb(picture), self.runtime.card.labels
        if not confidence:
            return Prediction(segment(self.runtime, rgb, self.input_size), labels)
        ids, probability = segment_with_confidence(self.runtime, rgb, self.input_size)
        return Prediction(ids, labels, {"confidence": probability})


def as_rgb(picture: Picture) -> UInt8[np.ndarray, "h w 3"]:
    """The pixels of a picture, upright. Raises DataError for a file that cannot be read, InputError for other types."""
    if isinstance(picture, str | Path):
        return read_rgb(Path(picture))
    if isinstance(picture, Image.Image):
        return np.array(ImageOps.exif_transpose(picture).convert("RGB"))
    if isinstance(picture, np.ndarray) and picture.dtype == np.uint8 and picture.ndim == 3 and picture.shape[2] == 3:
        if not picture.size:
            raise InputError(f"a picture of {picture.shape[1]}x{picture.shape[0]} has no pixels")
        return picture
    found = f"{picture.dtype} {list(picture.shape)}" if isinstance(picture, np.ndarray) else type(picture).__name__
    raise InputError(f"a predictor takes a path, a PIL picture or uint8 RGB [h w 3], found {found}")


def predict_files(
    predictor: Predictor,
    inputs: Sequence[str | Path],
    out: str | Path,
    progress: Callable[[Any], Iterable[Any]] = iter,
    film: VideoOptions | None = None,
) -> list[Path | Stream]:
    """Writes `<stem>_ids.png` and `<stem>_overlay.png` of pictures, `<stem>_overlay.mp4` of videos; returns the inputs.

    Inputs are pictures, videos, folders (the pictures and videos right in them, hidden files and our own results left
    out), globs, and streams: `-` for the standard input, a camera's number or device, a named pipe, an address.
    Raises UserError before any work where two results would have one name, DataError at the first file that cannot be
    read; what was finished stays.
    """
    out, film = Path(out), film or VideoOptions()
    paths: list[Path | Stream] = []
    for given in inputs:
        stream = as_stream(given, film.raw)
        paths.extend([stream] if stream else expand([given]))
    if not paths:
        paths.extend(expand(inputs))
    paths = list(dict.fromkeys(paths))
    if film.raw is not None and not any(isinstance(path, Stream) and path.format == RAW_FORMAT for path in paths):
        raise UserError("raw frames come from the standard input (-) or a named pipe, and no input is one")
    _refuse_clashes(paths, out)
    with closing(_Work(predictor, paths, out, film)) as work:
        for _ in progress(work):
            pass
    return paths


class _Work:
    """Segments files as it is iterated: one step a picture, one a frame; a progress bar asks how many there are."""

    def __init__(self, predictor: Predictor, paths: Sequence[Path | Stream], out: Path, film: VideoOptions) -> None:
        self._predictor, self._paths, self._out, self._film = predictor, paths, out, film
        self._video: Generator[None] | None = None

    def __length_hint__(self) -> int:
        if any(isinstance(path, Stream) for path in self._paths):
            return 0  # nobody knows
        return sum(frame_count(_file(path)) if _is_video(path) else 1 for path in self._paths if isinstance(path, Path))

    def __iter__(self) -> Iterator[None]:
        for path in self._paths:
            if isinstance(path, Path) and not _is_video(path):
                picture = as_rgb(path)
                write(picture, self._predictor(picture), self._out / path.stem)
                yield
            else:
                stream = _file(path) if isinstance(path, Path) else path
                self._video = self._film.steps(self._predictor, stream, *results(path, self._out))
                yield from self._video

    def close(self) -> None:
        """Finishes the video that is under way: what stopped us may have come while it waited to be asked for more."""
        if self._video is not None:
            self._video.close()


def results(path: Path | Stream, out: Path) -> list[Path]:
    """The files that predicting `path` into `out` writes."""
    if isinstance(path, Stream):
        return [out / f"{path.name}_overlay.mp4"]
    endings = ("_overlay.mp4",) if _is_video(path) else ENDINGS
    return [out / f"{path.stem}{ending}" for ending in endings]


def _is_video(path: Path) -> bool:
    return path.suffix.lower() in VIDEO_SUFFIXES


def _file(path: Path) -> Stream:
    return Stream(path.stem, str(path))


def write(picture: UInt8[np.ndarray, "h w 3"], prediction: Prediction, stem: Path) -> None:
    """`<stem>_ids.png` (train ids) and `<stem>_overlay.png`."""
    drawings = (Image.fromarray(prediction.ids), overlay(picture, prediction))
    for ending, drawing in zip(ENDINGS, drawings, strict=True):
        with atomic_write(stem.with_name(stem.name + ending)) as temporary:
            drawing.save(temporary)


def saving(folder: Path, labels: LabelSet) -> Callable[[Sample, UInt8[np.ndarray, "h w"]], None]:
    """What writes each sample's prediction into a folder, for `evaluate`'s `sink`."""

    def save(sample: Sample, ids: UInt8[np.ndarray, "h w"]) -> None:
        write(sample.image, Prediction(ids, labels), folder / sample.name)

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
        found = [name for name in sorted(names) if _is_input(name)]
        ours = {result for name in found for result in results(name, name.parent)}
        if not found:
            raise DataError(f"{given} is no file, and no folder or glob with pictures or videos in it")
        yield from (name for name in found if name not in ours)


def _is_input(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES | VIDEO_SUFFIXES and not path.name.startswith(".") and path.is_file()


def _refuse_clashes(paths: Sequence[Path | Stream], out: Path) -> None:
    sources: dict[Path, Path | Stream] = {}
    inputs = {path.resolve() for path in paths if isinstance(path, Path)}
    for path in paths:
        for result in results(path, out.resolve()):
            if result in inputs:
                raise UserError(f"the result of {path} would overwrite the input {result}; choose another folder")
            if _same(sources.setdefault(result, path), path):
                continue
            raise UserError(
                f"{sources[result]} and {path} would both write {result.name}; predict them into two folders"
            )


def _same(one: Path | Stream, other: Path | Stream) -> bool:
    """Whether two inputs are one, perhaps spelled in two ways."""
    return one == other or (isinstance(one, Path) and isinstance(other, Path) and one.resolve() == other.resolve())
