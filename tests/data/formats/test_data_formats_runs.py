"""Run lengths are read as COCO and Label Studio write them, and what does not add up is refused."""

import numpy as np
import pytest
from outlines import runs_by_column

from kerbseg.core.errors import DataError
from kerbseg.data.formats.regions import Runs
from kerbseg.data.formats.runs import brush_mask, coco_lengths, lengths_of, run_lengths

BLOB = np.array(
    [
        [0, 0, 0, 0, 0, 0, 0, 0, 0],
        [0, 0, 1, 1, 1, 1, 1, 0, 0],
        [0, 0, 1, 0, 1, 1, 1, 0, 0],
        [0, 0, 1, 1, 1, 1, 1, 0, 0],
        [0, 0, 0, 0, 0, 0, 0, 0, 0],
        [0, 0, 0, 0, 0, 0, 0, 0, 1],
    ],
    bool,
)
# what Label Studio's SDK (2.1.2) writes for it, one pixel of alpha 100 at the corner and 200 at the opposite one
BRUSH = [0, 0, 0, 216, 57, 27, 252, 108, 152, 156, 3, 9, 255, 223, 0, 143, 254, 48, 11, 127, 247, 192, 48, 159, 254, 75]
BRUSH += [0, 143, 32]
TEXT = "=33NN0220000:N"


def test_cocos_text_is_that_of_pycocotools():
    assert coco_lengths(TEXT, "x") == runs_by_column(BLOB)


def test_pycocotools_agrees():
    coco = pytest.importorskip("pycocotools.mask", reason="pycocotools is not installed")
    generator = np.random.default_rng(0)
    for share in (0.0, 0.001, 0.5, 0.999, 1.0):
        mask = generator.random((97, 143)) < share
        text = coco.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"].decode()
        lengths = run_lengths(coco_lengths(text, "x"), mask.size, "x")
        assert lengths.tolist() == runs_by_column(mask)
        assert (Runs(lengths, mask.shape, by_column=True).cover(mask.shape).mask == mask).all()


def test_row_by_row_there_and_back():
    for mask in (BLOB, ~BLOB, np.ones((2, 3), bool), np.zeros((2, 3), bool)):
        assert (Runs(lengths_of(mask), mask.shape).cover(mask.shape).mask == mask).all()


def test_a_brush_is_painted_from_half_on():
    assert (brush_mask(BRUSH, BLOB.shape, "x") == BLOB).all()


def packed(bits):
    bits += "0" * (-len(bits) % 8)
    return [int(bits[i : i + 8], 2) for i in range(0, len(bits), 8)]


HEAD = f"{16:032b}" + f"{7:05b}" + "0010" + "0011" + "0111" + "1111"  # 16 values of 8 bits: a picture of 2x2


def test_a_brush_of_literal_values():
    alphas = [255, 0, 128, 127]
    values = "".join(f"{each:08b}" for alpha in alphas for each in (1, 2, 3, alpha))
    bits = HEAD + "0" + "01" + f"{15:04b}" + values
    assert (brush_mask(packed(bits), (2, 2), "x") == [[True, False], [True, False]]).all()


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ([], "ends too early"),
        (BRUSH[:-2], "ends too early"),
        (BRUSH[:20], "ends too early"),
        ([300, *BRUSH[1:]], "no bytes"),
        ([0, 0, 0, 215, *BRUSH[4:]], "a brush of 215 values where 9x6 has 216"),
        (packed(f"{216:032b}" + f"{15:05b}" + "0" * 60), "16 bits a value"),
        (packed(f"{216:032b}" + HEAD[32:] + "1" + "11" + f"{216:016b}" + "0" * 8), "reach beyond the picture"),
    ],
)
def test_a_brush_that_is_broken_is_refused(data, says):
    with pytest.raises(DataError, match=f"here: .*{says}"):
        brush_mask(data, BLOB.shape, "here")


@pytest.mark.parametrize("lengths", [[], [53], [55], [-1, 55], [60, -6], [2**80]])
def test_lengths_that_do_not_add_up_are_refused(lengths):
    with pytest.raises(DataError, match=r"here: run lengths (for \d+ pixels where the mask has 54|below 0)"):
        run_lengths(lengths, 54, "here")


@pytest.mark.parametrize("text", ["é", " ", "\x10", "P", "PPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPP0", "5\x00"])
def test_text_that_is_none_of_cocos_is_refused(text):
    with pytest.raises(DataError, match="here: run lengths"):
        coco_lengths(text, "here")
