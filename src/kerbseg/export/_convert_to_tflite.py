"""Runs in the environment of LiteRT's converter, without kerbseg: python _convert_to_tflite.py SAVED.pt2 MADE.tflite"""

import sys

import litert_torch
import torch


def main(source: str, target: str) -> None:
    """Converts a program of one input that `torch.export.save` wrote."""
    program = torch.export.load(source)
    (name,) = program.graph_signature.user_inputs
    example = next(node.meta["val"] for node in program.graph.nodes if node.name == name)
    inputs = (torch.zeros(example.shape, dtype=example.dtype),)
    try:
        made = litert_torch.convert(program.module(), inputs)
    except (ValueError, RuntimeError, NotImplementedError) as error:
        lines = [line for line in str(error).splitlines() if line.strip()]
        reason = next((line for line in lines if "error:" in line), lines[-1] if lines else type(error).__name__)
        sys.exit(f"refused: {reason[reason.find('error:') :][:300]}")
    made.export(target)


if __name__ == "__main__":
    main(*sys.argv[1:])
