"""`kerbseg calibrate`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from kerbseg.cli.app import app
from kerbseg.cli.next_steps import after_calibrate
from kerbseg.cli.options import DataRoot, Device, Json, OutOrNothing, Threads, WholeOrNothing
from kerbseg.cli.terminal import progress, show, tell, write_json
from kerbseg.core.errors import KerbsegError
from kerbseg.core.files import check_writable
from kerbseg.core.text import counted

if TYPE_CHECKING:
    from rich.table import Table

    from kerbseg.calibrate import Calibrated


@app.command
def calibrate(
    model: str,
    *,
    data: str,
    split: str = "val",
    data_root: DataRoot = None,
    out: OutOrNothing = None,
    device: Device = "cpu",
    threads: Threads = None,
    limit: WholeOrNothing = None,
    json: Json = None,
) -> None:
    """Fit the temperature of a model, so that its confidence can be believed.

    A network is usually surer than it should be. Calibration finds the one number (the temperature) that its logits are
    divided by, and stores it in the model; weights, class ids and mIoU stay as they are. Exported models take it along.

    Example: `kerbseg calibrate run/best.safetensors --data camvid`

    Parameters
    ----------
    model
        Model: a bundle (.safetensors), a run folder, the name of shipped weights, or hf://OWNER/NAME
    data
        Name of the data set: {data_sets}
    split
        Split to calibrate on: pictures that the network was not trained on, usually val
    out
        File to write (.safetensors; default: the model's own file)
    limit
        Calibrate on the first N pictures only
    """
    from kerbseg.bundle import locate, shipped
    from kerbseg.hub.addresses import is_address
    from kerbseg.model_files import title_of

    path = out or locate(model)
    if out is None and (is_address(model) or (model in shipped() and not Path(model).exists())):
        origin, name = "is on a hub" if is_address(model) else "comes with kerbseg", title_of(model, path)
        raise KerbsegError(f"{model} {origin} and stays as it is; name a file: -o {name}.safetensors")
    check_writable(path)
    from kerbseg.calibrate import calibrate as fit
    from kerbseg.data import open_dataset

    dataset = open_dataset(data, split, data_root)
    made = fit(model, dataset, out=path, limit=limit, device=device, threads=threads, progress=progress)
    if json is not None:
        write_json(json, made.to_dict())
    show(_table(made))
    tell(f"{path}: temperature {made.temperature:g}")
    after_calibrate(path, data, data_root, dataset)


def _table(made: Calibrated) -> Table:
    """The figures before and after, for a terminal of 80 columns."""
    from rich.table import Table

    how = made.protocol
    used, labelled = how["fitted_pixels"], how["labelled_pixels"]
    pixels = f"{labelled:,} labelled pixels" if used == labelled else f"{used:,} of {labelled:,} labelled pixels"
    table = Table(
        "lower is better",
        "at 1",
        f"at {made.temperature:g}",
        title=f"temperature of {how['model']} on {how['data']} {how['split']}: {counted(how['images'], 'picture')}",
        caption=pixels,
        min_width=66,
    )
    names = {"nll": "NLL (nats)", "ece": "ECE", "adaptive_ece": "adaptive ECE", "brier": "Brier score"}
    for key, name in names.items():
        table.add_row(name, *(f"{each.figures()[key]:.4f}" for each in (made.before, made.after)))
    return table
