"""Download classifiers from the Hugging Face hub, and upload files to it in one commit."""

import errno
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from httpx2 import HTTPError
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, ModelCard, get_token, snapshot_download
from huggingface_hub.constants import HF_HUB_CACHE
from huggingface_hub.errors import (
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils._validators import validate_repo_id

from whinchat.errors import HubError
from whinchat.evaluation.cascade_results import CASCADE_FILES
from whinchat.output_files import writing
from whinchat.storage.run_folder import RunFolder

HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*")
CARD = "README.md"
# Files that predicting does not need.
_NOT_DOWNLOADED = ["figures/*", "*.html"]
# What the system says of the cache's disk, and not of the network.
_DISK_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.ENOTDIR, errno.EIO}
# The characters that a token may have. An HTTP header cannot hold any other, and the error for one quotes the token.
_TOKEN = re.compile(r"[\x21-\x7e]+")


@dataclass(frozen=True)
class RepositoryFile:
    """A file of a hub repository.

    Attributes:
        path: its path in the repository, with ``/`` between folders.
        content: its bytes, or the path of a local file that holds them.
    """

    path: str
    content: bytes | Path

    @property
    def size(self) -> int:
        """Size in bytes."""
        return len(self.content) if isinstance(self.content, bytes) else self.content.stat().st_size

    def read(self) -> bytes:
        """Return the file's bytes."""
        return self.content if isinstance(self.content, bytes) else self.content.read_bytes()


def fetch_classifier(source: str | Path) -> Path:
    """Return the folder of a classifier, downloading it from the hub if need be.

    Args:
        source: a folder, which is returned unchanged; or OWNER/NAME or OWNER/NAME@REVISION on the hub. A name whose
            first part is a local folder counts as a path, so a typing error in ``runs/NAME`` never reaches the hub.

    Returns:
        ``source`` itself, or the snapshot in huggingface_hub's cache.

    Raises:
        HubError: the hub has no such repository or revision, the repository was not made by whinchat, or the hub
            cannot be reached and the cache does not hold the repository.
        OutputError: the cache of the hub cannot be written.
    """
    path = Path(source)
    name, _, revision = str(source).partition("@")
    if path.exists() or not HUB_ID.fullmatch(name) or Path(name).parent.is_dir():
        return path

    repository: dict[str, Any] = {"repo_id": name, "revision": revision or None}
    try:
        # The file list comes first: other repositories may be huge, and this request fails at once without a network.
        info = HfApi().model_info(**repository, timeout=10)
        if any(file.rfilename == "recipe.yaml" for file in info.siblings or ()):
            return Path(snapshot_download(**repository, ignore_patterns=_NOT_DOWNLOADED))
        reason = "the repository has no recipe.yaml, so `whinchat push` did not make it; name a repository that it made"
    except RepositoryNotFoundError:
        reason = (
            "there is no such folder here and no such repository on the hub; check the name, or log in with "
            "`hf auth login` if the repository is private"
        )
    except RevisionNotFoundError:
        reason = f"the repository has no revision {revision}; name a branch, a tag or a commit that it has"
    except HfHubHTTPError as error:
        reason = f"the hub answered: {_error_text(error)}"
    except (HTTPError, OSError) as error:
        if getattr(error, "errno", None) in _DISK_ERRORS:
            with writing(Path(HF_HUB_CACHE)):
                raise
        try:
            return Path(snapshot_download(**repository, ignore_patterns=_NOT_DOWNLOADED, local_files_only=True))
        except LocalEntryNotFoundError:
            reason = (
                "there is no such folder here, the hub cannot be reached, and its local cache does not hold this "
                "repository; check the name and the network"
            )
    raise HubError(f"{source}: {reason}") from None


def connect_to_hub(repo_id: str, token: str | None = None) -> HfApi:
    """Return a client of the hub that can write to ``repo_id``; no request is sent yet.

    Args:
        repo_id: OWNER/NAME.
        token: an access token; by default the one that ``hf auth login`` or HF_TOKEN has set.

    Raises:
        HubError: ``repo_id`` is not a valid repository name, or there is no usable token.
    """
    require_repo_id(repo_id)
    token = token or get_token()
    if token is None:
        raise HubError(f"{repo_id}: there is no token for the hub; log in with `hf auth login`, or set HF_TOKEN")
    if not _TOKEN.fullmatch(token):
        raise HubError(
            f"{repo_id}: the token holds characters that no token has; store a valid token with `hf auth login`"
        )
    return HfApi(token=token)


def require_repo_id(repo_id: str) -> None:
    """Raise an error unless ``repo_id`` is a valid repository name.

    Raises:
        HubError: ``repo_id`` does not read OWNER/NAME, or contains characters that the hub does not allow.
    """
    try:
        validate_repo_id(repo_id)
    except HFValidationError as error:
        raise HubError(f"{repo_id}: is not a repository name: {' '.join(str(error).split())}") from None
    if not HUB_ID.fullmatch(repo_id):
        raise HubError(f"{repo_id}: is not a repository name; write OWNER/NAME, as in ann/tweet-sentiment")


def upload_files(
    api: HfApi, repo_id: str, files: Sequence[RepositoryFile], message: str, private: bool | None = None
) -> str:
    """Upload ``files`` to the model repository ``repo_id`` in one commit, and return the repository's address.

    The commit deletes the files of an earlier upload that are not among ``files``, so that no figure of an old run
    stays beside a new model. Files that whinchat did not write are kept.

    Args:
        api: a client from ``connect_to_hub``.
        repo_id: OWNER/NAME; created if it does not exist.
        files: the files to upload; the model card is one of them.
        message: the commit message.
        private: visibility of a new repository; None takes the owner's default. An existing repository keeps its own.

    Raises:
        HubError: the hub rejects the card's metadata, the repository is public although ``private`` is true, the hub
            refuses the upload, or it cannot be reached. No file is uploaded then.
    """
    owner = repo_id.partition("/")[0]
    refusals = {
        401: "the hub does not accept the token; log in again with `hf auth login`",
        403: f"the token has no write access to {owner}; use a token that has, or a repository of your own",
    }
    try:
        return _commit_files(api, repo_id, files, message, private)
    except HfHubHTTPError as error:
        reason = refusals.get(error.response.status_code) or f"the hub answered: {_error_text(error)}"
    except OfflineModeIsEnabled:
        reason = "HF_HUB_OFFLINE is set; unset it to push"
    # Only the name of the error: its text may quote the request's headers, and with them the token.
    except HTTPError as error:
        reason = f"the hub cannot be reached ({type(error).__name__}); check the network and try again"
    except (OSError, RuntimeError, ValueError) as error:
        reason = f"the upload failed: {_error_text(error.__cause__ or error)}; try again"
    raise HubError(f"{repo_id}: not pushed: {reason}".replace(str(api.token), "***")) from None


def _commit_files(api: HfApi, repo_id: str, files: Sequence[RepositoryFile], message: str, private: bool | None) -> str:
    """Check the card, create the repository and commit the files; errors of huggingface_hub pass through."""
    card = next(file for file in files if file.path == CARD)
    try:
        ModelCard(card.read().decode()).validate()
    except ValueError as error:
        raise HubError(
            f"{repo_id}: not pushed: the hub rejects the metadata of the card: {' '.join(str(error).split())}"
        ) from None
    api.create_repo(repo_id, private=private, exist_ok=True)
    if private and not api.model_info(repo_id).private:
        raise HubError(
            f"{repo_id}: not pushed: the repository exists already and is public, and a push does not change that; "
            "make it private in its settings on the hub, or choose another name"
        )
    uploaded = {file.path for file in files}
    stale = [path for path in api.list_repo_files(repo_id) if path not in uploaded and _is_replaced(path)]
    operations: list[CommitOperationAdd | CommitOperationDelete] = [
        *(CommitOperationAdd(file.path, file.content) for file in files),
        *(CommitOperationDelete(path) for path in stale),
    ]
    return str(api.create_commit(repo_id, operations, commit_message=message).repo_url)


def _is_replaced(path: str) -> bool:
    """Whether a file in a repository comes from an earlier upload, and would describe or calibrate another model."""
    names = {file.name for file in RunFolder(Path()).public_files}
    return PurePosixPath(path).parts[0] in names | {
        "base_model.json",
        "calibration.json",
        *CASCADE_FILES,
        "checksums.json",
        "classifier.json",
    }


def _error_text(error: BaseException) -> str:
    """Return the hub's own message, or else the error's text, on one line."""
    message = getattr(error, "server_message", None)
    return message or " ".join(str(error).split()) or type(error).__name__
