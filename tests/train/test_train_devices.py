"""Two processes share each batch, and do what one does with all of it. Run as a script, this file is one of the two."""

import copy
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import pytest
import safetensors.torch
import torch
from cuts import StopAfter
from lightning.pytorch.callbacks import Callback

import kerbseg.models as models
import kerbseg.train.segmentation as module
from kerbseg.bundle import load
from kerbseg.core.distributed import Rank
from kerbseg.core.errors import KerbsegError
from kerbseg.core.normalize import Normalize, to_unit
from kerbseg.core.types import VOID
from kerbseg.data import open_dataset, scenes
from kerbseg.data.loading import ConcatDataset, Resized
from kerbseg.losses import (
    boundary_loss,
    cross_entropy,
    distillation,
    hardest,
    hardest_hrnet,
    hardest_paddleseg,
    lovasz_softmax,
    mean_of_hard,
)
from kerbseg.metrics import compute_metrics, confusion_metric
from kerbseg.train.callbacks import KillPeersOnFailure
from kerbseg.train.engine import this_rank, training_device
from kerbseg.train.fit import fit
from kerbseg.train.heads import HeadsLoss
from kerbseg.train.network_loss import NetworkLoss, loss_terms
from kerbseg.train.outputs import NetworkOutputs
from kerbseg.train.recipe_file import read
from kerbseg.train.shared import ExactSyncBatchNorm, globalize_layers

# the rate is low, since rounding (1e-7) grows from step to step, and the faster the higher it is: in float64, where it
# begins at 1e-16, both curves agree to 1e-12 with a high one
TINY = (
    "epochs=4",
    "batch_size=4",  # of 9 pictures: two steps an epoch
    "data.limit=9",
    "data.size=[64, 128]",
    "optim={name: sgd, lr: 1e-3}",
    "schedule={name: constant}",
    "loss={weights: median_frequency, power: 0.3, average: weights, ohem: {min_kept: 0.5}, lovasz: 0.5}",
    "auxiliary=[{at: features}]",
    "augment={flip: 0.5, scale: [0.75, 1.5], rotate: 10, brightness: 0.3, hue: 0.1, jpeg: 0.5}",
    "model.options.dropout=0.1",
    "ema=0.9",
    "validate_every=2",
)
ENVIRONMENT = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}


class Watch(Callback):
    """The loss of each step (of the whole batch), and how many processes there were."""

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.processes = 0

    def on_train_batch_end(self, trainer, task, outputs, batch, index):
        self.losses.append(float(trainer.strategy.reduce(outputs["loss"].detach().clone(), reduce_op="mean")))
        self.processes = trainer.world_size


def train(run: Path, *, cut: bool) -> None:
    """A whole run, perhaps cut off and resumed; what was seen of it is written beside it."""
    recipe, watch, confusions, compute = read("smoke/scenes", TINY), Watch(), [], module.compute_metrics
    module.compute_metrics = lambda confusion, labels: (
        confusions.append(confusion.tolist()) or compute(confusion, labels)
    )
    try:
        if cut:
            with suppress(InterruptedError):
                fit(recipe, run, device="cpu", callbacks=[watch, StopAfter(4)])
        fit(recipe, run, device="cpu", callbacks=[watch], resume=cut)
    finally:
        module.compute_metrics = compute
    if int(os.environ.get("RANK", 0)) == 0:
        seen = {"losses": watch.losses, "processes": watch.processes, "confusion": confusions[-1]}
        run.with_suffix(".json").write_text(json.dumps(seen))


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, drawn_scenes: Path) -> Path:
    """A folder with a run of one process, and one of two that was cut off and resumed."""
    folder = tmp_path_factory.mktemp("devices")
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [*torchrun, __file__, str(folder / "two"), str(drawn_scenes)]
    both = subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    train(folder / "one", cut=False)
    output, _ = both.communicate(timeout=900)
    assert both.returncode == 0, output
    return folder


def seen(run: Path) -> dict:
    return json.loads(run.with_suffix(".json").read_text())


def test_two_processes_have_the_loss_curve_of_one_also_after_a_cut(runs):
    one, two = seen(runs / "one"), seen(runs / "two")
    assert (one["processes"], two["processes"]) == (1, 2)
    assert len(one["losses"]) == len(two["losses"]) == 8
    assert two["losses"] == pytest.approx(one["losses"], abs=1e-4)  # rounding: 2e-5; not shared: 8e-4 and more
    assert max(one["losses"]) - min(one["losses"]) > 0.1


def test_the_weights_come_out_alike_under_the_same_names(runs):
    one, two = (safetensors.torch.load_file(runs / run / "last.safetensors") for run in ("one", "two"))
    assert one.keys() == two.keys()
    for key in one:
        torch.testing.assert_close(two[key], one[key], rtol=1e-2, atol=2e-3, msg=key)


UNEQUAL = (  # losses whose figure for a batch is no mean of those of its halves
    "hard pixels: which are hardest",
    "Lovász-softmax",
    "distillation",
    "hard pixels by number, HRNet's",
    "hard pixels by number, PaddleSeg's",
    "boundaries: how many edges there are",
)


def losses(rank: Rank, alone: bool = False) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Each loss of a rank's rows of a batch whose halves differ much, and its gradient there; perhaps of itself."""
    draw = torch.Generator().manual_seed(0)
    logits, teacher = (3 * torch.randn(4, 5, 6, 8, generator=draw) for _ in range(2))
    mask = torch.randint(0, 3, (4, 6, 8), generator=draw).to(torch.uint8)
    mask[2:] += 2  # other classes
    mask[2:, :4] = VOID
    logits[2:] *= 3  # and surer
    rows = rank.rows(len(logits) // rank.count)
    logits, teacher, mask = logits[rows].requires_grad_(), teacher[rows], mask[rows]
    rank = Rank() if alone else rank
    made = (
        cross_entropy(logits, hardest(logits, mask, 0.1, 0.25, rank), rank=rank),
        lovasz_softmax(logits, mask, rank),
        distillation(logits, teacher, mask, 2.0, rank),
        mean_of_hard(logits, hardest_hrnet(logits, mask, 0.1, 60, rank), rank=rank),
        mean_of_hard(logits, hardest_paddleseg(logits, mask, 0.1, 60, rank), slack=1e-5, rank=rank),
        boundary_loss(logits[:, :1], (mask == 1).to(torch.uint8), rank),
    )
    return {
        name: (loss.detach(), torch.autograd.grad(loss, logits, retain_graph=True)[0])
        for name, loss in zip(UNEQUAL, made, strict=True)
    }


def test_losses_of_the_whole_batch_are_the_mean_of_the_ranks_and_so_are_their_gradients(runs):
    whole = losses(Rank())
    parts = [torch.load(runs / f"losses.{index}") for index in range(2)]
    for name in UNEQUAL:
        torch.testing.assert_close((parts[0][name][0] + parts[1][name][0]) / 2, whole[name][0], msg=name)
        gradient = torch.cat([parts[0][name][1], parts[1][name][1]]) / 2  # as training takes the mean over ranks
        torch.testing.assert_close(gradient, whole[name][1], msg=name)
    for name in UNEQUAL:
        if name == "distillation":
            continue
        alone = sum(torch.load(runs / f"alone.{index}")[name][0] for index in range(2)) / 2
        assert abs(alone - whole[name][0]) > 0.01, "the halves do not differ enough to show anything"


HEADED = (
    "model={name: pidnet_s}",
    "loss={weights: median_frequency, power: 0.3, ohem: {rule: hrnet, threshold: 0.2, min_kept: 5000}}",
    "heads={seghead_p: {ohem: false, average: all}, seghead_d: {loss: boundary, threshold: 0.5}}",
    "data.edges={}",
)


def gradients_of_heads(rank: Rank) -> dict[str, torch.Tensor]:
    """Of PIDNet's loss with its heads, for a rank's rows of a batch whose halves differ much."""
    recipe = read("smoke/scenes", HEADED)
    torch.manual_seed(0)
    net = models.create_model("pidnet_s", 5, heads=True).double()
    globalize_layers(net, rank)
    image, mask = torch.randn(4, 3, 64, 64).double(), torch.randint(0, 3, (4, 64, 64)).to(torch.uint8)
    image[2:] *= 3
    mask[2:, :32] = VOID
    edge = (torch.rand(4, 64, 64) < torch.tensor([0.1, 0.1, 0.5, 0.5])[:, None, None]).to(torch.uint8)
    image, mask, edge = (each[rank.rows(4 // rank.count)] for each in (image, mask, edge))
    network_loss = NetworkLoss(
        loss_terms(recipe.loss, None, rank), heads=HeadsLoss(recipe.heads, recipe.loss, None, rank)
    )
    loss = network_loss(NetworkOutputs(net, list(recipe.heads)).of(image), image, mask, 0, edge)
    names, weights = zip(*net.named_parameters(), strict=True)
    return dict(zip(names, torch.autograd.grad(loss, weights), strict=True))


def test_heads_of_the_network_have_the_gradient_of_the_whole_batch(runs):
    whole = gradients_of_heads(Rank())
    parts = [torch.load(runs / f"heads.{index}") for index in range(2)]
    largest = max(gradient.abs().max() for gradient in whole.values())
    for name, gradient in whole.items():
        both = (parts[0][name] + parts[1][name]) / 2
        torch.testing.assert_close(both, gradient, rtol=1e-4, atol=1e-6 * largest, msg=name)


def test_validation_counts_every_picture_once(runs):
    bundle = load(runs / "two" / "last.safetensors")
    data = Resized(ConcatDataset([open_dataset("scenes", "val")], 9), (64, 128))
    normalize, metric = Normalize(bundle.card.preprocessing), confusion_metric(len(data.labels))
    for i in range(len(data)):
        with torch.no_grad():
            logits = bundle.model(normalize(to_unit(torch.from_numpy(data[i].image)[None])))
        metric.update(logits.argmax(1), torch.from_numpy(data[i].mask)[None].long())
    assert seen(runs / "two")["confusion"] == metric.compute().tolist()
    assert bundle.card.scores["miou"] == compute_metrics(metric.compute(), data.labels).miou


@pytest.fixture
def group() -> Iterator[None]:
    """What collectives need, for this process alone."""
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize("momentum", [0.1, None])
def test_the_shared_batch_norm_is_torchs(group, momentum):
    # of 6 values a channel: the running variance is 6/5 of the batch's own, which many values would hide
    norm = torch.nn.BatchNorm2d(3, momentum=momentum)
    torch.nn.init.uniform_(norm.weight)
    shared = ExactSyncBatchNorm.of(copy.deepcopy(norm), Rank())
    torch.manual_seed(0)
    for _ in range(3):
        image = torch.randn(2, 3, 1, 3) * 2 + 1
        torch.testing.assert_close(shared(image), norm(image))
    assert shared.state_dict().keys() == norm.state_dict().keys()
    for key, value in norm.state_dict().items():
        torch.testing.assert_close(shared.state_dict()[key], value, msg=key)
    torch.testing.assert_close(shared.eval()(image), norm.eval()(image))


@pytest.mark.slow
def test_the_command_starts_its_processes_itself(tmp_path):
    out = tmp_path / "run"
    command = [sys.executable, "-m", "kerbseg.cli", "train", "smoke/scenes", *TINY, "epochs=1", "validate_every=1"]
    done = subprocess.run(
        [*command, "data.limit=4", "data.size=[32, 64]", "--out", str(out), "--device", "cpu", "--devices", "2"],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("epoch 1/1") == 1
    assert done.stdout.count("best validation mIoU") == 1
    names = {"recipe.yaml", "metrics.csv", "tensorboard", "last.ckpt", "best.safetensors", "last.safetensors"}
    assert {path.name for path in out.iterdir()} == names
    assert len(list((out / "tensorboard").glob("events*"))) == 1


def test_the_processes_of_one_that_fails_are_ended_and_no_longer_watched():
    started = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    watched = [started]
    trainer = SimpleNamespace(strategy=SimpleNamespace(launcher=SimpleNamespace(procs=watched)))
    KillPeersOnFailure().on_exception(trainer, None, OSError())
    assert watched == []
    assert started.returncode == -signal.SIGKILL
    trainer.strategy.launcher = None  # that of one process
    KillPeersOnFailure().on_exception(trainer, None, OSError())


@pytest.mark.slow
def test_a_failure_of_the_first_process_ends_both_with_one_line(tmp_path):
    resource = pytest.importorskip("resource")
    out = tmp_path / "run"
    command = [sys.executable, "-m", "kerbseg.cli", "train", "smoke/scenes", *TINY, "--out", str(out)]
    done = subprocess.run(
        [*command, "--device", "cpu", "--devices", "2"],
        env=ENVIRONMENT,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000)),  # less than a checkpoint
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 2, done.stderr
    assert done.stderr.strip().splitlines()[-1].startswith(f"kerbseg: cannot write {out / 'last.ckpt'}")
    assert "Traceback" not in done.stderr
    assert not (out / "last.ckpt").exists()


def test_a_batch_that_cannot_be_shared_is_refused(tmp_path):
    with pytest.raises(KerbsegError, match="batch_size=4 is for all devices together and cannot be shared by 3"):
        fit(read("smoke/scenes", TINY), tmp_path / "run", device="cpu", devices=3)
    with pytest.raises(KerbsegError, match="0 devices cannot train"):
        fit(read("smoke/scenes", TINY), tmp_path / "run", device="cpu", devices=0)
    assert not (tmp_path / "run").exists()


def test_torchrun_says_which_process_this_is(monkeypatch):
    for key, value in {"TORCHELASTIC_RUN_ID": "x", "RANK": "3", "WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(key, value)
    recipe = read("smoke/scenes", TINY)
    assert this_rank(1, recipe) == this_rank(2, recipe) == Rank(3, 4, nodes=2)
    assert this_rank(1, recipe).local_index == 1
    with pytest.raises(KerbsegError, match="4 devices are asked for and torchrun has started 2"):
        this_rank(4, recipe)


def test_more_gpus_than_there_are_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    recipe = read("smoke/scenes", TINY)
    with pytest.raises(KerbsegError, match="2 GPUs are asked for and 1 are there"):
        training_device("cuda", recipe, Rank(0, 2))
    assert training_device("auto", recipe, Rank()) == torch.device("cuda", 0)


if __name__ == "__main__":
    torch.set_num_threads(1)
    run = Path(sys.argv[1])
    sys.path.append(str(Path(__file__).parents[1]))
    import drawn_once

    scenes.frame = drawn_once.kept_in(Path(sys.argv[2]), scenes.frame)
    train(run, cut=True)
    here = Rank(int(os.environ["RANK"]), 2)
    torch.save(losses(here), run.parent / f"losses.{here.index}")
    torch.save(losses(here, alone=True), run.parent / f"alone.{here.index}")
    torch.save(gradients_of_heads(here), run.parent / f"heads.{here.index}")
