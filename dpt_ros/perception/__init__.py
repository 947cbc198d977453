"""Image in, metric maps out, on one device: torch and NumPy, no ROS."""
