"""`kerbseg models`, `weights`, `info`, `import` and `group`: networks, their weights, and what is known of them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from kerbseg.cli.app import app
from kerbseg.cli.options import Json, LabelSetName, Out, Whole, WholeOrNothing
from kerbseg.cli.terminal import show, tell, width, write_json

if TYPE_CHECKING:
    from rich.table import Table

    from kerbseg.models import Card

WITH_SUMMARY = 120  # characters a line that a table needs to say what each network is


@app.command
def models(*, all: bool = False, json: Json = None) -> None:
    """List the networks with parameters, what heads of training add, MACs at the paper's input size, and paper.

    Example: `kerbseg models --all --json models.json`

    Parameters
    ----------
    all
        Also list networks of ablation studies and training stages (JSON always has all)
    """
    import kerbseg.models as registry

    cards = [registry.card(name) for name in registry.list_models()]
    if json is not None:
        rows = [
            {
                "name": card.name,
                "paper": card.paper,
                "parameters": card.parameters,
                "parameters_with_heads": card.parameters_with_heads,
                "macs": card.macs,
                "input": list(card.input),
                "classes": card.classes,
                "stride": card.stride,
            }
            for card in cards
        ]
        write_json(json, rows)
    chosen = cards if all else [card for card in cards if card.main]
    show(_networks(chosen, heads=not all or width() >= WITH_SUMMARY))
    if len(chosen) < len(cards):
        tell(f"{len(cards) - len(chosen)} more: kerbseg models --all")


def _networks(cards: list[Card], heads: bool) -> Table:
    """Networks on a line each, and what their training heads add; what each is, too, where lines are long."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False)  # the longest name and all figures in 80 characters
    table.add_column("network", no_wrap=True)
    for figure in ("params", *(["heads"] if heads else []), "GMACs", "at (HxW)"):
        table.add_column(figure, no_wrap=True, justify="right")
    table.add_column("paper", no_wrap=True)
    summaries = width() >= WITH_SUMMARY
    if summaries:
        table.add_column("what it is")
    for card in cards:
        size = f"{card.input[0]}x{card.input[1]}"
        row = [card.name, f"{card.parameters / 1e6:.3f} M"]
        if heads:
            added = (card.parameters_with_heads or card.parameters) - card.parameters
            row.append(f"+{added / 1e6:.3f} M" if added else "")
        row += [f"{card.macs / 1e9:.2f}", size, card.paper]
        table.add_row(*row, *([card.summary] if summaries else []))
    return table


@app.command
def weights(*, json: Json = None) -> None:
    """List the trained weights that come with kerbseg; every command takes them by name.

    Example: `kerbseg weights`, then `kerbseg predict mininet_v2_cpu-camvid street.jpg -o out`
    """
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from kerbseg.apps.info import card_facts, figures
    from kerbseg.bundle import locate, shipped

    facts = [card_facts(locate(name)) for name in shipped()]
    if json is not None:
        write_json(json, [{"name": name, **each.to_dict()} for name, each in zip(shipped(), facts, strict=True)])
    table = Table("weights", "classes", "parameters", "size", "mIoU", box=SIMPLE_HEAD, show_edge=False, pad_edge=False)
    table.columns[0].no_wrap = True
    for name, each in zip(shipped(), facts, strict=True):
        scores = "\n".join(f"{score.miou:.4f} on {score.data} {score.split}" for score in figures(each.card))
        labels = f"{len(each.card.labels)} of {each.card.labels.name}"
        table.add_row(name, labels, f"{each.parameters:,}", f"{each.size_bytes / 1e6:.1f} MB", scores)
    show(table)


@app.command
def info(file: str, *, json: Json = None, card: Path | None = None) -> None:
    """Show what a model file holds: network, classes, preprocessing, scores, recipe, origin.

    Example: `kerbseg info run/best.safetensors --card card.md`

    Parameters
    ----------
    file
        Model: a bundle (.safetensors), an exported model, a run folder, the name of shipped weights, or
        hf://OWNER/NAME
    card
        Write the model card as a page (.md): what it is, all figures, how it was trained, terms of its data
    """
    from kerbseg.apps.info import card_facts, render
    from kerbseg.apps.model_card import markdown, render_section, sections
    from kerbseg.bundle import locate
    from kerbseg.core.files import atomic_write
    from kerbseg.model_files import title_of

    path = locate(file)
    facts = card_facts(path)
    if json is not None:
        write_json(json, facts.to_dict())
    if card is not None:
        with atomic_write(card) as temporary:
            temporary.write_text(markdown(facts, title_of(file, path)), encoding="utf-8")
        tell(f"model card: {card}")
    show(render(facts))
    for section in sections(facts.card):
        show(render_section(section))


@app.command(name="import")
def import_(format: str, source: Path, *, out: Out, classes: LabelSetName = None, model: str | None = None) -> None:
    """Convert an authors' checkpoint to a bundle (.safetensors).

    Examples: `kerbseg import mininet-tf model.npz -o mininet.safetensors --classes camvid`,
    `kerbseg import espnet-pytorch espnet.pth -o espnet.safetensors --classes my_streets`

    Parameters
    ----------
    format
        Format of the checkpoint: {formats}
    source
        Checkpoint file (.pth, .pt, .tar, .pdparams, .npz, or a TensorFlow checkpoint prefix)
    out
        File to write (.safetensors)
    classes
        Classes: {label_sets}, or your own: a dataset.yaml, or the folder that holds it
        (default: cityscapes or camvid, by the number of outputs)
    model
        Name of the network (default: recognized from the names of the weights)
    """
    from kerbseg.bundle import save
    from kerbseg.data.dataset_yaml import find_labels
    from kerbseg.importers import import_checkpoint

    bundle = import_checkpoint(format, source, None if classes is None else find_labels(classes), model)
    save(bundle, out)
    card = bundle.card
    tell(f"{out}: {card.model}, {len(card.labels)} classes of {card.labels.name}, {card.outputs} outputs")


@app.command
def group(
    model: str,
    *,
    groups: Whole,
    out: Out,
    select: tuple[str, ...] = (),
    kinds: tuple[Literal["pointwise", "spatial", "transposed"], ...] = (),
    channels: WholeOrNothing = None,
    into: str | None = None,
    classes: str = "cityscapes",
) -> None:
    """Convert a dense network to one with grouped convolutions (gradual grouping). Train it afterwards.

    The result is the network that has these groups, such as erfnet_dg4 for erfnet_d. If there is none, it is the same
    network with the option `grouped`. Train it with `kerbseg train ... --init OUT`.

    Example: `kerbseg group runs/erfnet_d/best.safetensors --groups 4 -o erfnet_dg4.safetensors`

    Parameters
    ----------
    model
        Model: a bundle, a run folder, the name of shipped weights, hf://OWNER/NAME, or the name of a network (random
        weights)
    groups
        Number of groups
    out
        File to write (.safetensors)
    select
        Which convolutions, as a name pattern such as 'features.*'; can be repeated (default: all)
    kinds
        Kinds of convolutions to group; can be repeated (default: pointwise)
    channels
        Only convolutions with at least this many input and output channels
    into
        Name of the resulting network (default: the first that fits)
    classes
        Classes, for random weights: {label_sets}
    """
    from kerbseg.apps.group import group as grouped_of
    from kerbseg.bundle import Bundle, find_model, load, save
    from kerbseg.compress.convolutions import Selection
    from kerbseg.core.labels import label_set

    source = find_model(model, label_set(classes))
    source = source if isinstance(source, Bundle) else load(source)
    chosen = None
    if select or kinds or channels is not None:
        chosen = Selection(select, kinds or ("pointwise",), channels or 1)
    result = grouped_of(source, groups, chosen, into)
    save(result.bundle, out)
    before, after = (sum(each.numel() for each in net.parameters()) for net in (source.model, result.bundle.model))
    tell(
        f"{out}: {result.bundle.card.model}, {len(result.names)} convolutions in {groups} groups, {before:,} parameters"
        f" became {after:,}; {result.lost:.0%} of the weights (squared) was cut: train on with --init {out}"
    )
