"""What bodies cost that are made to cost: `python -m benchmarks.hostile_bodies [--against FOLDER]`.

For each kind of body, as large as its route takes: milliseconds to read it in process, those of its longest step (for
which others wait), and megabytes that it adds to the process's peak, each in a process of its own. Then, against a
real gunicorn with two workers, how long `/health` waits while 24 clients send that body over and over. `--against`
names another checkout, and measures the real gunicorn of that one instead.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from benchmarks.compare import ROOT, run, up
from benchmarks.mixed_batches import at, serving
from service.contract import batch_of
from service.errors import InvalidRequestError
from service.predictions.bodies import HouseParser, HousesParser

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping

BATCH_BYTES: Final = 1 << 20
SINGLE_BYTES: Final = 1 << 14
HOSTILE: Final = 24
SECONDS: Final = 1.0
START_SECONDS: Final = 0.7  # of a Python
PROBE_SECONDS: Final = 0.01


def filled(begin: bytes, item: Callable[[int], bytes], end: bytes, size: int) -> bytes:
    """As many items as fit between beginning and end."""
    items: list[bytes] = []
    left = size - len(begin) - len(end)
    while (left := left - len(found := item(len(items))) - 1) >= 0:
        items.append(found)
    return begin + b",".join(items) + end


def rows(row: bytes) -> bytes:
    """A batch of a thousand."""
    return b'{"houses":[' + b",".join([row] * 1_000) + b"]}"


def kinds(size: int) -> Mapping[str, bytes]:
    """Bodies of about this size, by what they are full of."""
    deep = b"[" * 190 + b"]" * 190
    wrong = b'{"square_feet":-1,"bedrooms":-1,"bathrooms":-1,"age_years":-1,"distance_to_city":-1}'
    bulky = b'{"x":[' + b",".join([b"0"] * 510) + b"]}"
    return {
        "empty objects": filled(b'{"x":[', lambda _: b"{}", b"]}", size),
        "empty lists": filled(b'{"x":[', lambda _: b"[]", b"]}", size),
        "lists in lists": filled(b'{"x":[', lambda _: deep, b"]}", size),
        "as many brackets as allowed, and numbers": filled(
            b'{"x":[' + b",".join([deep] * (size // 64 // 190 - 1)) + b",", lambda _: b"0", b"]}", size
        ),
        "names, in one house": filled(b'{"houses":[{', lambda n: b'"%x":1' % n, b"}]}", size),
        "names": filled(b"{", lambda n: b'"%x":1' % n, b"}", size),
        "one name": filled(b"{", lambda _: b'"a":1', b"}", size),
        "texts": filled(b'{"x":[', lambda n: b'"%x"' % n, b"]}", size),
        "escapes": filled(b'{"x":[', lambda _: b'"\\n"', b"]}", size),
        "numbers": filled(b'{"x":[', lambda _: b"1e5", b"]}", size),
        "long numbers": filled(b'{"x":[', lambda _: b"12345678901234567890", b"]}", size),
        "one number": b'{"square_feet":0.' + b"3" * (size - 20) + b"}",
        "one text": b'{"x":"' + b"a" * (size - 10) + b'"}',
        "empty houses": filled(b'{"houses":[', lambda _: b"{}", b"]}", size),
        "numbers for houses": filled(b'{"houses":[', lambda _: b"1", b"]}", size),
        **({"1,000 houses, all wrong": rows(wrong), "1,000 bulky houses": rows(bulky)} if size == BATCH_BYTES else {}),
    }


def bodies() -> dict[tuple[str, str], bytes]:
    """All of them, by path and kind."""
    sizes = {"/predict": SINGLE_BYTES, "/predict/batch": BATCH_BYTES}
    return {(path, kind): body for path, size in sizes.items() for kind, body in kinds(size).items()}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--against", type=Path, help="another checkout")
    checkout: Path | None = parser.parse_args().against
    with tempfile.TemporaryDirectory() as folder:
        train = [sys.executable, "-c", "import cli; cli.main()", "train"]
        run(train, {"APPRAISER_ARTIFACTS": str(Path(folder) / "artifacts")})
        with up(serving(checkout.resolve() if checkout else ROOT), Path(folder)) as (_, port):
            print(f"/health alone: {told(besiege(port, '/health', b'', 0))}")
            print(
                "| route | full of | ms | longest step | MB | /health p50, p99, most |\n|---|---|---:|---:|---:|---:|"
            )
            for (path, kind), body in bodies().items():
                alone = "| | " if checkout else in_a_process_of_its_own(path, body)
                print(
                    f"| {path} | {kind} | {alone} | {told(besiege(port, path, body, HOSTILE))} |",
                    flush=True,
                )


def told(milliseconds: list[float]) -> str:
    """Median, p99 and the most."""
    return f"{statistics.median(milliseconds):.1f}, {at(milliseconds, 0.99):.1f}, {milliseconds[-1]:.1f} ms"


def in_a_process_of_its_own(path: str, body: bytes) -> str:
    """The cells of a row about reading the body: milliseconds, of the longest step, megabytes."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(read, (path, body))


def read(path: str, body: bytes) -> str:
    """Read it five times, and tell the fastest."""
    single, many = HouseParser(SINGLE_BYTES), HousesParser(batch_of(1_000), BATCH_BYTES)
    before = peak_megabytes()
    times = [steps(many.parse(body) if path == "/predict/batch" else at_once(single, body)) for _ in range(5)]
    fastest = min(times, key=sum)
    return f"{sum(fastest):.1f} | {max(fastest):.1f} | {peak_megabytes() - before:.0f}"


def peak_megabytes() -> float:
    """The most memory that this process has had; `getrusage` would begin with its parent's."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1_000


def at_once(parser: HouseParser, body: bytes) -> Generator[bytes, None, object]:
    """One house, in one step."""
    return parser.parse(body)
    yield b""


def steps(parse: Generator[bytes, None, object]) -> list[float]:
    """Milliseconds of each step."""
    found: list[float] = []
    while True:
        begun = time.perf_counter()
        try:
            next(parse)
        except (StopIteration, InvalidRequestError):
            return [*found, (time.perf_counter() - begun) * 1e3]
        found.append((time.perf_counter() - begun) * 1e3)


def besiege(port: int, path: str, body: bytes, clients: int) -> list[float]:
    """Milliseconds that `/health/live` took meanwhile, sorted; the siege is a process of its own."""
    process = multiprocessing.get_context("spawn").Process(target=attack, args=(port, path, body, clients))
    process.start()
    time.sleep(START_SECONDS)
    waits = asyncio.run(probes(port))
    process.join()
    return sorted(wait * 1e3 for wait in waits)


async def probes(port: int) -> list[float]:
    """Seconds on four connections, so that both workers are asked."""
    end = time.perf_counter() + SECONDS
    return [wait for waits in await asyncio.gather(*[probe(port, end) for _ in range(4)]) for wait in waits]


def attack(port: int, path: str, body: bytes, clients: int) -> None:
    """Send the body from so many clients, until the probes are over."""

    async def all_of_them() -> None:
        end = time.perf_counter() + START_SECONDS + SECONDS
        await asyncio.gather(*[send_on_and_on(port, path, body, end) for _ in range(clients)])

    asyncio.run(all_of_them())


async def probe(port: int, end: float) -> list[float]:
    """Ask for health every 10 ms; seconds."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    waits: list[float] = []
    while time.perf_counter() < end:
        begun = time.perf_counter()
        writer.write(b"GET /health/live HTTP/1.1\r\nHost: bench\r\n\r\n")
        head = await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(length_of(head))
        waits.append(time.perf_counter() - begun)
        await asyncio.sleep(PROBE_SECONDS)
    writer.close()
    return waits


async def send_on_and_on(port: int, path: str, body: bytes, end: float) -> None:
    """Send the body, wait for what is answered, and again; on another connection where that one is closed."""
    head = f"POST {path} HTTP/1.1\r\nHost: bench\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    while time.perf_counter() < end:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            while time.perf_counter() < end:
                writer.write(head + body)
                await reader.readexactly(length_of(await reader.readuntil(b"\r\n\r\n")))
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        writer.close()


def length_of(head: bytes) -> int:
    """Bytes of the body behind it."""
    return int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])


if __name__ == "__main__":
    main()
