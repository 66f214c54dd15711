"""Prediction for pictures, folders, videos and streams of any size."""

from kerbseg.predict.predictor import Predictor, predict_files
from kerbseg.predict.streams import RawFrames
from kerbseg.predict.video import Film, FilmReport

__all__ = ["Film", "FilmReport", "Predictor", "RawFrames", "predict_files"]
