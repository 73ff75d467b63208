"""Models: backbone, adapters, and the one forward pass of training, scoring and generation."""
