"""A node of ROS 2 around kerbseg.Predictor."""
