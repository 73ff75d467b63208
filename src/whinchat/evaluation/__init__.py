"""Evaluation: label scores, free generation, and the figures drawn from them."""
