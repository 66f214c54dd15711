"""The Dockerfile for exported models, read; and its steps without Docker, as a user who may write nothing."""

import os
import re
import subprocess
import sys
import tempfile
import tomllib
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kerbseg import Predictor
from kerbseg.bundle_card import versions
from kerbseg.core.errors import BundleError, MissingExtra, needing_extras
from kerbseg.export import export
from kerbseg.model_files import locate

ROOT = Path(__file__).parents[1]
DOCKERFILE = (ROOT / "integrations" / "docker" / "Dockerfile").read_text()
INSTRUCTIONS = re.findall(r"^([A-Z]+) (.*)$", re.sub(r"^#.*\n", "", DOCKERFILE, flags=re.M).replace("\\\n", " "), re.M)
PINNED = dict(re.findall(r"^([\w.-]+)==(\S+)$", (ROOT / "constraints.txt").read_text(), re.M))
PAGES = [ROOT / "docs" / "deploy" / "docker.md", ROOT / "docs" / "small-computers.md"]


def named(word):
    return [rest for instruction, rest in INSTRUCTIONS if instruction == word]


def installed(engine):
    """The packages that the image is made of."""
    [command] = [rest for rest in named("RUN") if "-c /src/constraints.txt" in rest]
    assert command.startswith("/opt/kerbseg/bin/pip install --no-cache-dir -c /src/constraints.txt ")
    return command.replace("${ENGINE}", engine).split()[5:]


def test_the_image_is_pinned_and_of_nobody():
    bases = {base.split()[0] for base in named("FROM")}
    assert len(bases) == 1
    assert re.fullmatch(r"python:3\.12\.\d+-slim-[a-z]+", *bases)
    assert not named("ADD")
    assert "http" not in "".join(rest for _, rest in INSTRUCTIONS)
    last = [instruction for instruction, _ in INSTRUCTIONS]
    last = last[len(last) - last[::-1].index("FROM") :]
    assert last.count("USER") == 1
    assert last.index("USER") < last.index("ENTRYPOINT")
    assert "RUN" not in last  # nothing is made after what was installed
    [user] = named("USER")
    assert re.fullmatch(r"[1-9]\d+:[1-9]\d+", user)
    assert named("ENTRYPOINT") == ['["kerbseg"]']


@pytest.mark.parametrize("engine", ["openvino", "onnx onnxruntime"])
def test_packages_are_of_the_constraints_and_no_torch_comes_with_them(engine):
    packages = installed(engine)
    assert set(packages) <= PINNED.keys()
    assert set(engine.split()) <= set(packages)
    known = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    ours = " ".join(
        [*known["dependencies"], *known["optional-dependencies"]["export"], *known["optional-dependencies"]["openvino"]]
    )
    assert {re.split(r"[<>=]", each)[0] for each in packages} <= set(re.findall(r"[\w.-]+", ours))
    assert "torch" not in needed(packages)
    assert any("pip install --no-cache-dir --no-deps /src" in rest for rest in named("RUN"))


def needed(packages):
    """All that comes with these packages, themselves too, as far as they are installed here."""
    names, waiting = set(), list(packages)
    while waiting:
        name = re.sub(r"[-_.]+", "-", waiting.pop()).lower()
        if name in names:
            continue
        try:
            requires = distribution(name).requires or []
        except PackageNotFoundError:
            continue
        names.add(name)
        waiting += [re.match(r"[\w.-]+", each)[0] for each in requires if "extra ==" not in each]
    return names


def test_documents_pin_what_the_constraints_do():
    for page in PAGES:
        text = page.read_text()
        current = [
            block for block in re.findall(r"^```\w*\n(.*?)^```", text, re.M | re.S) if "onnxruntime==1.31" in block
        ]
        assert current
        for name, version in re.findall(r"([\w.-]+)==([\d.]+)", "".join(current)):
            assert PINNED[name] == version, page
    assert all(
        f"| {name} | {PINNED[name]} |" in text
        for name in ("numpy", "opencv-python-headless", "onnxruntime", "openvino")
    )
    assert set(re.findall(r"python:(\S+)", PAGES[0].read_text())) == {re.split(r"[: ]", named("FROM")[0])[1]}


def test_what_needs_torch_is_one_line_where_it_was_left_out(monkeypatch):
    with pytest.raises(MissingExtra, match=r"^pyyaml is not installed; run: pip install pyyaml$"), needing_extras():
        raise ModuleNotFoundError("No module named 'yaml'", name="yaml")

    def version(name):
        if name == "torch":
            raise PackageNotFoundError(name)
        return "1"

    monkeypatch.setattr("importlib.metadata.version", version)
    assert versions().keys() == {"kerbseg", "python"}
    monkeypatch.setitem(sys.modules, "kerbseg.models", None)  # an import fails, as without torch
    with pytest.raises(BundleError, match=r"model none.xml does not exist"):
        locate("none.xml")


@pytest.mark.slow
def test_its_steps_predict_as_a_user_who_may_write_the_results_alone(camvid_bundle):
    """The same pip commands into an environment; then another user runs it, with no HOME and nothing to write to."""
    system = Path("/usr/bin/python3")  # root's own Python may be closed to others
    if os.geteuid() != 0 or not system.exists():
        pytest.skip("needs root, to become a user who owns nothing, and the system's Python")
    pytest.importorskip("openvino")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        subprocess.run([system, "-m", "venv", "--without-pip", folder / "env"], check=True)
        pip = [
            sys.executable,
            "-m",
            "pip",
            "--python",
            folder / "env" / "bin" / "python",
            "install",
            "-q",
            "--no-cache-dir",
        ]
        for more in (["-c", ROOT / "constraints.txt", *installed("openvino")], ["--no-deps", ROOT]):
            done = subprocess.run([*pip, *more], capture_output=True, text=True, check=False)
            if done.returncode:
                pytest.skip(f"pip cannot install here: {done.stderr.strip().splitlines()[-1]}")
        assert not list((folder / "env").glob("lib/*/site-packages/torch"))
        export(camvid_bundle, folder / "m.xml")
        Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)).save(folder / "street.png")
        (folder / "out").mkdir()
        os.chown(folder / "out", 65532, 65532)
        env = {"PATH": f"{folder}/env/bin:/usr/bin:/bin", "PYTHONDONTWRITEBYTECODE": "1", "TMPDIR": "/nonexistent"}

        def predict(*given):
            command = [folder / "env" / "bin" / "kerbseg", "predict", *given, "street.png", "-o", "out"]
            nobody = {"user": 65532, "group": 65532, "extra_groups": [], "env": env, "cwd": folder}
            return subprocess.run(command, capture_output=True, text=True, check=False, **nobody)

        done = predict("m.xml")
        assert done.returncode == 0, done.stderr
        ids = np.array(Image.open(folder / "out" / "street_ids.png"))
        assert (ids == Predictor(folder / "m.xml", threads=1)(folder / "street.png").ids).all()
        done = predict("mininet_v2_cpu-camvid")  # which needs torch
        assert (done.returncode, len(done.stderr.splitlines())) == (2, 1), done.stderr
        owners = {path.stat().st_uid for path in folder.rglob("*") if "out" not in path.relative_to(folder).parts}
        assert owners == {0}
