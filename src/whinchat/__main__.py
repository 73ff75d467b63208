"""Run the command line by ``python -m whinchat``, as ``accelerate launch -m whinchat`` does."""

import os
import sys

try:
    folder = os.getcwd()  # noqa: PTH109  # the string that Python put on the path
except FileNotFoundError:  # the working folder was deleted
    folder = ""
# ``python -m`` puts the working folder first on the path, where any file could stand in for a library.
if not sys.flags.safe_path and sys.path[0] in ("", folder):
    del sys.path[0]

from whinchat.cli.app import main

if __name__ == "__main__":
    main()
