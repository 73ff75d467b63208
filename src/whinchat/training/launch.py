"""Read the number of training processes and the rank of this process from the variables of ``accelerate launch``.

Reading this loads no torch, so the command line can ask before anything else.
"""

import os


def world_size() -> int:
    """Return the number of processes that train together."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def process_rank() -> int:
    """Return this process's number, from 0; process 0 is the one that writes."""
    return int(os.environ.get("RANK", "0"))
