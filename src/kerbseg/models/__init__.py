"""All networks. Importing this module registers every family."""

from kerbseg.models import erfnet, mininet
from kerbseg.models._blocks import pad_to_stride
from kerbseg.models._registry import Card, SegmentationNet, card, create_model, list_models, register

__all__ = [
    "Card",
    "SegmentationNet",
    "card",
    "create_model",
    "erfnet",
    "list_models",
    "mininet",
    "pad_to_stride",
    "register",
]
