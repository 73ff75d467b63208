"""Package files: pip, checksums, cache. A small wheel in a local folder stands in for PyPI."""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
import sys
import tarfile
import time
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from whinchat.data import packages
from whinchat.data.packages import CatalogEntry, catalog_entry, fetch_package_file
from whinchat.errors import DataError

CONTENT = b"the file we want\n"
METADATA = "Metadata-Version: 2.1\nName: tinypkg\nVersion: 1.0\n"
WHEEL = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"

ENTRY = CatalogEntry(
    name="tiny",
    requirement="tinypkg==1.0",
    distribution="wheel",
    archive_sha256="",
    member="tinypkg/wanted.txt",
    inner_member=None,
    sha256=hashlib.sha256(CONTENT).hexdigest(),
    license="mit",
    hub_id=None,
    download_megabytes=0.1,
    reader=None,
)
UseEntry = Callable[[CatalogEntry], None]


def build_wheel(folder: Path, content: bytes = CONTENT) -> Path:
    inner = io.BytesIO()
    with tarfile.open(fileobj=inner, mode="w:gz") as tar:
        info = tarfile.TarInfo("deep/inside/inner.txt")
        info.size = len(content)
        tar.addfile(info, io.BytesIO(content))
    path = folder / "tinypkg-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr("tinypkg/wanted.txt", content)
        wheel.writestr("tinypkg/nested.tar.gz", inner.getvalue())
        wheel.writestr("tinypkg-1.0.dist-info/METADATA", METADATA)
        wheel.writestr("tinypkg-1.0.dist-info/WHEEL", WHEEL)
        wheel.writestr("tinypkg-1.0.dist-info/RECORD", "")
    return path


def build_source_archive(folder: Path, members: dict[str, bytes | tarfile.TarInfo]) -> CatalogEntry:
    """Write tinypkg-1.0.tar.gz and return the entry of its file wanted.txt."""
    path = folder / "tinypkg-1.0.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        for name, content in {"PKG-INFO": METADATA.encode(), **members}.items():
            info = content if isinstance(content, tarfile.TarInfo) else tarfile.TarInfo(f"tinypkg-1.0/{name}")
            info.size = len(content) if isinstance(content, bytes) else 0
            tar.addfile(info, io.BytesIO(content) if isinstance(content, bytes) else None)
    return replace(ENTRY, distribution="sdist", member="tinypkg-1.0/wanted.txt", archive_sha256=sha256(path))


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that pip looks into, and an empty cache."""
    folder = tmp_path / "index"
    folder.mkdir()
    build_wheel(folder)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("WHINCHAT_CACHE", str(tmp_path / "cache"))
    return folder


@pytest.fixture
def use(index: Path, monkeypatch: pytest.MonkeyPatch) -> UseEntry:
    """Make an entry the only one of the catalog; one without a checksum of its archive gets that of the wheel."""
    wheel = sha256(index / "tinypkg-1.0-py3-none-any.whl")

    def use_entry(entry: CatalogEntry) -> None:
        known = replace(entry, archive_sha256=entry.archive_sha256 or wheel)
        monkeypatch.setattr(packages, "_catalog", lambda: {entry.name: known})

    use_entry(ENTRY)
    return use_entry


def test_the_catalog() -> None:
    model, tweets = catalog_entry("package:smollm2-135m-instruct"), catalog_entry("vader-tweets")
    assert (model.license, model.reader, model.filename) == ("apache-2.0", None, "SmolLM2-135M-Instruct.Q4_1.gguf")
    assert (tweets.license, tweets.reader, tweets.filename) == ("mit", "vader", "tweets_GroundTruth.txt")
    assert tweets.revision == f"vaderSentiment==3.3.2 sha256:{tweets.sha256}"


def test_unknown_name() -> None:
    message = (
        r"package:vader-tweet: not in the catalog; did you mean vader-tweets\? "
        r"It has all-minilm-l6-v2, crowd-tweets, smollm2-135m-instruct, vader-ratings, vader-tweets\."
    )
    with pytest.raises(DataError, match=message):
        catalog_entry("package:vader-tweet")


def test_fetch_keep_and_heal(index: Path, use: UseEntry, capfd: pytest.CaptureFixture[str]) -> None:
    path = fetch_package_file("tiny")
    assert path.read_bytes() == CONTENT
    assert [entry.name for entry in path.parent.parent.iterdir()] == [path.parent.name], "scratch folder left behind"
    assert "Fetching tinypkg==1.0 (0.1 MB)..." in capfd.readouterr().err
    assert fetch_package_file("package:tiny") == path
    assert capfd.readouterr().err == "", "the cache was not used"
    path.write_bytes(CONTENT[:-3])
    assert fetch_package_file("tiny").read_bytes() == CONTENT


def test_member_of_a_member(index: Path, use: UseEntry) -> None:
    use(replace(ENTRY, member="tinypkg/nested.tar.gz", inner_member="inner.txt"))
    assert fetch_package_file("tiny").read_bytes() == CONTENT


def test_files_that_belong_beside(index: Path, use: UseEntry) -> None:
    nested = zipfile.ZipFile(index / "tinypkg-1.0-py3-none-any.whl").read("tinypkg/nested.tar.gz")
    use(replace(ENTRY, beside={"tinypkg/nested.tar.gz": hashlib.sha256(nested).hexdigest()}))
    path = fetch_package_file("tiny")
    other = path.with_name("nested.tar.gz")
    assert (path.read_bytes(), other.read_bytes()) == (CONTENT, nested)
    other.write_bytes(b"damaged")
    assert fetch_package_file("tiny") == path
    assert other.read_bytes() == nested
    use(replace(ENTRY, beside={"tinypkg/nested.tar.gz": "0" * 64}))
    with pytest.raises(DataError, match=r"nested\.tar\.gz from tinypkg==1\.0 has sha256 .*, expected 0000"):
        fetch_package_file("tiny")


def test_an_archive_with_another_checksum_is_not_opened(
    index: Path, use: UseEntry, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel = build_wheel(index, b"something else")
    monkeypatch.setattr(packages, "_extract", lambda *_: pytest.fail("the archive was opened"))
    message = rf"none-any\.whl from tinypkg==1\.0 has sha256 {sha256(wheel)}, expected [0-9a-f]{{64}}; the file is not"
    with pytest.raises(DataError, match=message):
        fetch_package_file("tiny")
    assert not [path for path in packages.cache_folder().rglob("*") if path.is_file()]


def test_wrong_checksum_of_a_file(index: Path, use: UseEntry) -> None:
    use(replace(ENTRY, sha256="0" * 64))
    with pytest.raises(DataError, match=rf"wanted\.txt from tinypkg==1\.0 has sha256 {ENTRY.sha256}, expected 0{{64}}"):
        fetch_package_file("tiny")
    assert not list(packages.cache_folder().rglob("*.txt"))


def test_missing_members(index: Path, use: UseEntry) -> None:
    use(replace(ENTRY, member="tinypkg/other.txt"))
    with pytest.raises(
        DataError, match=r"none-any\.whl does not hold tinypkg/other\.txt, which presets/packages\.yaml"
    ):
        fetch_package_file("tiny")
    use(replace(ENTRY, member="tinypkg/nested.tar.gz", inner_member="other.txt"))
    with pytest.raises(DataError, match=r"does not hold tinypkg/nested\.tar\.gz / other\.txt"):
        fetch_package_file("tiny")


def test_an_archive_larger_than_the_catalog_says(index: Path, use: UseEntry) -> None:
    use(replace(ENTRY, download_megabytes=0.0001))
    with pytest.raises(DataError, match=r"pip could not download .*none-any\.whl has more than 200 bytes"):
        fetch_package_file("tiny")


BACKEND = """
from pathlib import Path
Path({marker!r}).touch()
from setuptools.build_meta import *
from setuptools import setup
setup(name="tinypkg", version="1.0")
"""


@pytest.mark.parametrize("right", [True, False], ids=["right checksum", "another checksum"])
def test_no_code_of_a_source_archive_is_run(index: Path, use: UseEntry, tmp_path: Path, right: bool) -> None:
    marker = tmp_path / "the archive's code was run"
    code = BACKEND.format(marker=str(marker)).encode()
    project = b'[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
    entry = build_source_archive(
        index, {"setup.py": code, "backend.py": code, "pyproject.toml": project, "wanted.txt": CONTENT}
    )
    use(entry if right else replace(entry, archive_sha256="0" * 64))
    if right:
        assert fetch_package_file("tiny").read_bytes() == CONTENT
    else:
        with pytest.raises(DataError, match=r"tinypkg-1\.0\.tar\.gz from tinypkg==1\.0 has sha256"):
            fetch_package_file("tiny")
    assert not marker.exists()


def test_no_code_of_the_working_folder_is_run(
    index: Path, use: UseEntry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    working, marker = tmp_path / "working", tmp_path / "the folder's code was run"
    working.mkdir()
    for name in ("pip", "tarfile", "optparse", "sitecustomize", "usercustomize"):
        (working / f"{name}.py").write_text(f"open({str(marker)!r}, 'w')\n")
    monkeypatch.chdir(working)
    monkeypatch.setenv("PYTHONPATH", f"{working}{os.pathsep}")
    assert fetch_package_file("tiny").read_bytes() == CONTENT
    assert not marker.exists()


def tar_entry(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.DIRTYPE])
def test_links_and_devices_are_no_files(index: Path, use: UseEntry, tmp_path: Path, kind: bytes) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_bytes(CONTENT)
    use(build_source_archive(index, {"wanted.txt": tar_entry("tinypkg-1.0/wanted.txt", kind, str(secret))}))
    with pytest.raises(DataError, match=r"tinypkg-1\.0\.tar\.gz does not hold tinypkg-1\.0/wanted\.txt"):
        fetch_package_file("tiny")


def test_names_in_an_archive_are_no_paths(index: Path, use: UseEntry, tmp_path: Path) -> None:
    outside = tmp_path / "outside.txt"
    names = [f"../../../../{outside.name}", "../../../../../../../../.." + str(outside), "wanted.txt"]
    use(build_source_archive(index, dict.fromkeys(names, CONTENT)))
    path = fetch_package_file("tiny")
    assert [*path.parent.iterdir()] == [path]
    assert not outside.exists()


def test_failed_download(index: Path, use: UseEntry) -> None:
    use(replace(ENTRY, requirement="tinypkg==2.0"))
    message = (
        r"package:tiny: pip could not download tinypkg==2\.0 \(ERROR: No matching distribution found for "
        r"tinypkg==2\.0\); check the network .* fetch the wheel of tinypkg==2\.0 on another .* PIP_FIND_LINKS"
    )
    with pytest.raises(DataError, match=message):
        fetch_package_file("tiny")


def test_cache_not_writable(index: Path, use: UseEntry, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("WHINCHAT_CACHE", str(tmp_path / "file"))
    with pytest.raises(
        DataError, match=r"cannot be kept in the cache .*point WHINCHAT_CACHE at a folder you can write"
    ):
        fetch_package_file("tiny")


def test_leftovers_of_killed_processes_are_swept(index: Path, use: UseEntry) -> None:
    shelf = packages.cache_folder() / "packages"
    for name, age_days in (("old", 2), ("live", 0)):
        (shelf / f".fetch-{name}").mkdir(parents=True)
        then = time.time() - age_days * 86400
        os.utime(shelf / f".fetch-{name}", (then, then))
    fetch_package_file("tiny")
    assert [path.name for path in shelf.glob(".fetch-*")] == [".fetch-live"]


def test_two_processes_at_once(index: Path, use: UseEntry) -> None:
    code = (
        "from whinchat.data import packages\n"
        f"entry = packages.{catalog_entry('tiny')!r}\n"
        "packages._catalog = lambda: {'tiny': entry}\n"
        "print(packages.fetch_package_file('tiny').read_bytes())\n"
    )
    env = {**os.environ, "PYTHONPATH": str(Path(packages.__file__).parents[2])}
    both = [subprocess.Popen([sys.executable, "-c", code], env=env, stdout=subprocess.PIPE) for _ in range(2)]
    assert [process.communicate()[0].decode().strip() for process in both] == [repr(CONTENT)] * 2


@pytest.mark.slow
def test_the_model_file() -> None:
    path = fetch_package_file("smollm2-135m-instruct")
    assert path.stat().st_size == 98_362_432
