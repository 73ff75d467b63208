"""Evaluation: label scores, free generation, metrics, calibration, and the reliability report."""
