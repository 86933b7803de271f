"""What an installation gets: all packages with their data, and nothing of the tests or benchmarks."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Final

from tests.gunicorn_process import ROOT

PACKAGES: Final = ("cli", "pricing", "report", "score", "service", "train", "worker")


def test_the_wheel_holds_every_package_with_its_data_and_nothing_else(tmp_path: Path) -> None:
    source, hidden = tmp_path / "source", shutil.ignore_patterns("__pycache__", "*.egg-info")
    for package in (*PACKAGES, "tests", "benchmarks"):
        shutil.copytree(ROOT / package, source / package, ignore=hidden)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    expected = {
        str(path.relative_to(source)) for name in PACKAGES for path in (source / name).rglob("*") if path.is_file()
    }
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*command, "--wheel-dir", tmp_path, source], check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())

    assert {name for name in names if ".dist-info/" not in name} == expected
    assert {"service/api/templates/docs.html", "worker/connection.py", "pricing/journal/journal.py"} <= names
