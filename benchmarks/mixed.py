"""A mixed load by locust on a service of its own: `python -m benchmarks.mixed [--users N] [--seconds S]`.

Ends with 1 when any answer was not the expected one; `make bench` installs what it needs.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.compare import HERE, ROOT, ours, run, up


def main() -> None:
    """Load, and print locust's own summary."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--users", type=int, default=40)
    parser.add_argument("--seconds", type=int, default=30)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        run(
            [sys.executable, "-c", "import cli; cli.main()", "train"],
            {"APPRAISER_ARTIFACTS": str(Path(folder) / "artifacts")},
        )
        with up(ours(), Path(folder)) as (_, port):
            locust = [sys.executable, "-m", "locust", "--headless", "--only-summary"]
            load = ["-u", str(options.users), "-r", str(options.users), "-t", f"{options.seconds}s"]
            host = ["--host", f"http://127.0.0.1:{port}"]
            done = subprocess.run([*locust, "-f", str(HERE / "locustfile.py"), *load, *host], cwd=ROOT, check=False)
    sys.exit(done.returncode)


if __name__ == "__main__":
    main()
