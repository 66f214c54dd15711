"""Robots' messages and recordings: what goes in and out of ROS, without ROS installed."""
