"""What `kerbseg keyframes --budget` sends: a record of each keyframe; class ids and pictures as the budget lasts."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from kerbseg.core.files import atomic_write
from kerbseg.core.labels import LabelSet
from kerbseg.keyframes.figures import COLUMNS, row
from kerbseg.keyframes.scores import FrameScores
from kerbseg.keyframes.selection import Keyframe
from kerbseg.keyframes.stream import Kept
from kerbseg.keyframes.transmission import Decision, Transmitter
from kerbseg.predict.opencv import cv2_module
from kerbseg.predict.shares import shares

JPEG_QUALITY = 80
MOST_BOXES = 16  # of a record
THUMBNAIL = (16, 12)  # columns, rows


class Sender:
    """Decides frame by frame, and writes what is sent into a folder `sent`."""

    def __init__(self, bytes_per_s: float, out: Path, labels: LabelSet) -> None:
        self._transmitter, self._out, self._labels = Transmitter(bytes_per_s), out, labels
        self._decisions: list[str] = []
        self._records: list[str] = []
        self._pictures: set[int] = set()
        self._bytes = self._offered = self._masks = 0
        self.files: list[str] = []

    def frame(self, scores: FrameScores, kept: Kept) -> None:
        """The next frame: its picture is sent or not."""
        content = jpeg(kept.picture)
        self._offered += len(content)
        decision = self._transmitter.offer(scores, len(content))
        self._decisions.append(_line(decision))
        if decision.sent:
            self._pictures.add(scores.index)
            self._put(f"sent/{scores.index:06d}.jpg", content)

    def keyframe(self, keyframe: Keyframe, name: str) -> None:
        """A keyframe: its record always, its class ids where the budget has room for them."""
        self._records.append(json.dumps(record(keyframe, name, self._labels)))
        mask = _png(keyframe.kept.ids)
        if keyframe.scores.index not in self._pictures and self._transmitter.offer_mask(len(mask)):
            self._masks += 1
            self._put(f"sent/{keyframe.scores.index:06d}_ids.png", mask)

    def finish(self) -> dict[str, Any]:
        """Writes the records and the decisions; how much was sent."""
        texts = {
            "sent/records.jsonl": "".join(f"{each}\n" for each in self._records),
            "sent.csv": "".join(
                f"{line}\n" for line in ["index,time_ns,sent,useful,price,bytes,tokens", *self._decisions]
            ),
        }
        for name, text in texts.items():
            with atomic_write(self._out / name) as temporary:
                temporary.write_text(text, encoding="utf-8")
            self.files.append(name)
        return {
            "pictures": len(self._pictures),
            "masks": self._masks,
            "records": len(self._records),
            "bytes": self._bytes,
            "record_bytes": sum(map(len, self._records)),
            "offered_bytes": self._offered,
        }

    def _put(self, name: str, content: bytes) -> None:
        self._bytes += len(content)
        self.files.append(name)
        with atomic_write(self._out / name) as temporary:
            temporary.write_bytes(content)


def record(keyframe: Keyframe, name: str, labels: LabelSet) -> dict[str, Any]:
    """What is told of a keyframe, about 1 kB: scores, shares of classes, boxes of the whole target, a thumbnail."""
    scores, kept = keyframe.scores, keyframe.kept
    small = np.array(Image.fromarray(kept.picture).convert("L").resize(THUMBNAIL, Image.Resampling.BOX))
    return {
        "index": scores.index,
        "time_ns": scores.time_ns,
        "file": name,
        "size": list(kept.picture.shape[:2]),
        "scores": {column: float(f"{value:.4g}") for column, value in zip(COLUMNS, row(scores), strict=True)},
        "shares": {each: round(share, 4) for each, share in shares(kept.ids, labels).items() if share >= 5e-5},
        "boxes": [list(box) for box in scores.semantics.boxes[:MOST_BOXES]],
        "thumbnail": base64.b64encode(small.tobytes()).decode(),
    }


def jpeg(picture: np.ndarray) -> bytes:
    """The picture as it is sent."""
    cv2 = cv2_module()
    _, content = cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    return bytes(content)


def _png(ids: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(ids).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def _line(decision: Decision) -> str:
    return (
        f"{decision.index},{decision.time_ns},{int(decision.sent)},{decision.useful:.4f},{decision.price:.4f},"
        f"{decision.size},{decision.tokens:.0f}"
    )
