"""Fetching: what was pushed comes, whole and once; of all else a line says what, where, and what to do."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import kerbseg
import made_hub
from kerbseg.bundle import digest, find_model, read_card
from kerbseg.cli import main
from kerbseg.core.errors import BundleError, KerbsegWarning, MissingExtra
from kerbseg.core.labels import label_set
from kerbseg.hub import fetch as fetching
from kerbseg.hub.addresses import Address
from kerbseg.hub.client import Hub
from kerbseg.hub.fetch import fetch
from kerbseg.hub.manifest import CONFIG, WEIGHTS, Manifest
from kerbseg.model_files import locate, title_of

STREETS = "hf://me/streets"


def asked_for(hub, name: str) -> int:
    """How often a file was fetched."""
    return sum(each.startswith("GET ") and each.endswith(name) for each in hub.requests)


# ---- addresses


@pytest.mark.parametrize(
    ("text", "repository", "revision"),
    [
        ("hf://me/streets", "me/streets", None),
        ("me/street_s.v2", "me/street_s.v2", None),
        ("HF://me/streets@v1.0", "me/streets", "v1.0"),
        ("hf://me/streets@refs/pr/3", "me/streets", "refs/pr/3"),
    ],
)
def test_an_address_has_a_repository_and_a_revision(text, repository, revision):
    address = Address.parse(text)
    assert (address.repository, address.revision) == (repository, revision)
    assert Address.parse(str(address)) == address


@pytest.mark.parametrize(
    "text",
    [
        "hf://",
        "hf://streets",
        "hf://me/streets/model.onnx",
        "hf://me/../streets",
        "hf://me/..",
        "hf:///streets",
        "hf://me/a--b",
        "hf://me/streets.git",
        "hf://me/-streets",
        "hf://me/str eets",
        "hf://me/straße",
        f"hf://me/{'x' * 97}",
        "hf://me/streets@",
        "hf://me/streets@../../x",
        "hf://me/streets@-x",
        "hf://me/streets@a b",
    ],
)
def test_what_is_no_address_is_refused_before_anything_is_asked(text):
    with pytest.raises(BundleError, match="write hf://"):
        locate(text)


# ---- what was pushed


def test_it_gives_the_weights_that_were_pushed(hub, streets, camvid_bundle):
    own, theirs = kerbseg.load(camvid_bundle), kerbseg.load(STREETS)
    assert digest(theirs.model.state_dict()) == digest(own.model.state_dict())
    assert theirs.card == own.card
    assert find_model(STREETS, label_set("camvid")) == locate(STREETS)
    assert title_of(STREETS, locate(STREETS)) == "streets"


def test_a_predictor_has_the_same_ids(hub, streets, camvid_bundle):
    picture = np.random.default_rng(0).integers(0, 256, (32, 48, 3), np.uint8)
    ids = [kerbseg.Predictor(model)(picture).ids for model in (camvid_bundle, STREETS)]
    np.testing.assert_array_equal(*ids)


def test_it_is_fetched_once(hub, streets):
    assert fetch(STREETS) == fetch(STREETS)
    assert asked_for(hub, WEIGHTS) == asked_for(hub, CONFIG) == 1


def test_only_config_and_weights_are_asked_for(hub, streets):
    fetch(STREETS)
    assert {each.rpartition("/")[2] for each in hub.requests} == {CONFIG, WEIGHTS}


def test_what_is_new_comes_by_itself_and_what_was_by_its_revision(hub, streets):
    before, old = fetch(STREETS).parent.name, streets.branches["main"]
    new = streets.write("main", {**streets.files(), "more.txt": b"more"})
    streets.branches["v1"] = old
    assert (before, fetch(STREETS).parent.name) == (old, new)
    assert fetch(f"{STREETS}@v1").parent.name == fetch(f"{STREETS}@{old}").parent.name == old


def test_the_hub_is_told_no_more_than_who_asks(hub, streets):
    fetch(STREETS)
    [agent] = hub.agents
    assert agent.startswith(f"kerbseg/{kerbseg.__version__}; hf_hub/")
    assert "torch" not in agent


def test_a_private_model_needs_a_token(hub, streets, monkeypatch):
    streets.private = True
    assert read_card(STREETS).model == "mininet_v2_cpu"
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(BundleError, match=r"is not at http://127.* or private; check the name, or set HF_TOKEN"):
        fetch(STREETS)


# ---- without a network


def test_the_copy_of_the_last_time_is_taken_with_a_warning(hub, streets):
    path = fetch(STREETS)
    hub.status = 503
    with pytest.warns(KerbsegWarning, match=f"it answers 503; taken is the copy of commit {path.parent.name[:8]}"):
        assert fetch(STREETS) == path


def test_offline_it_is_taken_without_a_word(hub, streets, monkeypatch, recwarn):
    path = fetch(STREETS)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    hub.requests.clear()
    assert fetch(STREETS) == path
    assert not hub.requests
    assert not [each for each in recwarn if issubclass(each.category, KerbsegWarning)]
    with pytest.raises(BundleError, match="HF_HUB_OFFLINE is set, and no copy of it is on this machine"):
        fetch("hf://me/other")


def test_without_a_copy_the_network_is_named(hub, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(
        "huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", "http://127.0.0.1:9/{repo_id}/{revision}/{filename}"
    )
    with pytest.raises(BundleError, match=r"http://127.0.0.1:9 cannot be reached: .*refused.*check the network"):
        fetch(STREETS)


def test_a_damaged_copy_says_so(hub, streets, monkeypatch):
    path = fetch(STREETS)
    path.resolve().write_bytes(b"half")
    with pytest.raises(BundleError, match=r"has 4 of the [\d,]+ bytes .* remove .*models--me--streets$"):
        fetch(STREETS)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    (path.parent / CONFIG).resolve().write_bytes(b"half")
    with pytest.raises(BundleError, match=r"its copy is damaged; remove .*models--me--streets"):
        fetch(STREETS)


# ---- what is wrong on the hub


def edited(repository: made_hub.Repository, **changes: object) -> None:
    """Writes a config that says otherwise."""
    config = json.loads(repository.files()[CONFIG]) | changes
    repository.write("main", {**repository.files(), CONFIG: json.dumps(config).encode()})


@pytest.mark.parametrize(
    ("config", "told"),
    [
        (None, r"holds no model of kerbseg \(it holds \.gitattributes, pytorch_model\.bin\)"),
        (b'{"architectures": ["BertModel"]}', "holds no model of kerbseg"),
        (b'{"library_name": "kerbseg"}', "holds no model of kerbseg"),
        (b"[" * 100_000, "holds no model of kerbseg"),
        (b"\xff", "holds no model of kerbseg"),
        (b" " * (2**20 + 1), "config.json has 1,048,577 bytes, of at most 1,048,576"),
    ],
)
def test_a_repository_that_is_not_of_kerbseg(hub, config, told):
    files = {"pytorch_model.bin": b"pickle"} | ({} if config is None else {CONFIG: config})
    hub.make("me/streets", files)
    with pytest.raises(BundleError, match=told):
        fetch(STREETS)
    assert asked_for(hub, "pytorch_model.bin") == 0


@pytest.mark.parametrize(
    ("weights", "told"),
    [
        (None, "has no model.safetensors, of which its config.json tells; push it again"),
        (b"half", r"model.safetensors has 4 of the [\d,]+ bytes that config.json tells of; push it again"),
    ],
)
def test_a_half_uploaded_file(hub, streets, weights, told):
    files = {name: content for name, content in streets.files().items() if name != WEIGHTS}
    streets.write("main", files if weights is None else {**files, WEIGHTS: weights})
    with pytest.raises(BundleError, match=told):
        fetch(STREETS)


def test_another_file_of_the_same_size(hub, streets):
    weights = bytearray(streets.files()[WEIGHTS])
    weights[-1] ^= 1
    streets.write("main", {**streets.files(), WEIGHTS: bytes(weights)})
    with pytest.raises(BundleError, match=r"is not the file that config\.json tells of"):
        fetch(STREETS)


def test_a_pickle_under_the_name_of_weights_is_not_opened(hub, streets, camvid_bundle):
    danger = b"\x80\x04cos\nsystem\n(S'false'\ntR."
    manifest = Manifest.of(read_card(camvid_bundle), {WEIGHTS: danger})
    streets.write("main", {CONFIG: manifest.to_json().encode(), WEIGHTS: danger})
    with pytest.raises(BundleError, match=r"is no whole \.safetensors file"):
        kerbseg.load(STREETS)


def test_a_config_of_a_newer_kerbseg_and_one_without_weights(hub, streets):
    edited(streets, format=2)
    with pytest.raises(BundleError, match="was pushed by a newer kerbseg; run: pip install -U kerbseg"):
        fetch(STREETS)
    edited(streets, format=1, files={})
    with pytest.raises(BundleError, match=r"tells of no model\.safetensors"):
        fetch(STREETS)


def test_weights_that_are_too_large_are_not_begun(hub, streets, monkeypatch):
    monkeypatch.setattr(fetching, "MOST_WEIGHTS", 1000)
    with pytest.raises(BundleError, match=r"model.safetensors has [\d,]+ bytes, of at most 1,000"):
        fetch(STREETS)
    assert asked_for(hub, WEIGHTS) == 0


def test_a_file_that_goes_on_and_on_is_broken_off(hub, streets, tmp_path):
    hub.endless = WEIGHTS
    with pytest.raises(BundleError, match="goes on after 1,000 bytes; it is not taken"):
        Hub().download(replace(Address.parse(STREETS), revision="main"), WEIGHTS, 1000)
    assert list((tmp_path / "cache").rglob("*.incomplete")) == []


@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("hf://me/other", "hf://me/other is not at http://127.* or private and not for this token; check the name"),
        (
            "hf://me/streets@v9",
            r"has no revision 'v9'; its branches and tags are at .*/me/streets/tree/main",
        ),
    ],
)
def test_what_is_not_there(hub, streets, address, told):
    with pytest.raises(BundleError, match=told):
        fetch(address)


def test_a_gated_model_says_where_to_ask(hub, streets, monkeypatch):
    streets.gated = True
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(BundleError, match=r"is gated: ask its owner for access at .*/me/streets, then set HF_TOKEN"):
        fetch(STREETS)


def test_a_token_that_is_none(hub, streets, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_of-yesterday")
    with pytest.raises(BundleError, match="its token is not accepted; set HF_TOKEN") as refused:
        fetch(STREETS)
    assert "yesterday" not in str(refused.value)


def test_a_token_that_no_header_can_hold(hub, streets, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secr\u20act")
    with pytest.raises(BundleError, match="the token holds a character that no token has; set HF_TOKEN") as refused:
        fetch("hf://me/streets")
    assert "20ac" not in str(refused.value)


def test_a_page_for_people_is_no_hub(hub, streets):
    hub.readable = False
    with pytest.raises(BundleError, match="does not answer as a hub does; check HF_ENDPOINT"):
        fetch(STREETS)


# ---- the package


def test_without_the_extra_the_line_has_the_command(hub, monkeypatch):
    for name in ("huggingface_hub", "huggingface_hub.constants"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingExtra, match=r"huggingface_hub is not installed; .*pip install .*\[hub\]"):
        fetch(STREETS)


def test_a_process_follows_the_environment_and_reports_nothing(hub, streets, tmp_path):
    code = "import sys; from kerbseg.model_files import locate\nprint(locate(sys.argv[1]), 'torch' in sys.modules)"
    own = {"HF_ENDPOINT": hub.address, "HF_HOME": str(tmp_path / "home"), "HF_TOKEN": made_hub.TOKEN}
    command = subprocess.run(
        [sys.executable, "-c", code, STREETS], env=os.environ | own, capture_output=True, text=True, check=True
    )
    path, with_torch = command.stdout.split()
    assert Path(path).is_relative_to(tmp_path / "home" / "hub")
    assert Path(path).read_bytes() == streets.files()[WEIGHTS]
    assert with_torch == "False"
    assert command.stderr == ""
    assert {each.rpartition("/")[2] for each in hub.requests} == {CONFIG, WEIGHTS}, "no list of others' programs"
    assert not any("torch" in agent for agent in hub.agents)


# ---- commands


@pytest.mark.parametrize(
    ("command", "told"),
    [
        (["info", "hf://me/other"], "is not at"),
        (["profile", "hf://me/other"], "is not at"),
        (
            ["calibrate", STREETS, "--data", "scenes"],
            "is on a hub and stays as it is; name a file: -o streets",
        ),
    ],
)
def test_commands_leave_with_one_line(hub, streets, command, told, capsys):
    with pytest.raises(SystemExit) as left:
        main(command)
    assert left.value.code == 2
    printed = capsys.readouterr().err
    assert printed.startswith("kerbseg: ")
    assert printed.count("\n") == 1
    assert told in printed


def test_info_and_card_take_an_address(hub, streets, tmp_path, capsys):
    main(["info", STREETS, "--card", str(tmp_path / "card.md")])
    main(["card", STREETS, "-o", str(tmp_path / "README.md")])
    assert "mininet_v2_cpu" in capsys.readouterr().out
    assert (tmp_path / "card.md").read_text().startswith("# streets\n")
    assert "kerbseg predict hf://me/streets street.jpg" in (tmp_path / "README.md").read_text()
