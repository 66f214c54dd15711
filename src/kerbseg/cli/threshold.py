"""`kerbseg threshold`."""

from __future__ import annotations

from kerbseg.cli.app import app
from kerbseg.cli.next_steps import after_threshold
from kerbseg.cli.options import DataRoot, Device, Json, Out, Threads, WholeOrNothing
from kerbseg.cli.terminal import progress, tell, write_json


@app.command
def threshold(
    model: str,
    *,
    data: str = "coco_text",
    split: str = "val",
    data_root: DataRoot = None,
    out: Out,
    stretch: bool = False,
    device: Device = "cpu",
    threads: Threads = None,
    limit: WholeOrNothing = None,
    json: Json = None,
) -> None:
    """Choose from which probability on a network says text, where its IoU of text is highest.

    Text covers 1 to 2 % of the pixels, and one half is rarely the best threshold for it. The new model has the
    threshold in its weights, so that predictions and exported files follow it.

    Example: `kerbseg threshold run/best.safetensors --data coco_text -o text.safetensors`

    Parameters
    ----------
    model
        Model: a bundle (.safetensors), a run folder, the name of shipped weights, or hf://OWNER/NAME
    data
        Name of the data set, whose classes are background and text
    split
        Split to choose on: pictures that the network was not trained on, usually val
    out
        File to write (.safetensors)
    stretch
        Stretch pictures to the size that the network was trained on, as an exported file does with --fit stretch
    limit
        Choose on the first N pictures only
    """
    from kerbseg.apps.threshold import choose_threshold
    from kerbseg.bundle import load, save
    from kerbseg.data import open_dataset

    bundle = load(model)
    dataset = open_dataset(data, split, data_root)
    chosen = choose_threshold(
        bundle, dataset, stretch=stretch, limit=limit, device=device, threads=threads, progress=progress
    )
    save(chosen.bundle, out)
    if json is not None:
        write_json(json, chosen.to_dict())
    before = "no text" if chosen.before is None else f"{chosen.before:.4f}"
    tell(
        f"{out}: text from probability {chosen.threshold:g} on; IoU of text on {split} {chosen.after:.4f},"
        f" {before} at 0.5"
    )
    after_threshold(out, data, data_root)
