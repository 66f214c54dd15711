"""Runs exported ncnn files: .ncnn.param with the graph, .ncnn.bin with the weights, .ncnn.json with the card."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, UInt8

from kerbseg.core.errors import BundleError
from kerbseg.exported_card import ExportedCard
from kerbseg.runtime.cpu_head import Infer
from kerbseg.runtime.engines import ENGINES
from kerbseg.runtime.seal import DIGEST_KEY
from kerbseg.runtime.small_engine import DividedEngine

PICTURE, LOGITS = "in0", "out0"  # names that ncnn's converter gives
DIGESTS = "kerbseg_files"  # in the card's file: the digests of graph and weights


class NcnnRuntime(DividedEngine):
    """A network for ncnn. It takes float pictures [3 h w] with values from 0 to 255, which are made here."""

    name = "ncnn"

    def _read(self) -> ExportedCard:
        self._ncnn = ncnn()
        return ExportedCard.from_metadata(read_card(self._path), str(self._path))

    def _opened(self) -> Infer:
        package, net = self._ncnn, self._ncnn.Net()
        net.opt.num_threads = self.threads
        for option in ("fp16_packed", "fp16_storage", "fp16_arithmetic", "bf16_storage", "vulkan_compute"):
            setattr(net.opt, f"use_{option}", False)  # ids are those of float32
        weights = ENGINES[self.name].files(self._path)[0]
        if net.load_param(str(self._path)) or net.load_model(str(weights)):
            raise BundleError(f"ncnn cannot open {self._path}; export it again")
        height, width = self._exported.card.input_size
        rgb = package.Mat.PixelType.PIXEL_RGB
        checked = False

        def infer(pictures: UInt8[np.ndarray, "1 h w 3"]) -> Float32[np.ndarray, "1 k H W"]:
            nonlocal checked
            extractor = net.create_extractor()
            picture = package.Mat.from_pixels(pictures[0], rgb, width, height)
            if extractor.input(PICTURE, picture):
                raise BundleError(f"{self._path} holds no tensor {PICTURE!r}; export it again")
            failed, mat = extractor.extract(LOGITS)
            if failed:
                raise BundleError(f"ncnn cannot run {self._path}; export it again")
            logits = np.array(mat)[None]
            if not checked:
                self._exported.check_tensors([1, height, width, 3], list(logits.shape), str(self._path))
                checked = True
            return logits

        return infer


def ncnn() -> Any:
    """The package. Raises MissingExtra without it."""
    try:
        import ncnn as package
    except ImportError as error:
        raise ENGINES["ncnn"].missing("ncnn") from error
    return package


def read_card(path: Path) -> dict[str, str]:
    """The metadata beside a graph. Raises BundleError where a file is missing, damaged or another network's."""
    weights, card, _ = ENGINES["ncnn"].files(path)
    for each in (path, weights, card):
        if not each.is_file():
            raise BundleError(
                f"{each} is missing: a model for ncnn is three files, {path.name}, {weights.name} and {card.name}"
            )
    try:
        text = json.loads(card.read_bytes())
    except ValueError as error:
        raise BundleError(f"{card} is damaged ({error}); export it again") from error
    if not isinstance(text, dict) or text.pop(DIGEST_KEY, None) != digest_of(text):
        raise BundleError(f"{card} is damaged, or was changed since kerbseg export wrote it; export it again")
    for each in (path, weights):
        if text.get(DIGESTS, {}).get(each.suffix) != hashlib.sha256(each.read_bytes()).hexdigest():
            raise BundleError(f"{each} does not belong to {card.name}, or is damaged; export all three again")
    return {name: value for name, value in text.items() if isinstance(value, str)}


def digest_of(card: Mapping[str, Any]) -> str:
    """What tells one card from another."""
    return hashlib.sha256(json.dumps(card, sort_keys=True).encode()).hexdigest()
