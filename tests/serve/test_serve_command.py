"""`kerbseg serve` from its start to its end, and the ids of real pictures through it."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from signal import SIGTERM

import numpy as np
import pytest
from serving import PATIENCE_S, noise, running

from kerbseg.cli import main
from kerbseg.data import open_dataset
from kerbseg.predict import Predictor
from kerbseg.serve import Client
from kerbseg.serve.service import Service

MAIN = "from kerbseg.cli import main; main({arguments})"


def run(*arguments, before=""):
    """A command in a process of its own."""
    code = f"{before}\n{MAIN.format(arguments=list(arguments))}"
    return subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, encoding="utf-8"
    )


def test_a_service_is_started_asked_and_ended(camvid_bundle):
    with run("serve", f"street={camvid_bundle}", "--port", "0", "--threads", "1") as process:
        started = process.stdout.readline()
        assert started.startswith("serving street at http://127.0.0.1:")
        with Client(started.split()[3]) as client:
            assert (client.segment(noise(1)).ids == Predictor(camvid_bundle)(noise(1)).ids).all()
            process.send_signal(SIGTERM)
            said, complained = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, complained) == (0, "")
    assert said == "2 requests, 1 picture\n"


def test_what_is_missing_is_said_in_one_line():
    with run("serve", "mininet_v2_cpu-camvid", before="import sys; sys.modules['fastapi'] = None") as process:
        said, complained = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, said, complained.count("\n")) == (2, "", 1)
    assert complained.startswith("kerbseg: fastapi is not installed; ")
    assert "[serve]'" in complained


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "missing MODEL; see: kerbseg serve --help"),
        (["none.onnx"], "model none.onnx does not exist"),
        (["mininet_v2_cpu-camvid", "--queue", "0"], "queue is 0; give 1 to 100,000"),
        (["mininet_v2_cpu-camvid", "--workers", "0"], "workers is 0"),
        (["mininet_v2_cpu-camvid", "--keys", "none"], "keys none cannot be read: No such file or directory"),
        (["mininet_v2_cpu-camvid", "mininet_v2_cpu-camvid"], "are both called mininet_v2_cpu-camvid"),
    ],
)
def test_bad_arguments(arguments, words, capsys):
    with pytest.raises(SystemExit) as left:
        main(["serve", *arguments])
    complained = capsys.readouterr().err
    assert (left.value.code, complained.count("\n")) == (2, 1)
    assert words in complained


@pytest.mark.camvid
def test_ids_of_fifty_real_pictures_are_those_of_predict(camvid_data):
    pictures = open_dataset("camvid", "val", camvid_data)
    predictor = Predictor("kerbnet_s-camvid")
    with (
        running(Service({"street": Predictor("kerbnet_s-camvid")})) as server,
        Client(server.address) as client,
        ThreadPoolExecutor(8) as clients,
    ):
        images = [pictures[i].image for i in range(50)]
        for image, found in zip(images, clients.map(client.segment, images), strict=True):
            assert np.array_equal(found.ids, predictor(image).ids)
