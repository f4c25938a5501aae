"""PyTorch files on disk: checkpoints, archives, tensors, and the code that makes a module."""
