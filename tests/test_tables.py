"""The papers' tables: networks that exist, printed counts that our networks meet or that say why not."""

import re
from dataclasses import replace
from decimal import Decimal

import pytest
import torch

import kerbseg.models as models
import kerbseg.tables as tables
from kerbseg.core.errors import KerbsegError
from kerbseg.core.text import counted
from kerbseg.profiling.latency import Budget, Latency, Skipped
from kerbseg.profiling.machine import processor_name
from kerbseg.tables.markdown import WIDEST
from kerbseg.tables.measure import Network, NetworkTimes, network_latency
from kerbseg.tables.schema import TIMES, number_in

PRINTED = {
    "ddrnet": 1,
    "efficientseg": 1,
    "erfnet": 4,
    "fast_scnn": 2,
    "grouping": 5,
    "kerbnet": 1,
    "liteseg": 5,
    "mininet": 8,
    "pp_liteseg": 2,
    "pidnet": 1,
}  # tables of each paper
LATENCY = NetworkTimes.latency
ALL = [(paper, table.number) for paper in tables.list_papers() for table in tables.load_paper(paper).tables]


@pytest.fixture(scope="module", autouse=True)
def _no_waiting():
    """Of a module, so that one worker runs all tests: the process keeps what it has counted of a network."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(NetworkTimes, "latency", lambda *_: Skipped("not timed in this test"))
        yield


@pytest.fixture
def _timed(monkeypatch):
    """Latencies are taken all the same."""
    monkeypatch.setattr(NetworkTimes, "latency", LATENCY)


def counts(paper, number):
    """Cells of parameters, operations, sizes and shapes."""
    cells = tables.compare(tables.find_table(paper, number), measure=True)
    return [cell for cell in cells if cell.model and cell.column.measure and cell.column.measure not in TIMES]


def unwrapped(text):
    """The text with a paragraph's lines joined."""
    return re.sub(r"(?<!\n)\n(?!\n)", " ", text)


def test_every_table_of_the_papers_is_there():
    assert {paper: len(tables.load_paper(paper).tables) for paper in tables.list_papers()} == PRINTED


@pytest.mark.parametrize(("paper", "number"), ALL)
def test_every_named_network_is_registered_and_takes_its_options(paper, number):
    table = tables.find_table(paper, number)
    names = {name for row in table.rows for name in (row.model, *row.models.values()) if name}
    assert names <= set(models.list_models())
    assert names  # a table without a network of ours would compare nothing
    for row in table.rows:
        for name in {row.model, *row.models.values()} - {None}:
            Network(name, 19, tuple(row.options.items())).build()


@pytest.mark.parametrize(("paper", "number"), ALL)
def test_a_printed_count_is_met_or_its_row_says_why_not(paper, number):
    table = tables.find_table(paper, number)
    for cell in counts(paper, number):
        assert cell.ours is not None, cell
        assert cell.met or cell.note or table.unprinted, (
            f"{cell.row.name}, {cell.column.name}: {cell.printed} printed, ours {cell.ours}"
        )


@pytest.mark.parametrize("number", ["3", "4", "5"])
def test_the_grouping_papers_parameters_and_macs_but_for_row_d(number):
    cells = counts("grouping", number)
    assert len(cells) == 2 * len(tables.find_table("grouping", number).rows)
    missed = {cell.row.name for cell in cells if cell.difference != 0}
    assert missed == ({"D"} if number == "5" else set())
    for cell in cells:
        assert cell.true  # the true count stands beside the paper's
        if cell.column.measure == "parameters":
            net = models.create_model(cell.model, 20)
            assert cell.true == f"{sum(each.numel() for each in net.parameters()):,}"


def test_17_of_the_grouping_papers_18_rows_but_not_the_one_that_contradicts_them():
    rows = {}
    for number in ("3", "4", "5"):
        for cell in counts("grouping", number):
            rows.setdefault((number, cell.row.name), []).append(cell)
    met = [key for key, cells in rows.items() if all(cell.met for cell in cells)]
    assert len(rows) == 19  # ERFNet stands in tables 3 and 4
    assert set(rows) - set(met) == {("5", "D")}
    assert [cell.difference for cell in rows["5", "D"]] == [Decimal(21040), Decimal("0.778")]
    assert all("contradicts" in cell.note for cell in rows["5", "D"])


@pytest.mark.parametrize(
    ("paper", "number", "missed"),
    [
        ("liteseg", "2", {("Standard Convolution", "LiteSeg-Darknet"),
                          ("Depthwise Separable convolution", "LiteSeg-ShuffleNet")}),
        ("mininet", "2", {("ERFNet-S", "Memory (MB)"), ("ERFNet-D", "GFlops"), ("MiniNet-v2-D", "Memory (MB)")}),
        ("mininet", "5", set()),
        ("grouping", "1", set()),
        ("erfnet", "1", set()),
    ],
)  # fmt: skip
def test_no_other_figure_is_missed(paper, number, missed):
    assert {(cell.row.name, cell.column.name) for cell in counts(paper, number) if not cell.met} == missed


def test_a_figure_that_our_network_has_not_is_seen():
    table = tables.find_table("grouping", "3")
    wrong = replace(table.rows[1], printed=("68.55", "547121", "10.598"))
    changed = replace(table, rows=(table.rows[0], wrong, *table.rows[2:]))
    missed = [cell for cell in tables.compare(changed, measure=True) if cell.ours is not None and not cell.met]
    assert [(cell.row.name, cell.difference) for cell in missed] == [("D*", Decimal(-1)), ("D*", Decimal("-0.001"))]


def test_a_network_that_is_another_is_seen():
    table = tables.find_table("grouping", "3")
    other = replace(table, rows=(replace(table.rows[1], model="erfnet_dg2_all"),))
    ours = [cell for cell in tables.compare(other, measure=True) if cell.ours is not None]
    assert ours
    assert not any(cell.met for cell in ours)


def test_digits_are_compared_as_printed():
    row, column = tables.find_table("grouping", "3").rows[0], tables.find_table("grouping", "3").columns[2]
    for printed, ours, difference in [
        ("10.59", "10.5949", "0.00"), ("10.590", "10.5949", "0.005"), ("0.5", "0.515", "0.0"),
        ("2.06", "2.065", "0.01"),
    ]:  # fmt: skip
        assert str(tables.Cell(row, column, printed, "erfnet", Decimal(ours)).difference) == difference


@pytest.mark.parametrize(
    ("printed", "measure", "expected"),
    [("20 (TXp), 11 (2080ti)", "milliseconds", 20), ("35+", "milliseconds", 35), ("2.9**", "parameters", "2.9"),
     ("Non-bt-1D (dilated 16)", "dilation", 16), ("5 x Non-bt-1D", "dilation", None), ("C", "channels", None)],
)  # fmt: skip
def test_the_figure_in_a_cell(printed, measure, expected):
    assert number_in(printed, measure) == (None if expected is None else Decimal(expected))


def test_without_measure_only_what_needs_no_run_is_ours():
    cells = [cell for cell in tables.compare(tables.find_table("mininet", "2"), measure=False) if cell.model]
    assert {cell.column.measure for cell in cells if cell.ours is not None} == {"parameters", "megabytes"}
    assert {cell.reason for cell in cells if cell.ours is None} == {
        "use --measure",
        "an accuracy; needs training on Cityscapes",
    }
    assert "not measured: use --measure" in tables.render("mininet", "2", measure=False)


@pytest.mark.parametrize(("paper", "number"), ALL)
def test_parameters_are_the_same_without_measure(paper, number):
    table = tables.find_table(paper, number)
    for quick, cell in zip(tables.compare(table, measure=False), tables.compare(table, measure=True), strict=True):
        if cell.column.measure in ("parameters", "megabytes"):
            assert quick == cell


@pytest.mark.parametrize(("paper", "number"), ALL)
def test_every_cell_is_ours_or_says_why_not(paper, number):
    cells = tables.compare(tables.find_table(paper, number), measure=True)
    assert all((cell.ours is None) == bool(cell.reason) for cell in cells)


@pytest.mark.parametrize("paper", tables.list_papers())
def test_markdown_has_what_is_printed_and_fits_a_wide_terminal(paper):
    text = tables.render(paper, None, measure=False)
    for table in tables.load_paper(paper).tables:
        assert f"table {table.number}: {table.title}" in text
        assert all(printed in text for row in table.rows for printed in row.printed)
    grids = [line for line in text.splitlines() if line.startswith("|")]
    assert max(map(len, grids)) <= WIDEST


def test_markdown_of_a_missed_figure_has_its_note():
    text = tables.render("grouping", "5", measure=True)
    assert re.search(r"\| Params +\| D +\| erfnet_d +\| +1291648 \| +1312688 \| +\+21040 \[1\] \| +1,338,496 \|", text)
    assert "[1] The paper's row D contradicts its own siblings" in text
    assert "- IOU: an accuracy" in text


@pytest.mark.parametrize("number", ["6", "7", "8"])
def test_the_mininet_of_2019_is_counted_as_printed_but_for_its_memory(number):
    cells = {cell.column.name: cell for cell in counts("mininet", number) if cell.model == "mininet_v1"}
    assert [cells[name].met for name in ("Params (M)", "GFlops", "Memory (MB)")] == [True, True, False]
    assert (cells["Params (M)"].true, cells["GFlops"].true) == ("3,058,435", "0.526 G MACs")
    assert cells["GFlops"].ours == Decimal("1.055708992")
    assert ("2 outputs" in cells["GFlops"].note) == (number != "8")
    assert "3,058,435" in tables.render("mininet", number, measure=False)


@pytest.mark.parametrize("paper", tables.list_papers())
def test_prose_ends_its_lines_at_words_within_80_characters(paper):
    text = tables.render(paper, None, measure=False)
    prose = [line for line in text.splitlines() if not line.startswith(("|", "#"))]
    assert max(map(len, prose)) <= 80
    for table in tables.load_paper(paper).tables:
        for whole in (table.protocol, *(note for row in table.rows for note in row.notes.values())):
            assert " ".join(whole.split()) in " ".join(text.split())


def test_times_name_their_machine_and_the_papers(monkeypatch):
    monkeypatch.setattr(NetworkTimes, "latency", lambda self, net, size, where: Latency(50.0, 60.0, 20))
    text = tables.render("erfnet", "4", measure=True)
    assert f"{processor_name()}, " in unwrapped(text)
    for part in (
        f"torch {torch.__version__}",
        f"{counted(torch.get_num_threads(), 'thread')}",
        "; 20",
        "median of 3 to 50 runs",
    ):
        assert part in unwrapped(text)
    assert "NVIDIA Tegra TX1" in text
    assert max(len(line) for line in text.splitlines() if not line.startswith(("|", "#"))) <= 80
    assert re.search(r"TX1 640x360 fps +\| Ours +\| erfnet +\| +7.1 \| +20.0 \| +2.82 x", text)


@pytest.mark.usefixtures("_timed")
def test_times_are_taken_once_and_what_is_too_slow_is_left_out():
    small = Network("mininet_v2_cpu", 19)
    times = NetworkTimes(table_s=1e6, each=Budget(seconds=60, runs=2))
    latency = times.latency(small, (32, 64), "cpu")
    assert latency.runs == 2
    assert 0 < latency.median_ms <= latency.p95_ms
    assert times.latency(small, (32, 64), "cpu") is latency
    assert str(NetworkTimes(table_s=0).latency(small, (32, 64), "cpu")) == "not measured: past the 0 s for a table"


@pytest.mark.usefixtures("_timed")
def test_a_network_is_left_out_by_the_speed_of_the_one_before(monkeypatch):
    monkeypatch.setattr("kerbseg.tables.measure.network_latency", lambda *_: Latency(1000.0, 1000.0, 3))
    times = NetworkTimes(table_s=60.0, each=Budget(seconds=1.0))
    small = Network("mininet_v2_cpu", 19)
    assert isinstance(times.latency(small, (32, 64), "cpu"), Latency)
    assert isinstance(times.latency(small, (64, 128), "cpu"), Latency)  # about 4 s a run
    assert isinstance(times.latency(small, (512, 1024), "cpu"), Skipped)  # about 64 s


def test_the_papers_own_networks_are_timed_first(monkeypatch):
    asked = []
    monkeypatch.setattr(NetworkTimes, "latency", lambda self, net, size, where: asked.append(net.model) or Skipped("-"))
    tables.render("mininet", "7", measure=True)
    assert asked == ["mininet_v1", "mininet_v2_cpu", "mininet_v2", "mininet_v2", "enet", "erfnet", "segnet"]
    asked.clear()
    tables.compare(tables.find_table("mininet", "7"), measure=True)
    assert asked == ["mininet_v1", "mininet_v2_cpu", "enet", "mininet_v2", "mininet_v2", "erfnet", "segnet"]


# accuracies of our weights


def weights(model, miou, size=(360, 480), split="test", data="camvid"):
    return tables.ShippedAccuracy(f"{model}-x", model, miou, data, split, size, f"Ours: {model} at {size[0]}.")


def accuracies(monkeypatch, *shipped, paper="mininet", number="7"):
    """(row, what it prints, ours) of every accuracy of ours in a table."""
    monkeypatch.setattr("kerbseg.tables.measure.shipped_accuracies", lambda: shipped)
    cells = tables.compare(tables.find_table(paper, number), measure=False)
    return {(cell.row.name, cell.row.size, cell.printed): cell.ours for cell in cells if cell.protocol}


def test_shipped_weights_stand_beside_the_printed_accuracy_with_their_protocol():
    ours = {(each.weights, each.split): each for each in tables.shipped_accuracies()}
    test = ours["mininet_v2_cpu-camvid", "test"]
    assert (test.data, test.size) == ("camvid", (360, 480))
    assert test.protocol == (
        "Ours: weights mininet_v2_cpu-camvid, camvid test (233 pictures), labels at 480x360, no test-time augmentation."
        " How they were trained: kerbseg info mininet_v2_cpu-camvid."
    )
    assert ours["mininet_v2_cpu-camvid", "val"].miou != test.miou
    for measure in (False, True):
        text = tables.render("mininet", "7", measure)
        line = next(line for line in text.splitlines() if re.match(r"\| MIoU w/o pt +\| MiniNet-v2-cpu", line))
        figure, difference, mark = re.search(r"59.9 \| +([\d.]+) \| +([-+][\d.]+) \[(\d+)\]", line).groups()
        assert float(figure) == pytest.approx(100 * test.miou, abs=5e-4)
        assert float(difference) == pytest.approx(100 * test.miou - 59.9, abs=0.051)
        assert f"[{mark}] {test.protocol}" in unwrapped(text)
        assert "- MIoU w/o pt of other rows: an accuracy" in text


def test_weights_stand_once_where_their_pictures_size_is_nearest(monkeypatch):
    small, large = weights("mininet_v2", 0.6), weights("mininet_v2", 0.65, (704, 960))
    assert accuracies(monkeypatch, small, large) == {
        ("MiniNet-v2", (360, 480), "66.1"): Decimal("60.0"),
        ("MiniNet-v2", (720, 960), "69.0"): Decimal("65.00"),
    }
    assert accuracies(monkeypatch, weights("erfnet", 0.5)) == {("ERFNet", (720, 960), "68.3"): Decimal("50.0")}
    assert "The printed figure is of pictures at 960x720." in unwrapped(tables.render("mininet", "7", measure=False))
    accuracies(monkeypatch, small)
    assert "The printed figure is of pictures" not in unwrapped(tables.render("mininet", "7", measure=False))


def test_of_two_weights_at_one_place_the_better_stands_there(monkeypatch):
    better, worse = weights("mininet_v2", 0.6), weights("mininet_v2", 0.5)
    for both in ((better, worse), (worse, better)):
        assert list(accuracies(monkeypatch, *both).values()) == [Decimal("60.0")]


def test_an_accuracy_on_other_data_stands_nowhere(monkeypatch):
    other = weights("mininet_v2", 0.6, split="val"), weights("mininet_v2", 0.6, data="cityscapes")
    assert accuracies(monkeypatch, *other) == {}
    assert accuracies(monkeypatch, weights("mininet_v2", 0.6, data="cityscapes"), number="6") == {
        ("MiniNet-v2", (256, 512), "64.7"): Decimal("60.0")
    }


def test_a_row_trained_on_more_takes_no_weights_of_less(monkeypatch):
    assert tables.find_table("grouping", "4").rows[0].pretrained
    ours = weights("erfnet", 0.7, (512, 1024), "val", "cityscapes")
    assert accuracies(monkeypatch, ours, paper="grouping", number="4") == {}


@pytest.mark.usefixtures("_timed")
def test_a_gpu_is_waited_for(monkeypatch):
    """The picture says that it lies on a GPU: each run ends when that is done, the warm-up's too."""
    waited = []
    monkeypatch.setattr(torch.Tensor, "is_cuda", property(lambda tensor: True))
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: waited.append(True))
    network_latency(Network("mininet_v2_cpu", 19), (32, 64), "cpu", Budget(runs=2))
    assert len(waited) >= 12


def test_a_printed_0_is_a_figure():
    table = tables.find_table("grouping", "3")
    zero = replace(table.rows[1], printed=("0", "0", "0.000"))
    cells = tables.compare(replace(table, rows=(zero,)), measure=True)
    assert [cell.printed for cell in cells] == ["0", "0", "0.000"]
    assert [cell.difference for cell in cells][1:] == [547120, Decimal("10.597")]


def test_a_printed_time_of_0_is_shown_without_a_ratio(monkeypatch):
    monkeypatch.setattr(NetworkTimes, "latency", lambda self, net, size, where: Latency(50.0, 60.0, 20))
    paper, table = tables.load_paper("erfnet"), tables.find_table("erfnet", "4")
    zero = replace(table, rows=(replace(table.rows[-1], printed=("0",) * len(table.columns)),))
    monkeypatch.setattr("kerbseg.tables.markdown.load_paper", lambda name: replace(paper, tables=(zero,)))
    assert re.search(r"fps +\| Ours +\| erfnet +\| +0 \| +20.0 \| +\|", tables.render("erfnet", None, measure=True))


@pytest.mark.parametrize(
    ("paper", "number", "message"),
    [("erfnett", "1", "did you mean 'erfnet'"), ("resnet50", None, "choose from|did you mean"),
     ("grouping", "9", "no table '9'; choose from: 1, 2, 3, 4, 5")],
)  # fmt: skip
def test_unknown_paper_or_table(paper, number, message):
    with pytest.raises(KerbsegError, match=message):
        tables.render(paper, number, measure=False)


@pytest.mark.parametrize(
    ("change", "message"),
    [({"printed": ("1",)}, "prints 1 cells for 3"), ({"notes": {"IoU": "x"}}, "unknown columns: IoU")],
)
def test_a_slip_in_the_data_is_an_error(change, message):
    table = tables.find_table("grouping", "3")
    with pytest.raises(ValueError, match=message):
        replace(table, rows=(replace(table.rows[0], **change),))


def test_an_unknown_key_or_an_unquoted_figure_is_an_error():
    with pytest.raises(ValueError, match="Unexpected keyword"):
        tables.Row(name="x", printed=("1",), modle="erfnet")
    with pytest.raises(ValueError, match="valid string"):
        tables.Row(name="x", printed=(10.590,))
    with pytest.raises(ValueError, match="one of: measure, reason, text"):
        tables.Column(name="x")


def test_what_is_nowhere_printed_is_shown_as_ours_alone():
    text = tables.render("kerbnet", "1", measure=False)
    assert "printed" not in text
    [small] = [line for line in text.splitlines() if line.startswith("| Parameters (M)") and "KerbNet-S" in line]
    assert [cell.strip() for cell in small.split("|")[1:-1]] == [
        "Parameters (M)",
        "KerbNet-S",
        "kerbnet_s",
        "0.207",
        "206,915",
    ]
    [accuracy] = [line for line in text.splitlines() if line.startswith("| CamVid mIoU") and "kerbnet_s" in line]
    [ours] = (each.miou for each in tables.shipped_accuracies() if (each.model, each.split) == ("kerbnet_s", "test"))
    assert f"{100 * ours:.3f} [" in accuracy


def test_a_table_that_is_nowhere_printed_prints_nothing():
    table = tables.find_table("kerbnet", "1")
    row = replace(table.rows[0], printed=("0.2", "-", "-", "-"))
    with pytest.raises(ValueError, match="nowhere printed"):
        replace(table, rows=(row,))


@pytest.mark.parametrize("name", ["enet", "segnet_basic"])
def test_networks_without_a_papers_tables_are_said_to_be_that(name):
    with pytest.raises(KerbsegError, match=f"no tables of '{models.card(name).paper}' are here, only its networks"):
        tables.load_paper(name)
    with pytest.raises(KerbsegError, match="unknown paper 'erfnett'; did you mean 'erfnet'"):
        tables.load_paper("erfnett")
