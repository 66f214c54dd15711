"""One bound on what a network looks at, in cards, options and recipes alike."""

from dataclasses import replace

import pytest

from kerbseg.bundle import random_bundle
from kerbseg.cli.options import parse_size
from kerbseg.core.errors import KerbsegError
from kerbseg.core.labels import label_set
from kerbseg.train import recipe_file


def test_no_place_takes_a_size_that_another_refuses():
    card = random_bundle("erfnet", label_set("camvid")).card
    assert replace(card, input_size=(2160, 3840)).input_size == parse_size("2160x3840") == (2160, 3840)
    assert recipe_file.read("zoo/mininet_v2_cpu", ["data.size=[2160,3840]"]).data.size == (2160, 3840)
    for refused in (
        lambda: replace(card, input_size=(4320, 7680)),
        lambda: parse_size("4320x7680"),
        lambda: recipe_file.read("zoo/mininet_v2_cpu", ["data.size=[4320,7680]"]),
    ):
        with pytest.raises(KerbsegError, match="8,388,608"):
            refused()
