"""`kerbseg card` and `kerbseg push`: a model's page, and the model on a hub."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from kerbseg.cli.app import app
from kerbseg.cli.options import Out
from kerbseg.cli.terminal import next_commands, show, tell

if TYPE_CHECKING:
    from rich.table import Table

    from kerbseg.hub.addresses import Address
    from kerbseg.hub.manifest import Content

License = Annotated[
    str | None,
    Parameter(help="Licence of the weights, as hubs call it, such as apache-2.0 or cc-by-4.0 (default: not said)"),
]


@app.command
def card(
    model: str,
    *,
    out: Out,
    repository: str | None = None,
    license: License = None,
    picture: Annotated[tuple[str, ...], Parameter(negative="")] = (),
) -> None:
    """Write a model's page for a hub: what it is, classes, figures and how they were measured, times, licences.

    It begins with the front matter by which hubs sort models. What was not measured is said so.

    Example: `kerbseg card run/best.safetensors -o README.md --license cc-by-4.0`

    Parameters
    ----------
    model
        Model: a bundle (.safetensors), an exported model, a run folder, the name of shipped weights, or
        hf://OWNER/NAME
    out
        File to write (.md); - writes it to stdout
    repository
        OWNER/NAME where the model will be, for the commands on the page (default: the model as named here)
    picture
        Address of a picture to show, from the page, such as overlay.png; can be repeated
    """
    from kerbseg.apps.publish import card_page
    from kerbseg.core.files import atomic_write
    from kerbseg.hub.addresses import Address

    page = card_page(model, None if repository is None else Address.parse(repository), license, picture)
    with atomic_write(out) as temporary:
        temporary.write_text(page, encoding="utf-8")
    tell(f"model card: {out}")


@app.command
def push(
    model: str,
    repository: str,
    *,
    private: Annotated[bool, Parameter(negative="")] = False,
    branch: Annotated[str | None, Parameter(name=["--branch", "--revision"])] = None,
    license: License = None,
    picture: Annotated[tuple[Path, ...], Parameter(negative="")] = (),
    with_: Annotated[tuple[Path, ...], Parameter(name="--with", negative="")] = (),
    dry_run: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Publish a model on a hub (huggingface.co, or $HF_ENDPOINT), where every command finds it as hf://OWNER/NAME.

    Writes model.safetensors, config.json and README.md (as `kerbseg card`) in one commit; the repository is made. One
    that holds something else stays as it is. The token comes from HF_TOKEN or from `hf auth login`.

    Example: `kerbseg push run/best.safetensors me/my-streets --private --license cc-by-4.0`

    Parameters
    ----------
    model
        Model: a bundle (.safetensors), a run folder, the name of shipped weights, or hf://OWNER/NAME
    repository
        OWNER/NAME on the hub
    private
        Make the repository private; one that is public already is refused
    branch
        Branch to write to; it is made where there is none (default: main)
    picture
        Picture for the page, such as an overlay; can be repeated
    with_
        Exported file of this model to put beside it, such as street.onnx or street.xml; can be repeated
    dry_run
        Show the files; send nothing
    """
    from kerbseg.apps.publish import prepare
    from kerbseg.hub.push import push as send

    address = _address(repository, branch)
    upload = prepare(model, address, license, picture, with_)
    if dry_run:
        from kerbseg.hub.manifest import CONFIG

        show(_files(address, {**upload.files, CONFIG: upload.manifest.to_json().encode()}))
        tell("nothing was sent (--dry-run)")
        return
    tell(f"pushing {len(upload.files) + 1} files to {address}")
    pushed = send(address, upload.files, upload.manifest, private)
    if pushed.removed:
        tell(f"removed, since they were of the weights before: {', '.join(pushed.removed)}")
    was = "new" if pushed.new else f"was {pushed.replaced}" if pushed.replaced else "was empty"
    same = "" if pushed.changed else ", which has all of it already"
    tell(f"{pushed.page} ({was}): commit {pushed.commit[:8]}{same}")
    next_commands(["kerbseg", "info", str(address)])


def _address(repository: str, branch: str | None) -> Address:
    """The repository, with the branch."""
    from kerbseg.core.errors import KerbsegError
    from kerbseg.hub.addresses import Address

    if branch is None:
        return Address.parse(repository)
    if "@" in repository:
        raise KerbsegError(f"{repository} names a revision, and --branch {branch} another; leave one of them out")
    return Address.parse(f"{repository}@{branch}")


def _files(address: Address, files: dict[str, Content]) -> Table:
    """Names and sizes of what is to be sent."""
    from rich.table import Table

    from kerbseg.hub.manifest import FileFacts

    table = Table("file", "bytes", title=str(address), min_width=40)
    table.columns[1].justify = "right"
    for name, content in sorted(files.items()):
        table.add_row(name, f"{FileFacts.of(content).size:,}")
    return table
