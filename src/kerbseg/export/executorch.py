"""Writes a bundle as an ExecuTorch program (.pte) for its kernels for processors (XNNPACK), the card inside."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import fx

from kerbseg.bundle import Bundle
from kerbseg.core.files import atomic_write
from kerbseg.export.logits_graph import ATEN, CONVOLUTIONS, LogitsGraph, exported_card, program, put, traced
from kerbseg.export.static_int8 import StaticQuantizer, left_in_float
from kerbseg.exported_card import ExportedCard
from kerbseg.runtime.engines import ENGINES
from kerbseg.runtime.executorch import CARD, executorch
from kerbseg.runtime.seal import TAIL_SEAL

SMALLEST_SCALE = 2.0**-30  # of a weight


def write_executorch(
    bundle: Bundle, path: Path, size: tuple[int, int], logits: bool = False, batch: int | None = None
) -> ExportedCard:
    """Writes the file and returns its cards; weights stay float32. Raises MissingExtra without the package."""
    executorch()
    graph = LogitsGraph(bundle, size)
    graph.check_options(".pte", logits, batch)
    exported = exported_card(graph, bundle)
    save(program(traced(graph), graph), exported, path)
    return exported


def save(network: torch.export.ExportedProgram, exported: ExportedCard, path: Path) -> None:
    """Lowers a network to XNNPACK and writes it with its cards, and a digest behind them."""
    content = lowered(network, exported.to_metadata() | exported.for_others())
    with atomic_write(path) as temporary:
        Path(temporary).write_bytes(content)
        TAIL_SEAL.put_on(Path(temporary))


def lowered(network: torch.export.ExportedProgram, metadata: dict[str, str]) -> bytes:
    """The program, with a method that gives its metadata."""
    with _quiet():
        try:
            from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
            from executorch.exir import EdgeCompileConfig, to_edge_transform_and_lower
        except ImportError as error:
            raise ENGINES["executorch"].missing("executorch") from error
        card = torch.frombuffer(bytearray(json.dumps(metadata).encode()), dtype=torch.uint8)
        edge: Any = to_edge_transform_and_lower(
            network,
            partitioner=[XnnpackPartitioner()],
            constant_methods={CARD: card},
            compile_config=EdgeCompileConfig(_check_ir_validity=False),
        )
        return bytes(edge.to_executorch().buffer)


@contextmanager
def _quiet() -> Iterator[None]:
    """What torch's and ExecuTorch's compilers say of themselves stays out of the user's sight."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def keep_padding_in_float(module: fx.GraphModule) -> None:
    """Lets the padding before a convolution in float see floats: a product with one stands between.

    XNNPACK's partitioner (ExecuTorch 1.5) takes padding of a dequantized map as padding of bytes, and brings what it
    gives to bytes again; it refuses the convolution after it whose kernel is in float.
    """
    quantized = torch.ops.quantized_decomposed
    for node in list(module.graph.nodes):
        if node.target not in (ATEN.pad.default, ATEN.constant_pad_nd.default):
            continue
        given = node.args[0]
        if given.target != quantized.dequantize_per_tensor.default:
            continue
        kernels = [reader.args[1] for reader in node.users if reader.target in CONVOLUTIONS]
        if any(kernel.op == "get_attr" for kernel in kernels):
            one = put(module, node, torch.ones(1))
            with module.graph.inserting_before(node):
                node.replace_input_with(given, module.graph.call_function(ATEN.mul.Tensor, (given, one)))
    module.recompile()


def quantization_config() -> Any:
    """XNNPACK's rules for int8, symmetric and channel by channel, for weights of any size.

    XNNPACK's own configuration lets no weight's scale be below 2^-12. A kernel that takes in the factor of the pixels
    (1/255) is smaller than that: nearly all its weights become 0. `SMALLEST_SCALE` keeps them, and a channel of zeros
    still has a scale. The same bound stays for maps: XNNPACK refuses an operator whose result has a scale that is too
    small beside that of its input, as a map that calibration saw as zeros would have.
    """
    from executorch.backends.xnnpack.quantizer import xnnpack_quantizer as xnnpack
    from torchao.quantization.pt2e import PerChannelMinMaxObserver

    config = xnnpack.get_symmetric_quantization_config(is_per_channel=True)
    observer = PerChannelMinMaxObserver.with_args(eps=SMALLEST_SCALE)
    return replace(config, weight=replace(config.weight, observer_or_fake_quant_ctr=observer))


class ExecutorchQuantizer(StaticQuantizer):
    """By torch's quantization of exported programs (PT2E), with the rules of XNNPACK: weights channel by channel."""

    def _prepared(self, bundle: Bundle) -> fx.GraphModule:
        executorch()
        self._exported = exported_card(self._graph, bundle)
        return traced(self._graph)

    def _model(self, in_float: Collection[str]) -> torch.export.ExportedProgram:
        with _quiet(), torch.no_grad():
            from executorch.backends.xnnpack.quantizer import xnnpack_quantizer as xnnpack
            from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

            quantizer = xnnpack.XNNPACKQuantizer()
            quantizer.set_global(quantization_config())
            module = program(self._module, self._graph).module()
            left = left_in_float(module, in_float)
            quantizer.set_filter_function(lambda node: node.name not in left)
            watched = prepare_pt2e(module, quantizer)
            for index in self._chosen:
                watched(torch.from_numpy(np.require(self._seen(index), requirements="W")))
            quantized = convert_pt2e(watched)
            keep_padding_in_float(quantized)
            return program(quantized, self._graph)

    def _write(self, model: torch.export.ExportedProgram, exported: ExportedCard, path: Path) -> None:
        save(model, exported, path)
