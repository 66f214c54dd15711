"""Recipes: slips are named with the nearest valid key, in under a second and without torch."""

import subprocess
import sys
import time

import pytest
import yaml

from kerbseg.core.errors import RecipeError
from kerbseg.train.recipe import read, read_any, shipped

NAME = "camvid/mininet_v2_cpu"


@pytest.mark.parametrize("name", shipped())
def test_a_shipped_recipe_is_a_document_and_survives_its_own_yaml(name, tmp_path):
    recipe = read_any(name)
    written = tmp_path / "recipe.yaml"
    written.write_text(yaml.safe_dump(recipe.to_dict()))
    assert read_any(written) == recipe


@pytest.mark.parametrize(
    ("override", "names"),
    [
        ("optm.lr=1", ["'optm'", "'optim'"]),
        ("optim.lrr=1", ["'optim.lrr'", "'lr'"]),
        ("optim.lr=fast", ["'optim.lr'", "'fast'", "number"]),
        ("optim.name=adm", ["'optim.name'", "'adm'", "'adam'"]),
        ("epochs=2.5", ["'epochs'", "2.5", "integer"]),
        ("epochs=0", ["'epochs'", "0", "greater than or equal to 1"]),
        ("augment.flip=2", ["'augment.flip'", "2"]),
        ("augment.progressive=[{until: 1, zom: 1, crop: [8, 8]}]", ["'augment.progressive.0.zom'", "'zoom'"]),
        ("augment.crop=[1, 2, 3]", ["'augment.crop'", "[1, 2, 3]"]),
        ("loss.ohem={thresh: 0.7}", ["'loss.ohem.thresh'", "'threshold'"]),
        ("auxiliary=[{att: features}]", ["'auxiliary.0.att'", "'at'"]),
        ("distill={temperature: 1}", ["'distill.teacher'", "missing"]),
        ("epochs", ["'epochs'", "key=value"]),
        ("epochs.more=1", ["'epochs.more'", "not a section"]),
        ("model=[", ["'model'", "YAML"]),
    ],
)
def test_a_slip_names_the_key_and_the_way_out(override, names):
    with pytest.raises(RecipeError) as caught:
        read(NAME, [override])
    message = str(caught.value)
    assert "\n" not in message
    for name in names:
        assert name in message


def test_an_unknown_recipe_names_the_nearest():
    with pytest.raises(RecipeError, match="did you mean 'camvid/mininet_v2_cpu'"):
        read("camvid/mininet_v2_cp")


def test_numbers_are_read_as_people_write_them():
    assert read(NAME, ["optim.lr=1e-3"]).optim.lr == 1e-3
    assert read(NAME, ["optim.lr=5"]).optim.lr == 5.0


def test_a_key_that_stands_twice_is_refused(tmp_path):
    path = tmp_path / "twice.yaml"
    path.write_text("epochs: 1\nepochs: 2\n")
    with pytest.raises(RecipeError, match="'epochs' stands twice"):
        read(path)


def test_a_slip_costs_under_a_second_and_no_torch():
    code = (
        "import sys; from kerbseg.cli import main\n"
        "try: main(['train', 'camvid/mininet_v2_cpu', 'epocs=2'])\n"
        "except SystemExit as left: print(left.code, 'torch' in sys.modules)\n"
    )
    start = time.perf_counter()
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.stdout.split() == ["2", "False"]
    assert "did you mean 'epochs'" in result.stderr
    assert result.stderr.count("\n") == 1
    assert time.perf_counter() - start < 3  # one second, on a machine that does something else besides
