"""Writes a bundle as a .tflite file for LiteRT, the card in its metadata."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from kerbseg.bundle import Bundle
from kerbseg.core.files import atomic_write
from kerbseg.export.litert_converter import convert, python
from kerbseg.export.logits_graph import LogitsGraph, crop_transposed, exported_card, program, traced
from kerbseg.exported_card import ExportedCard
from kerbseg.runtime.seal import TAIL_SEAL
from kerbseg.runtime.tflite import litert


def write_tflite(
    bundle: Bundle, path: Path, size: tuple[int, int], logits: bool = False, batch: int | None = None
) -> ExportedCard:
    """Writes the file and returns its cards; weights stay float32.

    Raises MissingExtra without LiteRT, and KerbsegError without its converter or where that cannot take the network.
    """
    litert()
    content, exported = converted(bundle, size, logits, batch)
    save(content, exported, path)
    return exported


def converted(
    bundle: Bundle, size: tuple[int, int], logits: bool = False, batch: int | None = None
) -> tuple[bytes, ExportedCard]:
    """The network as LiteRT's converter makes it, and its cards."""
    graph = LogitsGraph(bundle, size)
    graph.check_options(".tflite", logits, batch)
    python()  # what is missing is said before the network is traced
    module = traced(graph)
    crop_transposed(module)
    with TemporaryDirectory() as folder:
        source, made = Path(folder) / "m.pt2", Path(folder) / "m.tflite"
        torch.export.save(program(module, graph), source)
        convert(source, made)
        return made.read_bytes(), exported_card(graph, bundle)


def save(content: bytes, exported: ExportedCard, path: Path) -> None:
    """Writes a model with its cards, and a digest behind them."""
    with atomic_write(path) as temporary:
        Path(temporary).write_bytes(_with_metadata(content, exported.to_metadata() | exported.for_others()))
        TAIL_SEAL.put_on(Path(temporary))


def _with_metadata(content: bytes, metadata: dict[str, str]) -> bytes:
    """A FlatBuffer with entries of ours in its metadata, which interpreters pass over."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    model: Any = schema.ModelT.InitFromPackedBuf(content)
    model.metadata = list(model.metadata or [])
    for name, text in metadata.items():
        entry, data = schema.MetadataT(), schema.BufferT()
        data.data, data.offset, data.size = list(text.encode()), 0, 0
        model.buffers.append(data)
        entry.name, entry.buffer = name, len(model.buffers) - 1
        model.metadata.append(entry)
    builder = flatbuffers.Builder(len(content) + 4096)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())
