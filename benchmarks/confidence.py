"""Confidence of every runtime against a softmax in float64, and temperatures of shipped weights fitted once more.

One network is written for every engine, in float and in int8, also by `kerbseg accelerate` from a plain ONNX file of
torch's exporter, and a bag is predicted with --unknown. Each is compared twice: with the softmax of its own logits,
which says what the last stage loses, and with that of torch in float32. The part `calibration` fits the temperature of
all shipped weights on CamVid's val again and sets it beside that of their cards. What is not installed is not measured;
a part that is not asked for stays as --json has it. Files that lie in --work already are taken as they are.
`--page` alone writes the page's tables from the results, and measures nothing.
    python benchmarks/confidence.py --data-root camvid --json benchmarks/results/confidence.json
    python benchmarks/confidence.py --page docs/confidence.md
"""

from __future__ import annotations

import argparse
import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from jaxtyping import Float64, UInt8
from marked import between
from PIL import Image

import kerbseg.models as models
from kerbseg.accelerate import accelerate
from kerbseg.accelerate.int8 import accelerate_int8
from kerbseg.bundle import Bundle, load, read_card, save, shipped
from kerbseg.calibrate import calibrate
from kerbseg.cli import main as kerbseg
from kerbseg.core.errors import KerbsegError
from kerbseg.core.extras import first_missing
from kerbseg.core.files import atomic_write
from kerbseg.core.types import VOID, Dataset
from kerbseg.data import open_dataset
from kerbseg.export import pictures_of
from kerbseg.export.int8 import Quantizer
from kerbseg.model_files import locate
from kerbseg.profiling.machine import this_machine
from kerbseg.runtime import ENGINES, open_runtime
from kerbseg.runtime.engines import exporting

RESULTS = Path(__file__).parent / "results" / "confidence.json"
PARTS = ("runtimes", "calibration")
LEVEL = 1 / 255
UNKNOWN = 0.5
START_NS, STEP_NS, FRAME, CAMERA = 1_790_000_000_000_000_000, 66_666_667, "front_camera", "/cam/image_raw"
Row = dict[str, Any]
Pictures = UInt8[np.ndarray, "b h w 3"]
Sure = Float64[np.ndarray, "b h w"]


def softmax(logits: torch.Tensor, ids: np.ndarray, temperature: float) -> Sure:
    """What a softmax in float64 says of the class of each id."""
    probabilities = (logits.double() / temperature).softmax(1)
    own: np.ndarray = probabilities.gather(1, torch.from_numpy(ids).long()[:, None])[:, 0].numpy()
    return own


def of_torch(bundle: Bundle, pictures: Pictures, temperature: float) -> tuple[np.ndarray, Sure]:
    """Ids of torch in float32, and how sure it is in float64."""
    runtime: Any = open_runtime(bundle)
    parts = [runtime.with_logits(picture[None]) for picture in pictures]
    ids = np.concatenate([each for each, _ in parts])
    return ids, np.concatenate([softmax(logits, each, temperature) for each, logits in parts])


def compared(model: Any, bundle: Bundle, pictures: Pictures, **options: Any) -> Row:
    """Shares of pixels within a level of a byte, of the softmax of its own logits and of torch's."""
    runtime: Any = open_runtime(model, **options)
    temperature = runtime.card.temperature or 1.0
    reference, expected = of_torch(bundle, pictures, temperature)
    own, ids, floats, levels = [], [], [], []
    for picture in pictures:
        one, logits = runtime.with_logits(picture[None])
        own.append(softmax(logits, one, temperature))
        ids.append(one)
        floats.append(runtime.with_confidence(picture[None])[1])
        again, in_bytes = runtime.with_confidence(picture[None], dtype="uint8")
        assert (again == one).all(), "ids are the same with and without confidence"
        levels.append(in_bytes)
    same = np.concatenate(ids) == reference
    row: Row = {"precision": runtime.precision, "temperature": temperature, "same_ids": float(same.mean())}
    for name, sure in (("float32", np.concatenate(floats).astype(np.float64)), ("uint8", np.concatenate(levels) / 255)):
        row[name] = {
            "own": _within(sure, np.concatenate(own)),
            "own_largest": float(np.abs(sure - np.concatenate(own)).max()),
            "torch": _within(sure, expected),
            "torch_mean": float(np.abs(sure - expected).mean()),
        }
    return row


def _within(sure: Sure, expected: Sure) -> float:
    return float((np.abs(sure - expected) <= LEVEL + 1e-9).mean())


# ---- files


def plain_onnx(bundle: Bundle, size: tuple[int, int], path: Path) -> Path:
    """The network as anyone writes it: normalized floats [1 3 h w] in, logits at the picture's size out."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(bundle.model.eval(), (torch.zeros(1, 3, *size),), path, dynamo=True, verbose=False)
    return path


def in_int8(
    bundle: Bundle, engine: str, path: Path, size: tuple[int, int], data: Dataset, count: int, levels: bool
) -> Path:
    """The network in int8, with logits of a byte each where that is asked for."""
    if path.exists():
        return path
    quantizer = Quantizer.of_bundle(bundle, ENGINES[engine], size, data, count)
    quantized = quantizer.quantize_all()
    quantizer.save(quantizer.with_uint8_logits(quantized) if levels else quantized, path)
    return path


def written(bundle: Bundle, suffix: str, path: Path, size: tuple[int, int]) -> Path:
    """The network in float."""
    if not path.exists():
        exporting()[suffix].writer()(bundle, path, size)
    return path


def accelerated(bundle: Bundle, path: Path, size: tuple[int, int], shown: Sequence[np.ndarray], in_8: bool) -> Path:
    """What `kerbseg accelerate` makes of a plain ONNX file."""
    source, how = path.with_name("plain.onnx"), bundle.card.preprocessing
    if not source.exists():
        plain_onnx(bundle, size, source)
    if not in_8:
        accelerate(source, path, preprocessing=how, pictures=shown)
        return path
    folder = path.with_name("pictures")
    folder.mkdir(exist_ok=True)
    for number, picture in enumerate(shown):
        Image.fromarray(picture).save(folder / f"{number}.png", compress_level=1)
    accelerate_int8(source, path, folder, preprocessing=how)
    return path


def bag(model: Path, pictures: Pictures, folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Masks and confidences that `kerbseg predict --unknown` puts into a bag of these pictures."""
    from mcap.reader import make_reader
    from mcap_ros2.decoder import DecoderFactory

    from kerbseg.robots.bag_writer import write_bag
    from kerbseg.robots.messages import IMAGE, header, typestore

    source, out = folder / "drive.mcap", folder / "out.mcap"
    with write_bag(source) as writer:
        for number, picture in enumerate(pictures):
            height, width = picture.shape[:2]
            stamp_ns = START_NS + number * STEP_NS
            message = typestore().types[IMAGE](
                header(stamp_ns, FRAME), height, width, "rgb8", 0, 3 * width, np.ascontiguousarray(picture).reshape(-1)
            )
            writer.write(CAMERA, message, stamp_ns)
    out.unlink(missing_ok=True)
    kerbseg(["predict", str(model), str(source), "-o", str(out), "--unknown", str(UNKNOWN), "--only"])
    read: dict[str, list[np.ndarray]] = {"mask": [], "confidence": []}
    with out.open("rb") as file:
        reader = make_reader(file, decoder_factories=[DecoderFactory()])
        for _, channel, _, message in reader.iter_decoded_messages():
            if (name := channel.topic.rpartition("/")[2]) in read:
                read[name].append(np.frombuffer(message.data, np.uint8).reshape(message.height, message.width))
    return np.stack(read["mask"]), np.stack(read["confidence"])


def of_bag(model: Path, bundle: Bundle, pictures: Pictures, folder: Path) -> Row:
    """Bytes of a bag against torch's softmax, and whether what is unknown is what torch is unsure of."""
    runtime: Any = open_runtime(model)
    temperature = runtime.card.temperature or 1.0
    reference, expected = of_torch(bundle, pictures, temperature)
    parts = [runtime.with_logits(picture[None]) for picture in pictures]
    own = np.concatenate([softmax(logits, ids, temperature) for ids, logits in parts])
    masks, levels = bag(model, pictures, folder)
    clear = np.abs(expected - UNKNOWN) > LEVEL  # nearer, rounding decides
    known = masks != VOID
    return {
        "precision": runtime.precision,
        "temperature": temperature,
        "same_ids": float((masks == reference)[known].mean()),
        "uint8": {
            "own": _within(levels / 255, own),
            "own_largest": float(np.abs(levels / 255 - own).max()),
            "torch": _within(levels / 255, expected),
            "torch_mean": float(np.abs(levels / 255 - expected).mean()),
        },
        "unknown": {
            "threshold": UNKNOWN,
            "share": float(1 - known.mean()),
            "as_torch": float((~known == (expected < UNKNOWN))[clear].mean()),
        },
    }


def rows_of(
    bundle: Bundle,
    folder: Path,
    given: argparse.Namespace,
    splits: Mapping[str, Dataset],
    rows: dict[str, Row],
    keep: Callable[[dict[str, Row]], object],
) -> None:
    """Measures runtimes beside the rows that are there; `keep` has all of them, in their order, after each."""
    size = (given.size[0], given.size[1])
    padded = models.padded_size(size, models.card(bundle.card.model).stride)
    pictures = np.stack(pictures_of(splits["val"], size, given.pictures))
    on_padded = np.stack(pictures_of(splits["val"], padded, given.pictures))
    shown = pictures_of(splits["train"], padded, 2 * given.calibration)
    folder.mkdir(parents=True, exist_ok=True)
    own = folder / "m.safetensors"
    save(Bundle(bundle.model, replace(bundle.card, input_size=size)), own)
    against = partial(compared, bundle=load(own), pictures=pictures)
    on_its_own_size = partial(compared, bundle=bundle, pictures=on_padded)

    def exported(engine: str) -> Row:
        suffix = ENGINES[engine].suffix
        return against(written(bundle, suffix, folder / f"m{suffix}", size))

    def quantized(engine: str, levels: bool = False) -> Row:
        path = folder / f"int8{'_bytes' * levels}{ENGINES[engine].suffix}"
        return against(in_int8(bundle, engine, path, size, splits["train"], given.calibration, levels))

    def foreign(suffix: str, in_8: bool) -> Row:
        path = folder / f"accelerated{'_int8' * in_8}{suffix}"
        return on_its_own_size(accelerated(bundle, path, padded, shown, in_8))

    makers: dict[str, tuple[str, Callable[[], Row]]] = {  # by name: the engine that has to be there, and what measures
        "torch, channels last": ("torch", partial(against, own)),
        "torch, eager": ("torch", partial(against, own, engine="torch-eager")),
        "torch, bfloat16": ("torch", partial(against, own, precision="bfloat16")),
    }
    for engine, suffix in (("onnx", ".onnx"), ("openvino", ".xml"), ("litert", ".tflite"), ("executorch", ".pte")):
        makers[f"{suffix}, float"] = (engine, partial(exported, engine))
        makers[f"{suffix}, int8"] = (engine, partial(quantized, engine))
    makers[".xml, int8, logits of a byte"] = ("openvino", partial(quantized, "openvino", True))
    makers[".ncnn.param, float"] = ("ncnn", partial(exported, "ncnn"))
    for engine, suffix in (("onnx", ".onnx"), ("openvino", ".xml")):
        makers[f"accelerated {suffix}, float"] = (engine, partial(foreign, suffix, False))
        makers[f"accelerated {suffix}, int8"] = (engine, partial(foreign, suffix, True))
    for engine, name in (("onnx", "m.onnx"), ("openvino", "m.xml"), ("openvino", "int8.xml")):
        path = folder / name
        makers[f"bag with --unknown, {name.replace('m.', '.').replace('int8.xml', '.xml, int8')}"] = (
            engine,
            partial(of_bag, path, load(own), pictures, folder),
        )
    makers["torch, compiled"] = ("torch", partial(against, own, engine="torch-compiled"))
    for name in given.only:
        if name not in makers:
            raise SystemExit(f"there is no runtime {name!r}; choose among {', '.join(makers)}")
    for name, (engine, measure) in makers.items():
        if given.only and name not in given.only:
            continue
        extra = ENGINES[engine].extra
        if extra is not None and (package := first_missing(extra)) is not None:
            rows[name] = {"not_measured": f"{package} is not installed"}
        else:
            try:
                rows[name] = measure()
            except KerbsegError as error:
                rows[name] = {"refused": str(error).replace(str(folder), "the folder")}
        print(f"{name}: {rows[name]}", flush=True)
        keep({name: rows[name] for name in makers if name in rows})


def calibrated(names: Sequence[str], val: Dataset) -> dict[str, Row]:
    """Temperature and ECE of shipped weights as their cards say, and fitted again."""
    rows = {}
    for name in names:
        card, again = read_card(locate(name)), calibrate(name, val)
        stored = card.scores["calibration"]
        rows[name] = {
            "card": {"temperature": stored["temperature"], "before": stored["before"], "after": stored["after"]},
            "again": {
                "temperature": again.temperature,
                "before": again.before.figures(),
                "after": again.after.figures(),
            },
        }
        print(f"{name}: {rows[name]}", flush=True)
    return rows


# ---- page


def runtimes_table(rows: Mapping[str, Row]) -> str:
    """All runtimes in Markdown."""
    lines = [
        "| runtime | ids as torch in float32 | own softmax, floats | own softmax, bytes | torch's softmax, bytes |",
        "|---|--:|--:|--:|--:|",
    ]
    for name, row in rows.items():
        if "uint8" not in row:
            word, reason = next((word, row[word]) for word in ("refused", "not_measured") if word in row)
            lines.append(f"| {name} | {word.replace('_', ' ')}: {reason} | | | |")
            continue
        floats = _percent(row["float32"]["own"]) if "float32" in row else ""
        cells = [
            name,
            _percent(row["same_ids"]),
            floats,
            _percent(row["uint8"]["own"]),
            _percent(row["uint8"]["torch"]),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _percent(share: float) -> str:
    return f"{100 * share:.2f} %"


def words(results: Mapping[str, Any]) -> str:
    """How the runtimes were compared."""
    how = results["protocol"]
    height, width = how["size"]
    bags = [
        f"{_percent(row['unknown']['as_torch'])} ({name.rpartition('unknown, ')[2]})"
        for name, row in results["runtimes"].items()
        if "unknown" in row
    ]
    told = f" Of the pixels that are not within a level of {UNKNOWN:g}, a bag has unknown as torch: {', '.join(bags)}."
    return (
        f"`{how['model']}`, {how['pictures']} pictures of CamVid's val, {width}x{height}; int8 calibrated on"
        f" {how['calibration_pictures']} pictures of train, with nothing left in float; {how['processor']},"
        f" {how['date']}. The figures are shares of the pixels whose confidence is within 1/255 of a softmax in float64"
        f" of the same logits (own), or of torch's in float32 (torch's).{told if bags else ''}"
    )


def calibration_table(rows: Mapping[str, Row]) -> str:
    """Temperatures and ECE of cards, and found again."""
    lines = [
        "| weights | temperature: card, again | ECE as trained: card, again | ECE with it: card, again |",
        "|---|--:|--:|--:|",
    ]
    for name, row in rows.items():
        cells = [f"{row['card']['temperature']:.4f}, {row['again']['temperature']:.4f}"]
        cells += [f"{row['card'][when]['ece']:.4f}, {row['again'][when]['ece']:.4f}" for when in ("before", "after")]
        lines.append(f"| `{name}` | {' | '.join(cells)} |")
    return "\n".join(lines)


def calibration_words(how: Mapping[str, Any]) -> str:
    """On what temperatures were fitted again."""
    height, width = how["size"]
    return (
        f"CamVid's {how['split']}, {how['pictures']} pictures of {width}x{height}, {how['precision']};"
        f" {how['processor']}, {how['date']}."
    )


def tables(results: Mapping[str, Any]) -> dict[str, str]:
    """What stands on the page between marks of these names; nothing of a part that was never measured."""
    made = {}
    if results["runtimes"]:
        made["runtimes"] = f"{runtimes_table(results['runtimes'])}\n\n{words(results)}"
    if results["calibration"]:
        how = calibration_words(results["calibration_protocol"])
        made["calibration"] = f"{calibration_table(results['calibration'])}\n\n{how}"
    return made


def write_page(page: Path, results: Mapping[str, Any]) -> None:
    """The page with its tables made anew."""
    text = page.read_text()
    for mark, inside in tables(results).items():
        text = between(text, mark, inside)
    page.write_text(text)


def main(argv: list[str] | None = None) -> None:
    """Measures, prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="mininet_v2_cpu-camvid")
    parser.add_argument("--size", nargs=2, type=int, default=[360, 480], metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--data-root", type=Path, help="CamVid; drawn streets without it")
    parser.add_argument("--pictures", type=int, default=8)
    parser.add_argument("--calibration", type=int, default=30, help="pictures for int8")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--only", nargs="+", default=[], help="these runtimes; the others stay as --json has them")
    parser.add_argument("--work", type=Path, help="folder where exported files stay")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--page", type=Path, help="write its tables, from --json or from the results of the repository")
    given = parser.parse_args(argv)
    if given.page is not None and given.json is None:
        write_page(given.page, json.loads(RESULTS.read_text()))
        return
    if "calibration" in given.parts and given.data_root is None:
        parser.error(
            "temperatures are fitted on CamVid; name its folder with --data-root, or the --parts runtimes alone"
        )
    data = "scenes" if given.data_root is None else "camvid"
    splits = {split: open_dataset(data, split, given.data_root) for split in ("train", "val")}
    results: dict[str, Any] = {"protocol": {}, "runtimes": {}, "calibration": {}}
    if given.json is not None and given.json.exists():
        results = json.loads(given.json.read_text())

    def store() -> None:
        if given.json is not None:
            with atomic_write(given.json) as path:
                Path(path).write_text(json.dumps(results, indent=1) + "\n")

    def keep(rows: dict[str, Row]) -> None:
        results["runtimes"] = rows
        store()

    if "runtimes" in given.parts:
        results["protocol"] = {
            **this_machine().to_dict(), "model": given.model, "size": given.size, "data": data, "split": "val",
            "pictures": given.pictures, "calibration_pictures": given.calibration,
        }  # fmt: skip
        with TemporaryDirectory() as temporary:
            known = dict(results["runtimes"])
            rows_of(load(given.model), given.work or Path(temporary), given, splits, known, keep)
    if "calibration" in given.parts:
        height, width = splits["val"][0].mask.shape
        results["calibration_protocol"] = {
            **this_machine().to_dict(), "data": data, "split": "val", "pictures": len(splits["val"]),
            "size": [height, width], "precision": "float32",
        }  # fmt: skip
        results["calibration"] = calibrated(shipped(), splits["val"])
    store()
    if given.page is not None:
        write_page(given.page, results)
    print(runtimes_table(results["runtimes"]))


if __name__ == "__main__":
    main()
