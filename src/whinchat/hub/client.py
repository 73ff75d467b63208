"""The Hugging Face hub: classifiers fetched from it, and files sent there in one commit."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from httpx2 import HTTPError
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, ModelCard, get_token, snapshot_download
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
from whinchat.storage.run_folder import RunFolder

HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*")
CARD = "README.md"
# What is of no use for labelling.
_NOT_FETCHED = ["figures/*", "*.html"]
# No token holds anything else, and what a header cannot hold would be told in an error, token and all.
_TOKEN = re.compile(r"[\x21-\x7e]+")


@dataclass(frozen=True)
class RepositoryFile:
    """One file to be sent: its ``path`` in the repository, and its bytes or where they lie."""

    path: str
    content: bytes | Path

    @property
    def size(self) -> int:
        """In bytes."""
        return len(self.content) if isinstance(self.content, bytes) else self.content.stat().st_size

    def read(self) -> bytes:
        """Its bytes."""
        return self.content if isinstance(self.content, bytes) else self.content.read_bytes()


def fetch_classifier(source: str | Path) -> Path:
    """The folder ``source``; or, where it reads OWNER/NAME or OWNER/NAME@REVISION and is no folder, the classifier that
    the hub has by this name, in the hub library's cache.

    A name whose first part is a folder here is a path, so that a slip in ``runs/NAME`` asks nobody.

    Raises:
        HubError: no such repository, none of whinchat's, or the hub is out of reach and the cache does not have it.
    """
    path = Path(source)
    name, _, revision = str(source).partition("@")
    if path.exists() or not HUB_ID.fullmatch(name) or Path(name).parent.is_dir():
        return path

    asked: dict[str, Any] = {"repo_id": name, "revision": revision or None}
    try:
        # Looked at first: other repositories are of any size, and this gives up at once where the hub is out of reach.
        info = HfApi().model_info(**asked, timeout=10)
        if any(one.rfilename == "recipe.yaml" for one in info.siblings or ()):
            return Path(snapshot_download(**asked, ignore_patterns=_NOT_FETCHED))
        reason = "the repository holds no recipe.yaml, so it is none that `whinchat push` made"
    except RepositoryNotFoundError:
        reason = (
            "no such folder here, and no such repository on the hub, or a private one; `hf auth login` shows you yours"
        )
    except RevisionNotFoundError:
        reason = f"the repository has no revision {revision}"
    except HfHubHTTPError as fault:
        reason = f"the hub answered: {_said(fault)}"
    except (HTTPError, OSError):
        try:
            return Path(snapshot_download(**asked, ignore_patterns=_NOT_FETCHED, local_files_only=True))
        except LocalEntryNotFoundError:
            reason = "no such folder here, and the hub is out of reach and its cache does not have it"
    raise HubError(f"{source}: {reason}") from None


def connect_to_hub(repo_id: str, token: str | None = None) -> HfApi:
    """The hub's client, with what it takes to write to ``repo_id``; nothing is asked yet.

    Args:
        repo_id: OWNER/NAME.
        token: the hub library's own by default.

    Raises:
        HubError: the name can be no repository's, or there is no token.
    """
    require_repo_id(repo_id)
    token = token or get_token()
    if token is None:
        raise HubError(f"{repo_id}: no token for the hub; log in with `hf auth login`, or set HF_TOKEN")
    if not _TOKEN.fullmatch(token):
        raise HubError(f"{repo_id}: the token holds characters that no token has; `hf auth login` stores another")
    return HfApi(token=token)


def require_repo_id(repo_id: str) -> None:
    """Check that ``repo_id`` can be a repository's.

    Raises:
        HubError: it does not read OWNER/NAME, or holds what the hub does not allow.
    """
    try:
        validate_repo_id(repo_id)
    except HFValidationError as fault:
        raise HubError(f"{repo_id}: no name for a repository: {' '.join(str(fault).split())}") from None
    if not HUB_ID.fullmatch(repo_id):
        raise HubError(f"{repo_id}: no name for a repository; it must read OWNER/NAME, as in ann/tweet-sentiment")


def upload_files(
    api: HfApi, repo_id: str, files: Sequence[RepositoryFile], message: str, private: bool | None = None
) -> str:
    """Put ``files`` into the model repository ``repo_id`` in one commit; its address.

    What an earlier push left there and this one does not bring goes, so that no figure outlives its run.

    Args:
        api: as ``connect`` gave it.
        repo_id: OWNER/NAME; made where it is not there.
        files: the card among them.
        message: of the commit.
        private: None as the owner has set it; a repository that is there is left as it is.

    Raises:
        HubError: the card does not validate, the repository is public and ``private`` was asked for, or the hub refuses
            or is out of reach. No file was sent then.
    """
    with _explained(repo_id, str(api.token)):
        card = next(one for one in files if one.path == CARD)
        try:
            ModelCard(card.read().decode()).validate()
        except ValueError as fault:
            raise HubError(
                f"{repo_id}: not pushed, for the hub refuses the card's metadata: {' '.join(str(fault).split())}"
            ) from None
        api.create_repo(repo_id, private=private, exist_ok=True)
        if private and not api.model_info(repo_id).private:
            raise HubError(
                f"{repo_id}: is there already and public, and asking for a private one would not change that; make it "
                "private in its settings, or choose another name"
            )
        sent = {one.path for one in files}
        stale = [path for path in api.list_repo_files(repo_id) if path not in sent and _is_replaced(path)]
        changes: list[CommitOperationAdd | CommitOperationDelete] = [
            *(CommitOperationAdd(one.path, one.content) for one in files),
            *(CommitOperationDelete(path) for path in stale),
        ]
        done = api.create_commit(repo_id, changes, commit_message=message)
    return str(done.repo_url)


def _is_replaced(path: str) -> bool:
    """Whether the file would tell of another run, or decide answers of one."""
    told = {one.name for one in RunFolder(Path()).told}
    return PurePosixPath(path).parts[0] in told | {"calibration.json", "classifier.json"}


@contextmanager
def _explained(repo_id: str, token: str) -> Iterator[None]:
    """Inside, what the hub's client raises becomes one line, without the token."""
    owner = repo_id.partition("/")[0]
    refusals = {
        401: "the hub does not accept the token; log in again with `hf auth login`",
        403: f"the token may not write there; take one with write access to {owner}, or a name of your own",
    }
    try:
        yield
    except HfHubHTTPError as fault:
        status = fault.response.status_code
        reason = refusals.get(status) or f"the hub answered: {_said(fault)}"
    except OfflineModeIsEnabled:
        reason = "HF_HUB_OFFLINE is set, so nothing can be pushed"
    # Nothing but its name: what a transport tells may hold the request's headers.
    except HTTPError as fault:
        reason = f"the hub is out of reach ({type(fault).__name__}); try again"
    except (OSError, RuntimeError, ValueError) as fault:
        reason = f"the upload failed: {_said(fault.__cause__ or fault)}; try again"
    else:
        return
    raise HubError(f"{repo_id}: not pushed: {reason}".replace(token, "***")) from None


def _said(fault: BaseException) -> str:
    """The hub's own words, or those of an error, on one line."""
    own = getattr(fault, "server_message", None)
    return own or " ".join(str(fault).split()) or type(fault).__name__
