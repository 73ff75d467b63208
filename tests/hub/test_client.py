"""Uploads to a local hub through huggingface_hub's own client, and classifiers downloaded from it."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.hub_server import OWNER, TOKEN, Hub, Repository, in_this_process, serve
from whinchat.errors import HubError, OutputError
from whinchat.hub import client
from whinchat.hub.client import RepositoryFile, connect_to_hub, fetch_classifier, upload_files

# Nothing listens there.
NOBODY = "http://127.0.0.1:9"
REPO = f"{OWNER}/words"
CARD = RepositoryFile("README.md", b"---\nlanguage: en\n---\n\n# words\n")
FILES = (CARD, RepositoryFile("recipe.yaml", b"name: words\n"), RepositoryFile("adapter_model.safetensors", b"weights"))


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A local hub that this process is logged in to."""
    with serve() as hub:
        in_this_process(hub, tmp_path, monkeypatch)
        yield hub


def push(repo: str = REPO, files: tuple[RepositoryFile, ...] = FILES, private: bool | None = None) -> str:
    return upload_files(connect_to_hub(repo), repo, files, "a push", private)


def written(hub: Hub) -> list[str]:
    return [request for request in hub.asked if not request.startswith(("GET", "HEAD"))]


def test_one_commit(hub: Hub) -> None:
    assert push() == f"{hub.url}/{REPO}"
    repository = hub.repositories[REPO]
    assert repository.private is False
    assert len(repository.commits) == 2
    assert repository.files == {file.path: file.content for file in FILES}
    # The card is validated before the repository is created.
    assert written(hub)[:2] == ["POST /api/validate-yaml", "POST /api/repos/create"]


def test_what_tells_of_another_run_goes(hub: Hub) -> None:
    push(private=True)
    repository = hub.repositories[REPO]
    assert repository.private is True
    old = {"figures/old.png": b"", "trust.json": b"", "calibration.json": b""}
    own = {"notes.txt": b"mine", "adapter/other": b"mine"}
    repository.add({**repository.files, **old, **own})
    push(private=True)
    assert repository.files == {file.path: file.content for file in FILES} | own


def test_a_public_repository_does_not_take_what_is_private(hub: Hub) -> None:
    hub.repositories[REPO] = Repository()
    with pytest.raises(
        HubError,
        match=f"{REPO}: not pushed: the repository exists already and is public, and a push does not change that",
    ):
        push(private=True)
    assert hub.repositories[REPO].files == {}


def test_a_card_that_does_not_validate_stays(hub: Hub) -> None:
    bad = (RepositoryFile("README.md", b"---\nlanguage: Tweetish\n---\n"), *FILES[1:])
    with pytest.raises(HubError, match=f"{REPO}: not pushed: the hub rejects the metadata of the card: .*'Tweetish'"):
        push(files=bad)
    assert written(hub) == ["POST /api/validate-yaml"]


@pytest.mark.parametrize(
    ("token", "repo", "message"),
    [
        ("", REPO, "there is no token for the hub; log in with `hf auth login`, or set HF_TOKEN"),
        ("hf_wrong", REPO, "not pushed: the hub does not accept the token; log in again with `hf auth login`"),
        ("hf_with blank", REPO, "the token holds characters that no token has"),
        (TOKEN, "bob/words", "not pushed: the token has no write access to bob; use a token that has"),
        (TOKEN, "words", "is not a repository name; write OWNER/NAME"),
        (TOKEN, "a/b/c", "is not a repository name: "),
    ],
)
def test_refusals(hub: Hub, monkeypatch: pytest.MonkeyPatch, token: str, repo: str, message: str) -> None:
    monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(HubError) as fault:
        push(repo)
    message_text = str(fault.value)
    assert message_text.startswith(f"{repo}: {message}")
    assert "\n" not in message_text
    assert not token or token not in message_text
    assert hub.repositories == {}


def test_what_breaks_on_the_way(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.refuses_uploads = True
    with pytest.raises(HubError, match=rf"{REPO}: not pushed: the upload failed: .*Storage quota exceeded.*try again"):
        push()
    assert hub.repositories[REPO].files == {}
    hub.refuses_uploads, hub.breaks = False, True
    with pytest.raises(HubError) as fault:
        push()
    # This hub repeats the token in its answer.
    assert str(fault.value) == f"{REPO}: not pushed: the hub answered: I broke, Bearer ***"
    with monkeypatch.context() as offline:
        offline.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        with pytest.raises(HubError, match=f"^{REPO}: not pushed: HF_HUB_OFFLINE is set"):
            push()
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", NOBODY)
    with pytest.raises(
        HubError, match=rf"^{REPO}: not pushed: the hub cannot be reached \(ConnectError\); check the network"
    ):
        push()


def test_fetched_by_name_and_revision(hub: Hub) -> None:
    push()
    first = hub.repositories[REPO].main
    push(files=(CARD, RepositoryFile("recipe.yaml", b"name: other\n"), RepositoryFile("figures/a.png", b"")))
    found = fetch_classifier(REPO)
    assert (found / "recipe.yaml").read_bytes() == b"name: other\n"
    assert not (found / "figures").exists()
    assert (fetch_classifier(f"{REPO}@{first}") / "recipe.yaml").read_bytes() == b"name: words\n"


def test_fetched_once_it_is_there_without_the_hub(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    push()
    found = fetch_classifier(REPO)
    hub.url = NOBODY
    in_this_process(hub, tmp_path, monkeypatch)
    assert fetch_classifier(REPO) == found
    with pytest.raises(
        HubError, match=f"^{OWNER}/other: there is no such folder here, the hub cannot be reached, and its local cache"
    ):
        fetch_classifier(f"{OWNER}/other")


def test_a_full_disk_is_not_taken_for_a_broken_network(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    push()

    def full(**_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(client, "snapshot_download", full)
    with pytest.raises(OutputError, match=r"hub: cannot be written \(No space left on device\); free some space"):
        fetch_classifier(REPO)


def test_folders_come_first(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    # Typing errors in a path must not reach the hub.
    for name in ("runs", "runs/dmeo", "./dmeo", "../dmeo", "/nowhere/at/all", "dmeo", "a/b/c"):
        assert fetch_classifier(name) == Path(name)
    assert hub.asked == []


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (f"{OWNER}/nothing", "there is no such folder here and no such repository on the hub"),
        (f"{OWNER}/model", "the repository has no recipe.yaml, so `whinchat push` did not make it"),
        (f"{OWNER}/model@v9", "the repository has no revision v9"),
    ],
)
def test_names_that_lead_nowhere(hub: Hub, name: str, message: str) -> None:
    hub.repositories[f"{OWNER}/model"] = Repository()
    with pytest.raises(HubError) as fault:
        fetch_classifier(name)
    assert str(fault.value).startswith(f"{name}: {message}")


def test_what_is_private_is_hidden_from_others(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    push(private=True)
    assert (fetch_classifier(REPO) / "recipe.yaml").is_file()
    hub.repositories[f"{OWNER}/secret"] = Repository(private=True)
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(HubError, match="`hf auth login` if the repository is private"):
        fetch_classifier(f"{OWNER}/secret")
