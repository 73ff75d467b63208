"""Which architectures of transformers whinchat computes right, refuses, or computes fast; `make zoo` runs it."""
