"""The last stage in C++: the header alone, and the program that runs an exported file; both give Python's ids."""

import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

import kerbseg
from kerbseg.data.scenes import Scenes
from kerbseg.export import export
from kerbseg.runtime import open_runtime

FOLDER = Path(__file__).parents[2] / "integrations" / "cpp"
RULES = ["half_pixel", "align_corners", "asymmetric"]
needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="no g++ here")

# reads numbers and logits, writes ids and confidence
HARNESS = r"""
#include <cstdio>
#include <iostream>
#include "kerbseg_upsample_argmax.hpp"

template <class T>
int answer(kerbseg::UpsampleArgmax& stage, std::size_t count) {
    std::vector<T> logits(count);
    std::cin.read(reinterpret_cast<char*>(logits.data()), count * sizeof(T));
    std::vector<std::uint8_t> ids(std::size_t(stage.size().height) * stage.size().width), alone(ids.size());
    std::vector<float> confidence(ids.size());
    std::vector<std::uint8_t> bytes(ids.size());
    stage(logits.data(), ids.data(), confidence.data());
    stage(logits.data(), alone.data());
    stage(logits.data(), alone.data(), bytes.data());
    for (std::size_t n = 0; n < bytes.size(); ++n)
        if (bytes[n] != std::uint8_t(255 * confidence[n] + 0.5f)) return 1;
    std::cout.write(reinterpret_cast<char*>(ids.data()), ids.size());
    std::cout.write(reinterpret_cast<char*>(confidence.data()), confidence.size() * sizeof(float));
    return ids != alone;
}

int main() try {
    int height, width, classes, tall, wide, kind, ranges;
    while (std::cin >> kind >> height >> width >> classes >> tall >> wide) {
        kerbseg::Options options;
        int layout, rule;
        std::cin >> options.threads >> layout >> rule >> options.temperature >> ranges;
        options.scale.resize(ranges);
        options.zero_point.resize(ranges);
        for (int n = 0; n < ranges; ++n) std::cin >> options.scale[n] >> options.zero_point[n];
        std::cin.get();
        options.layout = layout ? kerbseg::Layout::nhwc : kerbseg::Layout::nchw;
        options.coordinates = static_cast<kerbseg::Coordinates>(rule);
        kerbseg::UpsampleArgmax stage({height, width}, {tall, wide}, classes, options);
        const std::size_t count = std::size_t(height) * width * classes;
        if (kind ? answer<std::uint8_t>(stage, count) : answer<float>(stage, count)) return 1;
    }
} catch (const std::invalid_argument& error) {
    std::cerr << error.what();
    return 2;
}
"""


@pytest.fixture(scope="module")
def harness(tmp_path_factory):
    folder = tmp_path_factory.mktemp("harness")
    (folder / "harness.cpp").write_text(HARNESS)
    command = ["g++", "-std=c++17", "-O1", "-Wall", "-Wextra", "-Werror", f"-I{FOLDER}", "harness.cpp", "-pthread"]
    finished = subprocess.run([*command, "-o", "harness"], cwd=folder, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    return folder / "harness"


def asked(logits, size, rule, layout, threads, temperature, ranges):
    """One case as the harness reads it."""
    height, width, classes = logits.shape if layout == "NHWC" else (*logits.shape[1:], logits.shape[0])
    kind = int(logits.dtype == np.uint8)
    numbers = [kind, height, width, classes, *size, threads, int(layout == "NHWC"), rule, temperature, len(ranges)]
    numbers += [number for pair in ranges for number in pair]
    return " ".join(map(str, numbers)).encode() + b"\n" + logits.tobytes()


@needs_compiler
def test_the_header_gives_the_ids_and_confidence_of_python(harness):
    random, given, expected = np.random.default_rng(0), b"", []
    for case in range(60):
        classes = int(random.choice([1, 2, 5, 19, 256]))
        shape = (classes, *(int(n) for n in random.integers(1, 20, 2)))
        size, rule, layout = (
            (int(random.integers(1, 60)), int(random.integers(1, 99))),
            case % 3,
            ("NCHW", "NHWC")[case % 2],
        )
        temperature, ranges = float(random.choice([1, 0.5, 3])), []
        logits = random.standard_normal(shape).astype(np.float32) * 4
        logits = np.round(logits) if case % 5 == 0 else logits
        options = {}
        if case % 4 == 3:
            logits = np.clip(logits * 20 + 128, 0, 255).astype(np.uint8)
            count = (1, classes)[case % 8 == 3]
            ranges = [(round(0.01 + 0.05 * random.random(), 3), int(random.integers(256))) for _ in range(count)]
            scale, zero_point = ([pair[n] for pair in ranges] for n in range(2))
            options = {"scale": scale, "zero_point": zero_point}
        logits = np.ascontiguousarray(logits.transpose(1, 2, 0)) if layout == "NHWC" else logits
        given += asked(logits, size, rule, layout, 1 + case % 3, temperature, ranges)
        options |= {"coordinates": RULES[rule], "layout": layout, "temperature": temperature}
        expected.append(kerbseg.upsample_argmax(logits, size, confidence=True, **options))
    finished = subprocess.run([harness], input=given, capture_output=True, check=False)
    assert finished.returncode == 0, finished.stderr
    output = finished.stdout
    for case, (ids, confidence) in enumerate(expected):
        own, output = np.frombuffer(output[: ids.size], np.uint8), output[ids.size :]
        sure, output = np.frombuffer(output[: 4 * ids.size], np.float32), output[4 * ids.size :]
        assert (own.reshape(ids.shape) == ids).all(), case
        assert np.abs(sure.reshape(ids.shape) - confidence).max() <= 1e-6, case
    assert not output


@needs_compiler
@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"logits": np.full((3, 4, 5), np.nan, np.float32)}, "NaN or infinite"),
        ({"logits": np.full((3, 4, 5), np.inf, np.float32)}, "NaN or infinite"),
        ({"size": (0, 9)}, "at least 1"),
        ({"temperature": 0}, "positive"),
        ({"ranges": [(1, 0), (2, 0)]}, "one for each"),
        ({"ranges": [(-1, 0)]}, "positive"),
        ({"logits": np.zeros((257, 1, 1), np.float32)}, "256"),
    ],
)
def test_the_header_refuses_what_it_cannot_take(harness, change, said):
    case = {"logits": np.zeros((3, 4, 5), np.float32), "size": (8, 9), "temperature": 1, "ranges": []} | change
    given = asked(case["logits"], case["size"], 0, "NCHW", 1, case["temperature"], case["ranges"])
    finished = subprocess.run([harness], input=given, capture_output=True, check=False)
    assert (finished.returncode, said in finished.stderr.decode()) == (2, True), finished.stderr


# in place of ONNX Runtime's header: all that the program uses; what is opened is written to a file
STUB = r"""
#pragma once
#include <cstdint>
#include <fstream>
#include <memory>
#include <stdexcept>
#include <vector>
enum { OrtArenaAllocator, OrtMemTypeDefault, ORT_LOGGING_LEVEL_ERROR };
namespace Ort {
struct Env { explicit Env(int) {} };
struct SessionOptions { void SetIntraOpNumThreads(int) {} };
struct AllocatorWithDefaultOptions {};
struct MemoryInfo { static MemoryInfo CreateCpu(int, int) { return {}; } };
struct RunOptions {};
struct Shape { std::vector<std::int64_t> GetShape() const { return {1, 1, 1, 3}; } };
struct Info { Shape GetTensorTypeAndShapeInfo() const { return {}; } };
struct Metadata {
    std::unique_ptr<char> LookupCustomMetadataMapAllocated(const char*, AllocatorWithDefaultOptions&) { return {}; }
};
struct Value : Info {
    template <class T>
    static Value CreateTensor(MemoryInfo&, T*, std::size_t, const std::int64_t*, int) { return {}; }
    template <class T>
    const T* GetTensorData() const { return nullptr; }
};
struct Session {
    explicit Session(std::nullptr_t) {}
    Session(Env&, const char* data, std::size_t size, SessionOptions&) {
        std::ofstream("opened.onnx", std::ios::binary).write(data, size);
    }
    Metadata GetModelMetadata() { return {}; }
    Info GetInputTypeInfo(int) { return {}; }
    std::vector<Value> Run(RunOptions, const char**, const Value*, int, const char**, int) { return {}; }
};
}
"""


def compiled_onnx(folder: Path, *options: str | Path) -> Path:
    """The program for ONNX Runtime."""
    command = ["g++", "-std=c++17", "-O1", "-march=native", "-pthread", FOLDER / "segment_onnx.cpp", *options]
    finished = subprocess.run(
        [*command, "-Wall", "-Wextra", "-Werror", "-o", "segment_onnx"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    return folder / "segment_onnx"


@needs_compiler
@pytest.mark.slow
@pytest.mark.parametrize("logits", [False, True])
def test_the_program_for_onnx_cuts_the_graph_at_its_logits(camvid_bundle, tmp_path, logits):
    onnx, onnxruntime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    (tmp_path / "onnxruntime_cxx_api.h").write_text(STUB)
    program = compiled_onnx(tmp_path, "-isystem", tmp_path)
    export(camvid_bundle, tmp_path / "m.onnx", (32, 48), logits=logits)
    finished = subprocess.run([program, "m.onnx", "a", "b"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (finished.returncode, "carries no kerbseg card" in finished.stderr) == (2, True), finished.stderr
    whole, cut = (onnx.load(tmp_path / name) for name in ("m.onnx", "opened.onnx"))
    assert [output.name for output in cut.graph.output] == ["logits"]
    assert len(cut.graph.node) < len(whole.graph.node)
    assert {"ArgMax", "Resize"}.isdisjoint(node.op_type for node in cut.graph.node[-3:])
    assert (cut.metadata_props, cut.ir_version) == (whole.metadata_props, whole.ir_version)
    picture = np.random.default_rng(0).integers(0, 256, (1, 32, 48, 3), np.uint8)
    [own] = onnxruntime.InferenceSession(tmp_path / "opened.onnx").run(None, {"pictures": picture})
    assert np.allclose(own, open_runtime(tmp_path / "m.onnx").logits(picture), atol=1e-5)
    damaged = (tmp_path / "m.onnx").read_bytes()[:9000]
    for content, said in [(damaged, "cut off or no ONNX file"), (b"P6 no model", "cut off or no ONNX file")]:
        (tmp_path / "damaged.onnx").write_bytes(content)
        finished = subprocess.run(
            [program, "damaged.onnx", "a", "b"], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert (finished.returncode, said in finished.stderr) == (2, True), finished.stderr


@needs_compiler
@pytest.mark.slow
@pytest.mark.parametrize("size", [(128, 256), (90, 150)])
def test_the_program_for_onnx_gives_the_ids_of_python_on_drawn_scenes(camvid_bundle, tmp_path, size):
    """Needs ONNX Runtime's headers, which its Python package lacks: in the system, or in $ONNXRUNTIME_INCLUDE."""
    onnxruntime = pytest.importorskip("onnxruntime")
    places = [os.environ.get("ONNXRUNTIME_INCLUDE", ""), "/usr/include/onnxruntime", "/usr/local/include/onnxruntime"]
    include = next((place for place in places if place and (Path(place) / "onnxruntime_cxx_api.h").is_file()), None)
    libraries = sorted((Path(onnxruntime.__path__[0]) / "capi").glob("libonnxruntime.so.*"))
    if include is None or not libraries:
        pytest.skip("no headers of ONNX Runtime (libonnxruntime-dev); ONNXRUNTIME_INCLUDE names their folder")
    library = tmp_path / "libonnxruntime.so.1"  # the name that it asks for itself
    library.symlink_to(libraries[0])
    program = compiled_onnx(tmp_path, "-isystem", include, library, f"-Wl,-rpath,{tmp_path}")
    model = tmp_path / "street.onnx"
    export(camvid_bundle, model, size=size)
    scenes = Scenes("test", 20, size=size)
    pictures, pairs = [np.asarray(scenes[n].image) for n in range(20)], []
    for n, picture in enumerate(pictures):
        write_ppm(tmp_path / f"{n}.ppm", picture)
        pairs += [tmp_path / f"{n}.ppm", tmp_path / f"{n}.pgm"]
    finished = subprocess.run([program, model, *pairs], capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    runtime = open_runtime(model)
    for n, picture in enumerate(pictures):
        ids = (tmp_path / f"{n}.pgm").read_bytes().partition(b"\n255\n")[2]
        assert (np.frombuffer(ids, np.uint8).reshape(size) == runtime(picture[None])[0]).all()


def write_ppm(path: Path, picture: np.ndarray) -> None:
    path.write_bytes(b"P6\n# drawn\n%d %d\n255\n" % (picture.shape[1], picture.shape[0]) + picture.tobytes())


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    """The program as the plain line of its README builds it."""
    if shutil.which("g++") is None:
        pytest.skip("no g++ here")
    openvino = Path(pytest.importorskip("openvino").__path__[0])
    libraries = sorted((openvino / "libs").glob("libopenvino.so*"))
    if not libraries:
        pytest.skip("this package of OpenVINO has no libraries beside it")
    path = tmp_path_factory.mktemp("program") / "segment"
    own = ["-std=c++17", "-O3", "-march=native", "-pthread", FOLDER / "segment.cpp", "-isystem", openvino / "include"]
    command = ["g++", *own, libraries[0], f"-Wl,-rpath,{openvino / 'libs'}", "-Wall", "-Wextra", "-Werror", "-o", path]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    return path


@pytest.mark.slow
@pytest.mark.parametrize("size", [(128, 256), (90, 150)])  # also one that is padded and cropped
def test_the_program_gives_the_ids_of_python_on_drawn_scenes(program, camvid_bundle, tmp_path, size):
    model = tmp_path / "street.xml"
    export(camvid_bundle, model, size=size)
    scenes = Scenes("test", 20, size=size)
    pictures = np.stack([np.asarray(scenes[n].image) for n in range(20)])
    pairs: list[Path] = []
    for n, picture in enumerate(pictures):
        write_ppm(tmp_path / f"{n}.ppm", picture)
        pairs += [tmp_path / f"{n}.ppm", tmp_path / f"{n}.pgm"]
    finished = subprocess.run([program, model, *pairs], capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.startswith("median ")
    runtime = open_runtime(model)
    for n, picture in enumerate(pictures):
        head, _, ids = (tmp_path / f"{n}.pgm").read_bytes().partition(b"\n255\n")
        assert head == b"P5\n%d %d" % (size[1], size[0])
        assert (np.frombuffer(ids, np.uint8).reshape(size) == runtime(picture[None])[0]).all()
    command = [program, tmp_path / "absent.xml", *pairs[:2]]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (finished.returncode, finished.stderr.count("\n")) == (2, 1), finished.stderr  # OpenVINO's own has more
    wrong = tmp_path / "wrong.ppm"
    for content, said in [
        (b"P6\n3 2\n255\n" + bytes(18), "the model takes"),
        (b"P6\n3 2\n255\n", "cut off"),
        (b"P3\n3 2\n255\n", "no binary PPM"),
        (b"P6\n3 2\n65535\n" + bytes(36), "8 bits"),
    ]:
        wrong.write_bytes(content)
        finished = subprocess.run(
            [program, model, wrong, tmp_path / "no.pgm"], capture_output=True, text=True, check=False
        )
        assert (finished.returncode, said in finished.stderr) == (2, True), finished.stderr
    assert not (tmp_path / "no.pgm").exists()
