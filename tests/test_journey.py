"""From one's own pictures to a plain script: one command is typed, the others are those that commands name."""

import importlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kerbseg import Predictor
from kerbseg.cli import main

SHORT = ["epochs=1", "--device", "cpu"]


@pytest.fixture
def journey(monkeypatch):
    """The script that walks it."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "benchmarks"))
    return importlib.import_module("journey")


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """What runs a command in the folder: kerbseg's in this process, the plain script in one without kerbseg."""
    monkeypatch.chdir(tmp_path)

    def run(command):
        if command[0] == "python":
            without = "import sys; sys.modules.update(kerbseg=None, torch=None); sys.argv[:] = sys.argv[1:]; "
            known = "known = {'__name__': '__main__', '__file__': sys.argv[0]}; "
            code = without + known + "exec(compile(open(sys.argv[0]).read(), sys.argv[0], 'exec'), known)"
            done = subprocess.run(
                [sys.executable, "-c", code, *command[1:]], capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, done.stderr
            return done.stdout
        if command[:3] == ["kerbseg", "doctor", "my labels"]:  # which it refuses, and says why
            with pytest.raises(SystemExit):
                main(command[1:])
        else:
            main(command[1:])
        return capsys.readouterr().out

    return run


def walked(journey, run, form, count, size):
    """The stages of a way, and whether the plain script gave what kerbseg gives."""
    folder = "my_streets" if form in ("ids", "colors") else "my labels"
    journey.write_pictures(form, Path(folder), count, size)
    way = journey.Journey(run, {"train": SHORT}).go(folder)
    _, (_, _, model, picture), printed = way.steps[-1]
    ids = np.array(Image.open(f"{Path(picture).stem}_ids.png"))
    assert (ids == Predictor(model)(picture).ids).mean() >= 0.9999
    assert set(journey.NAMES) == {line.rpartition(" ")[0] for line in printed.splitlines()}
    return [stage for stage, _, _ in way.steps]


STAGES = ["doctor", "train", "evaluate", "predict", *["export", "snippet", "python", "int8", "snippet", "python"]]


@pytest.mark.slow
def test_own_pictures_with_masks_of_ids(journey, run):
    assert walked(journey, run, "ids", 8, (64, 96)) == STAGES


@pytest.mark.slow
@pytest.mark.parametrize("form", ["colors", "coco", "yolo", "labelme", "cvat", "label-studio"])
def test_own_pictures_in_every_form(form, journey, run):
    first = [] if form == "colors" else ["doctor", "convert"]
    assert walked(journey, run, form, 40, (64, 96)) == first + STAGES
