"""LiteRT, ExecuTorch and ncnn: what holds without their packages, and their files where they are installed."""

from pathlib import Path

import numpy as np
import pytest
import torch

from kerbseg.bundle import load
from kerbseg.core.errors import BundleError, KerbsegError, MissingExtra
from kerbseg.core.extras import first_missing
from kerbseg.export import export
from kerbseg.export.logits_graph import ATEN, LogitsGraph, crop_transposed, traced
from kerbseg.runtime import ENGINES, open_runtime
from kerbseg.runtime.engines import files_of, suffix_of
from kerbseg.runtime.seal import TAIL_SEAL

SIZE = (32, 48)


def test_an_ending_of_two_dots_is_known_and_one_of_its_halves_is_not():
    assert suffix_of(Path("a.b/m.ncnn.param")) == ".ncnn.param"
    assert [each.name for each in files_of(Path("m.ncnn.param"))] == ["m.ncnn.bin", "m.ncnn.json", "m.ncnn.param"]
    assert suffix_of(Path("m.param")) == ".param"
    with pytest.raises(BundleError):
        open_runtime(Path("m.param"))


def test_ncnn_says_why_it_stays_in_float():
    with pytest.raises(KerbsegError, match="not in its Python package; choose"):
        ENGINES["ncnn"].graph()


@pytest.mark.parametrize("crop", [False, True])
def test_a_traced_graph_gives_the_same_logits_without_batch_norm(crop, camvid_bundle):
    graph = LogitsGraph(load(camvid_bundle), SIZE).eval()
    module = traced(graph)
    if crop:
        crop_transposed(module)
    picture = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (1, *SIZE, 3), np.uint8))
    with torch.no_grad():
        torch.testing.assert_close(module(picture), graph(picture), atol=1e-4, rtol=1e-4)
    assert ATEN.batch_norm.default not in {node.target for node in module.graph.nodes}


def test_a_file_that_was_cut_or_changed_is_refused(tmp_path):
    path = tmp_path / "m.pte"
    path.write_bytes(b"program")
    with pytest.raises(BundleError, match="kerbseg export did not write it"):
        TAIL_SEAL.read(path)
    TAIL_SEAL.put_on(path)
    assert TAIL_SEAL.read(path).startswith(b"program")
    path.write_bytes(b"Program" + path.read_bytes()[7:])
    with pytest.raises(BundleError, match="is damaged"):
        TAIL_SEAL.read(path)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["executorch", "ncnn"])
def test_a_file_gives_the_ids_of_torch(name, camvid_bundle, tmp_path):
    engine = ENGINES[name]
    if (package := first_missing(engine.extra)) is not None:
        pytest.skip(f"{package} is not installed (docs/engines.md)")
    path = tmp_path / f"m{engine.suffix}"
    assert export(camvid_bundle, path).equal >= 0.999
    pictures = np.random.default_rng(1).integers(0, 256, (2, *SIZE, 3), np.uint8)
    assert (open_runtime(path)(pictures) == open_runtime(camvid_bundle)(pictures)).mean() >= 0.999


@pytest.mark.parametrize("name", ["litert", "executorch", "ncnn"])
def test_without_its_package_an_engine_names_the_extra(name, tmp_path):
    engine = ENGINES[name]
    if first_missing(engine.extra) is None:
        pytest.skip("its packages are installed")
    (tmp_path / f"m{engine.suffix}").write_bytes(b"")
    with pytest.raises(MissingExtra, match=engine.extra):
        open_runtime(tmp_path / f"m{engine.suffix}")
