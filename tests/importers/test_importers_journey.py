"""The four commands of docs/authors-weights.md, for each network, with random weights in the authors' layout."""

import pickle
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import test_importers_erfnet
import test_importers_mininet_tf as mininet
import torch
from PIL import Image

from golden_rule import filled, read_keys
from kerbseg.bundle import read_card
from kerbseg.cli import main

PAGE = (Path(__file__).parents[2] / "docs" / "authors-weights.md").read_text()
IMPORTS = [line for line in re.findall(r"^kerbseg import .*$", PAGE, re.MULTILINE) if "--classes" not in line]
[AFTER] = re.findall(r"^(kerbseg evaluate .*\nkerbseg export .*\nkerbseg train .*)$", PAGE, re.MULTILINE)
SHORT = {"512x1024": "64x128"}


def put_file(source: Path, write_checkpoint) -> None:
    """Random weights where the authors have their trained ones, under the authors' names."""
    source.parent.mkdir(parents=True)
    if "erfnet" in source.name:
        torch.save(filled(test_importers_erfnet.whole(20)), source)
    elif "espnet" in source.name:
        from test_importers_espnet import authors_state

        torch.save(authors_state(20, 2, 8), source)
    elif "ddrnet" in str(source).lower() or "pidnet" in str(source).lower():
        name = "ddrnet_23_slim" if "ddrnet" in str(source).lower() else "pidnet_s"
        torch.save({f"model.{key}": value for key, value in filled(read_keys(name), 1.2).items()}, source)
    elif source.suffix == ".pdparams":
        weights = filled(read_keys("pp_liteseg_t"), 1.2)
        source.write_bytes(pickle.dumps({key: value.numpy() for key, value in weights.items()}, 4))
    elif "fast_scnn" in source.name:
        torch.save(filled(read_keys("fast_scnn"), 1.2), source)
    else:
        plan = mininet.CPU if "_cpu" in str(source) else mininet.GPU
        write_checkpoint(source, mininet.Graph(19, 0, **plan).variables)


@pytest.mark.slow
@pytest.mark.parametrize("command", IMPORTS, ids=lambda line: Path(line.split()[3]).parts[1])
def test_the_four_commands_of_the_page(command, tmp_path, monkeypatch, write_checkpoint, cityscapes_root, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "DATA").mkdir()
    cityscapes_root.rename(tmp_path / "DATA" / "cityscapes")
    for split in ("train", "val"):
        for kind in ("images", "masks"):
            (tmp_path / "my_streets" / kind / split).mkdir(parents=True)
        for i in range(2):
            pixels = np.random.default_rng(i).integers(0, 3, (32, 48), np.uint8)
            for kind, shown in (("masks", pixels), ("images", np.stack([pixels * 80] * 3, 2))):
                Image.fromarray(shown).save(tmp_path / "my_streets" / kind / split / f"{i}.png")
    (tmp_path / "my_streets" / "dataset.yaml").write_text("classes: [road, car, kiosk]\n")
    words = shlex.split(command)
    put_file(Path(words[3]), write_checkpoint)
    bundle = words[5]
    main(words[1:])
    assert "19 classes of cityscapes" in capsys.readouterr().out
    card = read_card(bundle)
    assert "licen" in card.source.lower() or "CC BY-NC" in card.source or "AGPL" in card.source
    for line in AFTER.replace("erfnet.safetensors", bundle).replace("erfnet.onnx", "made.onnx").splitlines():
        following = [SHORT.get(word, word) for word in shlex.split(line)[1:]]
        if following[0] == "train":
            following += ["epochs=1", "--device", "cpu", "--out", "runs/made"]
        main(following)
    assert "mIoU" in capsys.readouterr().out
    assert Path("made.onnx").stat().st_size > 0
    tuned = read_card("runs/made/best.safetensors")
    assert (tuned.model, tuned.labels.classes) == (card.model, ("road", "car", "kiosk"))
