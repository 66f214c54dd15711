"""The script that runs an exported file without kerbseg gives what `kerbseg predict` gives."""

import ast
import json
import os
import subprocess
import sys
from dataclasses import replace
from importlib.resources import files
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from string import Template

import numpy as np
import pytest
from PIL import Image

from kerbseg import Predictor, upsample_argmax
from kerbseg.bundle import load
from kerbseg.cli import main
from kerbseg.core.errors import BundleError, KerbsegError
from kerbseg.core.labels import label_set
from kerbseg.core.resize import resize_ids, resize_picture
from kerbseg.data import open_dataset
from kerbseg.export import export, export_int8, unlabelled
from kerbseg.export.snippet import check_beside, snippet, write_beside

SIZE = (64, 96)
SCRIPTS = files("kerbseg.export") / "snippets"
ENGINES = {".onnx": "onnxruntime", ".xml": "openvino"}

# runs a script where nothing can be imported but what it says it needs
ALONE = """
import sys
engine, script, *sys.argv[1:] = sys.argv[1:]
sys.argv[0] = script
allowed = {"numpy", "cv2", engine, *sys.stdlib_module_names, *sys.builtin_module_names}

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] not in allowed:
            raise ModuleNotFoundError(f"{name} is not to be imported here", name=name)

sys.meta_path.insert(0, Blocker())
exec(compile(open(script).read(), script, "exec"), {"__name__": "__main__", "__file__": script})
"""


@pytest.fixture(scope="module")
def bundle():
    """Our weights, in a card that says how pictures come to its size, with a background."""
    loaded = load("mininet_v2_cpu-camvid")
    labels = replace(loaded.card.labels, background=frozenset({"sky"}))
    return replace(loaded, card=replace(loaded.card, labels=labels, resample="lanczos"))


@pytest.fixture(scope="module")
def made(bundle, tmp_path_factory):
    """A folder with a float file of both engines, and their scripts."""
    folder = tmp_path_factory.mktemp("scripts")
    pytest.importorskip("cv2")
    for suffix, engine in ENGINES.items():
        pytest.importorskip(engine)
        export(bundle, folder / f"m_{engine}{suffix}", SIZE)
        write_beside(folder / f"m_{engine}{suffix}")
    return folder


@pytest.fixture(scope="module")
def script(made):
    """The script for ONNX Runtime as a module."""
    return imported(made / "m_onnxruntime.py")


def imported(path):
    spec = spec_from_file_location(path.stem, path)
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """20 drawn streets in sizes and proportions that no file takes, and one that a camera stored lying."""
    folder, scenes = tmp_path_factory.mktemp("pictures"), open_dataset("scenes", "val")
    for n in range(20):
        image = Image.fromarray(scenes[n].image).resize((90 + 13 * n, 120 if n % 3 else 60 + 7 * n))
        image.save(folder / f"{n}.png")
    lying = Image.fromarray(scenes[0].image).resize((150, 90)).transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6
    lying.save(folder / "street lamp.jpg", exif=exif, quality=95)
    return folder


def segmented(python, engine, script, pictures, out, *options):
    """The ids by the names of pictures, of a process of its own."""
    command = [python, "-c", ALONE, engine, script, *sorted(map(str, pictures)), "-o", str(out), *options]
    env = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=env, cwd=out.parent)
    assert done.returncode == 0, done.stderr
    return {path.name: np.array(Image.open(out / f"{path.stem}_ids.png")) for path in pictures}, done.stdout


def assert_as_predicted(ids, predictor, pictures):
    for path in pictures:
        expected = predictor(path).ids
        assert ids[path.name].shape == expected.shape
        if path.suffix == ".jpg":  # decoders of JPEG may differ in a level
            assert (ids[path.name] == expected).mean() >= 0.9999
        else:
            assert (ids[path.name] == expected).all(), path


@pytest.mark.parametrize("suffix", ENGINES)
def test_the_script_gives_the_ids_of_predict_on_20_pictures(suffix, made, pictures, tmp_path):
    engine = ENGINES[suffix]
    given = list(pictures.iterdir())
    ids, printed = segmented(sys.executable, engine, made / f"m_{engine}.py", given, tmp_path / "out", "--threads", "1")
    predictor = Predictor(made / f"m_{engine}{suffix}", threads=1)
    assert_as_predicted(ids, predictor, given)
    assert all((tmp_path / "out" / f"{path.stem}_overlay.png").is_file() for path in given)
    shares = dict(line.rsplit(" ", 1) for line in printed.splitlines()[-11:])
    expected = predictor(max(given, key=str)).ids
    assert shares == {name: f"{(expected == i).mean():.1%}" for i, name in enumerate(label_set("camvid").classes)}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["fixed batch", "logits outside", "uint8 logits"])
def test_other_files_give_the_ids_of_predict_too(kind, bundle, pictures, tmp_path):
    pytest.importorskip("cv2")
    pytest.importorskip(ENGINES[".xml"])
    path = tmp_path / ("m.xml" if kind in ("fixed batch", "uint8 logits") else "m.onnx")
    if kind == "uint8 logits":
        from kerbseg.export.openvino import OpenvinoGraph, converted, save

        model, exported = converted(bundle, SIZE)
        stage = replace(exported.last_stage, dtype="uint8", scale=0.11, zero_point=90)
        save(OpenvinoGraph().on_levels(model, stage), replace(exported, last_stage=stage), path)
    else:
        export(bundle, path, SIZE, batch=2 if kind == "fixed batch" else None, logits=kind == "logits outside")
    write_beside(path)
    given = sorted(pictures.glob("*.png"))[:4]
    ids, _ = segmented(sys.executable, ENGINES[path.suffix], path.with_suffix(".py"), given, tmp_path / "out")
    assert_as_predicted(ids, Predictor(path), given)


def test_a_picture_may_be_stretched(made, script, pictures):
    cv2 = pytest.importorskip("cv2")
    picture = cv2.imread(str(pictures / "3.png"))
    expected = Predictor(made / "m_onnxruntime.onnx", fit="stretch", channels="bgr")(picture).ids
    assert (script.segment(picture, fit="stretch") == expected).all()
    assert (script.segment(picture) != expected).any()


@pytest.fixture(scope="session")
def alone(tmp_path_factory):
    """Python with NumPy, OpenCV and the engines, and nothing of ours."""
    folder = tmp_path_factory.mktemp("alone")
    constraints = Path(__file__).parents[2] / "constraints.txt"
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    install = [
        folder / "bin" / "python",
        "-m",
        "pip",
        "install",
        "-q",
        "-c",
        constraints,
        "numpy",
        "opencv-python-headless",
    ]
    done = subprocess.run([*install, *ENGINES.values()], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"pip cannot install what the script needs here: {done.stderr.strip().splitlines()[-1]}")
    return folder / "bin" / "python"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["m.onnx", "m.xml", "m8.onnx", "m8.xml"])
def test_an_environment_of_its_own_gives_the_ids_of_predict(name, bundle, alone, pictures, tmp_path):
    """On 20 pictures of CamVid's val split where KERBSEG_DATA has it, else on drawn streets."""
    pytest.importorskip("cv2")
    path = tmp_path / name
    if "8" in name:
        pytest.importorskip("nncf")
        calibration, eval_set = unlabelled(pictures, bundle)
        export_int8(bundle, path, SIZE, calibration=calibration, eval_set=eval_set, max_drop=None)
    else:
        export(bundle, path)
    script, *_ = write_beside(path)
    real = Path(os.environ.get("KERBSEG_DATA", tmp_path)) / "camvid" / "val"
    streets = sorted(each for each in real.glob("*.*") if each.suffix in (".png", ".webp"))
    given = streets[:20] or list(pictures.iterdir())
    ids, _ = segmented(alone, ENGINES[path.suffix], script, given, tmp_path / "out")
    assert_as_predicted(ids, Predictor(path), given)


def test_pictures_are_resized_as_pillow_does(script):
    random = np.random.default_rng(0)
    for case in range(60):
        before, after = (tuple(int(n) for n in random.integers(1, 90, 2)) for _ in range(2))
        picture = random.integers(0, 256, (*before, 3), np.uint8)
        kind = ("bilinear", "lanczos", "box")[case % 3]
        assert (script.resized(picture, after, kind) == resize_picture(picture, after, kind)).all(), (
            before,
            after,
            kind,
        )
        ids = picture[..., 0]
        rows, columns = (script.nearest(n, m) for n, m in zip(before, after, strict=True))
        assert (ids[rows[:, None], columns] == resize_ids(ids, after)).all(), (before, after)


def test_the_last_stage_is_ours_to_the_last_bit(script):
    random = np.random.default_rng(1)
    for case in range(60):
        shape = (*(int(n) for n in random.integers(1, 25, 2)), int(random.choice([1, 2, 11, 19])))
        size, rule = (
            tuple(int(n) for n in random.integers(1, 99, 2)),
            ("half_pixel", "align_corners", "asymmetric")[case % 3],
        )
        logits = random.normal(0, 4, shape).astype(np.float32)
        logits = np.round(logits) if case % 5 == 0 else logits
        logits = np.clip(logits * 20 + 128, 0, 255).astype(np.uint8) if case % 4 == 3 else logits
        expected = upsample_argmax(logits, size, layout="NHWC", coordinates=rule)
        assert (script.upsampled_ids(logits, size, rule) == expected).all(), (shape, size, rule)


def test_an_overlay_shows_the_picture_its_classes_and_their_borders(script):
    picture = np.full((6, 8, 3), 100, np.uint8)
    ids = np.repeat(np.array([[0, 3]], np.uint8), 4, 1).repeat(6, 0)  # sky is background in this card, then road
    drawn = script.overlay(picture, ids)
    road = np.array(script.COLORS["road"])[::-1]
    assert (drawn[:, :4] == 100).all()
    assert (drawn[:, 4] == road).all()
    assert np.abs(drawn[:, 5:] - (100 + road) / 2).max() <= 1


def test_what_the_script_cannot_take_is_one_line(made, script, tmp_path, monkeypatch, capsys):
    damaged = tmp_path / "damaged.onnx"
    damaged.write_bytes((made / "m_onnxruntime.onnx").read_bytes()[:50_000])
    (tmp_path / "no.png").write_bytes(b"no picture")
    (tmp_path / "empty.png").write_bytes(b"")
    picture = tmp_path / "street.png"
    Image.fromarray(np.zeros((20, 30, 3), np.uint8)).save(picture)
    for given, said in [
        ([damaged, picture], ""),
        ([tmp_path / "missing.onnx", picture], "missing.onnx is not there"),
        ([tmp_path / "no.png"], "cannot be read as a picture"),
        ([tmp_path / "empty.png"], "cannot be read as a picture"),
        ([tmp_path / "none.png"], "No such file"),
        ([picture, picture], "each of another name"),
        ([made / "m_onnxruntime.onnx"], "name pictures"),
        ([picture, "--threads", "-1"], "--threads"),
    ]:
        monkeypatch.setattr(sys, "argv", ["m.py", *map(str, given), "-o", str(tmp_path / "out")])
        with pytest.raises(SystemExit) as end:
            script.main()
        shown = capsys.readouterr().err.strip().splitlines()
        assert end.value.code == 2
        assert said in shown[-1]
        assert len(shown) == 1 or shown[0].startswith("usage")
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())
    for wrong in (np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.float32)):
        with pytest.raises(ValueError, match="a picture is uint8"):
            script.segment(wrong)
    monkeypatch.setattr(script, "COLORS", {"sky": (0, 0, 0)})
    with pytest.raises(ValueError, match="other classes"):
        script.engine(made / "m_onnxruntime.onnx", 2)


def test_the_program_for_a_camera_in_the_documents_runs(script, monkeypatch, capsys):
    cv2 = pytest.importorskip("cv2")
    page = (Path(__file__).parents[2] / "docs" / "small-computers.md").read_text()
    program = page.partition("```python\n")[2].partition("```")[0]
    frames = iter([np.zeros((48, 64, 3), np.uint8)] * 2)

    class Camera:
        def __init__(self, _):
            self.set = lambda *_: True

        def read(self):
            frame = next(frames, None)
            return frame is not None, frame

    monkeypatch.setattr(cv2, "VideoCapture", Camera)
    monkeypatch.setitem(sys.modules, "street", script)
    with pytest.raises(SystemExit, match="the camera gives no frames"):
        exec(program, {})
    assert capsys.readouterr().out.count(" ms\n") == 2


def test_the_script_runs_on_old_python_and_has_a_license(made):
    for engine in ENGINES.values():
        text = (made / f"m_{engine}.py").read_text()
        ast.parse(text, feature_version=(3, 8))
        assert text.startswith("# SPDX-License-Identifier: Apache-2.0\n")
        assert len(text.splitlines()) <= 270
        assert max(map(len, text.splitlines())) <= 120
        assert text.count("class Engine:") == 1
    classes = json.loads((made / "classes.json").read_text())["classes"]
    assert [each["name"] for each in classes] == list(label_set("camvid").classes)


def test_export_writes_both_beside_the_model(tmp_path):
    pytest.importorskip("onnxruntime")
    main(["-q", "export", "mininet_v2_cpu-camvid", "-o", str(tmp_path / "m.onnx"), "--size", "32x32", "--snippet"])
    assert {path.name for path in tmp_path.iterdir()} == {"m.onnx", "m.py", "classes.json"}
    main(["-q", "snippet", str(tmp_path / "m.onnx"), "-o", str(tmp_path / "m2.py")])
    assert (tmp_path / "m2.py").read_text() == (tmp_path / "m.py").read_text().replace("m.py", "m2.py").replace(
        "ids = m.", "ids = m2."
    )


def test_nothing_of_others_is_lost(tmp_path):
    labels = label_set("camvid")
    (tmp_path / "mine.py").write_text("# SPDX-License-Identifier: Apache-2.0\nprint('mine')\n")
    with pytest.raises(KerbsegError, match=r"mine.py is not a script of kerbseg"):
        check_beside(tmp_path / "mine.onnx", labels)
    text = Template(SCRIPTS.joinpath("segment.txt").read_text()).safe_substitute(model_text='"both.onnx"')
    (tmp_path / "both.py").write_text(text)
    check_beside(tmp_path / "both.onnx", labels)
    with pytest.raises(KerbsegError, match=r"both.py runs both.onnx, and would be lost"):
        check_beside(tmp_path / "both.xml", labels)
    for name in ("numpy", "json", "openvino"):
        with pytest.raises(KerbsegError, match=f"would hide the Python module {name}"):
            check_beside(tmp_path / f"{name}.onnx", labels)
    (tmp_path / "classes.json").write_text('{"format": "kerbseg classes 1", "classes": [{"name": "x"}]}')
    with pytest.raises(KerbsegError, match="results of other classes"):
        check_beside(tmp_path / "m.onnx", labels)


def test_a_bundle_has_no_script():
    with pytest.raises(BundleError, match=r"export it first: kerbseg export mininet_v2_cpu-camvid -o mininet"):
        snippet("mininet_v2_cpu-camvid")
