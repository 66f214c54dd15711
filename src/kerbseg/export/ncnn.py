"""Writes a bundle for ncnn: .ncnn.param with the graph, .ncnn.bin with the weights, .ncnn.json with the card."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import warnings
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from kerbseg.bundle import Bundle
from kerbseg.core.errors import KerbsegError
from kerbseg.core.files import atomic_write
from kerbseg.export.logits_graph import LogitsGraph, exported_card, traced
from kerbseg.exported_card import ExportedCard
from kerbseg.runtime.engines import ENGINES
from kerbseg.runtime.ncnn import DIGESTS, ncnn, read_card
from kerbseg.runtime.ncnn import digest_of as card_digest
from kerbseg.runtime.seal import DIGEST_KEY

SECONDS = 600  # that the converter may take
INPUT = "float RGB [3 h w] with values from 0 to 255, nothing to normalize"


def write_ncnn(
    bundle: Bundle, path: Path, size: tuple[int, int], logits: bool = False, batch: int | None = None
) -> ExportedCard:
    """Writes the three files and returns their cards; weights stay float32.

    Raises MissingExtra without the packages, and KerbsegError where ncnn lacks an operation of the network.
    """
    graph = LogitsGraph(bundle, size, "float nchw")
    graph.check_options(".ncnn.param", logits, batch)
    converter, package = pnnx(), ncnn()
    exported = exported_card(graph, bundle)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the checks that torch's export leaves in a module
        module = torch.jit.trace(traced(graph), graph.example, check_trace=False)
    with TemporaryDirectory() as folder:
        source = Path(folder) / "m.pt"
        torch.jit.save(module, source)
        shape = ",".join(map(str, graph.example.shape))
        command = [converter, source.name, f"inputshape=[{shape}]", "fp16=0"]
        try:
            done = subprocess.run(
                command, cwd=folder, capture_output=True, text=True, errors="replace", timeout=SECONDS, check=False
            )
        except subprocess.TimeoutExpired as error:
            raise KerbsegError(f"ncnn's converter took longer than {SECONDS} s; choose another engine") from error
        made = Path(folder) / "m.ncnn.param"
        if done.returncode or not made.is_file():
            said = (done.stderr or done.stdout).strip().splitlines()
            raise KerbsegError(f"ncnn's converter (pnnx) failed: {said[-1] if said else done.returncode}")
        _check_layers(package, made.read_text(), bundle.card.model)
        files = ENGINES["ncnn"].files(path)
        weights, card, _ = files
        with atomic_write(weights) as one, atomic_write(card) as other, atomic_write(path) as last:
            shutil.copyfile(made.with_suffix(".bin"), one)
            shutil.copyfile(made, last)
            other.write_text(json.dumps(_card(exported, made), indent=1))
    read_card(path)
    return exported


def _card(exported: ExportedCard, made: Path) -> dict[str, Any]:
    digests = {
        suffix: hashlib.sha256(made.with_suffix(suffix).read_bytes()).hexdigest() for suffix in (".param", ".bin")
    }
    card = {**exported.to_metadata(), **exported.for_others(), "input": INPUT, DIGESTS: digests}
    return {**card, DIGEST_KEY: card_digest(card)}


def _check_layers(package: Any, text: str, model: str) -> None:
    """Raises KerbsegError where a graph has layers that ncnn does not know: operations that pnnx left as torch's."""
    kinds = {line.split()[0] for line in text.splitlines()[2:] if line.split()}
    known = {kind for kind in kinds if package.create_layer(kind) is not None}
    if unknown := sorted(kinds - known):
        raise KerbsegError(f"ncnn has no {', '.join(unknown)}, which {model} needs; choose another engine")


def pnnx() -> str:
    """The converter's program. Raises MissingExtra without its package."""
    try:
        import pnnx as package
    except ImportError as error:
        raise ENGINES["ncnn"].missing("pnnx") from error
    return str(package.EXEC_PATH)
