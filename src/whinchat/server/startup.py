"""Find the runs of a server and open its address, before a model or its libraries are loaded."""

import socket
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from whinchat.errors import RunError
from whinchat.hub.client import fetch_classifier
from whinchat.server import SERVER_PACKAGES
from whinchat.storage.locate import SavedClassifier, find_classifier
from whinchat.storage.student_files import require_student


def require_server_packages() -> None:
    """Check that the packages of the extra ``serve`` are installed.

    Raises:
        RunError: a package is missing.
    """
    if missing := [package for package in SERVER_PACKAGES if find_spec(package) is None]:
        raise RunError(f"serve: needs {', '.join(missing)}; pip install 'whinchat[serve]'")


def find_runs(runs: Mapping[str, Path]) -> tuple[dict[str, Path], dict[str, SavedClassifier]]:
    """Return the folder and the classifier of each run, by the names of ``runs``.

    Raises:
        HubError: the hub has no such classifier, or cannot be reached.
        RunError: a folder holds no classifier, a student does not fit, or the runs have different backbones.
    """
    paths = {name: fetch_classifier(path) for name, path in runs.items()}
    saved = {name: find_classifier(path, with_questions=True) for name, path in paths.items()}
    for classifier in saved.values():
        require_student(classifier.folder)
    first = next(iter(saved))
    for name, classifier in saved.items():
        if _backbone_key(classifier) != _backbone_key(saved[first]):
            raise RunError(
                f"{paths[name]}: its backbone is not that of {paths[first]}; one server holds one backbone, so start "
                "another server for this run"
            )
    return paths, saved


def _backbone_key(saved: SavedClassifier) -> Any:
    """Return what two classifiers must have in common to share weights; each may cut prompts at its own length."""
    return saved.recipe.backbone.model_copy(update={"max_prompt_tokens": 0}), saved.has_adapter or saved.folder


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens on the address, so that an unusable address is found before a model is loaded."""
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, kind)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        # Listening from now on: a client that connects as soon as it knows the address is not refused.
        listening.listen(2048)
    except OSError as fault:
        raise RunError(
            f"{host}:{port}: cannot be listened on ({fault.strerror}); choose another --port or --host"
        ) from None
    return listening
