"""Mutants: small changes of src that the tests must notice. Run as `python tests/mutants.py`; status 1 if any survives.

Each is made alone in a copy of src, on which the tests named beside it run; they must pass on the copy as it is, and
fail on the mutant. When code is moved or renamed, its line here follows: a text that is not there exactly once is an
error, and so is a mutant that cannot even be imported.
Example: `python tests/mutants.py pipeline-close "ema-*"`
"""

from __future__ import annotations

import argparse
import fnmatch
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = "kerbseg"
PASSED, FAILED = 0, 1  # pytest's; every other status tells nothing of the mutant


@dataclass(frozen=True)
class Mutant:
    """One text of one file, what takes its place, and who shall notice."""

    name: str
    file: str  # below src/kerbseg
    old: str  # short and central; there exactly once
    new: str
    tests: str  # below tests: a file, or one test of it where a whole file takes long


AUGMENT, LITESEG, EFFICIENTSEG = "data/augment.py", "models/liteseg.py", "models/efficientseg.py"
TESTS_AUGMENT, TESTS_LITESEG = "data/test_data_augment.py", "models/test_models_liteseg.py"
OUTPUTS = "test_bundle.py::test_as_many_outputs_as_there_are_uint8_ids_and_no_more"
CLASSES = "test_bundle.py::test_as_many_classes_as_there_are_uint8_ids_beside_void"
PP_LITESEG, FAST_SCNN = "models/pp_liteseg.py", "models/fast_scnn.py"
TESTS_PP_LITESEG, TESTS_FAST_SCNN = "models/test_models_pp_liteseg.py", "models/test_models_fast_scnn.py"
DDRNET, PIDNET = "models/ddrnet.py", "models/pidnet.py"
DUAL = "models/test_models_dual_resolution.py"  # which also makes its reference's mistakes by itself
IMPORT_DUAL = "importers/test_importers_dual_resolution.py"
OPTIM, CARDS = "train/test_train_optim.py", "models/test_models_cards.py"

MUTANTS = (
    Mutant(
        "classes-as-a-set",
        "evaluate.py",
        "theirs.classes != ours.classes",
        "set(theirs.classes) != set(ours.classes)",
        "test_evaluate.py",
    ),
    Mutant(
        "corruptions-share-their-draws",
        "data/corrupt.py",
        'f"{kind} {name}".encode',
        'f"{name}".encode',
        "data/test_data_corrupt.py::test_two_kinds_of_one_picture_draw_apart",
    ),
    Mutant(
        "corruptions-of-the-picture-before",
        "evaluate.py",
        "changed = sample._replace(image=corrupt_picture(sample.image, kind, severity, sample.name))",
        "changed = sample._replace(image=corrupt_picture(sample.image, kind, severity, str(index)))",
        "test_evaluate.py::test_the_order_of_pictures_changes_no_corruption",
    ),
    Mutant("rotation-is-a-shear", AUGMENT, "-angle.sin() * y", "angle.sin() * y", TESTS_AUGMENT),
    Mutant("rotation-turns-back", AUGMENT, "self.rotate) * (math.pi", "self.rotate) * (-math.pi", TESTS_AUGMENT),
    Mutant(
        "translate-swapped",
        AUGMENT,
        "self.translate[0] * canvas[1], self.translate[1] * canvas[0]",
        "self.translate[1] * canvas[1], self.translate[0] * canvas[0]",
        TESTS_AUGMENT,
    ),
    Mutant(
        "translate-of-the-other-side",
        AUGMENT,
        "self.translate[0] * canvas[1], self.translate[1] * canvas[0]",
        "self.translate[0] * canvas[0], self.translate[1] * canvas[1]",
        TESTS_AUGMENT,
    ),
    Mutant("hue-halved", AUGMENT, "self.hue) * 2 * math.pi", "self.hue) * math.pi", TESTS_AUGMENT),
    Mutant(
        "void-is-class-0-near-boundaries",
        "losses.py",
        "(-ids).masked_fill(void, -VOID)",
        "(-ids).masked_fill(void, 0)",
        "test_losses.py",
    ),
    Mutant("ema-warms-up-slowly", "train/callbacks.py", "(1 + seen) / (10 + seen)", "(1 + seen) / (20 + seen)", OPTIM),
    Mutant("ema-without-warm-up", "train/callbacks.py", "min(decay, (1 + seen) / (10 + seen))", "decay", OPTIM),
    Mutant(
        "shared-variance-biased",
        "train/shared.py",
        "variance * (pixels / max(1, pixels - 1))",
        "variance",
        "train/test_train_devices.py::test_the_shared_batch_norm_is_torchs",
    ),
    Mutant("warm-up-begins-at-0", "train/optim.py", "(step + 1) / (warmup + 1)", "step / warmup", OPTIM),
    Mutant("warm-up-begins-a-step-late", "train/optim.py", "(step + 1) / (warmup + 1)", "(step + 1) / warmup", OPTIM),
    Mutant("liteseg-last-corners", LITESEG, "    align_corners = True", "    align_corners = False", TESTS_LITESEG),
    Mutant("liteseg-inner-corners", LITESEG, "[-2:], align_corners=True", "[-2:], align_corners=False", TESTS_LITESEG),
    Mutant("ddrnet-padding", DDRNET, "count_include_pad=True", "count_include_pad=False", DUAL),
    Mutant(
        "ddrnet-stage-end",
        DDRNET,
        "BasicBlock(outputs, outputs, end=nn.Identity())",
        "BasicBlock(outputs, outputs)",
        DUAL,
    ),
    Mutant("pp-liteseg-padding", PP_LITESEG, "count_include_pad=False", "count_include_pad=True", TESTS_PP_LITESEG),
    Mutant("pp-liteseg-gate", PP_LITESEG, "x * share + y * (", "y * share + x * (", TESTS_PP_LITESEG),
    Mutant("pp-liteseg-start", PP_LITESEG, "std=0.001", "std=0.01", TESTS_PP_LITESEG),
    Mutant("fast-scnn-dilation", FAST_SCNN, "dilation=4, bias", "dilation=1, bias", TESTS_FAST_SCNN),
    Mutant("fast-scnn-head", FAST_SCNN, "deep if name == GLOBAL else shallow", "shallow", TESTS_FAST_SCNN),
    Mutant(
        "paddle-any-size",
        "importers/_paddle_file.py",
        "if len(content) != math.prod(shape) * int(kind.code[1:]):",
        "if False:",
        "importers/test_importers_paddle.py",
    ),
    Mutant("pidnet-corners", PIDNET, "align_corners = True", "align_corners = False", CARDS),
    Mutant("pidnet-bag", PIDNET, "self.conv_p((1 - edge) * i + p)", "self.conv_p((1 - edge) * p + i)", DUAL),
    Mutant("pidnet-head-d", PIDNET, "self.seghead_d(d)", "self.seghead_d(p)", DUAL),
    Mutant(
        "pidnet-camvid",
        "importers/pidnet_pytorch.py",
        '"bicyclist", "building"',
        '"building", "bicyclist"',
        IMPORT_DUAL,
    ),
    Mutant("liteseg-rates", LITESEG, "RATES = (3, 6, 9)", "RATES = (6, 12, 18)", TESTS_LITESEG),
    Mutant("liteseg-rates-reversed", LITESEG, "RATES = (3, 6, 9)", "RATES = (9, 6, 3)", TESTS_LITESEG),
    Mutant(
        "import-liteseg-rates-reversed",
        "importers/liteseg_pytorch.py",
        'f"aspp{rate + 2}"',
        'f"aspp{4 - rate}"',
        "importers/test_importers_liteseg.py",
    ),
    Mutant(
        "import-efficientseg-attention-reversed",
        "importers/efficientseg_pytorch.py",
        ".fc.{j}",
        ".fc.{2 - j}",
        "importers/test_importers_efficientseg.py",
    ),
    Mutant(
        "efficientseg-mean",
        EFFICIENTSEG,
        "(0.2870, 0.3257, 0.2854)",
        "(0.3257, 0.2870, 0.2854)",
        CARDS,
    ),
    Mutant("liteseg-std", LITESEG, "(0.229, 0.224, 0.225)", "(0.225, 0.224, 0.229)", CARDS),
    Mutant(
        "vote-ties-go-to-the-newest",
        "predict/temporal/vote.py",
        "votes > most",
        "votes >= most",
        "predict/test_predict_vote.py",
    ),
    Mutant("outputs-257", "core/limits.py", "MOST_OUTPUTS = 256", "MOST_OUTPUTS = 257", OUTPUTS),
    Mutant("outputs-255", "bundle_card.py", "<= MOST_OUTPUTS", "< MOST_OUTPUTS", OUTPUTS),
    Mutant("classes-256", "core/labels.py", "count > 255", "count > 256", CLASSES),
    Mutant(
        "pipeline-close",
        "predict/pipeline.py",
        "            items.close()",
        "            pass",
        "predict/test_predict_pipeline.py",
    ),
)


def mutated(mutant: Mutant, source: Path) -> str:
    """The file's text with the mutant in it. Leaves with a message where the text it replaces is not there once."""
    path = source / PACKAGE / mutant.file
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    if (times := text.count(mutant.old)) != 1:
        sys.exit(
            f"mutant {mutant.name}: {mutant.old!r} is {times} times in {mutant.file}, not once; adapt it in {__file__}"
        )
    return text.replace(mutant.old, mutant.new)


def run(tests: Sequence[str], source: Path) -> subprocess.CompletedProcess[str]:
    """pytest on a copy of src, up to the first failure."""
    environment = {**os.environ, "PYTHONPATH": str(source), "PYTHONDONTWRITEBYTECODE": "1"}
    code = f"import sys, pytest, {PACKAGE}; print({PACKAGE}.__file__); sys.exit(pytest.main(sys.argv[1:]))"
    paths = [str(ROOT / "tests" / each) for each in dict.fromkeys(tests)]
    done = subprocess.run(
        [sys.executable, "-c", code, "-x", "-q", "-p", "no:cacheprovider", *paths],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
    )
    if not done.stdout.startswith(str(source)):
        sys.exit(f"the tests do not run on the copy in {source}:\n{done.stdout}{done.stderr}")
    return done


def survives(mutant: Mutant) -> bool:
    """Whether the tests pass as if nothing were. Leaves with their output where they cannot run at all."""
    with tempfile.TemporaryDirectory() as folder:
        source = copied(Path(folder))
        (source / PACKAGE / mutant.file).write_text(mutated(mutant, source), encoding="utf-8")
        done = run([mutant.tests], source)
    if done.returncode not in (PASSED, FAILED):
        sys.exit(f"mutant {mutant.name}: the tests do not run:\n{done.stdout}{done.stderr}")
    return done.returncode == PASSED


def copied(folder: Path) -> Path:
    """A copy of src in a folder, its path as the system spells it."""
    source = folder.resolve() / "src"
    shutil.copytree(ROOT / "src", source, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    return source


def survivors(mutants: Sequence[Mutant]) -> list[str]:
    """The names of those that no test notices, each told as soon as it is known.

    Leaves with the output of the tests where they fail without any mutant, for then they would prove nothing.
    """
    for mutant in mutants:  # a slip is told before minutes have gone
        mutated(mutant, ROOT / "src")
    with tempfile.TemporaryDirectory() as folder:
        done = run([mutant.tests for mutant in mutants], copied(Path(folder)))
    if done.returncode != PASSED:
        sys.exit(f"the tests fail without a mutant:\n{done.stdout}{done.stderr}")
    left = []
    for mutant in mutants:
        alive = survives(mutant)
        print(f"{mutant.name:42}{'SURVIVED' if alive else 'killed'}", flush=True)
        if alive:
            left.append(mutant.name)
    return left


def main() -> None:
    """Makes all mutants, or those whose names match."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=["*"], help="patterns of names; all without them")
    wanted = parser.parse_args().names
    chosen = [mutant for mutant in MUTANTS if any(fnmatch.fnmatch(mutant.name, pattern) for pattern in wanted)]
    if not chosen:
        parser.error(f"no mutant is named {' or '.join(wanted)}; there are {', '.join(each.name for each in MUTANTS)}")
    left = survivors(chosen)
    print(f"{len(chosen) - len(left)} of {len(chosen)} killed")
    sys.exit(1 if left else 0)


if __name__ == "__main__":
    main()
