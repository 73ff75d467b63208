"""The first hour of four users, from an empty folder to what they came for."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[2] / "examples" / "first-hour"
FEW = (
    "--set train.max_steps=2 --set train.eval_steps=null --set evaluate.rows=48 --set evaluate.stress_rows=8 "
    "--set evaluate.generate=false"
)


@pytest.mark.slow
@pytest.mark.parametrize("user", ["student", "tickets", "researcher", "api"])
def test_first_hour(tmp_path: Path, user: str) -> None:
    if user == "api" and shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    # The command of the environment that runs the tests comes first.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"PATH": path, "FEW": FEW, "ROWS": "600", "COLUMNS": "80"}
    done = subprocess.run(
        ["bash", SCRIPTS / f"{user}.sh"], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    print(done.stdout)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]
    assert "Traceback" not in done.stdout
    steps = re.findall(r"^-- ([\d.]+) s of CPU, (\d+) lines, exit code (\d+)$", done.stdout, re.M)
    assert len(steps) >= 6
    assert {code for _, _, code in steps} <= {"0", "2"}


def test_shared_by_all_scripts() -> None:
    scripts = {path.name for path in SCRIPTS.glob("*.sh")} - {"step.sh"}
    assert scripts == {"student.sh", "tickets.sh", "researcher.sh", "api.sh"}
    for name in scripts:
        subprocess.run(["bash", "-n", SCRIPTS / name], check=True)
        assert name in (SCRIPTS / "README.md").read_text(encoding="utf-8")
