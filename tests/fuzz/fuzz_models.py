"""Model files: bundles, runs to resume, authors' files to import, ONNX and OpenVINO files."""

from __future__ import annotations

import io
import json
import os
import re
import runpy
import shutil
import struct
import subprocess
import sys
import zipfile
from pathlib import Path
from random import Random
from typing import Any

import fuzz_mutations as spoil
import numpy as np
from fuzz_judge import Meaning
from fuzz_kinds import Command, Kind, Mutation, command, confusion_of, copy_shared, ids_of, rewrite, weights_of

PREDICT = "kerbseg.predict kerbseg.predict.files kerbseg.runtime.torch kerbseg.evaluate kerbseg.apps.info"
EXPORTED = f"{PREDICT} onnx numba"  # not the engines: they start threads when they are imported
TRAIN = "kerbseg.train.run kerbseg.train.segmentation kerbseg.train.recipe_file torchmetrics tensorboard"


# ---- bundles


def _bundle(folder: Path, shared: Path) -> None:
    copy_shared(shared, folder, "model.safetensors", "picture.png", "camvid")


def _model_commands(draw: Random, model: str) -> tuple[Command, ...]:
    lines = {
        command(f"predict {model} picture.png -o out", ids_of): 14,
        command(f"info {model}"): 2,
        command(f"evaluate {model} --data camvid --data-root camvid --limit 2 --json figures.json", confusion_of): 2,
    }
    if model.endswith(".safetensors"):
        lines |= {
            command(f"profile {model} --runs 0"): 2,
            command(f"group {model} --groups 2 -o grouped.safetensors", weights_of("grouped.safetensors")): 1,
            command(f"export {model} -o made.xml"): 0.5,
            command(f"export {model} -o made.onnx"): 0.3,
        }
    else:
        lines[command(f"profile {model} --runs 1")] = 0.5
    return tuple(draw.choices(list(lines), list(lines.values())))


def _header(data: bytes) -> tuple[dict[str, Any], bytes]:
    length = int.from_bytes(data[:8], "little")
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def _with_header(header: Any, body: bytes) -> bytes:
    text = json.dumps(header).encode(errors="replace")
    return struct.pack("<Q", len(text)) + text + body


def _spoil_bundle(draw: Random, folder: Path) -> Mutation:
    path = folder / "model.safetensors"
    data, label, meaning = spoil_bundle(draw, path.read_bytes())
    rewrite(path, data)
    return Mutation(label, meaning)


def spoil_bundle(draw: Random, data: bytes) -> tuple[bytes, str, Meaning]:
    """A bundle with a spoiled card, header, tensor or byte."""
    header, body = _header(data)
    how = draw.choice(["card", "card", "card", "card text", "header", "finite", "bytes", "tensor bytes", "length"])
    if how in ("card", "card text"):
        card = header["__metadata__"]["kerbseg"]
        if how == "card":
            value, label = spoil.change_value(draw, json.loads(card))
            header["__metadata__"]["kerbseg"] = json.dumps(value)
        else:
            changed, label = spoil.change_text(draw, card)
            header["__metadata__"]["kerbseg"] = changed.decode(errors="replace")
        return _with_header(header, body), f"{how}: {label}", "same"
    if how == "header":
        value, label = spoil.change_value(draw, header)
        return _with_header(value, body), f"header: {label}", "same"
    if how == "finite":
        floats = [each for name, each in header.items() if name != "__metadata__" and each["dtype"] == "F32"]
        start, end = draw.choice(floats)["data_offsets"]
        at = struct.pack("<f", draw.choice([float("nan"), float("inf"), float("-inf")]))
        place = start + 4 * draw.randrange((end - start) // 4)
        return _with_header(header, body[:place] + at + body[place + 4 :]), "not finite", "refused"
    if how == "length":
        odd = draw.choice([0, 1, 2**63, 2**64 - 1, len(data), draw.randrange(100_000)])
        return struct.pack("<Q", odd) + data[8:], "length of the header", "same"
    start = 0 if how == "bytes" else len(data) - len(body)
    changed, label = spoil.change_bytes(draw, data, start)
    return changed, f"{how}: {label}", "same"


# ---- runs to resume

BEGIN = """
import os, sys
from lightning.pytorch.callbacks import Callback
from kerbseg.train.fit import fit
from kerbseg.train.recipe_file import read

class Stop(Callback):
    def on_train_epoch_start(self, trainer, module):
        if trainer.current_epoch == 1:
            os._exit(9)

fit(read("recipe.yaml"), "run", data_root="camvid", device="cpu", callbacks=[Stop()])
"""
RECIPE = """model: {name: mininet_v2_cpu}
data: {name: camvid}
epochs: 2
batch_size: 2
augment: {flip: 0.5, brightness: 0.1, crop: [32, 64]}
loss: {weights: median_frequency, power: 0.3}
optim: {name: adamw, lr: 1e-3, weight_decay: 1e-3}
schedule: {name: one_cycle}
ema: 0.9
"""
RESUME = command("train --resume --out run --data-root camvid --device cpu", weights_of("run/last.safetensors"))


def _run(folder: Path, shared: Path) -> None:
    copy_shared(shared, folder, "camvid")
    (folder / "recipe.yaml").write_text(RECIPE)
    env = {**os.environ, "OMP_NUM_THREADS": "1"}  # as the fuzzed commands have: resume is exact for one number
    made = subprocess.run([sys.executable, "-c", BEGIN], cwd=folder, env=env, capture_output=True, text=True)
    if made.returncode != 9:
        raise RuntimeError(made.stderr)


def _spoil_run(draw: Random, folder: Path) -> Mutation:
    run = folder / "run"
    which = draw.choice(["last.ckpt"] * 6 + ["recipe.yaml", "metrics.csv", "best.safetensors", "folder"])
    path = run / which
    if which == "last.ckpt":
        return _spoil_checkpoint(draw, path)
    if which == "recipe.yaml":
        changed, label = spoil.change_text(draw, path.read_text())
        if draw.random() < 0.3:
            label, text = draw.choice(list(spoil.YAML_TRAPS.items()))
            changed = text.replace("{key}", "epochs").encode(errors="surrogatepass")
        rewrite(path, changed)
        return Mutation(f"recipe.yaml: {label}")
    if which == "folder":
        return _spoil_run_folder(draw, run)
    changed, label = spoil.change_bytes(draw, path.read_bytes())
    rewrite(path, changed)
    return Mutation(f"{which}: {label}")


def _spoil_run_folder(draw: Random, run: Path) -> Mutation:
    name = draw.choice(["last.ckpt", "recipe.yaml", "metrics.csv", "best.safetensors", "tensorboard"])
    path = run / name
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    how = draw.choice(["gone", "a folder", "a dangling link", "a link to itself", "an empty file"])
    if how == "a folder":
        path.mkdir()
    elif how != "gone" and how != "an empty file":
        path.symlink_to("nowhere" if how == "a dangling link" else name)
    elif how == "an empty file":
        path.touch()
    return Mutation(f"{name} is {how}")


def _spoil_checkpoint(draw: Random, path: Path) -> Mutation:
    how = draw.choice(["bytes", "bytes", "member", "values", "values", "tensor"])
    data = path.read_bytes()
    if how == "bytes":
        changed, label = spoil.change_bytes(draw, data)
        rewrite(path, changed)
        return Mutation(f"last.ckpt: {label}", "same")
    if how == "member":
        label = _spoil_member(draw, path)
        return Mutation(f"last.ckpt: {label}")  # under a checksum that fits: no accident makes this
    import torch

    content = torch.load(io.BytesIO(data), weights_only=False)
    meaning: Meaning = "any"
    if how == "values":
        content, label = _change_checkpoint(draw, content)
    else:
        tensors = list(_tensors(content))
        inside, key = draw.choice(tensors)
        inside[key], label = odd_tensor(draw, inside[key])
        meaning = "refused" if label in ("with NaN", "with infinity") else "any"
        label = f"{key} {label}"
    path.unlink()
    torch.save(content, path)
    return Mutation(f"last.ckpt: {label}", meaning)


def _spoil_member(draw: Random, path: Path) -> str:
    """One member of a zip with other bytes, under a checksum that fits."""
    with zipfile.ZipFile(path) as archive:
        members = {info.filename: archive.read(info) for info in archive.infolist()}
    name = draw.choice(list(members))
    how = draw.choice(["change", "change", "change", "remove", "rename"])
    if how == "change":
        members[name], label = spoil.change_bytes(draw, members[name])
    else:
        content, label = members.pop(name), how
        if how == "rename":
            members[f"{name}x"] = content
    path.unlink()
    with zipfile.ZipFile(path, "w") as archive:
        for member, content in members.items():
            archive.writestr(member, content)
    return f"{name}: {label}"


def _tensors(value: Any) -> Any:
    import torch

    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in list(items):
        if isinstance(inner, torch.Tensor):
            yield value, key
        else:
            yield from _tensors(inner)


def _change_checkpoint(draw: Random, content: Any) -> tuple[Any, str]:
    """A value above the tensors is another, or gone."""
    places = [(content, key) for key in content]
    for inner in content.values():
        if isinstance(inner, dict):
            places += [(inner, each) for each in list(inner)[:12]]
        elif isinstance(inner, list) and inner and isinstance(inner[0], dict):
            places += [(inner[0], each) for each in inner[0]]
    inside, key = draw.choice(places)
    if draw.random() < 0.35:
        del inside[key]
        return content, f"without {key}"
    inside[key] = spoil.odd_value(draw, inside[key] if isinstance(inside[key], int | float | str) else None)
    return content, f"{key} = {inside[key]!r:.50}"


def odd_tensor(draw: Random, tensor: Any) -> tuple[Any, str]:
    """A tensor in the place of another."""
    import torch

    flat = torch.zeros(1) if tensor.numel() == 0 else tensor.detach().clone().reshape(-1)
    kinds = {
        "with NaN": lambda: _with(tensor, draw, float("nan")),
        "with infinity": lambda: _with(tensor, draw, float("inf")),
        "one longer": lambda: torch.cat([flat, flat[:1]]),
        "empty": lambda: torch.zeros(0),
        "flat": lambda: flat,
        "with another dimension": lambda: tensor[None],
        "as float64": lambda: tensor.double(),
        "as float16": lambda: tensor.half(),
        "as int8": lambda: tensor.to(torch.int8),
        "as complex": lambda: tensor.to(torch.complex64),
        "as bool": lambda: tensor.bool(),
        "as float8": lambda: tensor.float().to(torch.float8_e4m3fn),
        "sparse": lambda: tensor.float().to_sparse(),
        "quantized": lambda: torch.quantize_per_tensor(tensor.float(), 0.1, 0, torch.qint8),
        "on meta": lambda: tensor.to("meta"),
        "expanded": lambda: torch.zeros(1).expand(2**33),
        "a number": lambda: 3,
        "a word": lambda: "weights",
        "nothing": lambda: None,
    }
    how = draw.choice(list(kinds))
    return kinds[how](), how


def _with(tensor: Any, draw: Random, value: float) -> Any:
    import torch

    changed = tensor.detach().clone()
    changed = changed if changed.is_floating_point() else changed.to(torch.float32)
    if changed.numel():
        changed.reshape(-1)[draw.randrange(changed.numel())] = value
    return changed


# ---- authors' files

VARIABLES = "mininet_v2_cpu_camvid_480x360"


def _authors(folder: Path, shared: Path) -> None:
    sys.path.insert(0, str(Path(__file__).parents[1]))
    import torch

    from golden_rule import filled, read_keys, read_variables

    folder.mkdir(parents=True)
    torch.save(filled(read_keys("erfnet")), folder / "erfnet.pth")
    noise = np.random.default_rng(0)
    variables = {}
    for name, (_, shape) in read_variables(VARIABLES).items():
        values = noise.normal(size=shape).astype(np.float32) * 0.1
        variables[name] = np.abs(values) + 1 if name.endswith(("variance", "gamma")) else values
    np.savez(folder / "mininet.npz", **variables)
    # the checkpoint's writer is that of the importer's own tests
    write = runpy.run_path(str(Path(__file__).parents[1] / "importers" / "conftest.py"))["write"]
    write(folder / "mininet.ckpt", variables, 2)


def _spoil_authors(draw: Random, folder: Path) -> Mutation:
    which = draw.choice(["pth", "npz", "npz", "tf", "tf"])
    made = weights_of("made.safetensors")
    if which == "tf":
        path = draw.choice(sorted(folder.glob("mininet.ckpt.*")))
        changed, label = spoil.change_bytes(draw, path.read_bytes())
        rewrite(path, changed)
        if draw.random() < 0.1:
            path.unlink()
            label = "gone"
        line = command("import mininet-tf mininet.ckpt -o made.safetensors", made)
        return Mutation(f"{path.suffix}: {label}", "same", (line,))
    if which == "npz":
        line = command("import mininet-tf mininet.npz -o made.safetensors", made)
        label, meaning = _spoil_npz(draw, folder / "mininet.npz")
        return Mutation(f"npz: {label}", meaning, (line,))
    line = command("import erfnet-pytorch erfnet.pth -o made.safetensors", made)
    label, meaning = _spoil_pth(draw, folder / "erfnet.pth")
    return Mutation(f"pth: {label}", meaning, (line,))


def _spoil_pth(draw: Random, path: Path) -> tuple[str, Meaning]:
    how = draw.choice(["bytes", "bytes", "tensor", "tensor", "member", "wrapped"])
    if how == "bytes":
        changed, label = spoil.change_bytes(draw, path.read_bytes())
        rewrite(path, changed)
        return label, "same"
    if how == "member":
        return _spoil_member(draw, path), "any"  # an author's file with a checksum that fits
    import torch

    state: Any = torch.load(path, weights_only=True)
    if how == "wrapped":
        value, label = spoil.change_value(draw, {"epoch": 1, "state_dict": {"a": 1}, "optimizer": [1, 2]})
        state, meaning = value, "any"
    else:
        key = draw.choice(list(state))
        state[key], label = odd_tensor(draw, state[key])
        meaning = "refused" if label in ("with NaN", "with infinity", "a number", "a word", "nothing") else "any"
        label = f"{key} {label}"
    path.unlink()
    torch.save(state, path)
    return label, meaning  # type: ignore[return-value]


def _spoil_npz(draw: Random, path: Path) -> tuple[str, Meaning]:
    how = draw.choice(["bytes", "array", "array", "header"])
    if how == "bytes":
        changed, label = spoil.change_bytes(draw, path.read_bytes())
        rewrite(path, changed)
        return label, "same"
    if how == "header":
        return _spoil_npy_header(draw, path), "any"
    arrays = dict(np.load(path))
    key = draw.choice(list(arrays))
    array = arrays[key]
    kinds: dict[str, Any] = {
        "NaN": lambda: np.where(np.arange(array.size).reshape(array.shape) == 0, np.nan, array).astype(np.float32),
        "1e300": lambda: np.where(np.arange(array.size).reshape(array.shape) == 0, 1e300, array.astype(np.float64)),
        "complex": lambda: array.astype(np.complex64),
        "words": lambda: array.astype(str),
        "bytes": lambda: array.astype("S8"),
        "dates": lambda: array.astype("datetime64[s]"),
        "records": lambda: np.zeros(array.shape, [("a", "f4"), ("b", "i2")]),
        "uint64": lambda: np.full(array.shape, 2**63, np.uint64),
        "bool": lambda: array > 0,
        "big-endian": lambda: array.astype(">f4"),
        "float16": lambda: array.astype(np.float16),
        "longdouble": lambda: array.astype(np.longdouble),
        "one longer": lambda: np.concatenate([array.ravel(), array.ravel()[:1]]),
        "scalar": lambda: np.float32(1),
        "column order": lambda: np.asfortranarray(array),
    }
    label = draw.choice(list(kinds))
    arrays[key] = kinds[label]()
    np.savez(path, **arrays)
    same = ("big-endian", "column order")
    meaning: Meaning = "same" if label in same else "any" if label in ("float16", "longdouble", "bool") else "refused"
    return f"{key}: {label}", meaning


def _spoil_npy_header(draw: Random, path: Path) -> str:
    with zipfile.ZipFile(path) as archive:
        members = {info.filename: archive.read(info) for info in archive.infolist()}
    name = draw.choice(list(members))
    content = members[name]
    length = 10 + int.from_bytes(content[8:10], "little")
    header, label = spoil.change_text(draw, content[10:length].decode("latin-1"))
    members[name] = content[:8] + struct.pack("<H", len(header) & 0xFFFF) + header + content[length:]
    with zipfile.ZipFile(path, "w") as archive:
        for member, data in members.items():
            archive.writestr(member, data)
    return f"header of {name}: {label}"


# ---- exported files


def _exported(suffix: str) -> Any:
    def build(folder: Path, shared: Path) -> None:
        copy_shared(shared, folder, "picture.png", "camvid", *(path.name for path in shared.glob(f"model{suffix}")))

    return build


def _spoil_onnx(draw: Random, folder: Path) -> Mutation:
    path = folder / "model.onnx"
    how = draw.choice(["bytes", "bytes", "field", "field", "field", "card", "weights"])
    data = path.read_bytes()
    if how == "bytes":
        changed, label = spoil.change_bytes(draw, data)
        rewrite(path, changed)
        return Mutation(f"bytes: {label}", "same")
    import onnx

    model = onnx.load_from_string(data)
    meaning: Meaning = "same"
    if how == "field":
        label = spoil.change_message(draw, model)
    elif how == "card":
        entry = draw.choice(list(model.metadata_props))
        try:
            value, label = spoil.change_value(draw, json.loads(entry.value))
            entry.value = json.dumps(value).encode(errors="replace").decode()
        except ValueError:  # a value that is no JSON
            entry.value, label = "x", "words"
        label = f"{entry.key}: {label}"
    else:
        floats = [each for each in model.graph.initializer if each.data_type == 1 and len(each.raw_data) >= 4]
        tensor = draw.choice(floats)
        tensor.raw_data = spoil.odd_floats(draw, tensor.raw_data, 0, len(tensor.raw_data))
        label, meaning = f"{tensor.name} not finite", "same"
    rewrite(path, model.SerializeToString())
    return Mutation(f"{how}: {label}", meaning)


def _spoil_openvino(draw: Random, folder: Path) -> Mutation:
    how = draw.choice(["xml", "xml", "xml", "text", "bytes", "bin", "bin", "bin not finite", "bin gone"])
    xml, weights = folder / "model.xml", folder / "model.bin"
    label = ""
    if how == "xml":
        changed, label = spoil.change_xml(draw, xml.read_text())
        rewrite(xml, changed)
    elif how == "text":
        text = xml.read_text()
        changed, label = spoil.change_text(draw, text)
        rewrite(xml, changed)
    elif how == "bytes":
        changed, label = spoil.change_bytes(draw, xml.read_bytes())
        rewrite(xml, changed)
    elif how == "bin":
        changed, label = spoil.change_bytes(draw, weights.read_bytes())
        rewrite(weights, changed)
    elif how == "bin gone":
        weights.unlink()
    else:
        offsets = [int(each) for each in re.findall(r'offset="(\d+)"', xml.read_text())]
        data = weights.read_bytes()
        rewrite(weights, spoil.odd_floats(draw, data, min(offsets), len(data) - 4))
    return Mutation(f"{how}: {label}", "same")


KINDS = (
    Kind("bundle", 180, _bundle, _spoil_bundle, lambda draw, folder: _model_commands(draw, "model.safetensors"),
         tuple(PREDICT.split())),
    Kind("checkpoint", 120, _run, _spoil_run, lambda draw, folder: (RESUME,), tuple(TRAIN.split())),
    Kind("import", 150, _authors, _spoil_authors, lambda draw, folder: (), ("kerbseg.importers.mininet_tf",
         "kerbseg.importers.erfnet_pytorch")),
    Kind("onnx", 150, _exported(".onnx"), _spoil_onnx, lambda draw, folder: _model_commands(draw, "model.onnx"),
         tuple(EXPORTED.split())),
    Kind("openvino", 150, _exported(".[xb][mi][ln]"), _spoil_openvino,
         lambda draw, folder: _model_commands(draw, "model.xml"), tuple(EXPORTED.split())),
)  # fmt: skip
