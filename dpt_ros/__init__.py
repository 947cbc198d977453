"""Dense Prediction Transformers for ROS 2: metric depth, labels and labelled point clouds."""

__version__ = '0.1.0'
