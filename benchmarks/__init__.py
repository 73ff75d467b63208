"""whinchat and its peers, measured side by side on this machine: ``make bench``, or ``python -m benchmarks --help``."""
