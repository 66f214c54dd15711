"""What makes sense after a command, as command lines that work as they stand."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from kerbseg.cli.terminal import next_commands

if TYPE_CHECKING:
    from kerbseg.core.types import Dataset

RECIPES = {  # of the data sets that have one
    "camvid": "camvid/mininet_v2_cpu",
    "cityscapes": "cityscapes/mininet_v2_cpu",
    "coco_text": "coco_text/mininet_v2_cpu",
    "minicity": "minicity/efficientseg_1_5",
    "scenes": "smoke/scenes",
}
DRAWN = ("coco_text",)  # data sets whose recipe draws labels otherwise than the bare name says
Command = Sequence[str]


def after_convert(out: Path) -> None:
    """Check what was written."""
    next_commands(["kerbseg", "doctor", _typed(out)])


def after_doctor(data: str, data_root: Path | None) -> None:
    """Train on it."""
    next_commands(_train(data, data_root))


def after_train(best: Path, data: str, data_root: Path | None, split: str = "val", whole: bool = True) -> None:
    """Evaluate, predict, export the best weights of a run, with the data set that it was trained on.

    What validated is a split; where it is not the `whole` split, no command evaluates on it.
    """
    model, dataset = _typed(best), _open(data, data_root, split)
    evaluate = ["kerbseg", "evaluate", model, *_data(data, data_root), "--split", split]
    next_commands(
        *([evaluate] if whole else []),
        *_predict(model, best.parent / "predictions", dataset),
        _export(model, best.with_suffix(".onnx"), data, data_root),
    )


def after_evaluate(model: str, data: str, data_root: Path | None, dataset: Dataset) -> None:
    """Look at a picture, and export what is not exported yet."""
    from kerbseg.bundle import locate

    file = locate(model)
    place = file.parent if Path(model).exists() else Path()  # of shipped weights: where one is
    commands = list(_predict(model, place / "predictions", dataset))
    if file.suffix == ".safetensors":
        commands.append(_export(model, place / f"{file.stem}.onnx", data, data_root))
    next_commands(*commands)


def after_calibrate(bundle: Path, data: str, data_root: Path | None, dataset: Dataset) -> None:
    """Look at the confidence in a picture, and export the model with its temperature."""
    model = _typed(bundle)
    looks = [[*each, "--confidence"] for each in _predict(model, bundle.parent / "predictions", dataset)]
    next_commands(*looks, _export(model, bundle.with_suffix(".onnx"), data, data_root))


def after_threshold(out: Path, data: str, data_root: Path | None) -> None:
    """Export the network, which has the threshold in its weights."""
    next_commands(_export(_typed(out), out.with_suffix(".onnx"), data, data_root))


def after_export(
    bundle: str, out: Path, int8: bool, calibration: str | None, data_root: Path | None, dataset: Dataset | None
) -> None:
    """Bring a float file to int8, and run it without kerbseg, on a picture of the data set."""
    commands: list[Command] = []
    if calibration is not None and not int8:
        smaller = out.with_name(f"{out.stem}_int8.xml")  # which is the faster int8 on processors
        pictures = _data(calibration, data_root, "--calibration")
        commands.append(["kerbseg", "export", bundle, "-o", _typed(smaller), "--int8", *pictures])
    script = out.with_name(f"segment_{out.stem}.py")
    commands.append(["kerbseg", "snippet", _typed(out), "-o", _typed(script)])
    if dataset is not None and (picture := _picture(dataset)) is not None:
        commands.append(["python", _typed(script), _typed(out), _typed(picture)])
    next_commands(*commands)


def after_accelerate(out: Path, network: Path, pictures: Path | None) -> None:
    """See the gain, and look at pictures where some were given."""
    commands: list[Command] = [["kerbseg", "profile", _typed(out), "--against", _typed(network)]]
    if pictures is not None:
        commands.append(["kerbseg", "predict", _typed(out), _typed(pictures), "-o", _typed(out.parent / "predictions")])
    next_commands(*commands)


def _train(data: str, root: Path | None) -> Command:
    name, sign, _ = data.partition(":")
    if name in RECIPES:
        options = [f"data.name={data}"] if sign or name in DRAWN else []  # labels as they were looked at
        return ["kerbseg", "train", RECIPES[name], *options, *([] if root is None else ["--data-root", _typed(root)])]
    if data == "folder":
        from kerbseg.data import data_root

        return ["kerbseg", "train", "own", "--data", _typed(data_root(data, root))]
    return ["kerbseg", "train", "own", *_data(data, root)]


def _export(model: str, out: Path, data: str, data_root: Path | None) -> Command:
    return ["kerbseg", "export", model, "-o", _typed(out), *_data(data, data_root, "--calibration")]


def _predict(model: str, out: Path, dataset: Dataset) -> list[Command]:
    picture = _picture(dataset)
    return [] if picture is None else [["kerbseg", "predict", model, _typed(picture), "-o", _typed(out)]]


def _data(data: str, data_root: Path | None, option: str = "--data") -> list[str]:
    return [option, data, *([] if data_root is None else ["--data-root", _typed(data_root)])]


def _open(data: str, data_root: Path | None, split: str = "val") -> Dataset:
    from kerbseg.data import open_dataset

    return open_dataset(data, split, data_root)


def _picture(dataset: Dataset) -> Path | None:
    from kerbseg.data import picture_file

    return picture_file(dataset, 0) if len(dataset) else None


def _typed(path: Path) -> str:
    """A path that no parser takes for an option."""
    return f"./{path}" if str(path).startswith("-") else str(path)
