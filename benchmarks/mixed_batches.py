"""Single predictions beside batches: `python -m benchmarks.mixed_batches [--against FOLDER] [--rounds N]`.

Two workers on a service of its own. Single predictions come at a fixed rate, and their wait is counted from when they
were due; alone, and beside wrk with two connections and batches of 1,000 houses. `--against` names another checkout,
which takes turns with this one; both run with this Python.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import orjson

from benchmarks.compare import ROOT, Candidate, ours, run, up, wrk
from benchmarks.request import house

if TYPE_CHECKING:
    from collections.abc import Sequence

CONNECTIONS: Final = 16
CLIENTS: Final = 2
ROWS: Final = 1_000


class Seen(NamedTuple):
    """Milliseconds of single predictions, and batches a second."""

    p50: float
    p99: float
    most: float
    batches: float


def main() -> None:
    """Measure in turns, and print medians."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--against", type=Path, help="another checkout")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=4)
    parser.add_argument("--rate", type=float, default=500.0, help="single predictions a second")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        train = [sys.executable, "-c", "import cli; cli.main()", "train"]
        run(train, {"APPRAISER_ARTIFACTS": str(Path(folder) / "artifacts")})
        checkouts = {"this checkout": ROOT} | ({"the other one": options.against.resolve()} if options.against else {})
        ports = {name: stack.enter_context(up(serving(at), Path(folder)))[1] for name, at in checkouts.items()}
        seen: dict[tuple[str, int], list[Seen]] = {(name, n): [] for n in (0, CLIENTS) for name in ports}
        for _ in range(options.rounds):
            for (name, clients), found in seen.items():
                found.append(asyncio.run(load(ports[name], options.seconds, options.rate, clients)))
    print(f"{options.rate:g} single predictions a second: milliseconds, medians of {options.rounds} rounds")
    print("| | clients with batches | p50 | p99 | most | batches/s |\n|---|---:|---:|---:|---:|---:|")
    for (name, clients), rounds in seen.items():
        p50, p99, most, batches = map(statistics.median, zip(*rounds, strict=True))
        print(f"| {name} | {clients} | {p50:.2f} | {p99:.2f} | {most:.1f} | {batches:.0f} |")


def serving(checkout: Path) -> Candidate:
    """The service as a checkout has it."""
    command, environment = ours()
    # gunicorn reads the configuration of the folder that it is told to work in
    return Candidate(
        [*command, "--chdir", str(checkout), "--config", str(checkout / "gunicorn.conf.py")],
        environment | {"PYTHONPATH": str(checkout)},
    )


async def load(port: int, seconds: int, rate: float, clients: int) -> Seen:
    """Ask singly at this rate, beside so many clients with batches."""
    many = asyncio.create_task(asyncio.to_thread(wrk, port, clients, seconds, ROWS)) if clients else None
    end = time.perf_counter() + seconds
    singly = [on_time(port, end, CONNECTIONS / rate, number / rate) for number in range(CONNECTIONS)]
    milliseconds = sorted([wait * 1e3 for waits in await asyncio.gather(*singly) for wait in waits])
    batches = (await many).rate if many else 0.0
    return Seen(at(milliseconds, 0.5), at(milliseconds, 0.99), milliseconds[-1], batches)


def at(values: Sequence[float], share: float) -> float:
    """The value that this share of the sorted values does not exceed."""
    return values[min(int(share * len(values)), len(values) - 1)]


async def on_time(port: int, end: float, every: float, first: float) -> list[float]:
    """Ask on one connection whenever it is due; the seconds from then to the answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    waits: list[float] = []
    due = time.perf_counter() + first
    while due < end:
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        await ask(reader, writer, "/predict", orjson.dumps(house(len(waits))))
        waits.append(time.perf_counter() - due)
        due += every
    writer.close()
    return waits


async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, path: str, body: bytes) -> None:
    """Wait for the whole answer, which is 200."""
    head = (
        f"POST {path} HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    writer.write(head.encode() + body)
    told = await reader.readuntil(b"\r\n\r\n")
    if not told.startswith(b"HTTP/1.1 200 "):
        raise AssertionError(told)
    length = told.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]
    await reader.readexactly(int(length))


if __name__ == "__main__":
    main()
