"""What is answered of a picture: its ids, colors or overlay as PNG, or all that can be said of it as JSON."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from jaxtyping import UInt8
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field

from kerbseg.core.types import VOID
from kerbseg.predict import Prediction, Style
from kerbseg.predict.drawings import DRAWINGS

Answer = Literal["json", "ids", "palette", "color", "overlay", "side", "confidence"]
Masks = Literal["rle", "polygons", "png", "none"]

JSON, PNG = "application/json", "image/png"
FASTEST = 1  # zlib's level: about half the time of Pillow's own level 6, files a third larger (measured on noisy ids)


class ConfidenceFacts(BaseModel):
    """How sure the network is: the mean over all pixels, and over those of each class that is there (0 to 1)."""

    mean: float
    classes: dict[str, float]


class RunLengths(BaseModel):
    """A class's pixels as COCO writes them: height and width; lengths outside and inside by turns, column by column."""

    size: tuple[int, int]
    counts: list[int]


class PictureFacts(BaseModel):
    """What is said of a picture in JSON; of the ways to say where classes are, the one that was asked for."""

    model: str
    labels: str
    size: tuple[int, int] = Field(description="Height and width")
    class_map: dict[str, str] = Field(description="Name of each id; 255 is no class")
    shares: dict[str, float] = Field(description="Share of the pixels (0 to 1), the largest first")
    rle: dict[str, RunLengths] | None = None
    polygons: dict[str, list[list[tuple[int, int]]]] | None = Field(None, description="Outlines, (column, row)")
    ids_png: str | None = Field(None, description="Class ids, an 8-bit gray PNG in base64")
    confidence: ConfidenceFacts | None = None
    confidence_png: str | None = Field(None, description="255 times the confidence, an 8-bit gray PNG in base64")


class WantedFacts(BaseModel):
    """What a request wants to know of its pictures: the query of its address."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str | None = Field(None, description="Name of the model; the first that is served without it")
    masks: Masks = Field(
        "rle",
        description="How JSON says where each class is: run lengths as COCO writes them, outlines, or a PNG of ids",
    )
    confidence: bool = Field(False, description="Also say how sure the network is (0 to 1)")

    def facts(self, prediction: Prediction, model: str) -> dict[str, Any]:
        """The answer in JSON, as `PictureFacts`."""
        facts: dict[str, Any] = {
            "model": model,
            "labels": prediction.labels.name,
            "size": list(prediction.ids.shape),
            "class_map": {str(train_id): name for train_id, name in enumerate(prediction.names)},
            "shares": prediction.shares(),
        }
        if self.masks == "rle":
            facts["rle"] = run_lengths(prediction.ids, prediction.names)
        elif self.masks == "polygons":
            present = (name for name in prediction.names if name in prediction)
            facts["polygons"] = {name: [ring.tolist() for ring in prediction.polygons(name)] for name in present}
        elif self.masks == "png":
            facts["ids_png"] = base64.b64encode(png(Image.fromarray(prediction.ids))).decode()
        if self.confidence:
            facts["confidence"] = confidence_facts(prediction)
            if self.masks == "png":
                facts["confidence_png"] = base64.b64encode(png(prediction.confidence_gray())).decode()
        return facts


class Wanted(WantedFacts):
    """The same of one picture, which can also be answered by a picture."""

    answer: Answer = Field("json", description="JSON, or a picture (PNG) as `kerbseg predict --save` writes it")
    alpha: float = Field(0.5, ge=0, le=1, description="Weight of the colors in an overlay")
    legend: bool = Field(True, description="Whether the names of the classes stand below an overlay")

    @property
    def needs_confidence(self) -> bool:
        """Whether the network is asked how sure it is."""
        return self.confidence or self.answer == "confidence"

    @property
    def media_type(self) -> str:
        """Of the answer."""
        return JSON if self.answer == "json" else PNG

    def of(self, prediction: Prediction, model: str) -> bytes:
        """The answer."""
        if self.answer == "json":
            return json.dumps(self.facts(prediction, model), allow_nan=False).encode()
        return png(DRAWINGS[self.answer].draw(prediction, Style(self.alpha, self.legend)))


def png(picture: Image.Image) -> bytes:
    """A picture as the content of a file."""
    content = io.BytesIO()
    picture.save(content, "PNG", compress_level=FASTEST)
    return content.getvalue()


def confidence_facts(prediction: Prediction) -> Mapping[str, Any]:
    """How sure the network is: the mean over all pixels, and over those of each class that is there (0 to 1)."""
    assert prediction.confidence is not None, "it was asked for"
    pixels = np.bincount(prediction.ids.ravel(), minlength=VOID + 1)
    sums = np.bincount(prediction.ids.ravel(), prediction.confidence.ravel(), minlength=VOID + 1)
    classes = {name: sums[i] / pixels[i] for i, name in enumerate(prediction.names) if pixels[i]}
    return {"mean": float(prediction.confidence.mean(dtype=np.float64)), "classes": classes}


def run_lengths(ids: UInt8[np.ndarray, "h w"], names: tuple[str, ...]) -> dict[str, dict[str, list[int]]]:
    """Where each class is that is there, as COCO writes masks: column by column, pixels outside and inside by turns."""
    column_wise = ids.ravel(order="F")
    starts = np.flatnonzero(np.diff(column_wise, prepend=column_wise[0] ^ 1))  # of runs of one id
    ends = np.append(starts[1:], column_wise.size)
    run_ids = column_wise[starts]
    lengths = {}
    for train_id in np.unique(run_ids).tolist():
        if train_id < len(names):
            own = run_ids == train_id
            borders = np.stack([starts[own], ends[own]], 1).ravel()
            counts = np.diff(borders, prepend=0, append=column_wise.size).tolist()
            lengths[names[train_id]] = {"size": list(ids.shape), "counts": counts if counts[-1] else counts[:-1]}
    return lengths
