"""Results as rows of Parquet: a frame each, its ids as runs; the one place that imports pyarrow."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from kerbseg.cluster.rle import encode_runs
from kerbseg.core.errors import MissingExtra
from kerbseg.core.labels import LabelSet
from kerbseg.predict import Frame, Prediction, SinkKind, Source
from kerbseg.predict.legend import unknown_name

GROUP = 64
"""Rows that are kept in memory, and then written as a row group."""


def pyarrow_module() -> ModuleType:
    """pyarrow, with its Parquet. Raises MissingExtra where it is not installed."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise MissingExtra("pyarrow", "ray") from error
    return pyarrow


def schema(labels: LabelSet) -> Any:
    """The columns.

    `source`, `frame` (0 is the first) and `time_ns` say of what a row is, and no two rows say the same; `height` and
    `width` are pixels; `ids_values` and `ids_lengths` are the ids, row after row, as runs (`decode_runs`); `shares` has
    the share of the pixels (0..1) of each class, and of no class. `confidence` is the mean of the pixels' (0..1),
    `confidence_png` the picture that `--confidence` writes; they are null where that was not asked for.
    """
    arrow = pyarrow_module()
    shares = arrow.struct([(name, arrow.float64()) for name in (*labels.classes, unknown_name(labels))])
    columns = {
        "source": arrow.string(),
        "frame": arrow.int64(),
        "time_ns": arrow.int64(),
        "height": arrow.int32(),
        "width": arrow.int32(),
        "ids_values": arrow.list_(arrow.uint8()),
        "ids_lengths": arrow.list_(arrow.uint32()),
        "shares": shares,
        "confidence": arrow.float64(),
        "confidence_png": arrow.binary(),
    }
    return arrow.schema(list(columns.items()))


def row(source: str, frame: Frame, prediction: Prediction, labels: LabelSet) -> dict[str, Any]:
    """A frame's row, as `schema` has it."""
    values, lengths = encode_runs(prediction.ids)
    confidence, png = None, io.BytesIO()
    if prediction.confidence is not None:
        confidence = float(np.mean(prediction.confidence, dtype=np.float64))
        prediction.confidence_gray().save(png, "PNG")
    return {
        "source": source,
        "frame": frame.index,
        "time_ns": frame.time_ns,
        "height": prediction.ids.shape[0],
        "width": prediction.ids.shape[1],
        "ids_values": values,
        "ids_lengths": lengths,
        "shares": {unknown_name(labels): 0.0, **prediction.shares()},
        "confidence": confidence,
        "confidence_png": png.getvalue() or None,
    }


class PartWriter:
    """Writes the rows of a shard into a file here. What a source has given that failed in the end is left out.

    A shard of one source is written as it comes: a long video fills no memory. If that one fails, so does its file.
    """

    def __init__(self, path: Path, labels: LabelSet, alone: bool) -> None:
        self._arrow, self._labels, self._alone = pyarrow_module(), labels, alone
        self._schema = schema(labels)
        self._writer = self._arrow.parquet.ParquetWriter(path, self._schema, compression="zstd")
        self._rows: list[dict[str, Any]] = []
        self.frames = 0

    def kind(self, confidence: bool) -> SinkKind:
        """The sink that `predict_source` takes."""
        return SinkKind(".parquet", self._open, confidence=confidence)

    def close(self) -> None:
        """Writes what is left, and the end of the file."""
        self._flush()
        self._writer.close()

    @contextmanager
    def _open(self, target: Path, source: Source, labels: LabelSet) -> Iterator[Any]:
        begun = len(self._rows)

        def add(frame: Frame, prediction: Prediction) -> None:
            self._rows.append(row(str(source), frame, prediction, self._labels))
            if self._alone and len(self._rows) >= GROUP:
                self._flush()

        try:
            yield add
        except BaseException:
            del self._rows[begun:]
            raise

    def _flush(self) -> None:
        self.frames += len(self._rows)
        if self._rows:
            self._writer.write_table(self._arrow.Table.from_pylist(self._rows, schema=self._schema))
            self._rows.clear()
