"""Keyframes of a sequence, and which frames to send."""
