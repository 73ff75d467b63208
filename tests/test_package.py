"""What pip installs: the wheel and the source archive hold all files of the package, and name what they need."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from email import message_from_bytes
from email.message import Message
from pathlib import Path

import pytest

from tests.helpers.shared_folders import make_once, shared_root

ROOT = Path(__file__).parents[1]
BUILD = "import sys; from setuptools import build_meta; build_meta.build_{0}(sys.argv[1])"


def build(kind: str, project: Path, target: Path) -> Path:
    """The wheel or the source archive of ``project``, built with the environment's own setuptools."""
    target.mkdir(exist_ok=True)
    command = [sys.executable, "-c", BUILD.format(kind), str(target)]
    subprocess.run(command, cwd=project, check=True, capture_output=True)
    (built,) = target.iterdir()
    return built


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the source archive of this project and, built from that archive, its wheel."""

    def make(folder: Path) -> None:
        folder.mkdir()
        copy = folder / "project"
        copy.mkdir()
        for name in ("LICENSE", "README.md", "pyproject.toml"):
            shutil.copy(ROOT / name, copy)
        shutil.copytree(ROOT / "src", copy / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        with tarfile.open(build("sdist", copy, folder / "sdist")) as archive:
            archive.extractall(folder / "unpacked", filter="data")
        (unpacked,) = (folder / "unpacked").iterdir()
        build("wheel", unpacked, folder / "wheel")

    return make_once(shared_root(tmp_path_factory) / "archives", make)


@pytest.fixture
def wheel(archives: Path) -> zipfile.ZipFile:
    (file,) = (archives / "wheel").iterdir()
    return zipfile.ZipFile(file)


def metadata(wheel: zipfile.ZipFile) -> Message:
    (name,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
    return message_from_bytes(wheel.read(name))


def test_the_wheel_holds_every_file_of_the_package(wheel: zipfile.ZipFile) -> None:
    own = {
        path.relative_to(ROOT / "src").as_posix()
        for path in (ROOT / "src" / "whinchat").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert {name for name in wheel.namelist() if ".dist-info/" not in name} == own


def test_the_wheel_holds_the_license_and_the_command(wheel: zipfile.ZipFile) -> None:
    names = wheel.namelist()
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)
    (points,) = (name for name in names if name.endswith("entry_points.txt"))
    assert "whinchat = whinchat.cli:main" in wheel.read(points).decode()


def test_what_the_wheel_says_of_itself(wheel: zipfile.ZipFile) -> None:
    said = metadata(wheel)
    assert said["License-Expression"] == "Apache-2.0"
    assert (said.get_all("Project-URL") or [])[0].startswith("Homepage, https://")
    assert {"nf4", "serve", "export", "ray"} <= set(said.get_all("Provides-Extra") or [])
    core = {line.split(">")[0] for line in said.get_all("Requires-Dist") or [] if "extra ==" not in line}
    assert not core & {"bitsandbytes", "fastapi", "uvicorn", "onnx", "ray"}, "each has an extra of its own"


@pytest.mark.slow
def test_an_empty_environment_runs_the_demo(archives: Path, tmp_path: Path) -> None:
    """``pip install whinchat`` is all that training needs; what needs more names its extra."""
    # With the path of the sources, pip would find whinchat installed.
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "env"], check=True)
    (wheel,) = (archives / "wheel").iterdir()
    install = ["-m", "pip", "install", "--quiet", "-c", ROOT / "constraints.txt", wheel]
    subprocess.run([tmp_path / "env" / "bin" / "python", *install], env=environment, check=True)
    installed = sum(file.lstat().st_size for file in (tmp_path / "env").rglob("*") if file.is_file())
    print(f"\ninstalled: {installed / 1e6:,.0f} MB")
    few = [
        "data.train_rows=60",
        "data.validation_rows=40",
        "data.test_rows=40",
        "train.max_steps=2",
        "evaluate.generate=false",
    ]
    run = ["run", "demo", *(word for setting in few for word in ("--set", setting))]

    def whinchat(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [tmp_path / "env" / "bin" / "whinchat", *arguments]
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)

    done = whinchat(*run)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "runs" / "demo" / "report.html").is_file()
    assert whinchat("predict", "runs/demo", "what a lovely day").returncode == 0
    for arguments, extra in ((("serve", "runs/demo"), "serve"), (("export", "runs/demo", "--to", "onnx"), "export")):
        refused = whinchat(*arguments)
        assert refused.returncode == 2
        assert f"pip install 'whinchat[{extra}]'" in refused.stderr
