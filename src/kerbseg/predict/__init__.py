"""Prediction for pictures, folders and videos of any size."""

from kerbseg.predict.predictor import Predictor, predict_files

__all__ = ["Predictor", "predict_files"]
