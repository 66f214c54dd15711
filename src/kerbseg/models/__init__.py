"""All networks. Importing this module registers every family."""

from kerbseg.core.limits import MOST_OUTPUTS
from kerbseg.models import (
    ddrnet,
    efficientseg,
    enet,
    erfnet,
    erfnet_grouped,
    espnet,
    fast_scnn,
    kerbnet,
    liteseg,
    mininet,
    mininet_ladder,
    mininet_v1,
    pidnet,
    pp_liteseg,
    segnet,
    unet,
)
from kerbseg.models._input import channels_last, pad_to_stride, padded_size
from kerbseg.models._net import SegmentationNet
from kerbseg.models._registry import Card, card, create_model, list_models, register
from kerbseg.models._unpooling import use_shuffles, use_slices

__all__ = [
    "MOST_OUTPUTS",
    "Card",
    "SegmentationNet",
    "card",
    "channels_last",
    "create_model",
    "ddrnet",
    "efficientseg",
    "enet",
    "erfnet",
    "erfnet_grouped",
    "espnet",
    "fast_scnn",
    "kerbnet",
    "list_models",
    "liteseg",
    "mininet",
    "mininet_ladder",
    "mininet_v1",
    "pad_to_stride",
    "padded_size",
    "pidnet",
    "pp_liteseg",
    "register",
    "segnet",
    "unet",
    "use_shuffles",
    "use_slices",
]
