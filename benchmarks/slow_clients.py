"""What 192 slow clients do to our worker and to gunicorn's own: `python -m benchmarks.slow_clients`, in the root.

The siege is that of tests/reliability/test_slow_clients.py: 40 clients that send half a header, 24 half a body, 64 a
byte a second and 64 that never close, against two workers, while four good clients at a time ask on a new connection
each.
"""

import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.reliability.slow_clients import (
    BODY_SECONDS,
    GTHREAD_ARGUMENTS,
    HEADER_SECONDS,
    LONG,
    OUR_WORKER,
    SLOW,
    WORKERS,
    Siege,
    besiege,
    serve,
    stop_besieged,
)

WATCH_SECONDS = 10.0  # for stock workers, which would keep some for good
CONTENDERS = {OUR_WORKER: (), "asgi": ("--graceful-timeout", "10"), "gthread": GTHREAD_ARGUMENTS}
COLUMNS = ("worker", "good clients answered", "p50", "p99", *(f"{kind}: closed" for kind in SLOW), "stop")


def main() -> None:
    """Besiege each contender twice, once to watch and once to stop it, and print a table."""
    number = sum(count for _, count in SLOW.values())
    print(f"{number} slow clients, {WORKERS} workers; deadlines of our worker: header {HEADER_SECONDS:g} s,")
    print(f"body {BODY_SECONDS:g} s. 'closed': how many within {WATCH_SECONDS:g} s, and the seconds until the last.\n")
    print_row(COLUMNS)
    print_row(["---"] * len(COLUMNS))
    for worker_class, arguments in CONTENDERS.items():
        with tempfile.TemporaryDirectory() as folder:
            with serve(Path(folder), worker_class, *arguments) as server:
                siege = besiege(server, WATCH_SECONDS)
            with serve(Path(folder), worker_class, *arguments, limits=LONG) as server:
                stop_seconds = stop_besieged(server)
        print_row([worker_class.rpartition(".")[2], *cells(siege), f"{stop_seconds:.1f} s"])


def cells(siege: Siege) -> list[str]:
    """Describe what happened to the good clients, then to each kind of slow ones."""
    waits = sorted(probe.seconds * 1000 for probe in siege.probes if probe.answered)
    good = [f"{len(waits)} of {len(siege.probes)}", *(percentile(waits, share) for share in (0.5, 0.99))]
    return good + [closed(seconds) for seconds in siege.closed_after.values()]


def percentile(milliseconds: Sequence[float], share: float) -> str:
    """Return the smallest value that this share of the values does not exceed, of those sorted."""
    if not milliseconds:
        return "never"
    return f"{milliseconds[min(int(share * len(milliseconds)), len(milliseconds) - 1)]:.1f} ms"


def closed(seconds: Sequence[float | None]) -> str:
    """Count those that were closed, with the seconds until the last one was."""
    known = [value for value in seconds if value is not None]
    return f"{len(known)}, {max(known):.1f} s" if known else "0"


def print_row(values: Sequence[str]) -> None:
    """Print a row of a Markdown table."""
    print("| " + " | ".join(values) + " |", flush=True)


if __name__ == "__main__":
    main()
