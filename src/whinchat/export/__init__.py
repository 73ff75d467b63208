"""Trained classifiers in the formats of other programs, each proved to answer like the classifier."""
