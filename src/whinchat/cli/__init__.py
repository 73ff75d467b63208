"""The ``whinchat`` command line: a command parses its options, calls one function of whinchat, and prints the result.

Importing this package loads no torch, so that ``whinchat --help`` is quick.
"""

from whinchat.cli.app import main

__all__ = ["main"]
