"""`kerbseg export`."""

from __future__ import annotations

from kerbseg.cli.app import app
from kerbseg.cli.next_steps import after_export
from kerbseg.cli.options import DataRoot, Json, Out, Threads, parse_size
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
    max_drop: float = 0.01,
    limit: int | None = None,
    logits: bool = False,
    batch: int | None = None,
    parity: float = 0.999,
    threads: Threads = None,
    json: Json = None,
) -> None:
    """Write a bundle for an engine: uint8 [b h w 3] RGB to uint8 [b h w] class ids.

    The file takes pictures of one size, any number at once or --batch; it is compared with torch before it is put in
    its place.

    Examples: `kerbseg export run/best.safetensors -o m.xml --size 256x512`,
    `kerbseg export run/best.safetensors -o m8.xml --int8 --calibration camvid`

    Parameters
    ----------
    bundle
        A bundle (.safetensors), a run folder, or the name of shipped weights
    out
        File to write; its suffix says for which engine: {exported}
    size
        Height x width of the pictures (default: the bundle's own)
    int8
        Quantize, and report what it costs and gains; needs --calibration
    calibration
        Data set: {data_sets}; int8 is calibrated on its train split and measured on val, on which a float file is
        compared with torch (default: drawn streets)
    max_drop
        Fraction of mIoU that int8 may lose; operations that lose most stay in float until it holds
    limit
        Measure int8 on the first N pictures of the val split only
    logits
        A second output: the logits before the last interpolation, float32 [b k h w]
    batch
        The only number of pictures that the file takes at once, for engines that want all sizes fixed; float files only
    parity
        Smallest fraction of pixels whose class must be that of torch; of float files only
    """
    from kerbseg.bundle import load
    from kerbseg.data import open_dataset
    from kerbseg.export import export as write
    from kerbseg.export import export_int8, pictures_of
    from kerbseg.export.files import COMPARED
    from kerbseg.export.int8_report import render

    source, chosen_size = load(bundle), parse_size(size)
    if int8 and (logits or batch is not None):
        option = "--logits" if logits else "--batch"
        raise KerbsegError(f"{option} is of float files, and --int8 writes none; leave one of them out")
    if not int8 and (limit, threads) != (None, None):
        raise KerbsegError("--limit and --threads are of the measurements of --int8; leave them out, or add --int8")
    if not int8:
        pictures = None
        if calibration is not None:
            val = open_dataset(calibration, "val", data_root)
            pictures = pictures_of(val, chosen_size or source.card.input_size, COMPARED)
        agreement = write(source, out, chosen_size, pictures=pictures, logits=logits, batch=batch, floor=parity)
        tell(f"{out}: {agreement}")
        if json is not None:
            write_json(json, agreement.to_dict())
        after_export(bundle, out, int8, calibration, data_root)
        return
    if calibration is None:
        raise KerbsegError("--int8 needs --calibration DATA, pictures of the place where the network will work")
    train, val = (open_dataset(calibration, split, data_root) for split in ("train", "val"))
    report = export_int8(
        source, out, chosen_size, calibration=train, eval_set=val, max_drop=max_drop, limit=limit, threads=threads
    )
    if json is not None:
        write_json(json, report.to_dict())
    show(render(report))
    after_export(bundle, out, int8, calibration, data_root)
