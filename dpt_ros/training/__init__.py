"""Training: procedural worlds with exact ground truth, the losses of the paper, the loop."""
