"""The three networks that LiteSeg stands on, each usable as an ImageNet classifier too."""

from kerbseg.models.backbones._common import Backbone, Classifier
from kerbseg.models.backbones.darknet19 import Darknet19, darknet19_classifier
from kerbseg.models.backbones.mobilenet_v2 import MobileNetV2, mobilenet_v2_classifier
from kerbseg.models.backbones.shufflenet import ShuffleNet, shufflenet_classifier

__all__ = [
    "Backbone",
    "Classifier",
    "Darknet19",
    "MobileNetV2",
    "ShuffleNet",
    "darknet19_classifier",
    "mobilenet_v2_classifier",
    "shufflenet_classifier",
]
