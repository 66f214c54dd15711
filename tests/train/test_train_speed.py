"""What makes training faster and leaves its result: memory that is kept, and a precision that is chosen once."""

import os
import subprocess
import sys
from dataclasses import replace

import pytest
import safetensors.torch
import torch
from cuts import StopAfter

import kerbseg.train.auto_precision as auto_precision
import kerbseg.train.run as run_module
from kerbseg.core.distributed import Rank
from kerbseg.core.errors import KerbsegError
from kerbseg.train.allocator import CHOSEN, SWITCH
from kerbseg.train.auto_precision import choose_precision, processor_flags
from kerbseg.train.fit import fit
from kerbseg.train.machine import Machine
from kerbseg.train.recipe_file import read

CPU = Machine(torch.device("cpu"))
TINY = ("epochs=2", "batch_size=2", "data.size=[64, 128]", "data.limit=4", "augment.progressive=[]", "validate_every=1")

# pages that the kernel had to give for five times 64 MB, taken and freed
FAULTS = """
import resource
from kerbseg.train.allocator import keep_freed_memory
kept = keep_freed_memory()
b"x" * 2**26
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    b"x" * len("y" * 2**26)
print(kept, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(**environment: str) -> tuple[str, int]:
    clean = {key: value for key, value in os.environ.items() if key not in (*CHOSEN, SWITCH)}
    done = subprocess.run(
        [sys.executable, "-c", FAULTS], env=clean | environment, capture_output=True, text=True, check=True
    )
    kept, count = done.stdout.split()
    return kept, int(count)


@pytest.mark.skipif(sys.platform != "linux", reason="glibc is Linux's")
def test_freed_memory_is_kept_for_what_comes_next():
    kept, count = faults()
    if kept == "False":
        pytest.skip("no glibc here")
    assert count < 40_000, "the first round alone needs new pages: 16384 for each of its two blocks"
    given_back, more = faults(**{SWITCH: "0"})
    assert given_back == "False"
    assert more >= count


@pytest.mark.parametrize("name", ["LD_PRELOAD", "MALLOC_CONF", "GLIBC_TUNABLES", "MALLOC_TRIM_THRESHOLD_"])
def test_who_has_chosen_an_allocator_keeps_it(name, monkeypatch):
    from kerbseg.train.allocator import keep_freed_memory

    monkeypatch.setenv(name, "")
    assert not keep_freed_memory()


@pytest.mark.slow
def test_a_command_says_that_memory_is_kept_and_how_that_ends(tmp_path):
    clean = {key: value for key, value in os.environ.items() if key not in (*CHOSEN, SWITCH)}
    command = [sys.executable, "-m", "kerbseg", "train", "smoke/scenes", *TINY, "epochs=1", "--device", "cpu"]
    said = [
        subprocess.run(
            [*command, "--out", str(tmp_path / name)], env=clean | more, capture_output=True, text=True, check=True
        ).stdout.count(f"{SWITCH}=0")
        for name, more in (("kept", {}), ("given", {SWITCH: "0"}))
    ]
    assert said in ([1, 0], [0, 0])
    assert said == [1, 0] or sys.platform != "linux"
    first, second = (safetensors.torch.load_file(tmp_path / name / "last.safetensors") for name in ("kept", "given"))
    assert all(torch.equal(first[key], second[key]) for key in first)


# precision


def test_options_that_make_no_network_are_named(monkeypatch):
    monkeypatch.setattr(auto_precision, "processor_flags", lambda: {"avx512_bf16"})
    with pytest.raises(KerbsegError, match="no_such"):
        choose_precision(read("smoke/scenes", [*TINY, "model.options={no_such: 1}"]), CPU)


def test_where_the_processor_has_no_bfloat16_nothing_is_measured(monkeypatch):
    monkeypatch.setattr(auto_precision, "processor_flags", lambda: {"avx2", "avx512f"})
    monkeypatch.setattr(auto_precision, "_measure", None)
    assert choose_precision(read("smoke/scenes"), CPU) == ("float32", "the processor does not multiply bfloat16")


def test_several_processes_choose_alike(monkeypatch):
    monkeypatch.setattr(auto_precision, "_measure", None)
    assert choose_precision(read("smoke/scenes"), replace(CPU, rank=Rank(1, 2)))[0] == "float32"


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [((1.0, 0.5), "bfloat16"), ((1.0, 0.95), "float32"), ((1.0, 1.5), "float32"), ((1.0, None), "float32")],
)
def test_bfloat16_is_taken_where_it_is_clearly_faster(seconds, expected, monkeypatch):
    monkeypatch.setattr(auto_precision, "processor_flags", lambda: {"avx512_bf16"})
    monkeypatch.setattr(auto_precision, "_measure", lambda recipe: seconds)
    assert choose_precision(read("smoke/scenes"), CPU)[0] == expected


@pytest.mark.parametrize(("slow", "steps"), [(1, 3), (5, 2)])
def test_a_look_takes_few_steps_and_draws_no_number(slow, steps, monkeypatch):
    taken = {"float32": 0, "bfloat16": 0}

    def timed(step):
        mode = "bfloat16" if step.__closure__[0].cell_contents is auto_precision._in_bfloat16 else "float32"
        taken[mode] += 1
        step()
        return slow if mode == "bfloat16" else 1.0

    monkeypatch.setattr(auto_precision, "_timed", timed)
    torch.manual_seed(3)
    before = torch.get_rng_state()
    full, half = auto_precision._measure(read("smoke/scenes", TINY))
    assert torch.equal(torch.get_rng_state(), before)
    assert full == 1.0
    assert half == (None if slow == 5 else slow)
    assert taken["bfloat16"] == steps


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ([], [((64, 128), 1.0)]),
        (["augment.crop=[33, 65]"], [((40, 72), 1.0)]),  # whole strides of 8
        (["augment.cycle=[{crop: [32, 64]}, {crop: [64, 64]}]"], [((32, 64), 0.5), ((64, 64), 0.5)]),
        (
            ["augment.progressive=[{until: 0.75, zoom: 0.5, crop: [32, 64]}]"],
            [((32, 64), 0.75), ((64, 128), 0.25)],
        ),
    ],
)
def test_all_resolutions_of_a_recipe_are_looked_at(overrides, expected):
    assert auto_precision._canvases(read("smoke/scenes", [*TINY, *overrides])) == expected


def test_the_flags_are_those_of_either_kind_of_processor(tmp_path, monkeypatch):
    for text in (
        "processor\t: 0\nflags\t\t: fpu avx512_bf16 amx_bf16\n",
        "processor\t: 0\nFeatures\t: fp asimd bf16\n",
    ):
        (tmp_path / "cpuinfo").write_text(text)
        monkeypatch.setattr(auto_precision, "CPUINFO", tmp_path / "cpuinfo")
        assert auto_precision.MULTIPLIES_BFLOAT16 & processor_flags()
    monkeypatch.setattr(auto_precision, "CPUINFO", tmp_path / "none")
    assert processor_flags() == set()


def test_a_resumed_run_keeps_the_precision_that_was_chosen(tmp_path, monkeypatch):
    asked = read("smoke/scenes", [*TINY, "data.size=[32, 64]", "precision=auto"])
    monkeypatch.setattr(run_module, "choose_precision", lambda recipe, machine: ("bfloat16", "for the test"))
    with pytest.raises(InterruptedError):
        fit(asked, tmp_path / "run", device="cpu", callbacks=[StopAfter(1)])
    assert read(tmp_path / "run" / "recipe.yaml") == replace(asked, precision="bfloat16")
    monkeypatch.setattr(run_module, "choose_precision", None)  # it is not asked again
    fit(asked, tmp_path / "run", device="cpu", resume=True)
    fit(replace(asked, precision="bfloat16"), tmp_path / "unbroken", device="cpu")
    kept, expected = (safetensors.torch.load_file(tmp_path / n / "last.safetensors") for n in ("run", "unbroken"))
    assert all(torch.equal(kept[key], expected[key]) for key in expected)
    with pytest.raises(KerbsegError, match=r'precision is "bfloat16" there and "float32" here'):
        fit(replace(asked, precision="float32"), tmp_path / "run", device="cpu", resume=True)
