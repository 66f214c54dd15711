"""`kerbseg export`."""

from __future__ import annotations

from pathlib import Path

from kerbseg.cli.app import app
from kerbseg.cli.next_steps import after_export
from kerbseg.cli.options import DataRoot, Json, Out, Threads, WholeOrNothing, parse_size
from kerbseg.cli.terminal import show, tell, write_json
from kerbseg.core.errors import KerbsegError


@app.command
def export(
    bundle: str,
    *,
    out: Out,
    size: str | None = None,
    int8: bool = False,
    calibration: str | None = None,
    data_root: DataRoot = None,
    max_drop: float | None = None,
    float_logits: bool = False,
    limit: WholeOrNothing = None,
    logits: bool = False,
    batch: WholeOrNothing = None,
    parity: float = 0.999,
    install_converter: bool = False,
    threads: Threads = None,
    json: Json = None,
    snippet: bool = False,
) -> None:
    """Export a model to ONNX, OpenVINO, LiteRT (.tflite), ExecuTorch (.pte) or ncnn, as float32 or int8.

    Input of .onnx and .xml files: uint8 RGB pictures [b h w 3] of one size. Output: uint8 class ids [b h w]. The other
    kinds give logits, and kerbseg makes ids of them. The file is compared with torch before it is kept.

    Examples: `kerbseg export run/best.safetensors -o m.xml --size 256x512`,
    `kerbseg export run/best.safetensors -o m8.xml --int8 --calibration camvid`

    Parameters
    ----------
    bundle
        Model: a bundle (.safetensors), a run folder, the name of shipped weights, or hf://OWNER/NAME
    out
        File to write; its ending chooses the engine: {exported}
    size
        Picture size, HEIGHTxWIDTH (default: the model's own)
    int8
        Quantize to int8 and report accuracy and speed; needs --calibration
    calibration
        Data set: {data_sets}. int8 is calibrated on its train split and evaluated on val. A float file is compared
        with torch on its val split (default: drawn street scenes). Or a folder of pictures without masks: int8 is
        calibrated on every second one; the others show how much of the float result int8 keeps
    max_drop
        Largest drop of mIoU allowed for int8, as a fraction; layers that cost most accuracy stay in float (default:
        0.01; no limit where --calibration is a folder without masks)
    float_logits
        Keep the logits of an int8 file in float32. Without it they are uint8, which is faster, where that costs at most
        0.001 mIoU; OpenVINO only
    limit
        Evaluate int8 on the first N pictures only
    logits
        Add a second output: logits before the last upsampling, float32 [b k h w]
    batch
        Fixed batch size, for engines that need one (default: any batch size); float files only
    parity
        Smallest fraction of pixels that must get the same class as in torch; float files only
    install_converter
        Install the converter for .tflite files first, in an environment of its own in your cache folder (2 GB)
    snippet
        Write a Python script beside the file, under its name, that runs it without kerbseg: with NumPy, OpenCV and the
        engine alone; and classes.json with the names and colors of the ids
    """
    from kerbseg.bundle import load
    from kerbseg.data import open_dataset
    from kerbseg.data.plain_pictures import plain_pictures
    from kerbseg.export import export as write
    from kerbseg.export import export_int8, pictures_of, unlabelled
    from kerbseg.export.files import COMPARED
    from kerbseg.export.int8_report import MAX_DROP, render
    from kerbseg.export.snippet import check_beside

    source, chosen_size = load(bundle), parse_size(size)
    if int8 and (logits or batch is not None):
        option = "--logits" if logits else "--batch"
        raise KerbsegError(f"{option} is for float files only; leave out {option} or --int8")
    if not int8 and (limit, threads) != (None, None):
        raise KerbsegError("--limit and --threads are for --int8 only; leave them out, or add --int8")
    if install_converter:
        _install_converter(out)
    if float_logits and not int8:
        raise KerbsegError("--float-logits is for --int8 only; leave it out, or add --int8")
    if snippet:
        check_beside(out, source.card.labels)
    place = _plain_folder(calibration, data_root)
    if not int8:
        pictures = val = None
        if calibration is not None:
            val = plain_pictures(place, source.card.labels) if place else open_dataset(calibration, "val", data_root)
            pictures = pictures_of(val, chosen_size or source.card.input_size, COMPARED)
        agreement = write(source, out, chosen_size, pictures=pictures, logits=logits, batch=batch, floor=parity)
        tell(f"{out}: {agreement}")
        if json is not None:
            write_json(json, agreement.to_dict())
        _write_snippet(out, snippet)
        after_export(bundle, out, int8, calibration, data_root, val)
        return
    if calibration is None:
        raise KerbsegError("--int8 needs --calibration DATA: pictures like those that the network will see")
    if place is not None:
        train, val = unlabelled(place, source, chosen_size)
    else:
        max_drop = MAX_DROP if max_drop is None else max_drop
        train, val = (open_dataset(calibration, split, data_root) for split in ("train", "val"))
    report = export_int8(
        source,
        out,
        chosen_size,
        calibration=train,
        eval_set=val,
        max_drop=max_drop,
        limit=limit,
        threads=threads,
        float_logits=float_logits,
    )
    if json is not None:
        write_json(json, report.to_dict())
    show(render(report))
    _write_snippet(out, snippet)
    after_export(bundle, out, int8, calibration, data_root, train)


def _write_snippet(model: Path, wanted: bool) -> None:
    """The script and classes.json beside an exported file, where they are wanted."""
    if not wanted:
        return
    from kerbseg.export.snippet import write_beside

    script, *beside = write_beside(model)
    tell(
        f"{script}: runs {model.name} without kerbseg; {' and '.join(map(str, beside)) or 'no classes.json'} beside it"
    )


def _install_converter(out: Path) -> None:
    """Makes the environment of LiteRT's converter."""
    from kerbseg.export.litert_converter import home, install

    if out.suffix != ".tflite":
        raise KerbsegError(f"--install-converter is for .tflite files, not for {out.name}; leave it out")
    tell(f"installing LiteRT's converter in {home()}, which takes minutes")
    install()


def _plain_folder(calibration: str | None, data_root: Path | None) -> Path | None:
    """The folder that --calibration names where it names no data set."""
    from kerbseg.data import is_known

    if calibration is None or is_known(calibration) or not Path(calibration).is_dir():
        return None
    if data_root is not None:
        raise KerbsegError(
            f"--calibration {calibration} is a folder of pictures, and --data-root is for data sets; leave one out"
        )
    return Path(calibration)
