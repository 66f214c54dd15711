"""Prediction of pictures, folders, videos and streams: source -> predictor -> (vote over time) -> sinks."""

from kerbseg.core.classes import write_classes
from kerbseg.predict.drawings import Style
from kerbseg.predict.files import Unfinished, predict_files
from kerbseg.predict.prediction import Prediction
from kerbseg.predict.predictor import Predictor
from kerbseg.predict.reports import PictureReport, VideoReport
from kerbseg.predict.roi import Roi, RoiSegmenter
from kerbseg.predict.sinks import SINKS, SinkKind
from kerbseg.predict.sources import SOURCES, Frame, RawFrames, Source, SourceKind, Stamp
from kerbseg.predict.videos import VideoOptions, segment_video, video

__all__ = [
    "SINKS",
    "SOURCES",
    "Frame",
    "PictureReport",
    "Prediction",
    "Predictor",
    "RawFrames",
    "Roi",
    "RoiSegmenter",
    "SinkKind",
    "Source",
    "SourceKind",
    "Stamp",
    "Style",
    "Unfinished",
    "VideoOptions",
    "VideoReport",
    "predict_files",
    "segment_video",
    "video",
    "write_classes",
]
