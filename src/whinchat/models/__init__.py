"""The model: backbone, adapter, and the one forward pass used everywhere."""
