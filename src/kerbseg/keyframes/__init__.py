"""Keyframes: which frames of a sequence to keep for later recognition, and which to send to other robots.

After section VII-C and figure 4 of MiniNet-v2's paper and its reference [1] (Alonso, Riazuelo, Murillo, "Enhancing
V-SLAM Keyframe Selection with an Efficient ConvNet for Semantic Analysis", ICRA 2019), which choose frames by image
quality and semantics. How they do it was never published in code; what is done here is said in docs/keyframes.md.
"""

from kerbseg.keyframes.figures import Timeline, summary
from kerbseg.keyframes.formats import FORMATS
from kerbseg.keyframes.offline import coverage, dynamic_programming
from kerbseg.keyframes.quality import Measures, QualityMeter, measure, quality_of
from kerbseg.keyframes.scores import FrameScores, Scorer
from kerbseg.keyframes.selection import Keyframe, Options, Selector, select
from kerbseg.keyframes.semantics import Semantics, semantics_of
from kerbseg.keyframes.sequences import FrameSequence, open_sequence
from kerbseg.keyframes.stream import Kept, keyframes, scored
from kerbseg.keyframes.transmission import Decision, Outbox, TokenBucket, Transmitter

__all__ = [
    "FORMATS",
    "Decision",
    "FrameScores",
    "FrameSequence",
    "Kept",
    "Keyframe",
    "Measures",
    "Options",
    "Outbox",
    "QualityMeter",
    "Scorer",
    "Selector",
    "Semantics",
    "Timeline",
    "TokenBucket",
    "Transmitter",
    "coverage",
    "dynamic_programming",
    "keyframes",
    "measure",
    "open_sequence",
    "quality_of",
    "scored",
    "select",
    "semantics_of",
    "summary",
]
