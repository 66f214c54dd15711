"""Pushing: all files in one commit, nobody else's repository touched, and no token shown."""

import json

import numpy as np
import pytest
from PIL import Image

import made_hub
from kerbseg.bundle import load, random_bundle, save
from kerbseg.cli import main
from kerbseg.core.labels import label_set
from kerbseg.hub.manifest import CONFIG, README, WEIGHTS, Manifest
from kerbseg.model_files import locate

OURS = {".gitattributes", README, CONFIG, WEIGHTS}


@pytest.fixture
def refused(capsys):
    """The one line of a command that leaves with status 2."""

    def line(*arguments: object) -> str:
        capsys.readouterr()
        with pytest.raises(SystemExit) as left:
            main([str(each) for each in arguments])
        assert left.value.code == 2
        printed = capsys.readouterr()
        assert printed.err.startswith("kerbseg: ")
        assert printed.err.count("\n") == 1, printed.err
        assert made_hub.TOKEN not in printed.err + printed.out
        return printed.err

    return line


@pytest.fixture
def picture(tmp_path):
    """An overlay, say."""
    path = tmp_path / "overlay.png"
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(path)
    return path


def writes(hub: made_hub.Hub) -> list[str]:
    """What was asked for that changes something."""
    return [each for each in hub.requests if not each.startswith(("GET ", "HEAD "))]


# ---- what is pushed


def test_a_new_repository_holds_the_model_its_config_and_its_page(hub, camvid_bundle, capsys):
    main(["push", str(camvid_bundle), "me/streets", "--license", "cc-by-4.0"])
    printed = capsys.readouterr()
    made = hub.repositories["me/streets"]
    assert set(made.files()) == OURS
    assert made.files()[WEIGHTS] == camvid_bundle.read_bytes()
    manifest = Manifest.parse(made.files()[CONFIG])
    assert manifest.model == "mininet_v2_cpu"
    assert manifest.files[WEIGHTS].size == len(camvid_bundle.read_bytes())
    assert json.loads(made.files()[CONFIG])["id2label"]["3"] == "road"
    page = made.files()[README].decode()
    assert "license: cc-by-4.0\n" in page
    assert "kerbseg predict hf://me/streets street.jpg -o out" in page
    assert not made.private
    assert len(made.commits) == 2, "the hub's own, and ours"
    assert f"{hub.address}/me/streets (new): commit {made.branches['main'][:8]}\n" in printed.out
    assert "next: kerbseg info hf://me/streets" in printed.out
    assert made_hub.TOKEN not in printed.out + printed.err


def test_what_is_pushed_is_what_is_fetched(hub, camvid_bundle):
    main(["push", str(camvid_bundle), "hf://me/streets", "--private", "-q"])
    assert hub.repositories["me/streets"].private
    assert locate("hf://me/streets").read_bytes() == camvid_bundle.read_bytes()


def test_exported_files_and_pictures_go_beside_it(hub, camvid_bundle, picture, tmp_path, monkeypatch, capsys):
    from kerbseg.apps import publish

    exported = [tmp_path / "m.xml", tmp_path / "m.bin"]
    for path in exported:
        path.write_bytes(path.name.encode())
    monkeypatch.setattr(publish, "open_runtime", lambda path: load(camvid_bundle))  # which has the card
    main(["push", str(camvid_bundle), "me/streets", "--with", str(exported[0]), "--picture", str(picture)])
    files = hub.repositories["me/streets"].files()
    assert set(files) == OURS | {"m.xml", "m.bin", "pictures/overlay.png"}
    assert "![overlay.png](pictures/overlay.png)" in files[README].decode()
    assert "programs without kerbseg too: `m.xml`." in files[README].decode()
    assert set(Manifest.parse(files[CONFIG]).files) == {WEIGHTS, "m.xml", "m.bin", "pictures/overlay.png"}

    main(["push", str(camvid_bundle), "me/streets"])
    printed = capsys.readouterr().out
    assert "removed, since they were of the weights before: m.bin, m.xml, pictures/overlay.png" in printed
    assert set(hub.repositories["me/streets"].files()) == OURS


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("a b (1).png", "![a b (1).png](pictures/a%20b%20%281%29.png)"),
        ("50%20.png", "![50%20.png](pictures/50%2520.png)"),
        ("Straße.png", "![Straße.png](pictures/Stra%C3%9Fe.png)"),
        ("[x](y).png", r"![\[x\](y).png](pictures/%5Bx%5D%28y%29.png)"),
    ],
)
def test_pictures_of_every_name_are_shown(hub, camvid_bundle, picture, name, shown):
    main(["push", str(camvid_bundle), "me/streets", "--picture", str(picture.rename(picture.with_name(name)))])
    files = hub.repositories["me/streets"].files()
    assert f"pictures/{name}" in files
    assert shown in files[README].decode().splitlines()


def test_the_same_again_is_no_new_commit(hub, camvid_bundle, capsys):
    for _ in range(2):
        main(["push", str(camvid_bundle), "me/streets"])
    assert "(was mininet_v2_cpu): commit" in (printed := capsys.readouterr().out)
    assert "which has all of it already" in printed
    assert len(hub.repositories["me/streets"].commits) == 2


def test_files_that_somebody_has_added_stay(hub, streets, camvid_bundle):
    streets.write("main", {**streets.files(), "NOTES.md": b"mine"})
    main(["push", str(camvid_bundle), "me/streets"])
    assert streets.files()["NOTES.md"] == b"mine"


def test_a_branch_is_made_and_main_stays(hub, streets, camvid_bundle, tmp_path):
    before = streets.files()
    other = tmp_path / "other.safetensors"
    save(random_bundle("mininet_v2_cpu", label_set("camvid"), seed=7), other)
    main(["push", str(other), "me/streets", "--branch", "trial"])
    assert streets.files() == before
    assert streets.files("trial")[WEIGHTS] == other.read_bytes()
    assert locate("hf://me/streets@trial").read_bytes() == other.read_bytes()
    main(["push", str(camvid_bundle), "me/new", "--revision", "trial"])
    assert set(hub.repositories["me/new"].files()) == {".gitattributes"}
    assert set(hub.repositories["me/new"].files("trial")) == OURS


def test_a_dry_run_shows_the_files_and_asks_nothing(hub, camvid_bundle, monkeypatch, capsys):
    monkeypatch.delenv("HF_TOKEN")
    main(["push", str(camvid_bundle), "me/streets", "--dry-run"])
    printed = capsys.readouterr().out
    assert all(name in printed for name in (README, CONFIG, WEIGHTS, f"{camvid_bundle.stat().st_size:,}"))
    assert "nothing was sent" in printed
    assert hub.requests == []


# ---- what is not


@pytest.mark.parametrize(
    "files",
    [
        {"pytorch_model.bin": b"pickle", README: b"# A BERT", CONFIG: b'{"architectures": ["BertModel"]}'},
        {README: b"written by hand"},
        {f"{n}.txt": b"" for n in range(9)},
    ],
)
@pytest.mark.parametrize("branch", [(), ("--branch", "trial")])
def test_a_repository_of_something_else_stays_as_it_is(hub, camvid_bundle, refused, files, branch):
    before = hub.make("me/other", files).files()
    printed = refused("push", camvid_bundle, "me/other", *branch)
    assert f"{hub.address}/me/other is no repository of kerbseg and stays as it is: it holds {min(files)}" in printed
    assert ("and 4 more" in printed) == (len(files) == 9)
    assert hub.repositories["me/other"].files() == before
    assert writes(hub) == []


def test_what_was_asked_to_be_private_does_not_become_public(hub, streets, camvid_bundle, refused):
    assert "is public already" in refused("push", camvid_bundle, "me/streets", "--private")
    assert writes(hub) == []


def test_a_change_by_somebody_else_meanwhile_is_not_overwritten(hub, streets, camvid_bundle, refused):
    hub.meanwhile = {**streets.files(), WEIGHTS: b"theirs"}
    assert "somebody else has changed it meanwhile; push again" in refused("push", camvid_bundle, "me/streets")
    assert streets.files()[WEIGHTS] == b"theirs"


def test_without_a_token_nothing_is_asked(hub, camvid_bundle, refused, monkeypatch):
    monkeypatch.delenv("HF_TOKEN")
    printed = refused("push", camvid_bundle, "me/streets")
    assert f"a push needs a token of {hub.address} that may write; set HF_TOKEN, or run: hf auth login" in printed
    assert hub.requests == []


@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("you/streets", "hf://you/streets: this token may not do that; use one with the right to it"),
        ("streets", "'streets' names no repository of a hub; write hf://OWNER/NAME"),
        ("me/a/b", "names no repository of a hub"),
    ],
)
def test_whom_a_repository_belongs_to(hub, camvid_bundle, refused, address, told):
    assert told in refused("push", camvid_bundle, address)
    assert hub.repositories == {}


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--license", "My Own!"], "license 'My Own!' is no name that hubs have"),
        (["--license", "made-up-1.0"], '"license" must be one of [apache-2.0, cc-by-4.0, other, unknown]'),
        (["--branch", "../x"], "'../x' is no revision"),
        (["--with", "{bundle}"], "exported files go beside a model (.onnx"),
        (["--with", "none.onnx"], "none.onnx does not exist"),
        (["--picture", "{picture}", "--picture", "{picture}"], "two files are called pictures/overlay.png; rename one"),
        (["--picture", "none.png"], "none.png"),
        (["--picture", "{bundle}"], "pages show .jpg, .jpeg, .png, .webp; save it as one of them"),
    ],
)
def test_options_that_make_no_repository(hub, camvid_bundle, picture, refused, options, told):
    options = [each.format(bundle=camvid_bundle, picture=picture) for each in options]
    assert told in refused("push", camvid_bundle, "me/streets", *options)
    assert [files for made in hub.repositories.values() for files in made.files() if files != ".gitattributes"] == []


def test_an_exported_file_is_pushed_beside_its_bundle_only(hub, camvid_bundle, tmp_path, refused, monkeypatch):
    from kerbseg.apps import publish

    path = tmp_path / "m.onnx"
    path.write_bytes(b"")
    assert f"push the bundle that it was made of, and this beside it: --with {path}" in refused("push", path, "me/x")
    monkeypatch.setattr(publish, "open_runtime", lambda path: random_bundle("mininet_v2_cpu", label_set("cityscapes")))
    printed = refused("push", camvid_bundle, "me/x", "--with", path)
    assert "it is of mininet_v2_cpu with 19 classes of cityscapes, the model of mininet_v2_cpu with 11" in printed
    assert hub.requests == []


def test_a_damaged_bundle_is_not_pushed(hub, camvid_bundle, tmp_path, refused):
    path = tmp_path / "half.safetensors"
    path.write_bytes(camvid_bundle.read_bytes()[:1000])
    assert "half.safetensors is no whole .safetensors file" in refused("push", path, "me/streets")
    assert hub.requests == []


def test_a_hub_that_is_down_says_so(hub, camvid_bundle, refused):
    hub.status = 502
    assert "cannot be reached: it answers 502; check the network, or try again later" in refused(
        "push", camvid_bundle, "me/streets"
    )
