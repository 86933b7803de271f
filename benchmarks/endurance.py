"""Whether a million requests leave anything behind: `python -m benchmarks.endurance [--requests N]`.

Two workers, everything on, the cache too; wrk sends single houses on 16 connections. Proportional memory, descriptors
and threads of all processes are read after 50,000 requests and at the end. Needs wrk, and half a gigabyte of disk.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from benchmarks.compare import ours, run, up, wrk
from benchmarks.start import children, proportional_megabytes

if TYPE_CHECKING:
    from collections.abc import Sequence

WARM = 50_000
ROUND_SECONDS = 5


class ActiveKey(NamedTuple):
    """What all processes hold together; descriptors and threads by process."""

    megabytes: float
    descriptors: list[int]
    threads: list[int]


def main() -> None:
    """Load, and print what was held early and late."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--requests", type=int, default=1_000_000)
    wanted = parser.parse_args().requests
    with tempfile.TemporaryDirectory() as folder:
        artifacts = str(Path(folder) / "artifacts")
        run([sys.executable, "-c", "import cli; cli.main()", "train"], {"APPRAISER_ARTIFACTS": artifacts})
        with up(ours(CACHE_SIZE="1000"), Path(folder)) as (gunicorn, port):
            pids = [gunicorn.pid, *children(gunicorn.pid)]
            sent = load(port, WARM)
            early = held(pids)
            tell(sent, early)
            while sent < wanted:
                sent += load(port, min(wanted - sent, 250_000))
                tell(sent, held(pids))
            late = held(pids)
            if children(gunicorn.pid) != pids[1:]:
                sys.exit("a worker has ended meanwhile")
    print(f"memory grew by {(late.megabytes / early.megabytes - 1) * 100:.2f} % after the first {WARM:,}")
    same = early.descriptors == late.descriptors and early.threads == late.threads
    print(f"descriptors and threads are {'constant' if same else 'NOT constant'}")


def load(port: int, count: int) -> int:
    """Send at least so many requests, and return how many. Ends the program when one fails."""
    sent = 0
    while sent < count:
        seen = wrk(port, 16, ROUND_SECONDS, 1)
        if seen.failed:
            sys.exit(f"{seen.failed} requests failed")
        sent += round(seen.rate * ROUND_SECONDS)
    return sent


def held(pids: Sequence[int]) -> ActiveKey:
    """What these processes hold now."""
    return ActiveKey(
        sum(proportional_megabytes(pid) for pid in pids),
        [entries(f"/proc/{pid}/fd") for pid in pids],
        [entries(f"/proc/{pid}/task") for pid in pids],
    )


def entries(folder: str) -> int:
    """How many files it has."""
    return sum(1 for _ in Path(folder).iterdir())


def tell(sent: int, found: ActiveKey) -> None:
    """Print a line."""
    megabytes, descriptors, threads = found
    print(f"{sent:9,} requests: {megabytes:.1f} MB, descriptors {descriptors}, threads {threads}", flush=True)


if __name__ == "__main__":
    main()
