"""How long a new user waits: `python -m benchmarks.first_run`.

Clones the last commit into an empty folder, runs `make serve` there, and prints the seconds until /predict has answered
and how many of them were training. Downloads packages, so the network is part of the figure.
"""

import http.client
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.start import BODY, HEADERS, free_port

TRAINING_BEGINS, TRAINING_ENDS, READY = "synthetic market", "deployed v1.0.0", "Booting worker"


def main() -> None:
    """Measure once and print."""
    with tempfile.TemporaryDirectory() as folder:
        clone = Path(folder) / "appraiser"
        subprocess.run(["git", "clone", "--quiet", ".", str(clone)], check=True)
        seen = first_run(clone, free_port())
    training = seen[TRAINING_ENDS] - seen[TRAINING_BEGINS]
    print(f"first answer after {seen['answer']:.1f} s, of which training {training:.1f} s")


def first_run(clone: Path, port: int) -> dict[str, float]:
    """Seconds since the start at which each of the lines was printed, and of the answer."""
    # without what this process runs in: the clone makes its own environment and its own artifacts
    environment = {k: v for k, v in os.environ.items() if not k.startswith("APPRAISER_") and k != "VIRTUAL_ENV"}
    begun = time.perf_counter()
    seen: dict[str, float] = {}
    with subprocess.Popen(
        ["make", "serve"],
        cwd=clone,
        env=environment | {"PORT": str(port)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as make:
        try:
            for line in make.stdout or ():
                print(f"{time.perf_counter() - begun:6.1f} s  {line}", end="", file=sys.stderr)
                for mark in (TRAINING_BEGINS, TRAINING_ENDS, READY):
                    if mark in line:
                        seen.setdefault(mark, time.perf_counter() - begun)
                if READY in seen:
                    break
            ask(port)
            seen["answer"] = time.perf_counter() - begun
        finally:
            os.killpg(make.pid, signal.SIGTERM)
    return seen


def ask(port: int) -> None:
    """Wait for the first answer of /predict."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            connection.request("POST", "/predict", BODY, HEADERS)
            if connection.getresponse().status == http.client.OK:
                return
        except OSError:
            time.sleep(0.01)  # not listening yet, and a port has no event to wait for
    sys.exit("make serve did not answer /predict")


if __name__ == "__main__":
    main()
