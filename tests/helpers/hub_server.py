"""A hub on this machine: what huggingface_hub's client asks for, answered as the hub does.

Repositories are dictionaries of files, one for each commit. Large files go the way of git-lfs, so a client must have
``HF_HUB_DISABLE_XET`` set. Everything asked is kept in ``asked``.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
import yaml
from transformers.utils.hub import hf_api

TOKEN, OWNER = "hf_a-secret-that-nobody-may-see", "ann"
LANGUAGE = re.compile(r"[a-z]{2,3}|multilingual")


@dataclass
class Repository:
    """Its commits by their ids, the last of them ``main``."""

    private: bool = False
    commits: dict[str, dict[str, bytes]] = field(default_factory=lambda: {"0" * 40: {}})

    @property
    def main(self) -> str:
        return next(reversed(self.commits))

    @property
    def files(self) -> dict[str, bytes]:
        return self.commits[self.main]

    def add(self, files: Mapping[str, bytes]) -> str:
        commit = hashlib.sha1(f"{len(self.commits)}".encode()).hexdigest()
        self.commits[commit] = dict(files)
        return commit


@dataclass
class Hub:
    """What the server holds, and where it is."""

    url: str = ""
    repositories: dict[str, Repository] = field(default_factory=dict)
    large: dict[str, bytes] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    refuses_uploads: bool = False
    breaks: bool = False

    def environment(self, folder: Path, token: str | None = TOKEN) -> dict[str, str]:
        """Environment variables of a process that knows this hub alone; ``folder`` is its home."""
        known = {"HF_ENDPOINT": self.url, "HF_HOME": str(folder), "HF_HUB_DISABLE_XET": "1", "NO_PROXY": "127.0.0.1"}
        return known if token is None else {**known, "HF_TOKEN": token}


@contextmanager
def serve() -> Iterator[Hub]:
    """A hub, until the end of the block."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    hub.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()


def in_this_process(hub: Hub, home: Path, patch: pytest.MonkeyPatch) -> None:
    """Let huggingface_hub know this hub alone; it has read its environment when it was imported."""
    links = "/{repo_id}/resolve/{revision}/{filename}"
    values = {
        "ENDPOINT": hub.url, "HUGGINGFACE_CO_URL_TEMPLATE": hub.url + links, "HF_HUB_DISABLE_XET": True,
        "HF_HUB_CACHE": str(home / "cache"), "HF_TOKEN_PATH": str(home / "token"),
    }  # fmt: skip
    for name, value in values.items():
        patch.setattr(f"huggingface_hub.constants.{name}", value)
    # The client that transformers keeps.
    patch.setattr(hf_api(), "endpoint", hub.url)
    patch.setenv("HF_TOKEN", TOKEN)


class _Refused(Exception):
    def __init__(self, status: int, message: str, code: str = "", **content: Any) -> None:
        self.status, self.message, self.code, self.content = status, message, code, content


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        self._answer()

    do_HEAD = do_POST = do_PUT = do_GET

    def _answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.asked.append(f"{self.command} {path}")
        # A stream of unknown length comes in chunks.
        self.body = self._chunks() if self.headers.get("Transfer-Encoding") == "chunked" else self._bytes()
        try:
            for method, pattern, answer in _ROUTES:
                if method == self.command.replace("HEAD", "GET") and (found := re.fullmatch(pattern, path)):
                    answer(self, **found.groupdict())
                    return
            raise _Refused(404, "Sorry, we can't find the page you are looking for.")
        except _Refused as refused:
            headers = {"X-Error-Message": refused.message} | ({"X-Error-Code": refused.code} if refused.code else {})
            self._json({"error": refused.message, **refused.content}, refused.status, headers)

    def _bytes(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _chunks(self) -> bytes:
        found = b""
        while size := int(self.rfile.readline(), 16):
            found += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return found

    def _json(self, content: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> None:
        self._send(json.dumps(content).encode(), status, {"Content-Type": "application/json", **(headers or {})})

    def _send(self, content: bytes, status: int, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _known(self) -> bool:
        """Whether the caller is the owner.

        The hub does not repeat tokens; this one does, so that a client that passes on what it is told is found out.
        """
        given = self.headers.get("Authorization", "")
        if given and given != f"Bearer {TOKEN}":
            raise _Refused(401, f"Invalid username or password. ({given})")
        return bool(given)

    def _repository(self, repo: str, write: bool = False) -> Repository:
        known = self._known()
        found = self.hub.repositories.get(repo)
        if found is None or (found.private and not known):
            raise _Refused(404 if known else 401, "Repository not found", "RepoNotFound")
        if write and not (known and repo.startswith(f"{OWNER}/")):
            raise _Refused(403, "Forbidden: you don't have the rights to write there")
        return found

    def _commit(self, repo: str, revision: str) -> tuple[str, dict[str, bytes]]:
        found = self._repository(repo)
        commit = found.main if revision == "main" else revision
        if commit not in found.commits:
            raise _Refused(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return commit, found.commits[commit]

    def validate(self) -> None:
        asked = json.loads(self.body)
        if fault := _fault(asked["content"]):
            if self.headers.get("Accept") == "text/plain":
                self._send(fault.encode(), 400, {"Content-Type": "text/plain"})
                return
            raise _Refused(400, fault, errors=[{"message": fault}])
        self._json({"errors": [], "warnings": []})

    def create(self) -> None:
        asked = json.loads(self.body)
        if not self._known():
            raise _Refused(401, "Invalid username or password.")
        repo = f"{asked['organization'] or OWNER}/{asked['name']}"
        if not repo.startswith(f"{OWNER}/"):
            raise _Refused(403, f"You don't have the rights to create a model under the namespace of {repo}")
        if repo in self.hub.repositories:
            raise _Refused(409, "You already created this model repo", url=f"{self.hub.url}/{repo}")
        self.hub.repositories[repo] = Repository(asked.get("visibility") == "private")
        self._json({"url": f"{self.hub.url}/{repo}", "name": repo})

    def info(self, repo: str, revision: str | None = None) -> None:
        commit, files = self._commit(repo, revision or "main")
        found = self.hub.repositories[repo]
        card = yaml.safe_load(files["README.md"].decode().split("---")[1]) if "README.md" in files else {}
        self._json({
            "_id": "1", "id": repo, "modelId": repo, "sha": commit, "private": found.private, "gated": False,
            "tags": [], "downloads": 0, "likes": 0, "cardData": card, "siblings": [{"rfilename": one} for one in files],
        })  # fmt: skip

    def tree(self, repo: str, revision: str) -> None:
        _, files = self._commit(repo, revision)
        self._json([_entry(path, content) for path, content in sorted(files.items())])

    def preupload(self, repo: str, revision: str) -> None:
        files = self._repository(repo, write=True).files
        asked = json.loads(self.body)["files"]
        self._json({
            "files": [
                {
                    "path": one["path"],
                    "uploadMode": "lfs" if _is_large(one["path"]) else "regular",
                    "shouldIgnore": False,
                    "oid": _entry(one["path"], files[one["path"]])["oid"] if one["path"] in files else None,
                }
                for one in asked
            ]
        })  # fmt: skip

    def batch(self, repo: str) -> None:
        self._repository(repo, write=True)
        objects = []
        for one in json.loads(self.body)["objects"]:
            if self.hub.refuses_uploads:
                objects.append({**one, "error": {"code": 403, "message": "Storage quota exceeded"}})
            elif one["oid"] in self.hub.large:
                objects.append(one)
            else:
                links = {
                    "upload": {"href": f"{self.hub.url}/lfs/{one['oid']}"},
                    "verify": {"href": f"{self.hub.url}/{repo}.git/info/lfs/verify"},
                }
                objects.append({**one, "actions": links})
        self._json({"transfer": "basic", "objects": objects})

    def put_large(self, oid: str) -> None:
        if hashlib.sha256(self.body).hexdigest() != oid:
            raise _Refused(400, "The content is not what its oid says")
        self.hub.large[oid] = self.body
        self._send(b"", 200, {"ETag": oid})

    def verify(self, repo: str) -> None:
        self._repository(repo, write=True)
        asked = json.loads(self.body)
        if len(self.hub.large.get(asked["oid"], b"")) != asked["size"]:
            raise _Refused(404, "No such object")
        self._json({})

    def commit(self, repo: str, revision: str) -> None:
        found = self._repository(repo, write=True)
        if self.hub.breaks:
            raise _Refused(422, f"I broke, {self.headers['Authorization']}")
        files = dict(found.files)
        for line in self.body.splitlines():
            one = json.loads(line)
            value = one["value"]
            if one["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif one["key"] == "lfsFile":
                files[value["path"]] = self.hub.large[value["oid"]]
            elif one["key"] == "deletedFile":
                del files[value["path"]]
        commit = found.add(files)
        self._json({"success": True, "commitOid": commit, "commitUrl": f"{self.hub.url}/{repo}/commit/{commit}"})

    def resolve(self, repo: str, revision: str, path: str) -> None:
        commit, files = self._commit(repo, revision)
        if path not in files:
            raise _Refused(404, "Entry not found", "EntryNotFound")
        content = files[path]
        entry = _entry(path, content)
        tag = entry["lfs"]["oid"] if "lfs" in entry else entry["oid"]
        self._send(content, 200, {"X-Repo-Commit": commit, "ETag": f'"{tag}"', "Content-Type": "text/plain"})


_REPO, _REVISION = r"(?P<repo>[\w.-]+/[\w.-]+)", r"(?P<revision>[\w.-]+)"
_ROUTES: tuple[tuple[str, str, Any], ...] = (
    ("POST", "/api/validate-yaml", _Handler.validate),
    ("POST", "/api/repos/create", _Handler.create),
    ("GET", f"/api/models/{_REPO}", _Handler.info),
    ("GET", f"/api/models/{_REPO}/revision/{_REVISION}", _Handler.info),
    ("GET", f"/api/models/{_REPO}/tree/{_REVISION}", _Handler.tree),
    ("POST", f"/api/models/{_REPO}/preupload/{_REVISION}", _Handler.preupload),
    ("POST", f"/api/models/{_REPO}/commit/{_REVISION}", _Handler.commit),
    ("POST", f"/{_REPO}.git/info/lfs/objects/batch", _Handler.batch),
    ("POST", f"/{_REPO}.git/info/lfs/verify", _Handler.verify),
    ("PUT", r"/lfs/(?P<oid>[0-9a-f]{64})", _Handler.put_large),
    ("GET", f"/{_REPO}/resolve/{_REVISION}/(?P<path>.+)", _Handler.resolve),
)


def _is_large(path: str) -> bool:
    """What a new repository's .gitattributes keeps out of git."""
    return path.endswith((".safetensors", ".png"))


def _entry(path: str, content: bytes) -> dict[str, Any]:
    """A file as a tree lists it."""
    blob = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
    entry: dict[str, Any] = {"type": "file", "path": path, "oid": blob, "size": len(content)}
    if _is_large(path):
        sha = hashlib.sha256(content).hexdigest()
        entry["lfs"] = {"oid": sha, "size": len(content), "pointerSize": 130}
    return entry


def _fault(card: str) -> str | None:
    """What the hub has against a card's metadata: some of its rules."""
    found = re.match(r"---\n(.*?)\n---\n", card, re.DOTALL)
    if found is None:
        return None  # the hub only warns
    try:
        data = yaml.safe_load(found[1])
    except yaml.YAMLError as fault:
        return f"bad YAML: {fault}"
    if "language" in data and not LANGUAGE.fullmatch(str(data["language"])):
        return f'"language" must only contain lowercase ISO 639 codes; found {data["language"]!r}'
    for model in data.get("model-index", []):
        if "name" not in model or not all({"task", "dataset", "metrics"} <= set(one) for one in model["results"]):
            return '"model-index" is not well formed'
    return None
