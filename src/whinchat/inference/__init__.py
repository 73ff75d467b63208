"""Prediction with a trained classifier: for texts in memory, and for files, in one process or through Ray."""
