"""The ROS boundary: messages, parameters, topics and the node."""
