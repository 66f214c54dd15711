"""Prediction for pictures, folders, videos and streams of any size."""

from kerbseg.predict.predictor import Predictor, predict_files
from kerbseg.predict.sources.streams import RawFrames
from kerbseg.predict.video import VideoOptions, VideoReport

__all__ = ["Predictor", "RawFrames", "VideoOptions", "VideoReport", "predict_files"]
