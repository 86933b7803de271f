"""A siege: clients that send half, drip or never close, all at once, while good clients want answers.

The reliability test asserts what benchmarks/slow_clients.py prints.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AbstractContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.gunicorn_process import HOST, GunicornProcess, gunicorn

PROBERS = 4  # good clients at a time
PROBE_TIMEOUT = 2.0  # seconds; a good client that waits longer has not been answered
DRIP_SECONDS = 1.0  # between two bytes of a client that drips
WORKERS = 2

# In seconds, short so that a test sees them pass.
HEADER_SECONDS, BODY_SECONDS, WRITE_SECONDS = 2.0, 3.0, 1.0
SHORT = f"header_seconds={HEADER_SECONDS}, body_seconds={BODY_SECONDS}, write_seconds={WRITE_SECONDS}"
# For a stop: then only what the worker does at a stop can end the slow ones.
LONG = "header_seconds=600, body_seconds=600, write_seconds=600"

GTHREAD_ARGUMENTS = ("--threads", "4", "--graceful-timeout", "10")  # it may take all of that to stop
OUR_WORKER = "worker.gunicorn_worker.AppraiserWorker"
APPLICATION = """
from worker.limits import Limits

def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "2")])
    return [b"ok"]

app.limits = Limits({limits})

async def asgi(scope, receive, send):  # for gunicorn's own asgi worker: the same, when the whole request is there
    while scope["type"] == "http" and (await receive()).get("more_body"):
        pass
    if scope["type"] == "http":
        headers = [(b"Content-Type", b"text/plain"), (b"Content-Length", b"2")]
        await send({{"type": "http.response.start", "status": 200, "headers": headers}})
        await send({{"type": "http.response.body", "body": b"ok"}})
"""

GOOD = b"GET / HTTP/1.1\r\nHost: good\r\nConnection: close\r\n\r\n"
HALF_A_HEADER = b"POST / HTTP/1.1\r\nHost: slow\r\nX: "
HALF_A_BODY = b"POST / HTTP/1.1\r\nHost: slow\r\nContent-Length: 1000\r\n\r\nx"
DRIPS = "a byte a second"
# What they send, and how many of them there are.
SLOW = {
    "half header": (HALF_A_HEADER, 40),
    "half body": (HALF_A_BODY, 24),
    DRIPS: (HALF_A_HEADER, 64),
    "never closes": (GOOD, 64),
}


@dataclass(frozen=True)
class Probe:
    """One good client: whether it was answered 200, and the seconds that took."""

    answered: bool
    seconds: float


@dataclass(frozen=True)
class Siege:
    """What happened: to the good clients, and to each kind of slow ones the seconds until closed, None for never."""

    probes: list[Probe]
    closed_after: dict[str, list[float | None]]


def serve(folder: Path, worker_class: str, *args: str, limits: str = SHORT) -> AbstractContextManager[GunicornProcess]:
    """Serve an application that does next to nothing with two workers of a class."""
    (folder / "besieged.py").write_text(APPLICATION.format(limits=limits))
    app = "besieged:asgi" if worker_class == "asgi" else "besieged:app"
    return gunicorn(app, *args, cwd=folder, worker_class=worker_class, workers=WORKERS)


def besiege(server: GunicornProcess, seconds: float) -> Siege:
    """Send all slow clients, and good ones until every slow one has been closed, at most for so many seconds."""
    return asyncio.run(_besiege(server.port, seconds))


def stop_besieged(server: GunicornProcess) -> float:
    """Send all slow clients, stop the server, and return how many seconds the stop took."""
    return asyncio.run(_stop_besieged(server))


async def _besiege(port: int, seconds: float) -> Siege:
    async with _slow_clients(port) as slow:
        over = asyncio.Event()
        probers = [asyncio.create_task(_probe_until(over, port)) for _ in range(PROBERS)]
        await asyncio.wait([task for tasks in slow.values() for task in tasks], timeout=seconds)
        over.set()
        probes = [probe for prober in probers for probe in await prober]
        closed = {kind: [task.result() if task.done() else None for task in tasks] for kind, tasks in slow.items()}
    return Siege(probes, closed)


async def _stop_besieged(server: GunicornProcess) -> float:
    async with _slow_clients(server.port):
        await _probe(server.port)  # the slow ones, which came before, have been accepted
        return await asyncio.to_thread(server.stop)


@asynccontextmanager
async def _slow_clients(port: int) -> AsyncIterator[dict[str, list[asyncio.Task[float]]]]:
    """Connect all slow clients; each task ends when its client is closed, with the seconds since the connection."""
    streams = {
        kind: [await asyncio.open_connection(HOST, port) for _ in range(count)] for kind, (_, count) in SLOW.items()
    }
    tasks = {
        kind: [asyncio.create_task(_stay(kind, *stream)) for stream in connected] for kind, connected in streams.items()
    }
    try:
        yield tasks
    finally:
        for kind, connected in streams.items():
            for task, (_, writer) in zip(tasks[kind], connected, strict=True):
                task.cancel()
                writer.transport.abort()  # only now: until here no slow client has closed its socket


async def _stay(kind: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> float:
    started = time.monotonic()
    writer.write(SLOW[kind][0])
    dripping = asyncio.create_task(_drip(writer)) if kind == DRIPS else None
    try:
        while await reader.read(65536):
            pass
    except ConnectionError:
        pass  # closed as well
    finally:
        if dripping:
            dripping.cancel()
    return time.monotonic() - started


async def _drip(writer: asyncio.StreamWriter) -> None:
    while True:
        await asyncio.sleep(DRIP_SECONDS)
        writer.write(b"x")


async def _probe_until(over: asyncio.Event, port: int) -> list[Probe]:
    probes = []
    while not over.is_set():
        probes.append(await _probe(port))
        await asyncio.sleep(0.01)  # the pace of the good clients
    return probes


async def _probe(port: int) -> Probe:
    started = time.monotonic()
    try:
        async with asyncio.timeout(PROBE_TIMEOUT):
            reader, writer = await asyncio.open_connection(HOST, port)
            try:
                writer.write(GOOD)
                answered = (await reader.read()).startswith(b"HTTP/1.1 200 ")
            finally:
                writer.transport.abort()
    except OSError:  # TimeoutError is one
        answered = False
    return Probe(answered, time.monotonic() - started)
