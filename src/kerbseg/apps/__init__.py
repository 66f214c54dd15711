"""Thin applications on top of training, evaluation and prediction."""
