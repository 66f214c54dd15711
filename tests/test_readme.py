"""What README and docs tell people to type: the cheap commands run, the others are understood by the command line.

A new command must be put into RUN or into NOT_RUN, which says why; an option that no command has fails wherever the
documents name it.
"""

import inspect
import json
import re
import shlex
import shutil
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from cyclopts import App, CycloptsError, MissingArgumentError
from PIL import Image

import kerbseg
import kerbseg.predict
import made_bags
import made_coco_text
from kerbseg.bundle import load, random_bundle, save
from kerbseg.cli import app, main
from kerbseg.core.errors import KerbsegError
from kerbseg.data import open_dataset
from kerbseg.data.dataset_yaml import read_labels
from kerbseg.export import export, pictures_of
from kerbseg.train.recipe_file import read_any
from made_camvid import write_camvid

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
SHELL = ("", "sh", "bash", "console")  # languages of blocks that hold commands


@dataclass(frozen=True)
class Run:
    """How a command is run in a folder that holds what it asks for, small."""

    writes: tuple[str, ...] = ()
    prints: tuple[str, ...] = ()
    more: str = ""  # arguments that make it short
    instead: Mapping[str, str] = field(default_factory=dict)  # words that make it short
    slow: bool = False
    needs: str | None = None  # a package of an extra that is not everywhere


SMALL = {"256x512": "32x48"}
SHORT = "epochs=1 batch_size=2 data.size=[64,96] augment={} validate_every=1"
INT8 = Run(("m8.xml", "m8.bin"), ("verdict",), "--max-drop 1 --threads 1", SMALL, slow=True)

RUN = {
    "kerbseg predict mininet_v2_cpu-camvid street.jpg -o out": Run(("out/street_ids.png", "out/street_overlay.png")),
    "kerbseg doctor camvid --data-root DATA/camvid": Run(prints=("camvid", "bicyclist")),
    "kerbseg train camvid/mininet_v2_cpu --data-root DATA/camvid --out runs/camvid": Run(
        ("runs/camvid/last.ckpt", "runs/camvid/best.safetensors"), ("best validation mIoU",), f"{SHORT} --device cpu"
    ),
    "kerbseg evaluate runs/camvid/best.safetensors --data camvid --data-root DATA/camvid --split test"
    " --json scores.json": Run(("scores.json",), ("mIoU",)),
    "kerbseg evaluate runs/camvid/best.safetensors --data camvid --data-root DATA/camvid --split val"
    " --html report.html": Run(("report.html",), ("boundary mIoU",)),
    "kerbseg doctor my_streets --html sheet.html": Run(("sheet.html",)),
    "kerbseg doctor folder --data-root my_streets": Run(prints=("folder", "pavement")),
    "kerbseg train own --data my_streets": Run(
        ("runs/tried/best.safetensors",),
        ("next: kerbseg evaluate",),
        "epochs=1 --device cpu --out runs/tried",
        slow=True,
    ),
    "kerbseg evaluate runs/my_streets --data folder --data-root my_streets --split val": Run(prints=("mIoU",)),
    "kerbseg predict runs/my_streets street.jpg -o out": Run(("out/street_ids.png", "out/street_overlay.png")),
    "kerbseg export runs/my_streets -o street.onnx": Run(("street.onnx",), more="--size 32x48"),
    "kerbseg predict m8.xml drive.mp4 -o out": Run(("out/drive_overlay.mp4",)),
    "kerbseg train camvid/mininet_v2_cpu --data-root DATA/camvid --out runs/cpu --device cpu": Run(
        ("runs/cpu/metrics.csv",), (), SHORT
    ),
    "kerbseg evaluate runs/cpu/best.safetensors --data camvid --data-root DATA/camvid --split test": Run(
        prints=("mIoU",)
    ),
    "kerbseg export run/best.safetensors -o m.xml --size 256x512": Run(("m.xml", "m.bin"), instead=SMALL),
    "kerbseg export run/best.safetensors -o m.onnx --size 256x512": Run(("m.onnx",), instead=SMALL, slow=True),
    "kerbseg export run/best.safetensors -o m.onnx --batch 1": Run(("m.onnx",), more="--size 32x48", slow=True),
    "kerbseg export run/best.safetensors -o m8.xml --int8 --calibration camvid": INT8,
    "kerbseg profile m8.xml --against run/best.safetensors --threads 2 --layers": Run(
        prints=("m8.xml", " ms"), more="--runs 2", slow=True
    ),
    "kerbseg evaluate m8.xml --data camvid": Run(prints=("mIoU",)),
}
RUN |= {
    "kerbseg evaluate mininet_v2_cpu-camvid --data camvid --data-root DATA/camvid --corrupt zoo"
    " --json scores.json": Run(("scores.json",), ("brightness", "kept")),
    "kerbseg evaluate mininet_v2_cpu-camvid --data camvid --data-root DATA/camvid --split train --by drive": Run(
        prints=("mIoU of",)
    ),
}
CONVERTED = ("converted/dataset.yaml", "converted/images/train/drive0_0.jpg", "converted/masks/train/drive0_0.png")
RUN |= {
    "kerbseg convert coco my_labels -o my_streets": Run(CONVERTED, ("car",), instead={"my_streets": "converted"}),
    "kerbseg convert coco my_labels -o my_streets --map map.yaml": Run(
        CONVERTED, ("vehicle",), instead={"my_streets": "converted"}
    ),
    "kerbseg doctor coco --data-root my_labels": Run(prints=("coco", "background")),
    "kerbseg train camvid/mininet_v2_cpu data.name=coco --data-root my_labels --out runs/mine": Run(
        ("runs/mine/last.safetensors",), (), f"{SHORT} --device cpu"
    ),
}
RUN |= {
    "kerbseg doctor coco_text --data-root DATA/coco_text": Run(prints=("others void", "legible_printed")),
    "kerbseg doctor coco_text:paper --data-root DATA/coco_text": Run(prints=("others background", "geometry box")),
}
RUN |= {
    "kerbseg predict mininet_v2_cpu-camvid pictures/ -o out": Run(("out/a_ids.png",)),
    "kerbseg doctor my_streets": Run(prints=("pavement",)),
}
STREET = {"360x480": "32x48", "256x512": "32x48"}
RUN |= {
    f"kerbseg export mininet_v2_cpu-camvid -o {file} --size {size}{batch}": Run((file,), instead=STREET, slow=True)
    for file, size, batch in (
        ("street.onnx", "360x480", ""),
        ("street.xml", "360x480", ""),
        ("street.onnx", "256x512", " --batch 1"),
    )
}
RUN |= {
    "kerbseg predict mininet_v2_cpu-camvid street.jpg -o out --confidence": Run(writes=("out/street_confidence.png",)),
    "kerbseg predict mininet_v2_cpu-camvid street.jpg -o out --unknown 0.5": Run(writes=("out/street_ids.png",)),
    "kerbseg evaluate mininet_v2_cpu-camvid --data camvid --split val --unknown 0.5 --html report.html": Run(
        prints=("coverage",), writes=("report.html",)
    ),
}
RUN["kerbseg export mininet_v2_cpu-camvid -o m.onnx --size 360x480 --snippet"] = Run(
    ("m.onnx", "m.py", "classes.json"), instead=STREET, slow=True
)
RUN["kerbseg predict runs/camvid street.jpg -o out --confidence"] = Run(
    ("out/street_ids.png", "out/street_confidence.png")
)
RUN |= {
    "kerbseg keyframes mininet_v2_cpu-camvid drive.mp4 --target pedestrian --target bicyclist -o kept": Run(
        ("kept/keyframes.csv", "kept/keyframes.html", "kept/scores.csv"), ("of 3 frames",)
    ),
}
RUN |= {
    "kerbseg doctor drive.mcap": Run(prints=("/cam/image_raw", "healthy")),
    "kerbseg predict mininet_v2_cpu-camvid drive.mcap --topic /cam/image_raw -o out.mcap"
    " --save ids,confidence,overlay": Run(("out.mcap",), ("3 frames",)),
    "kerbseg predict mininet_v2_cpu-camvid drive.mcap --topic /cam/image_raw -o labeled.mcap": Run(
        ("labeled.mcap",), ("3 frames",)
    ),
    "kerbseg extract drive.mcap --every 1s -o frames": Run(("frames/frames.csv",), ("1 picture of 3 frames",)),
    "kerbseg keyframes mininet_v2_cpu-camvid drive.mcap --target car -o kept": Run(
        ("kept/keyframes.csv",), ("of 3 frames",)
    ),
}
RUN["kerbseg predict mininet_v2_cpu-camvid drive.mp4 -o out --stride 2 --size 180x240"] = Run(
    ("out/drive_overlay.mp4",), ("2 frames",)
)
RUN["kerbseg predict mininet_v2_cpu-camvid pictures/ -o out --engine ray"] = Run(
    ("out/a_ids.png", "out/a_overlay.png"), ("1 file finished",), slow=True, needs="ray"
)
RUN["kerbseg evaluate mininet_v2_cpu-camvid --data camvid --split val --engine ray"] = Run(
    prints=("mIoU",), slow=True, needs="ray"
)
AUTHORS = "needs the authors' weights; tests/importers/test_importers_journey.py has random ones in their layout"
RUN["kerbseg card runs/my_streets -o README.md --license cc-by-4.0"] = Run(("README.md",), ("model card: README.md",))
HUB = "needs a hub; tests/hub has one on this machine"
OTHERS = "needs a network of another house; tests/accelerate makes some and runs these commands on them"
WALK = "needs the authors' weights; tests/test_which_network.py walks with random ones in their layout"
NOT_RUN = {
    **dict.fromkeys(
        (
            "kerbseg app mininet_v2_cpu-camvid",
            "kerbseg app mininet_v2_cpu-camvid kerbnet_s-camvid -o corrections",
        ),
        "runs until it is told to end; tests/page opens it in a browser",
    ),
    **dict.fromkeys(
        (
            "kerbseg import ddrnet-pytorch best_val_smaller.pth -o ddrnet.safetensors",
            "kerbseg info ddrnet.safetensors",
            "kerbseg export ddrnet.safetensors -o ddrnet.xml --size 512x1024 --int8 --calibration my_pictures/",
            "kerbseg predict ddrnet.xml drive.mp4 -o out",
            "kerbseg import pidnet-pytorch PIDNet_S_Cityscapes_val.pt -o pidnet.safetensors",
            "kerbseg info pidnet.safetensors",
            "kerbseg export pidnet.safetensors -o pidnet.xml --size 512x1024 --int8 --calibration my_pictures/",
            "kerbseg predict pidnet.xml drive.mp4 -o out",
        ),
        WALK,
    ),
    "kerbseg predict mininet_v2_cpu-camvid pictures/ -o out --engine ray --address 10.0.0.5:6379 --save parquet": (
        "needs a cluster; tests/cluster writes Parquet"
    ),
    "kerbseg train own --data my_streets model.name=kerbnet_s model.weights=null": (
        "tests/train/test_train_own.py does so with another network"
    ),
    "kerbseg export mininet_v2_cpu-camvid -o street.onnx --size 256x512 --snippet": "as that of 360x480",
    "kerbseg export run/best.safetensors -o m.tflite --install-converter": "makes an environment of 2 GB;"
    " tests/runtime/test_runtime_small_engines.py asks for one",
    "kerbseg accelerate net.onnx -o fast.xml --mean 0.485,0.456,0.406 --std 0.229,0.224,0.225": OTHERS,
    "kerbseg profile fast.xml --against net.onnx --threads 2": OTHERS,
    "kerbseg predict fast.xml street.jpg -o out": OTHERS,
    "kerbseg calibrate runs/camvid --data camvid --data-root DATA/camvid": "needs a network that has learned something;"
    " tests/test_calibrate.py runs it",
    "kerbseg keyframes mininet_v2_cpu-camvid DATA/V1_01_easy --target car --format euroc --static skip -o kept": (
        "needs EuRoC; tests/keyframes reads and writes its layout"
    ),
    "kerbseg keyframes mininet_v2_cpu-camvid DATA/desk --target car --format tum --due KeyFrameTrajectory.txt"
    " -o kept": (
        "needs TUM RGB-D; tests/keyframes reads and writes its layout"
    ),
    "kerbseg keyframes mininet_v2_cpu-camvid street/ --fps 15 --target car --rule coverage --count 40 --format colmap"
    " -o kept": "tests/keyframes runs the rules on folders",
    "kerbseg keyframes mininet_v2_cpu-camvid drive.mp4 --target pedestrian --budget 20000 -o kept": (
        "tests/keyframes sends within a budget"
    ),
    "kerbseg predict mininet_v2_cpu-camvid 0 -o out --newest --cpus 0,2": "needs a camera;"
    " tests/predict/test_predict_live.py has streams",
    "kerbseg predict mininet_v2_cpu-camvid street.jpg -o out --roi 0,120,480,240": "the picture here is smaller;"
    " tests/predict/test_predict_roi.py does it",
    "kerbseg predict kerbnet_s-camvid large.png -o out --tiles 1024x1024": "there is no large picture here;"
    " tests/predict/test_predict_tiles.py does it",
    "kerbseg node mininet_v2_cpu-camvid --image /cam/image_raw --out /kerbseg --confidence": "runs until it is told to"
    " end; tests/robots/test_robots_zenoh.py does so",
    "kerbseg node street.xml --image /cam/image_raw --connect tcp/192.168.1.5:7447": "as above",
    "kerbseg node street.xml --image /cam/image_raw --listen tcp/0.0.0.0:7448": "as above",
    "kerbseg serve mininet_v2_cpu-camvid --port 8000": "runs until it is told to end; tests/serve does so",
    "kerbseg serve day=runs/camvid night=street.onnx --threads 2": "as above",
    "kerbseg train own --data my_streets epochs=60 batch_size=4 --hours 2": (
        "tests/train/test_train_own.py does, shorter"
    ),
    "kerbseg train camvid/mininet_v2_cpu patience=5 validate_every=2 data.name=folder --data-root my_streets --hours 2"
    " --out runs/mine": "hours; tests/train/test_train_ending.py ends trainings early",
    "kerbseg push runs/my_streets me/my-streets --license cc-by-4.0": HUB,
    "kerbseg predict hf://me/my-streets street.jpg -o out": HUB,
    "kerbseg train RECIPE --logger wandb": "needs that service; tests/train has loggers",
    "kerbseg train RECIPE --logger tensorboard,mlflow": "as above",
    "kerbseg demo --out demo": "minutes; tests/apps/test_apps_demo.py runs it",
    "kerbseg train --resume --out runs/camvid": "needs a run that was cut off; tests/train/test_train_fit.py goes on",
    "kerbseg profile street.onnx --runtime onnx --device tensorrt": "needs a Jetson",
    "kerbseg predict street.onnx drive.mp4 -o out --device tensorrt": "needs a Jetson",
    "kerbseg train camvid/mininet_v2_cpu data.name=coco+yolo --data-root my_data --out runs/both": (
        "tests/data/test_data_joined.py joins them"
    ),
    'kerbseg train zoo/mininet_v2_cpu data.val=train "data.train_names=[\'!0001TP*\']" "data.val_names=[\'0001TP*\']"'
    " --out runs/dusk": "hours; tests/train/test_train_fit.py leaves a drive out",
    'kerbseg train zoo/mininet_v2_cpu data.val=train "data.train_names=[\'!0001TP*\']" "data.val_names=[\'0001TP*\']"'
    ' "data.size=[120,160]" "augment.progressive=[]" epochs=24 ema=0.99 validate_every=1000 --out runs/arm': (
        "hours; tests/train/test_train_fit.py leaves a drive out"
    ),
    "kerbseg import mininet-tf model.npz -o mininet.safetensors --classes camvid": "needs the authors' weights;"
    " tests/importers imports such files",
    "kerbseg import espnet-pytorch espnet.pth -o espnet.safetensors --classes my_streets": "needs authors' weights;"
    " tests/importers imports such files",
    "kerbseg import erfnet-pytorch trained_models/erfnet_pretrained.pth -o erfnet.safetensors": AUTHORS,
    "kerbseg import mininet-tf weights/Mininetv2/cityscapes_1024x512/iou/model.ckpt -o mininet.safetensors": AUTHORS,
    "kerbseg import mininet-tf weights/Mininetv2_cpu/cityscapes_512x256/iou/model.ckpt -o mininet_cpu.safetensors":
    AUTHORS,
    "kerbseg import espnet-pytorch pretrained/decoder/espnet_p_2_q_8.pth -o espnet.safetensors": AUTHORS,
    "kerbseg import ddrnet-pytorch DDRNet/best_val_smaller.pth -o ddrnet.safetensors": AUTHORS,
    "kerbseg import pidnet-pytorch PIDNet/PIDNet_S_Cityscapes_val.pt -o pidnet.safetensors": AUTHORS,
    "kerbseg import pp_liteseg-paddle PaddleSeg/model.pdparams -o pp_liteseg.safetensors": AUTHORS,
    "kerbseg import fast_scnn-pytorch Fast-SCNN/fast_scnn_citys.pth -o fast_scnn.safetensors": AUTHORS,
    "kerbseg train own --data my_streets model.name=pp_liteseg_t --init STDC1.pdparams": (
        "needs the authors' encoder; tests/importers/test_importers_paddle.py starts from such a file"
    ),
    "kerbseg train own --data my_streets model.name=ddrnet_23_slim --init DDRNet23s_imagenet.pth": (
        "needs the authors' encoder; tests/importers/test_importers_dual_resolution.py starts from such a file"
    ),
    "kerbseg evaluate erfnet.safetensors --data cityscapes --data-root DATA/cityscapes --split val": AUTHORS,
    "kerbseg export erfnet.safetensors -o erfnet.onnx --size 512x1024": AUTHORS,
    "kerbseg train own --data my_streets --init erfnet.safetensors": AUTHORS,
    "kerbseg train grouping/faded_encoder --data-root DATA/cityscapes --out runs/dg2_encoder": "days on Cityscapes;"
    " tests/train/test_train_grouping.py fades on drawn streets",
    "kerbseg train grouping/faded --init runs/dg2_encoder/best.safetensors --data-root DATA/cityscapes --out runs/dg2":
    "as above",
    "kerbseg choose --fps 30 --threads 2 --size 360x640": "minutes; tests/apps/test_apps_choose.py does it shortly",
    "kerbseg benchmark mininet_v2_cpu-camvid --threads 2 --data camvid --int8": "minutes;"
    " tests/apps/test_apps_benchmark.py does it shortly",
    "kerbseg train coco_text/mininet_v2_cpu --data-root DATA/coco_text --out runs/text": "days;"
    " tests/train/test_train_walk.py does it shortly",
    "kerbseg train coco_text/mininet_v2_cpu data.name=coco_text loss.power=1 --data-root DATA/coco_text"
    " --out runs/text": "as above",
    "kerbseg threshold runs/text --data coco_text --data-root DATA/coco_text -o text.safetensors": "needs that run;"
    " tests/test_text_evaluation.py has one",
    "kerbseg threshold runs/text --stretch --data coco_text --data-root DATA/coco_text -o text.safetensors": "as above",
    "kerbseg export text.safetensors -o text.onnx --size 256x512": "as above",
    "kerbseg evaluate text.onnx --fit stretch --data coco_text --data-root DATA/coco_text --split val": "as above",
    "kerbseg evaluate text.safetensors --data coco_text --data-root DATA/coco_text --split val --json figures.json": (
        "as above"
    ),
    "kerbseg train modern/mininet_v2 --data-root DATA/camvid --out runs/teacher": "a day on a GPU",
    'kerbseg train modern/mininet_v2_cpu "distill={teacher: runs/teacher/best.safetensors}" --data-root DATA/camvid'
    " --out runs/pupil": "needs that teacher; tests/train/test_train_modern.py has one",
    'kerbseg train modern/mininet_v2_cpu "auxiliary=[{at: features}]" "loss.boundary={}" --data-root DATA/camvid'
    " --out runs/more": "hours; tests/train/test_train_modern.py does it shortly",
}  # fmt: skip
DATASET_YAML = """classes:
  - {name: road, ids: [0]}
  - {name: pavement, ids: [1, 5], color: [244, 35, 232]}
  - {name: person, ids: [24]}
ignore: [255]
"""
FOREIGN = {
    "--nproc-per-node",
    "--index-url",
    "--no-deps",
    "--require-hashes",
    "--logdir",
    "--backend-store-uri",
    "--shm-size",
    "--cpus",
    "--only-binary",
    "--platform",
    "--user",
    "--nnodes",
    "--rdzv-backend",
    "--rdzv-endpoint",
    "--head",
}  # options of programs that are not ours


# ---- what the documents say


def blocks(document: Path) -> Iterator[tuple[str, str]]:
    """Language and text of every fenced block."""
    for fence in re.finditer(r"^```(\w*)\n(.*?)^```$", document.read_text(), re.DOTALL | re.MULTILINE):
        yield fence[1], fence[2]


def typed(document: Path) -> Iterator[str]:
    """Every line of a block of commands, without its comment, what was broken over lines joined."""
    for language, text in blocks(document):
        if language in SHELL:
            for line in text.replace("\\\n", " ").splitlines():
                if line := " ".join(re.sub(r"\s#.*", "", f" {line}").split()):
                    yield line


def spans(document: Path) -> Iterator[str]:
    """Every `span` of code within prose, and every indented line of it."""
    prose = re.sub(r"^```.*?^```$", "", document.read_text(), flags=re.DOTALL | re.MULTILINE)
    for text in re.findall(r"(?<!`)`([^`]+)`(?!`)|^ {4}(\S.*)$", prose, re.MULTILINE):
        yield " ".join("".join(text).replace("\\|", "|").split())


COMMANDS = list(dict.fromkeys(line for each in DOCUMENTS for line in typed(each) if line.startswith("kerbseg ")))
SPANS = list(dict.fromkeys(span for each in DOCUMENTS for span in spans(each)))
EXAMPLES = [
    (name, example)
    for name in app
    if not name.startswith("-")
    for example in re.findall(r"`(kerbseg [^`]+)`", inspect.getdoc(app[name].default_command) or "")
]


def options(command: App) -> set[str]:
    """All options of a command of ours."""
    names = (name for argument in command.assemble_argument_collection() for name in argument.names)
    return {name for name in names if name.startswith("-")} | {"--help"}


def options_of(script: Path) -> set[str]:
    """All options of a script."""
    return set(re.findall(r'"(--[\w-]+)"', script.read_text()))


OPTIONS = {name: options(app[name]) for name in app if not name.startswith("-")}


def understood(command: str, whole: bool = True) -> None:
    """The command line takes it, and so does the recipe that it names; within prose, arguments may be left out."""
    words = shlex.split(command.partition(" > ")[0])[1:]
    assert words[0] in OPTIONS, f"{command}: there is no command {words[0]!r}"
    if "..." in words or len(words) == 1:
        assert {word for word in words if word.startswith("-")} <= OPTIONS[words[0]], command
        return
    try:
        _, given, _ = app.parse_args(words, exit_on_error=False, print_error=False)
    except MissingArgumentError:
        assert not whole, f"{command}: an argument is missing"
        return
    if words[0] in ("train", "recipe") and "/" in words[1]:
        read_any(words[1], given.arguments.get("overrides", ()))


# ---- commands


def test_every_command_is_run_or_it_is_said_why_not():
    assert COMMANDS
    assert not RUN.keys() & NOT_RUN.keys()
    for command in COMMANDS:
        assert command in RUN or command in NOT_RUN, f"put into RUN or NOT_RUN of {Path(__file__).name}: {command}"
    for command in [*RUN, *NOT_RUN]:
        assert command in COMMANDS, f"no document has this any more: {command}"


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_understood(command):
    understood(command)


@pytest.mark.parametrize("span", [span for span in SPANS if span.startswith("kerbseg ")])
def test_every_command_within_prose_is_understood(span):
    understood(span, whole=False)


@pytest.mark.parametrize(("name", "example"), EXAMPLES)
def test_every_example_of_the_help_is_understood(name, example):
    understood(example)


def test_every_option_that_is_named_is_one():
    known = set().union(*OPTIONS.values(), FOREIGN)
    known |= set().union(*(options_of(script) for script in ROOT.glob("benchmarks/*.py")))
    named = {option for span in SPANS for option in re.findall(r"(?<!\S)--[a-z][\w-]*", span)}
    assert len(named) > 20
    assert named <= known


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ("kerbseg predict m.xml x.png --oot out", "--oot"),
        ("kerbseg prediction m.xml", "prediction"),
        ("kerbseg predict ... --sinks json", "--sinks"),
        ("kerbseg train camvid/mininet_v2_cpu optim.lrr=1", "optim.lr"),
    ],
)
def test_what_the_command_line_does_not_take_is_noticed(wrong, named):
    with pytest.raises((AssertionError, CycloptsError, KerbsegError), match=named):
        understood(wrong)


def test_other_programs_find_what_they_are_given():
    others = {line for each in DOCUMENTS for line in typed(each)} - set(COMMANDS) | set(SPANS)
    targets = {line.split()[1] for line in others if re.fullmatch(r"make [\w-]+", line)}
    assert {"demo", "test"} <= targets
    assert targets <= set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    extras = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"])
    named = {extra for line in others if "pip install" in line for extra in re.findall(r"\.\[(\w+)\]", line)}
    assert named
    assert named <= extras
    scripts = [line for line in others if re.match(r"(python )?benchmarks/\w+\.py", line)]
    assert len(scripts) > 3
    for line in scripts:
        script = ROOT / next(word for word in line.split() if word.endswith(".py"))
        assert set(re.findall(r"(?<!\S)--[\w-]+", line)) <= options_of(script), line


# ---- a folder in which they run


@pytest.fixture(scope="module")
def int8(tmp_path_factory, camvid_bundle) -> Callable[[Path], None]:
    """What puts the files of m8.xml into a folder; they are in float, for a command that runs them does not care."""
    folder = tmp_path_factory.mktemp("int8")

    def put(where: Path) -> None:
        if not (folder / "m8.xml").exists():
            shown = pictures_of(open_dataset("scenes", "val", None), (32, 48), 2)
            export(load(camvid_bundle), folder / "m8.xml", pictures=shown)
        for path in folder.iterdir():
            shutil.copy(path, where)

    return put


@pytest.fixture(scope="module")
def whole_place(tmp_path_factory, camvid_bundle) -> Path:
    """A folder with small things under all names that the documents use; tests work in copies of it."""
    folder = tmp_path_factory.mktemp("documents") / "place"
    generator = np.random.default_rng(0)

    def picture(path: str) -> None:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.integers(0, 256, (8, 12, 3), np.uint8).repeat(4, 0).repeat(4, 1)).save(folder / path)

    for path in ("street.jpg", "pictures/a.png", "more/b.png"):
        picture(path)
    write_drive(folder / "drive.mp4")
    made_bags.write_mcap(folder / "drive.mcap", {"/cam/image_raw": made_bags.pictures(3, (48, 64))})
    write_camvid(folder / "DATA" / "camvid")
    made_coco_text.make(folder / "DATA" / "coco_text")
    for split in ("train", "val"):
        for i in range(2):
            picture(f"my_streets/images/{split}/{i}.jpg")
            ids = generator.choice([0, 1, 5, 24, 255], (8, 12)).astype(np.uint8)
            path = folder / f"my_streets/masks/{split}/{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(ids.repeat(4, 0).repeat(4, 1)).save(path)
    (folder / "my_streets" / "dataset.yaml").write_text(DATASET_YAML)
    for name in ("drive0_0", "drive0_1", "drive1_0"):
        picture(f"my_labels/{name}.jpg")
    (folder / "my_labels" / "labels.json").write_text(json.dumps(coco_labels()))
    [example] = [text for _, text in blocks(ROOT / "docs" / "own-data.md") if text.startswith("# map.yaml")]
    (folder / "map.yaml").write_text(example)
    for run in ("run", "runs/camvid", "runs/cpu"):
        (folder / run).mkdir(parents=True)
        shutil.copy(camvid_bundle, folder / run / "best.safetensors")
    ours = random_bundle("mininet_v2_cpu", read_labels(folder / "my_streets" / "dataset.yaml"), seed=0)
    save(ours, folder / "runs" / "my_streets" / "best.safetensors")
    return folder


@pytest.fixture
def place(tmp_path, whole_place, monkeypatch) -> Path:
    """A copy of that folder, which is the current one."""
    folder = Path(shutil.copytree(whole_place, tmp_path / "place"))
    monkeypatch.chdir(folder)
    monkeypatch.setenv("KERBSEG_DATA", "DATA")
    return folder


def coco_labels() -> dict[str, object]:
    """Three pictures of 32x48 with a car, a truck and a road each."""
    names = ("drive0_0", "drive0_1", "drive1_0")
    images = [{"id": i, "file_name": f"{name}.jpg", "height": 32, "width": 48} for i, name in enumerate(names)]
    categories = [{"id": i, "name": name} for i, name in enumerate(("car", "truck", "road", "sky"))]
    squares = [[x, 4, x + 10, 4, x + 10, 14, x, 14] for x in (2, 14, 26)]
    annotations = [
        {"id": 9 * i + kind, "image_id": i, "category_id": kind, "segmentation": [square], "iscrowd": 0}
        for i in range(len(names))
        for kind, square in enumerate(squares)
    ]
    return {"images": images, "categories": categories, "annotations": annotations}


def write_drive(path: Path) -> None:
    av = pytest.importorskip("av", reason="PyAV is not installed")
    generator = np.random.default_rng(1)
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", rate=Fraction(25))
        stream.height, stream.width, stream.pix_fmt = 32, 48, "yuv420p"
        for _ in range(3):
            pixels = generator.integers(0, 256, (32, 48, 3), np.uint8)
            file.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        file.mux(stream.encode(None))


@pytest.fixture
def threads() -> Iterator[None]:
    """One thread again afterwards, whatever a command has set."""
    yield
    torch.set_num_threads(1)


@pytest.mark.parametrize(
    "command", [pytest.param(command, marks=[pytest.mark.slow] * how.slow) for command, how in RUN.items()]
)
def test_a_command_does_what_it_is_said_to_do(command, place, int8, threads, capsys):
    how = RUN[command]
    if how.needs is not None:
        pytest.importorskip(how.needs, reason=f"{how.needs} is not installed")
    if " m8.xml" in command and "-o m8.xml" not in command:
        int8(place)
    words = [how.instead.get(word, word) for word in shlex.split(command)[1:]]
    if words[0] == "train" and "--out" in words and "--resume" not in words:  # it takes no folder with weights in it
        shutil.rmtree(place / words[words.index("--out") + 1], ignore_errors=True)
    before = {path: path.stat().st_mtime_ns for path in place.rglob("*")}
    main([*words, *shlex.split(how.more)])
    printed = capsys.readouterr().out
    for name in how.writes:
        path = place / name
        assert path.stat().st_size > 0
        assert path.stat().st_mtime_ns > before.get(path, 0)
    assert [words for words in how.prints if words not in printed] == []


# ---- Python and YAML


WITH_PYTHON = [  # tests/test_docs.py runs what works without kerbseg, tests/export/test_export_snippet.py the camera's
    each
    for each in DOCUMENTS
    if each.parent.name != "deploy"
    and each.stem not in ("small-computers", "scale")
    and any(kind == "python" for kind, _ in blocks(each))
]


@pytest.mark.parametrize("document", WITH_PYTHON, ids=lambda path: path.stem)
def test_the_python_of_a_document_runs(document, place, threads, monkeypatch):
    signature = inspect.signature(kerbseg.train)

    def train(*given, **named):  # an hour and a half, and with a data root of the reader's
        signature.bind(*given, **named)
        return place / "runs" / "camvid" / "best.safetensors"

    monkeypatch.setattr(kerbseg, "train", train)
    tables = {name: dict(getattr(kerbseg.predict, name)) for name in ("SOURCES", "SINKS")}
    known = {"__name__": "__main__"}
    try:
        for language, text in blocks(document):
            if language == "python":
                exec(compile(text, str(document), "exec"), known)
    finally:
        for name, before in tables.items():
            table = getattr(kerbseg.predict, name)
            table.clear()
            table.update(before)
    if "out/street_overlay.png" in document.read_text():
        assert (place / "out" / "street_overlay.png").stat().st_size > 0


SECTIONS = [
    text
    for document in DOCUMENTS
    for language, text in blocks(document)
    if language == "yaml" and not text.startswith(("# dataset.yaml", "# nav2_params.yaml"))
]


@pytest.mark.parametrize("text", SECTIONS)
def test_sections_of_recipes_are_valid(text):
    sections = yaml.safe_load(text)
    others = [yaml.safe_load(line) for line in re.findall(r"^# (\w+: \{.*)", text, re.MULTILINE)]  # given as comments
    for each in [sections, *(sections | other for other in others)]:
        read_any("smoke/scenes", [f"{key}={json.dumps(value)}" for key, value in each.items()])


def test_links_lead_somewhere():
    """Pages that are made when the site is built count, too."""
    generated = re.findall(r"(?:reference|papers)/[\w/-]+\.md", (ROOT / "mkdocs.yml").read_text())
    made = {ROOT / "docs" / page for page in generated}
    for document in DOCUMENTS:
        for target in re.findall(r"\]\(([^)#]+)(?:#[\w-]*)?\)", document.read_text()):
            path = (document.parent / target).resolve()
            if not target.startswith(("http:", "https:")):
                assert path in made or path.exists(), f"{document.name}: {target}"
