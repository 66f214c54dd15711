"""What is installed is what was tested, and leaves room for what people install beside it."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
OF_TORCH = {"torch", "triton"}  # installed by themselves: their hashes depend on the index


def constraints() -> dict[str, Version]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pairs = (line.split("==") for line in lines if not line.startswith("#"))
    return {canonicalize_name(name): Version(version) for name, version in pairs}


def locked() -> dict[str, list[str]]:
    """Name and version of each requirement, and its hashes."""
    blocks = re.split(r"\n(?=\S)", (ROOT / "requirements.lock").read_text())
    return {block.split()[0]: re.findall(r"--hash=sha256:[0-9a-f]{64}\b", block) for block in blocks if block[0] != "#"}


def requirements(*extras: str) -> list[Requirement]:
    """Of the base installation and of extras, with those that these name."""
    named = [*PROJECT["dependencies"]]
    for extra in extras:
        named += PROJECT["optional-dependencies"][extra]
    wanted = [Requirement(line) for line in named]
    inner = {extra for each in wanted if each.name == "kerbseg" for extra in each.extras}
    others = [each for each in wanted if each.name != "kerbseg"]
    return others + (requirements(*inner) if inner else [])


def test_every_requirement_is_pinned_to_a_version_that_it_allows():
    for each in requirements("dev"):
        version = constraints()[canonicalize_name(each.name)]
        assert version in each.specifier, f"{each} and {version}"


def test_nothing_is_pinned_that_takes_the_place_of_python_itself():
    assert not {"typing", "dataclasses", "enum34", "pathlib"} & set(constraints())


def test_gradio_and_correct_colors_of_films_have_room():
    assert constraints()["pillow"] < Version("13")
    video = {each.name: each.specifier for each in requirements("video")}
    assert "16.1.0" not in video["av"]
    assert "17.0.0" in video["av"]


def test_the_lock_has_all_extras_at_the_tested_versions_with_hashes():
    pinned, lock = constraints(), locked()
    versions = {canonicalize_name(pair.split("==")[0]): Version(pair.split("==")[1]) for pair in lock}
    assert all(lock.values()), "a requirement without a hash"
    assert {name: version for name, version in versions.items() if name in pinned} == {
        name: pinned[name] for name in versions if name in pinned
    }
    assert {canonicalize_name(each.name) for each in requirements("all")} - OF_TORCH <= set(versions)
    assert not OF_TORCH & set(versions)
    assert not [name for name in versions if name.startswith("nvidia-")]


@pytest.mark.parametrize("document", ["docs/install.md"])
def test_the_installation_names_the_tested_torch(document):
    assert f"torch=={constraints()['torch']} " in (ROOT / document).read_text()
