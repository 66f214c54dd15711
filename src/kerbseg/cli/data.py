"""`kerbseg doctor` and `convert`."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from kerbseg.cli.app import app
from kerbseg.cli.next_steps import after_convert, after_doctor
from kerbseg.cli.options import DataRoot, Json
from kerbseg.cli.terminal import say, show, write_json
from kerbseg.core.errors import KerbsegError


@app.command
def doctor(data: str, *, data_root: DataRoot = None, json: Json = None) -> None:
    """Check a data set: pairs, sizes, ids, unknown ids, void share, class weights of each formula.

    Example: `kerbseg doctor camvid --data-root data/camvid`

    Parameters
    ----------
    data
        Data set: {data_sets}
    """
    from kerbseg.data import DATASETS
    from kerbseg.data.doctor import examine_all, on_terminal, render
    from kerbseg.data.formats import advice

    if data not in DATASETS and Path(data).is_dir():
        place = shlex.quote(data)
        command = advice(Path(data)) or f"name the data set too, such as: kerbseg doctor folder --data-root {place}"
        raise KerbsegError(f"{data} is a folder, and no data set has this name; {command}")
    report = examine_all(data, data_root, track=on_terminal)
    if json is not None:
        write_json(json, report.to_dict())
    show(render(report))
    if not report.healthy:
        raise KerbsegError(f"data set {data!r} has {len(report.problems)} problem(s), listed above; mend them first")
    after_doctor(data, data_root)


@app.command
def convert(
    format: str,
    source: Path,
    *,
    out: Annotated[Path, Parameter(name=["--out", "-o"])],
    map: Path | None = None,
    split: float | None = None,
    seed: int = 0,
    json: Json = None,
) -> None:
    """Make a data set of one's own from what a labelling tool or a public data set holds.

    Writes copies of the pictures, one palette PNG a mask, and dataset.yaml: all of it, or nothing where an entry is
    broken, which is named.

    Example: `kerbseg convert coco my_labels -o my_streets`

    Parameters
    ----------
    format
        Format: {data_formats}
    source
        Folder that holds the labels and the pictures; of some formats also the one file of labels
    out
        New folder of the data set
    map
        YAML of lines 'theirs: ours', several to one, or 'ignore' (default: map.yaml in the source, or
        their classes)
    split
        Share of pictures for training, such as 0.8; drives stay whole (default: the source's splits, or 0.8)
    seed
        Seed of the split that is drawn
    """
    from kerbseg.data.convert import convert as convert_to_folder
    from kerbseg.data.convert import render
    from kerbseg.data.doctor import on_terminal

    conversion = convert_to_folder(format, source, out, class_map=map, share=split, seed=seed, track=on_terminal)
    if json is not None:
        write_json(json, conversion.to_dict())
    show(render(conversion))
    for line in conversion.warnings:
        say(line)
    after_convert(out)
