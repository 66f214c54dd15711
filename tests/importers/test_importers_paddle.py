"""PaddlePaddle's files: whichever numpy and protocol wrote them, they read alike; nothing in them runs."""

import collections
import gzip
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from golden_rule import compare, golden_state, picture, read_golden, read_keys
from kerbseg.bundle import read_card
from kerbseg.cli import main
from kerbseg.core.errors import BundleError, KerbsegError
from kerbseg.core.labels import LabelSet
from kerbseg.importers import import_checkpoint, read_initial_weights
from kerbseg.importers._paddle_file import NAMES, read_paddle
from kerbseg.models import create_model
from kerbseg.train.initial import load_initial_weights

FORMAT = "pp_liteseg-paddle"
SMALL = {
    "conv.weight": np.arange(6, dtype=np.float32).reshape(2, 3),
    "bn._mean": np.array([0.5, -2.0], np.float32),
    NAMES: {"conv.weight": "conv2d_0.w_0"},
}


class Trap:
    """Runs code where a pickle is trusted."""

    sprung = False

    def __reduce__(self):
        return setattr, (Trap, "sprung", True)


@pytest.fixture
def put(tmp_path):
    """`put(content)`: the file that Paddle has saved it as; bytes are written as they are."""

    def write(content: object, protocol: int = 4) -> Path:
        path = tmp_path / "model.pdparams"
        path.write_bytes(content if isinstance(content, bytes) else pickle.dumps(content, protocol))
        return path

    return write


WHOLE = {key: np.zeros(shape, np.float32) for key, shape in read_keys("pp_liteseg_t").items()}


def paddles(classes: int = 19) -> dict[str, np.ndarray]:
    """A whole file of theirs, after its list of keys; every weight is another number."""
    shaped = {key: np.resize(value, [classes if n == 19 else n for n in value.shape]) for key, value in WHOLE.items()}
    return {key: value + place for place, (key, value) in enumerate(shaped.items())}


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("core", [b"core", b"_core"])
@pytest.mark.parametrize("table", [dict, collections.OrderedDict])
def test_arrays_come_out_alike(protocol, core, table, put):
    content = pickle.dumps(table(SMALL), protocol)
    written = b"_core" if b"numpy._core" in content else b"core"
    if protocol < 4:  # names end with a line; later their length stands before them
        content = content.replace(b"numpy." + written, b"numpy." + core)
    else:
        for module in (b"multiarray", b"numeric"):
            before, after = (b"numpy." + each + b"." + module for each in (written, core))
            old, new = (bytes([len(each)]) + each for each in (before, after))
            content = content.replace(old, new)
        assert content[2:3] == pickle.FRAME
        content = content[:3] + struct.pack("<Q", len(content) - 11) + content[11:]
    state = read_paddle(put(content))
    assert list(state) == ["conv.weight", "bn._mean"]
    assert all(torch.equal(value, torch.from_numpy(SMALL[key])) for key, value in state.items())
    assert {value.dtype for value in state.values()} == {torch.float32}


@pytest.mark.parametrize("dtype", ["<f2", ">f4", "<f8", ">f8"])
@pytest.mark.parametrize("protocol", [2, 5])
def test_other_floats_become_float32(dtype, protocol, put):
    values = np.asfortranarray(np.linspace(-3, 3, 12).reshape(3, 4).astype(dtype))
    [made] = read_paddle(put({"a": values}, protocol)).values()
    np.testing.assert_array_equal(made.numpy(), values.astype(np.float32))
    assert made.dtype == torch.float32


def test_what_python_2_wrote_is_read(put):
    content = pickle.dumps({"a": np.arange(3, dtype="<f4")}, 2)
    # there bytes were strings; here a pickle of protocol 2 encodes text
    encoded = b"c_codecs\nencode\n"
    assert encoded in content
    raw = np.arange(3, dtype="<f4").tobytes()
    old = (
        b"\x80\x02}U\x01acnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R(K\x01K\x03\x85"
        b"cnumpy\ndtype\nU\x02f4K\x00K\x01\x87R(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89U\x0c"
        + raw
        + b"tbs."
    )
    for each in (content, old):
        assert read_paddle(put(each))["a"].tolist() == [0, 1, 2]


@pytest.mark.parametrize("prefix", ["model.", "module.", "_layers.", "_layers.model.", "model._layers.module."])
def test_names_come_without_what_the_network_was_wrapped_in(prefix, put):
    wrapped = {key if key == NAMES else prefix + key: value for key, value in SMALL.items()}
    assert list(read_paddle(put(wrapped))) == ["conv.weight", "bn._mean"]


def test_a_name_that_is_there_twice_is_refused(put):
    twice = {"a.weight": SMALL["bn._mean"], "_layers.model.a.weight": SMALL["bn._mean"]}
    with pytest.raises(BundleError, match=r"holds 'a\.weight' twice, once as '_layers\.model\.a\.weight'; save"):
        read_paddle(put(twice))


def test_a_wrapped_file_is_imported_whole(put):
    plain, wrapper = paddles(), "_layers.model."
    bundle = import_checkpoint(FORMAT, put({wrapper + key: value for key, value in plain.items()}))
    bias = bundle.model.state_dict()["backbone.features.7.conv_list.3.bn.bias"]
    assert torch.equal(bias, torch.from_numpy(plain["backbone.features.7.conv_list.3.bn.bias"]))


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        (
            "ppseg_head.cm.conv_out._conv.weight",
            np.ones((3, 128, 3, 3)),
            r"_conv\.weight' is \[3, 128, 3, 3\], the net",
        ),
        ("ppseg_head.cm.conv_out._batch_norm._variance", -np.ones(128), r"_batch_norm\._variance' holds negative numb"),
        ("ppseg_head.cm.conv_out._batch_norm._mean", None, r"lacks 'ppseg_head\.cm\.conv_out\._batch_norm\._mean' for"),
        ("ppseg_head.cm.conv_out._conv.gain", np.ones(1), r"unknown 'ppseg_head\.cm\.conv_out\._conv\.gain' for"),
    ],
)
def test_what_does_not_fit_is_named_as_in_the_file(key, value, says, put):
    changed = {**paddles(), key: value}
    with pytest.raises(BundleError, match=says):
        import_checkpoint(FORMAT, put({name: each for name, each in changed.items() if each is not None}))


def function(module: str, name: str, *arguments: object) -> bytes:
    """A pickle that calls a function, in the two ways in which one is named."""
    packed = pickle.dumps(arguments, 2)[2:-1]
    return b"\x80\x02" + f"c{module}\n{name}\n".encode() + packed + b"R."


DTYPE = (
    b"cnumpy\ndtype\nX\x02\x00\x00\x00f4K\x00K\x01\x87R"
    b"(K\x03X\x01\x00\x00\x00<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
)
ARRAY = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85C\x01b\x87R"


def array(shape: bytes, content: bytes = b"C\x04abcd") -> bytes:
    return b"\x80\x03}X\x01\x00\x00\x00a" + ARRAY + b"(K\x01" + shape + DTYPE + b"\x89" + content + b"tbs."


WRONG = {
    "code": ({"a": Trap()}, "holds 'builtins.setattr' beside its weights, and nothing in a file is run here"),
    "code of old": (function("os", "system", "true"), "holds 'os.system' beside its weights"),
    "a line in a name": (b"\x80\x04\x8c\x03a\nb\x8c\x01c\x93.", r"holds 'a\\nb.c' beside"),
    "getattr": (function("builtins", "getattr", 1, "real"), "holds 'builtins.getattr'"),
    "numpy's own pickles": (function("numpy.lib.npyio", "load", "x"), "holds 'numpy.lib.npyio.load'"),
    "an array called": (b"\x80\x02cnumpy\nndarray\n)R.", "a call of what is no function"),
    "another encoding": (function("_codecs", "encode", "a", "rot13"), "bytes in an unknown encoding"),
    "objects": ({"a": np.array([Trap()], object)}, "builtins.setattr|instruction|array of objects"),
    "only objects": ({"a": np.array([None, None], object)}, "EMPTY_LIST|array of objects"),
    "records": ({"a": np.zeros(2, [("x", "<f4")])}, "numbers of an unknown kind|not of floats"),
    "integers": ({"a": np.arange(3)}, "an array of 'i8', not of floats"),
    "bfloat16": ({"a": np.arange(3, dtype=np.uint16)}, "an array of 'u2', not of floats"),
    "huge": (array(b"\x8a\x05\x00\x00\x00\x00\x01\x85"), r"claims \[4294967296\] numbers in 4 bytes"),
    "too large for a shape": (array(b"\x8a\x09" + b"\x01" * 9 + b"\x85"), "without a sensible shape"),
    "negative": (array(b"J\xff\xff\xff\xff\x85"), "without a sensible shape"),
    "no bytes": (array(b"K\x01\x85", b"N"), "an array without bytes"),
    "an instance": (b"\x80\x02(cos\nsystem\no.", "holds 'os.system'"),
    "an old instance": (b"\x80\x02(ios\nsystem\n.", "the instruction INST"),
    "outside": (b"\x80\x02X\x01\x00\x00\x00aQ.", "the instruction BINPERSID"),
    "a set": ({"a": {1}}, "the instruction EMPTY_SET"),
    "a scalar": ({"a": np.float32(3)}, "scalar"),
    "a number": ({"a": 3}, "'a' is int, not weights"),
    "text": ({"a": "b"}, "'a' is str, not weights"),
    "blank": (b"\x80\x03}X\x01\x00\x00\x00a" + ARRAY + b"s.", "'a' is an empty array"),
    "numbers as names": ({1: np.ones(2, np.float32)}, "keys are no names"),
    "nothing": ({}, "holds dict, not the weights"),
    "no table": ((1, 2), "holds tuple, not the weights"),
    "NaN": ({"a": np.array([1, np.nan], np.float32)}, "'a' holds NaN or infinite values"),
    "beyond float32": ({"a": np.array([1e300])}, "'a' holds NaN or infinite values"),
    "an archive": (gzip.compress(b"model"), "is an archive, or a PyTorch file; unpack it"),
    "text of old": (pickle.dumps(SMALL, 0), "no pickle of protocol 2"),
    "an inference model": (b"\x00" * 64, "no pickle of protocol 2"),
    "an empty file": (b"", "is empty; copy it again"),
    "a place far away": (b"\x80\x02}j\xff\xff\xff\xff.", "cannot be read as a PaddlePaddle file"),
    "a length beyond the end": (b"\x80\x04\x8e" + b"\xff" * 7 + b"\x7f.", "cannot be read as a PaddlePaddle file"),
    "no mark": (b"\x80\x02}t.", "cannot be read as a PaddlePaddle file"),
    "too little": (b"\x80\x02s.", "cannot be read as a PaddlePaddle file"),
}


@pytest.mark.parametrize(("content", "says"), WRONG.values(), ids=WRONG)
def test_what_is_no_weights_is_named_and_not_run(content, says, put):
    with pytest.raises(BundleError, match=says) as caught:
        read_paddle(put(content))
    assert "\n" not in str(caught.value)
    assert not Trap.sprung


def test_every_cut_is_refused(put, tmp_path):
    for protocol in (2, 5):
        whole = pickle.dumps({"a": np.ones(2, np.float32)}, protocol)
        for end in range(len(whole)):
            with pytest.raises(BundleError) as caught:
                read_paddle(put(whole[:end]))
            assert "\n" not in str(caught.value)
    with pytest.raises(BundleError, match="does not exist"):
        read_paddle(tmp_path / "none.pdparams")


@pytest.mark.slow
@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_every_changed_byte_is_read_or_refused(protocol, put):
    whole = pickle.dumps(SMALL, protocol)
    for at in range(2, len(whole)):
        for flip in (0x01, 0x80, 0xFF):
            path, said = put(whole[:at] + bytes([whole[at] ^ flip]) + whole[at + 1 :]), ""
            try:
                assert all(isinstance(value, torch.Tensor) for value in read_paddle(path).values())
            except BundleError as error:
                said = str(error)
            assert "\n" not in said


def test_logits_are_the_authors(put):
    golden = read_golden("pp_liteseg_t")
    names = {NAMES: dict.fromkeys(golden, "x")}
    source = put({key: value.numpy() for key, value in golden_state(golden).items()} | names)
    bundle = import_checkpoint(FORMAT, source)
    assert (bundle.card.model, bundle.card.outputs, bundle.card.labels.name) == ("pp_liteseg_t", 19, "cityscapes")
    assert bundle.card.preprocessing.mean == bundle.card.preprocessing.std == (0.5, 0.5, 0.5)
    assert "Apache" in bundle.card.source
    assert "left out: seg_heads.1, seg_heads.2, of training" in bundle.card.source
    assert sum(each.numel() for each in bundle.model.parameters()) == golden["parameters_that_reach_the_output"]
    with torch.no_grad():
        logits = bundle.model.double()(picture(73, 101).double())
    compare(logits, golden["cases"]["73x101"], "float64", "73x101")


def test_the_command_writes_a_bundle_and_ends_with_2_on_code(put, tmp_path, capsys):
    without = {key: value for key, value in paddles().items() if not key.startswith(("seg_heads.1.", "seg_heads.2."))}
    out = tmp_path / "ours.safetensors"
    main(["import", FORMAT, str(put(without)), "-o", str(out)])
    assert "pp_liteseg_t, 19 classes of cityscapes, 19 outputs" in capsys.readouterr().out
    assert "left out" not in read_card(out).source
    for content in ({"a": Trap()}, b"\x80\x04}"):
        with pytest.raises(SystemExit) as left:
            main(["import", FORMAT, str(put(content)), "-o", str(tmp_path / "no.safetensors")])
        assert left.value.code == 2
        assert capsys.readouterr().err.count("\n") == 1
    assert not (tmp_path / "no.safetensors").exists()
    assert not Trap.sprung


MISFITS = {
    "a weight less": (lambda state: state.pop("ppseg_head.arm_list.1._scale"), "lacks 'ppseg_head.arm_list.1._scale'"),
    "a norm less": (lambda state: state.pop("ppseg_head.cm.conv_out._batch_norm._mean"), r"conv_out\._batch_norm"),
    "an unknown": (lambda state: state.update({"extra.weight": np.ones(2, "f4")}), "holds an unknown 'extra.weight'"),
    "another shape": (lambda state: state.update({"backbone.features.0.bn.bias": np.ones(3, "f4")}), r"is \[3\]"),
    "no last layer": (lambda state: state.pop("seg_heads.0.conv_out.weight"), "lacks 'seg_heads.0.conv_out.weight'"),
    "the larger": (
        lambda state: state.update({"backbone.features.8.conv_list.0.conv.weight": np.ones(2, "f4")}),
        "is PP-LiteSeg-B, on STDC2, which kerbseg does not have",
    ),
    "the encoder": (
        lambda state: (
            [state.update({key[9:]: state.pop(key)}) for key in list(state) if key.startswith("backbone.")]
            and [state.pop(key) for key in list(state) if not key.startswith("features.")]
        ),
        "encoder trained on ImageNet, .* kerbseg train ... --init model.pdparams",
    ),
}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        pytest.param(*row, id=name, marks=() if name in ("a weight less", "the larger") else pytest.mark.slow)
        for name, row in MISFITS.items()
    ],
)
def test_what_does_not_fit_is_named(change, says, put):
    state = paddles()
    change(state)
    with pytest.raises(BundleError, match=says):
        import_checkpoint(FORMAT, put(state))


def test_eleven_outputs_are_nobodys_order(put):
    source = put(paddles(11))
    with pytest.raises(BundleError, match=r"11 outputs; .*is not known here: .*--classes"):
        import_checkpoint(FORMAT, source)
    own = LabelSet("own", tuple("abcdefghijk"), tuple((i, i, i) for i in range(11)))
    assert import_checkpoint(FORMAT, source, own).card.labels.name == "own"
    with pytest.raises(KerbsegError, match="holds no 'pp_liteseg_b'; did you mean 'pp_liteseg_t'"):
        import_checkpoint(FORMAT, source, model="pp_liteseg_b")


def test_a_training_starts_from_the_imagenet_encoder_or_the_whole(put):
    whole = paddles(5)
    encoder = {key.removeprefix("backbone."): value for key, value in whole.items() if key.startswith("backbone.")}
    encoder |= {"fc.weight": np.ones((4, 3), np.float32)}
    net = create_model("pp_liteseg_t", 5, heads=True)
    start = load_initial_weights(net, put(encoder))
    assert start.fresh.keys() == {"ppseg_head", "seg_heads"}  # batch-norm's counters, not in the file, are no weights
    taken = net.state_dict()
    for key in ("backbone.features.7.conv_list.3.bn.running_var", "backbone.features.2.avd_layer.0.weight"):
        assert torch.equal(taken[key], torch.from_numpy(whole[key.replace("running_var", "_variance")])), key
    assert net.ppseg_head.cm.conv_out.conv.weight.std() > 0  # fresh
    source = put(whole)
    load_initial_weights(net, source)
    given = read_initial_weights(source)
    wrapped = read_initial_weights(put({f"_layers.{key}": value for key, value in whole.items()}))
    assert wrapped.keys() == given.keys()
    own = {key: value for key, value in net.state_dict().items() if not key.endswith("num_batches_tracked")}
    assert given.keys() == own.keys()
    assert all(torch.equal(own[key], value) for key, value in given.items())
