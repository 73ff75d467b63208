"""Bound the time and the memory that a stranger's tokenizer or chat template takes, before either is used.

Both are programs: patterns that backtrack, replacements that grow a text, loops of Jinja. A process of its own, with
limits that it cannot exceed, tries them out on hard texts.
"""

import hashlib
import json
import signal
import subprocess
import sys
from collections.abc import Mapping

from whinchat.prompts import trial_script

SECONDS = 10
# Address space, of which shared libraries and the stacks of threads reserve more than they use.
_MEGABYTES = 4096
# Waiting for a busy machine takes time, but no processor time.
_WALL_SECONDS = 120
_TOO_SLOW = f"it takes more than {SECONDS} seconds of processor time for texts of 2,000 characters"
_OUT_OF_TIME = {-getattr(signal, name, 0) for name in ("SIGXCPU", "SIGKILL")} - {0}
# Digests of what has passed: a model is often loaded more than once.
_passed: set[bytes] = set()


def tokenizer_fault(content: bytes) -> str:
    """Return why the tokenizer.json with this ``content`` must not be used; an empty string if it may be."""
    return _fault("tokenizer", content)


def template_fault(source: str, variables: Mapping[str, object]) -> str:
    """Return why a chat template must not be used; an empty string if it may be.

    Args:
        source: the Jinja source.
        variables: what it may read besides the messages, such as ``bos_token``.
    """
    return _fault("template", json.dumps({"source": source, "variables": dict(variables)}).encode())


def _fault(kind: str, content: bytes) -> str:
    digest = hashlib.sha256(kind.encode() + content).digest()
    if digest in _passed:
        return ""
    # -P: no file in the working folder stands in for a library.
    command = [sys.executable, "-P", trial_script.__file__, kind, str(SECONDS), str(_MEGABYTES)]
    try:
        done = subprocess.run(command, input=content, capture_output=True, timeout=_WALL_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return _TOO_SLOW
    said = done.stdout.decode(errors="replace").strip()
    if said == trial_script.PASSED:
        _passed.add(digest)
        return ""
    return said or _ending(done)


def _ending(done: subprocess.CompletedProcess[bytes]) -> str:
    """Return why the process ended before it said anything."""
    if done.returncode in _OUT_OF_TIME:
        return _TOO_SLOW
    if done.returncode < 0:  # a library ends the process where it gets no memory
        return f"it takes more than {_MEGABYTES} MB of memory, or crashes ({signal.strsignal(-done.returncode)})"
    lines = done.stderr.decode(errors="replace").strip().splitlines()
    return f"it fails on a text of 2,000 characters ({lines[-1] if lines else f'exit code {done.returncode}'})"
