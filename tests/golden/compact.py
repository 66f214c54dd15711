"""Writes the files beside it from the full reference: `python tests/golden/compact.py REFERENCE`; tests do not run it.

REFERENCE holds `golden/*.json`, `keys_*.json`, `roles_*.json` and `counts.json` as README.md describes. What a rule
gives (positions of the samples) and digits far below the tolerance are left out.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).parent
NETWORKS = {  # file of golden numbers -> key list that its weights follow
    "erfnet": "erfnet",
    "erfnet_encoder": "erfnet_encoder",
    "erfnet_only_encode": "erfnet",
    "liteseg_mobilenet": "liteseg_mobilenet",
    "liteseg_shufflenet": "liteseg_shufflenet",
    "liteseg_darknet": "liteseg_darknet",
    "efficientseg_w1.5": "efficientseg_w1.5",
    "efficientseg_w6.0": "efficientseg_w6.0",
    "efficientseg_unet": "efficientseg_unet",
    "efficientseg_unet_bn": "efficientseg_unet_bn",
    "ddrnet_23_slim": "ddrnet_23_slim",
    "pidnet_s": "pidnet_s",
    "pp_liteseg_t": "pp_liteseg_t",
}
HEADS = {  # how the reference describes an output beside the main one -> training head, or the whole picture's logits
    "auxiliary head: net(x)[1]": "seghead_extra",
    "auxiliary P head: net(x)[0]": "seghead_p",
    "boundary D head: net(x)[2]": "seghead_d",
    "main logits x8, bilinear, align_corners=False": "picture",
    "main logits x8, bilinear, align_corners=True": "picture",
    "seg_heads.1, resized to the input": "seg_heads.1",
    "seg_heads.2, resized to the input": "seg_heads.2",
}
KEYS_ALONE = ("erfnet_imagenet", "fast_scnn")  # key lists without golden numbers
CHECKPOINTS = (
    "mininet_v2_cpu_tf_camvid_480x360",
    "mininet_v2_cpu_tf_cityscapes_512x256",
    "mininet_v2_tf_camvid_960x720",
    "mininet_v2_tf_cityscapes_512x256",
    "mininet_v2_tf_cityscapes_1024x512",
)
MININET_V1 = "mininet_v1"  # float32 alone, and weights that follow from their place in the list of variables
DIGITS = {"float64": 12, "float32": 6}  # the tolerance is 10 and 4
STATISTICS = ("mean", "std", "min", "max")
COUNTED = ("out", "conv_deconv_GMAC", "linear_GMAC")


def main(reference: Path) -> None:
    for name, keys in NETWORKS.items():
        golden = json.loads((reference / "golden" / f"{name}.json").read_text())
        write(HERE / "keys" / f"{keys}.json", dict(golden["state"]))
        write(HERE / "logits" / f"{name}.json", network(golden, keys))
    for keys in KEYS_ALONE:
        write(HERE / "keys" / f"{keys}.json", json.loads((reference / f"keys_{keys}.json").read_text()))
    for checkpoint in CHECKPOINTS:
        roles = json.loads((reference / f"roles_{checkpoint}.json").read_text())
        table = {row["tf"]: [row["role"], row["tf_shape"]] for row in roles}
        write(HERE / "variables" / f"{checkpoint.replace('_tf_', '_')}.json", table)
    write(
        HERE / "variables" / f"{MININET_V1}.json",
        dict(variables(reference / "golden" / f"{MININET_V1}_variables.json")),
    )
    with np.load(reference / "golden" / f"{MININET_V1}_golden.npz") as stored:
        write(HERE / "logits" / f"{MININET_V1}.json", of_array(stored["logits"].transpose(0, 3, 1, 2)))
    modern = json.loads((reference / "golden" / "modern_counts.json").read_text())
    rows = [*counts(json.loads((reference / "counts.json").read_text())), *counts_with_heads(modern)]
    write(HERE / "counts.json", dict(rows))
    write(HERE / "mistakes.json", modern["mistakes"])


def network(golden: dict[str, Any], keys: str) -> dict[str, Any]:
    """What a copy of the network must reproduce."""
    facts = {name: golden[name] for name in ("parameters", "parameters_that_reach_the_output", "weights_sha256")}
    sizes = {f"{height}x{width}": case(one) for one in golden["cases"] for height, width in [one["input_size"]]}
    heads: dict[str, Any] = {}
    for one in golden.get("head_cases", ()):
        height, width = one["input_size"]
        heads.setdefault(HEADS[one["output"]], {})[f"{height}x{width}"] = case(one)
    beside = {"heads": heads} if heads else {}
    return {"keys": keys, "gain": golden["fill_rule"]["gain"], **facts, "cases": sizes, **beside}


def case(one: dict[str, Any]) -> dict[str, Any]:
    """The logits of one picture in both precisions."""
    return {
        "shape": one["output_shape"],
        **{precision: logits(one[precision], digits) for precision, digits in DIGITS.items()},
    }


def logits(numbers: dict[str, Any], digits: int) -> dict[str, Any]:
    """Statistics and samples, with so many digits below their standard deviation."""
    places = digits - math.floor(math.log10(numbers["std"]))
    argmax = {"argmax": numbers["argmax_histogram"]} if "argmax_histogram" in numbers else {}  # one channel has none
    return {
        **{name: round(numbers[name], places) for name in STATISTICS},
        **argmax,
        "samples": [round(value, places) for value in numbers["samples"]],
    }


def variables(path: Path) -> Iterable[tuple[str, list[Any]]]:
    """What each TensorFlow variable is, and its shape, in the order in which the authors' graph makes them."""
    for name, shape, kind in json.loads(path.read_text()):
        yield name, [kind, shape]


def of_array(logits: np.ndarray) -> dict[str, Any]:
    """What `logits` takes of a network's whole answer [1 k h w]."""
    index = np.random.RandomState(1).randint(0, logits.size, 64)
    return {
        "shape": list(logits.shape),
        **{name: round(float(getattr(logits, name)(dtype=np.float64)), 6) for name in ("mean", "std")},
        **{name: round(float(getattr(logits, name)()), 6) for name in ("min", "max")},
        "argmax": np.bincount(logits.argmax(1).ravel(), minlength=logits.shape[1]).tolist(),
        "samples": [round(float(value), 6) for value in logits.ravel()[index]],
    }


def counts(sheet: dict[str, Any]) -> Iterable[tuple[str, dict[str, Any]]]:
    for name, row in sheet.items():
        if "params" in row and "at" in row:
            extra = {key: row[key] for key in ("params_without_classifier",) if key in row}
            at = {size: {key: count[key] for key in COUNTED} for size, count in row["at"].items()}
            params = {key: row["params"][key] for key in ("total", "bn_affine")}
            yield name, {"params": params, **extra, "at": at}


def counts_with_heads(sheet: dict[str, Any]) -> Iterable[tuple[str, dict[str, Any]]]:
    for name, row in sheet.items():
        if "parameters_with_train_heads" in row:
            params = {"total": row["parameters"], "with_heads": row["parameters_with_train_heads"]}
            at = {size: {key: count[key] for key in ("out", "MAC")} for size, count in row["at"].items()}
            yield name, {"params": params | {"bn_affine": row["bn_affine"]}, "at": at}


def write(path: Path, table: dict[str, Any]) -> None:
    """Minified JSON, but an entry a line, and a line for each precision, so that a change shows."""
    lines = (f"{json.dumps(key)}:{json.dumps(value, separators=(',', ':'))}" for key, value in table.items())
    path.parent.mkdir(exist_ok=True)
    path.write_text("{\n" + ",\n".join(lines).replace('"float', '\n"float') + "\n}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
