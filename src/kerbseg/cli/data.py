"""`kerbseg doctor`."""

from __future__ import annotations

from kerbseg.cli.app import app
from kerbseg.cli.options import DataRoot, Json
from kerbseg.cli.terminal import show, write_json
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
    from kerbseg.data.doctor import examine_all, on_terminal, render

    report = examine_all(data, data_root, track=on_terminal)
    if json is not None:
        write_json(json, report.to_dict())
    show(render(report))
    if not report.healthy:
        raise KerbsegError(f"data set {data!r} has {len(report.problems)} problem(s), listed above; mend them first")
