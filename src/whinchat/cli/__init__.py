"""The ``whinchat`` command: parse, call, print, exit code. Importing it loads no torch."""

from whinchat.cli.app import main

__all__ = ["main"]
