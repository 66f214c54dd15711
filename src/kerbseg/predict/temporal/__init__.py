"""What follows from several frames of a video together."""
