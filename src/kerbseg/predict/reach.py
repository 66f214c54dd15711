"""How far networks look: pixels beyond that distance change nothing of what they say of a pixel."""

from __future__ import annotations

from collections.abc import Mapping

from kerbseg.runtime import Runtime

_ERFNET = """
    erfnet erfnet_d_all erfnet_dg2_all erfnet_dg4_all erfnet_dg8_all erfnet_dg2s_all erfnet_dg4s_all erfnet_dg8s_all
    erfnet_d erfnet_dg2 erfnet_dg4 erfnet_dg8 erfnet_dg2s erfnet_dg4s erfnet_dg8s
"""

REACH: Mapping[str, int] = {
    **dict.fromkeys(_ERFNET.split(), 616),
    "enet": 624,
    "kerbnet_s": 154,
    "kerbnet_m": 154,
    "segnet_basic": 86,
    "segnet": 171,
}
"""Pixels, by the name of a network: where none lies nearer to a pixel than that, it does not matter what is there.

Measured by putting NaN into the input and looking how far it comes (tests/predict/test_predict_reach.py). Networks that
pool over the whole picture have no such number, nor have those whose interpolations align corners: what they say of a
pixel depends on the picture's size.
"""


def reach_of(runtime: Runtime) -> int | None:
    """How far the network of a runtime looks, in pixels; None where there is no such number, or nobody knows it."""
    if getattr(runtime, "foreign", None) is not None:  # of another house, whatever it is called
        return None
    if any(option != "grouped" for option in runtime.card.options):  # groups of channels change no distance
        return None
    return REACH.get(runtime.card.model)
