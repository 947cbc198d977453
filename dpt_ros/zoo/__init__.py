"""Trained networks: what is known of each, and how its file becomes a network."""
