"""Measures whinchat and its peers side by side on this machine: ``make bench``, or ``python -m benchmarks --help``."""
