"""Pushing: all files in one commit, nobody else's repository touched, and no token shown."""

import json
from pathlib import Path

import pytest

import made_hub
from kerbseg.bundle import load, random_bundle, save
from kerbseg.cli import main
from kerbseg.core.labels import label_set
from kerbseg.hub.manifest import Manifest

OURS = {".gitattributes", "README.md", "config.json", "model.safetensors"}


def refused(capsys, *arguments: object) -> str:
    """The one line of a command that leaves with status 2."""
    with pytest.raises(SystemExit) as left:
        main([str(each) for each in arguments])
    assert left.value.code == 2
    printed = capsys.readouterr().err
    assert printed.startswith("kerbseg: ")
    assert printed.count("\n") == 1, printed
    assert made_hub.TOKEN not in printed
    return printed


def test_a_new_repository_holds_the_model_its_config_and_its_page(hub, camvid_bundle, capsys):
    main(["push", str(camvid_bundle), "me/streets", "--license", "cc-by-4.0"])
    printed = capsys.readouterr().out
    files = hub.repositories["me/streets"].files()
    assert set(files) == OURS
    assert files["model.safetensors"] == camvid_bundle.read_bytes()
    manifest = Manifest.parse(files["config.json"])
    assert manifest.model == "mininet_v2_cpu"
    assert json.loads(files["config.json"])["id2label"]["3"] == "road"
    assert manifest.files["model.safetensors"].size == len(camvid_bundle.read_bytes())
    page = files["README.md"].decode()
    assert "license: cc-by-4.0\n" in page
    assert "kerbseg predict hf://me/streets street.jpg -o out" in page
    assert not hub.repositories["me/streets"].private
    assert f"{hub.address}/me/streets (new): commit" in printed
    assert "next: kerbseg info hf://me/streets" in printed
