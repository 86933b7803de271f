"""What an installation gets: all packages with their data, and nothing of the tests or benchmarks."""

import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Final

from tests.gunicorn_process import ROOT

PACKAGES: Final = ("cli", "pricing", "service", "train", "worker")


def test_the_wheel_holds_every_package_with_its_data_and_nothing_else(tmp_path: Path) -> None:
    source = tmp_path / "source"
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    for name in tracked:
        if (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*command, "--wheel-dir", tmp_path, source], check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())

    expected = {name for name in tracked if name.split("/")[0] in PACKAGES}
    assert {name for name in names if ".dist-info/" not in name} == expected
    assert {"service/api/templates/docs.html", "worker/connection.py", "pricing/journal/journal.py"} <= names
