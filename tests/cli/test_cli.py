"""The command line: what scripts rely on (names, exit status, one line of error, JSON), and what a reader is shown."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import kerbseg.data
import kerbseg.importers
import kerbseg.models as models
import kerbseg.runtime
from kerbseg.bundle import locate, shipped
from kerbseg.cli import app, main, terminal
from kerbseg.cli.help import LISTS
from kerbseg.core.labels import LABEL_SETS
from kerbseg.predict.sinks import saved_words
from kerbseg.tables import list_papers
from kerbseg.train import run as training
from kerbseg.train.recipe_file import read
from kerbseg.train.recipe_file import shipped as shipped_recipes

CONTRACT = ("demo", "models", "doctor", "train", "evaluate", "predict", "import", "export", "profile", "table", "group")
COMMANDS = [name for name in app if not name.startswith("-")]
WEIGHTS = "mininet_v2_cpu-camvid"  # come with the package


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False)


def shown(capsys, *arguments: object) -> str:
    """What a command prints, on one line without the borders of its tables."""
    main([str(argument) for argument in arguments])
    return " ".join(capsys.readouterr().out.translate(dict.fromkeys(map(ord, "│╭╮╰╯─"), " ")).split())


def refused(capsys, *arguments: object) -> str:
    """The one line on stderr of a command that must exit with status 2."""
    with pytest.raises(SystemExit) as left:
        main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    assert left.value.code == 2, captured.err
    assert captured.err.startswith("kerbseg: ")
    assert captured.err.count("\n") == 1
    assert "Traceback" not in captured.err
    return captured.err


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["--version"], ["train", "--help"], ["recipe", "smoke/scenes"], ["recipes"], ["evaluate", "--help"]],
)
def test_what_needs_no_torch_imports_none(arguments):
    code = f"import sys; from kerbseg.cli import main\nmain({arguments})\n"
    code += "print({'torch', 'lightning', 'torchmetrics', 'cv2', 'av'} & set(sys.modules))"
    finished = run("-c", code)
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.endswith("set()\n")


def test_the_help_of_all_commands_loads_no_arrays_either():
    code = "import sys; from kerbseg.cli import main\nmain(['--help'])\nprint({'numpy', 'PIL'} & set(sys.modules))"
    assert run("-c", code).stdout.endswith("set()\n")


def test_the_module_is_the_command():
    for module in ("kerbseg", "kerbseg.cli"):
        finished = run("-m", module, "--version")
        assert (finished.returncode, finished.stdout.strip()) == (0, kerbseg.__version__), finished.stderr


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself_with_an_example(command, capsys):
    text = shown(capsys, command, "--help")
    assert "Example" in text
    assert f"kerbseg {command}" in text
    assert "{" not in text, "a list that no table fills"


@pytest.mark.parametrize("command", COMMANDS)
def test_every_argument_has_a_help(command):
    for argument in app[command].assemble_argument_collection(parse_docstring=True):
        assert argument.parameter.help, argument.name
        assert argument.parameter.help[0].isupper() or argument.parameter.help.startswith(("cpu", "HEIGHT", "mIoU"))


def test_the_commands_are_those_of_the_contract():
    assert set(CONTRACT) <= set(COMMANDS)


@pytest.mark.parametrize(
    ("command", "table", "names"),
    [
        ("doctor", kerbseg.data.DATASETS, kerbseg.data.DATASETS),
        ("evaluate", kerbseg.data.DATASETS, kerbseg.data.DATASETS),
        ("evaluate", kerbseg.runtime.ENGINES, kerbseg.runtime.ENGINES),
        ("predict", kerbseg.runtime.ENGINES, kerbseg.runtime.ENGINES),
        ("predict", kerbseg.predict.SINKS, saved_words()),
        ("profile", kerbseg.runtime.ENGINES, kerbseg.runtime.ENGINES),
        ("import", kerbseg.importers.FORMATS, kerbseg.importers.FORMATS),
        ("import", LABEL_SETS, LABEL_SETS),
        ("group", LABEL_SETS, LABEL_SETS),
        ("table", None, list_papers()),
    ],
)
def test_help_lists_what_the_tables_hold_now(command, table, names, capsys, monkeypatch):
    assert ", ".join(names) in shown(capsys, command, "--help")
    if table is not None:
        monkeypatch.setitem(table, "newcomer", next(iter(table.values())))
        assert "newcomer" in shown(capsys, command, "--help")


@pytest.mark.parametrize("name", LISTS)
def test_every_list_of_the_help_has_names(name):
    names = list(LISTS[name]())
    assert names
    assert all(isinstance(each, str) and each for each in names)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["trian"], "did you mean 'train'"),
        (["train"], "missing RECIPE"),
        (["train", "epochs=2"], "missing RECIPE"),
        (["train", "--resume"], "missing RECIPE"),
        (["train", "--resume", "--out", "run"], "nothing to resume"),
        (["train", "--resume", "--out", "run", "epochs=2"], "resume it without changes"),
        (["train", "camvid/mininet_v2_cpu", "--devics", "2"], "did you mean --devices"),
        (["train", "camvid/mininet_v2_cpu", "--devices", "two"], "--devices"),
        (["train", "camvid/mininet_v2_cpu", "epocs=2"], "did you mean 'epochs'"),
        (["train", "camvid/mininet"], "did you mean 'camvid/mininet_v2'"),
        (["train", "smoke/scenes", "data.name=camvit"], "did you mean 'camvid'"),
        (["train", "smoke/scenes", "model.name=erfnett"], "did you mean 'erfnet'"),
        (["train", "smoke/scenes", "model.options={depth: 3}"], "depth"),
        (["recipe"], "missing NAME; see: kerbseg recipe --help"),
        (["recipe", "camvid/mininet_v2_cpu", "epocs=2"], "did you mean 'epochs'"),
        (["recipe", "camvid/mininet"], "did you mean 'camvid/mininet_v2'"),
        (["doctor", "camvit"], "did you mean 'camvid'"),
        (["doctor", "camvid", "--data-root", "nowhere"], "does not exist"),
        (["evaluate"], "missing MODEL; see: kerbseg evaluate --help"),
        (["evaluate", "none.safetensors"], "missing --data; see: kerbseg evaluate --help"),
        (["evaluate", "none.safetensors", "--data"], "--data needs a value"),
        (["evaluate", WEIGHTS, "--data", "scenes", "--runtime", "onxx"], "did you mean 'onnx'"),
        (["evaluate", WEIGHTS, "--data", "scenes", "--corrupt", "jpeg"], "did you mean 'jpeg_compression'"),
        (["evaluate", WEIGHTS, "--data", "scenes", "--corrupt", "fog", "--severity", "9"], "severity is 9"),
        (["import", "mininet-tf"], "missing SOURCE"),
        (["import", "mininet-tf", "x.npz"], "missing --out"),
        (["import", "mininet-tensorflow", "x.npz", "-o", "x.safetensors"], "did you mean 'mininet-tf'"),
        (["import", "mininet-tf", "none.npz", "-o", "x.safetensors"], "does not exist"),
        (["import", "mininet-tf", "none.npz", "-o", "x.safetensors", "--classes", "camvit"], "did you mean 'camvid'"),
        (["export", WEIGHTS, "-o"], "-o needs a value"),
        (["export", WEIGHTS, "-o", "m.pt"], ".onnx"),
        (["profile", "mininet_v2", "--size", "large"], "256x512"),
        (["table", "mininett"], "did you mean 'mininet'"),
        (["demo", "--minutes", "0"], "minutes"),
        (["demo", "out"], "unexpected 'out'"),
    ],
)
def test_bad_input_is_one_line_and_status_2(arguments, says, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert says.lower() in refused(capsys, *arguments).lower()
    assert list(tmp_path.iterdir()) == [], "nothing half-written"


WITH_MODEL = {  # every command that takes a model, with what else it needs
    "evaluate": ["--data", "scenes"],
    "predict": ["x.png", "-o", "out"],
    "export": ["-o", "m.onnx"],
    "info": [],
    "profile": ["--runs", "0"],
    "group": ["--groups", "2", "-o", "g.safetensors"],
}


@pytest.mark.parametrize("command", WITH_MODEL)
def test_one_rule_names_a_model(command, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "model none.safetensors does not exist" in refused(capsys, command, "none.safetensors", *WITH_MODEL[command])
    close = WEIGHTS.replace("camvid", "camvit")
    assert f"did you mean '{WEIGHTS}'" in refused(capsys, command, close, *WITH_MODEL[command])
    Path("run").mkdir()
    assert "run" in refused(capsys, command, "run", *WITH_MODEL[command]), "a folder without a run"
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_a_run_folder_stands_for_its_best_weights(camvid_bundle, tmp_path, capsys):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "best.safetensors").write_bytes(camvid_bundle.read_bytes())
    assert "mininet_v2_cpu" in shown(capsys, "info", tmp_path / "run")
    assert "mininet_v2_cpu" in shown(capsys, "group", tmp_path / "run", "--groups", 4, "-o", tmp_path / "g.safetensors")


def test_an_empty_data_root_is_named(tmp_path, capsys):
    assert "is empty" in refused(capsys, "doctor", "camvid", "--data-root", tmp_path)


def test_a_picture_that_is_none_is_named(camvid_root, capsys, tmp_path):
    victim = next((camvid_root / "train").iterdir())
    victim.write_bytes(victim.read_bytes()[:60])
    said = refused(capsys, "train", "camvid/mininet_v2_cpu", "--data-root", camvid_root, "--out", tmp_path / "run")
    assert victim.name in said
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("arguments", "kind"),
    [(["models", "--json"], "JSON file"), (["doctor", "scenes", "--html"], "HTML page")],
)
def test_a_slip_of_the_pen_loses_no_picture(arguments, kind, tmp_path, capsys):
    path = tmp_path / "street.jpg"
    path.write_bytes(b"\xff\xd8\xff\xe0")
    with pytest.raises(SystemExit) as left:
        main([*arguments, str(path)])
    assert left.value.code == 2
    assert f"street.jpg is no {kind}; name another file, so that it is not lost" in capsys.readouterr().err
    assert path.read_bytes() == b"\xff\xd8\xff\xe0"


def test_models_as_json(tmp_path, capsys):
    main(["models", "--json", str(tmp_path / "models.json")])
    rows = json.loads((tmp_path / "models.json").read_text())
    assert [row["name"] for row in rows] == models.list_models()
    columns = {"name", "paper", "parameters", "parameters_with_heads", "macs", "input", "classes", "stride"}
    assert set(rows[0]) == columns
    shown = capsys.readouterr().out
    assert "mininet_v2_cpu" in shown
    [line] = (line for line in shown.splitlines() if line.startswith("pidnet_s "))
    assert "7.626 M   +0.095 M" in line  # without training heads, and what they add


@pytest.mark.parametrize("arguments", [["models"], ["models", "--all"]])
def test_no_name_is_cut_in_80_columns(arguments, capsys, monkeypatch):
    monkeypatch.setattr(terminal, "width", lambda: 80)
    monkeypatch.setattr("kerbseg.cli.models.width", lambda: 80)
    main(arguments)
    lines = capsys.readouterr().out.splitlines()
    words = {word for line in lines for word in line.split()}
    expected = [name for name in models.list_models() if "--all" in arguments or models.card(name).main]
    assert set(expected) <= words
    assert max(map(len, lines)) <= 80
    assert all("…" not in line for line in lines)


def test_models_shows_what_each_paper_proposes(capsys):
    text = shown(capsys, "models")
    assert {models.card(name).paper for name in models.list_models() if name in text.split()} >= set(list_papers())
    assert "mininet_v2_d_i_0" not in text
    assert "mininet_v2_d_i_0" in shown(capsys, "models", "--all")


def test_recipes_lists_all_with_what_to_expect(tmp_path, capsys):
    text = shown(capsys, "recipes", "--json", tmp_path / "recipes.json")
    rows = json.loads((tmp_path / "recipes.json").read_text())
    assert [row["name"] for row in rows] == shipped_recipes()
    assert all(row["name"] in text for row in rows)
    assert all(row["expected"] and row["summary"] for row in rows)
    row = next(row for row in rows if row["name"] == "camvid/mininet_v2_cpu")
    assert (row["network"], row["data"], row["epochs"]) == ("mininet_v2_cpu", "camvid", 110)
    assert row["expected"].startswith("0.683 mIoU on val, 0.578 on test")
    ladder = next(row for row in rows if row["name"] == "cityscapes/mininet_v2_ablation")
    assert "mininet_v2_d_i_m 59.36" in ladder["expected"], "a header's text goes on over several lines"


def test_a_printed_recipe_is_the_recipe(tmp_path, capsys):
    main(["recipe", "camvid/mininet_v2_cpu", "optim.lr=1e-3"])
    (tmp_path / "mine.yaml").write_text(text := capsys.readouterr().out)
    assert read(tmp_path / "mine.yaml") == read("camvid/mininet_v2_cpu", ["optim.lr=1e-3"])
    assert yaml.safe_load(text)["optim"]["lr"] == 1e-3


def test_the_folder_of_a_run_is_all_that_a_resume_needs(tmp_path, capsys, monkeypatch):
    recipe = read("smoke/scenes", ["epochs=3"])
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe.to_dict()))
    calls = []

    def train(settings, out, **options):
        calls.append((settings, out, options["resume"]))
        return locate(WEIGHTS)

    monkeypatch.setattr(training, "train", train)
    text = shown(capsys, "train", "--resume", "--out", tmp_path)
    assert calls == [(recipe, tmp_path, True)]
    assert "0.6859 after epoch 500" in text


def test_weights_lists_their_figures(tmp_path, capsys):
    text = shown(capsys, "weights", "--json", tmp_path / "weights.json")
    rows = json.loads((tmp_path / "weights.json").read_text())
    assert [row["name"] for row in rows] == shipped()
    assert all(name in text for name in shipped())
    assert "0.5777 on camvid test" in text
    figures = {row["name"]: row["scores"]["test"]["miou"] for row in rows}
    assert figures[WEIGHTS] == pytest.approx(0.5777, abs=1e-4)
    assert figures["erfnet-camvid"] == pytest.approx(0.5901, abs=1e-4)


def test_info_of_a_bundle(tmp_path, capsys):
    text = shown(capsys, "info", WEIGHTS, "--json", tmp_path / "info.json")
    for fact in ("268,169 parameters", "360x480", "11 of camvid: sky, building", "0.6859 on camvid val", "500 epochs"):
        assert fact in text
    facts = json.loads((tmp_path / "info.json").read_text())
    assert (facts["model"], facts["parameters"], facts["precision"]) == ("mininet_v2_cpu", 268169, "float32")
    assert facts["kernels_in_float16"]
    assert 2 * facts["parameters"] < facts["size_bytes"] < 4 * facts["parameters"]


@pytest.mark.parametrize("suffix", [".onnx", ".xml"])
def test_info_of_an_exported_file(suffix, camvid_bundle, tmp_path, capsys):
    pytest.importorskip({".onnx": "onnxruntime", ".xml": "openvino"}[suffix])
    out = tmp_path / f"m{suffix}"
    main(["export", str(camvid_bundle), "-o", str(out), "--size", "32x64"])
    capsys.readouterr()
    text = shown(capsys, "info", out)
    assert "32x64" in text
    assert "mininet_v2_cpu" in text
