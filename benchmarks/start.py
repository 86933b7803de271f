"""How long a worker takes to start, and what it holds: `python -m benchmarks.start [--rounds N]`.

Starts gunicorn N times on what is deployed in APPRAISER_ARTIFACTS: with one worker, to see the seconds from the start
of the command until it answers /health/ready with 200; and with two, to see the proportional memory (PSS) of each after
10,000 predictions.
"""

import argparse
import http.client
import os
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from service.contract import EXAMPLE_HOUSE
from service.reply import json_reply

PREDICTIONS = 10_000
BODY = json_reply(200, EXAMPLE_HOUSE).body
HEADERS = {"Content-Type": "application/json"}


def main() -> None:
    """Measure and print medians."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = range(parser.parse_args().rounds)
    seconds = sorted(seconds_until_ready() for _ in rounds)
    memory = sorted(size for _ in rounds for size in megabytes_of_workers())
    print(f"ready after {statistics.median(seconds):.2f} s (from {seconds[0]:.2f} to {seconds[-1]:.2f})")
    print(f"a worker holds {statistics.median(memory):.1f} MB proportional (from {memory[0]:.1f} to {memory[-1]:.1f})")


def seconds_until_ready() -> float:
    """Of one worker, so that it must be this one that answers."""
    begun = time.perf_counter()
    with running(workers=1) as (_, port):
        wait_until_ready(port)
        return time.perf_counter() - begun


def megabytes_of_workers() -> list[float]:
    """Of each of two workers."""
    with running(workers=2) as (gunicorn, port):
        wait_until_ready(port)
        predict(port)
        return [proportional_megabytes(pid) for pid in children(gunicorn.pid)]


@contextmanager
def running(workers: int) -> Iterator[tuple["subprocess.Popen[bytes]", int]]:
    """A gunicorn and its port; it is stopped at the end."""
    port = free_port()
    environment = os.environ | {"PORT": str(port), "WEB_CONCURRENCY": str(workers)}
    command = [sys.executable, "-m", "gunicorn", "--log-level", "warning"]
    with subprocess.Popen(command, env=environment) as gunicorn:
        try:
            yield gunicorn, port
        finally:
            gunicorn.send_signal(signal.SIGTERM)


def wait_until_ready(port: int) -> None:
    """Until the port answers ready; a worker accepts only after it has tried to load."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            connection.request("GET", "/health/ready")
            answer = connection.getresponse()
        except OSError:
            time.sleep(0.005)  # nobody listens yet, and a port has no event to wait for
            continue
        if answer.status == http.client.OK:
            return
        sys.exit(f"the service is not ready: {answer.read().decode()}")
    sys.exit("the service did not answer within 30 s")


def predict(port: int) -> None:
    """Send PREDICTIONS over several connections, so that every worker gets some."""
    for _ in range(20):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        for _ in range(PREDICTIONS // 20):
            connection.request("POST", "/predict", BODY, HEADERS)
            connection.getresponse().read()
        connection.close()


def children(pid: int) -> list[int]:
    """Processes that `pid` has started."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()]


def proportional_megabytes(pid: int) -> float:
    """PSS: memory of its own, and its part of what it shares."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024 / 1e6
    msg = f"no PSS for process {pid}"
    raise ValueError(msg)


def free_port() -> int:
    """A port that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


if __name__ == "__main__":
    main()
