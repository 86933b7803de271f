"""A client that asks at a fixed rate whatever becomes of the answers, and records every outcome.

Half of the requests come on connections of their own, half on connections that are kept. A request is sent when its
time has come, not when an earlier one is answered, so that a service that stalls is not asked less.
"""

import asyncio
import contextlib
import select
import threading
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

RATE: Final = 200.0  # requests a second
TIMEOUT_SECONDS: Final = 10.0
LATE_SECONDS: Final = 2.0  # how late this client may send on a busy machine and still call it its rate
KEPT: Final = 8  # connections that idle between requests, so that every worker holds some

Kept = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass(frozen=True)
class Outcome:
    """What became of one request; times in seconds of the monotonic clock."""

    house: int
    kept: bool
    planned: float
    sent: float
    finished: float
    port: int = 0
    """Of this end of the connection; 0 when there was none."""
    status: int = 0
    answer: dict[str, Any] = field(default_factory=dict)
    error: str = ""

    @property
    def is_answered(self) -> bool:
        """Whether the client got what it came for."""
        return self.status == 200

    @property
    def prediction_ids(self) -> list[str]:
        """Of the houses that were priced, alone or in a batch."""
        if not self.is_answered:
            return []
        return [answer["prediction_id"] for answer in self.answer.get("predictions", [self.answer])]

    @property
    def seconds(self) -> float:
        """From when it should have been sent to its end, so that waiting in a queue of ours counts too."""
        return self.finished - self.planned


@dataclass
class Load:
    """Asks for each of `bodies` in turn, and begins again."""

    port: int
    bodies: list[bytes]
    rate: float = RATE
    path: str = "/predict"
    travel_seconds: float = 0.0
    """From connecting to sending, on connections of their own: what lies between them over a network."""
    outcomes: list[Outcome] = field(default_factory=list)
    dropped: int = 0
    """Kept connections that the service closed while they were idle: no request is lost by that, but a handshake."""
    _idle: deque[Kept] = field(default_factory=deque)

    @contextlib.contextmanager
    def running(self) -> Iterator["Load"]:
        """Ask while the block runs; afterwards all outcomes are there, and it has kept its rate."""
        stopping = threading.Event()
        thread = threading.Thread(target=lambda: asyncio.run(self._ask_until(stopping)))
        thread.start()
        try:
            yield self
        finally:
            stopping.set()
            thread.join()
        late = [outcome.sent - outcome.planned for outcome in self.outcomes if outcome.port]
        assert max(late, default=0.0) < LATE_SECONDS, "this client could not keep its rate"

    def failed(self) -> list[Outcome]:
        """Every request that was not answered 200."""
        return [outcome for outcome in self.outcomes if not outcome.is_answered]

    async def _ask_until(self, stopping: threading.Event) -> None:
        begun, tasks = time.monotonic(), set()
        number = 0
        while not stopping.is_set():
            planned = begun + number / self.rate
            await asyncio.sleep(max(0.0, planned - time.monotonic()))
            task = asyncio.create_task(self._ask(number, planned))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
            number += 1
        if tasks:
            await asyncio.wait(tasks)
        for _, writer in self._idle:
            writer.close()

    async def _ask(self, number: int, planned: float) -> None:
        house, kept = number % len(self.bodies), number % 2 == 1
        port, sent = 0, time.monotonic()
        status, answer, error = 0, b"", ""
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                reader, writer = await self._connection(kept=kept)
                port = writer.get_extra_info("sockname")[1]
                await asyncio.sleep(0.0 if kept else self.travel_seconds)
                sent = time.monotonic()
                status, answer = await self._exchange(reader, writer, self.bodies[house], kept=kept)
        except (OSError, asyncio.IncompleteReadError, TimeoutError) as failure:
            error = type(failure).__name__
        content = orjson.loads(answer) if answer else {}
        self.outcomes.append(Outcome(house, kept, planned, sent, time.monotonic(), port, status, content, error))

    async def _connection(self, *, kept: bool) -> Kept:
        while kept and len(self._idle) >= KEPT:
            reader, writer = self._idle.popleft()
            if not _has_ended(writer):
                return reader, writer
            writer.close()
            self.dropped += 1
        return await asyncio.open_connection("127.0.0.1", self.port)

    async def _exchange(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, body: bytes, *, kept: bool
    ) -> tuple[int, bytes]:
        stays = False
        try:
            writer.write(
                b"POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                b"Connection: %s\r\nContent-Length: %d\r\n\r\n"
                % (self.path.encode(), b"keep-alive" if kept else b"close", len(body))
                + body
            )
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            length = int(head.partition(b"content-length:")[2].partition(b"\r\n")[0])
            answer = await reader.readexactly(length)
            stays = kept and b"connection: close" not in head
            return int(head.split(b" ", 2)[1]), answer
        finally:
            if stays:
                self._idle.append((reader, writer))
            else:
                writer.close()


def _has_ended(idle: asyncio.StreamWriter) -> bool:
    """Whether the service has closed a connection: nobody has asked it anything, so all that can be read is the end.

    The system is asked, since the event loop may not have noticed yet. What ends after this look has a request on it.
    """
    if idle.is_closing():
        return True
    look = select.poll()
    look.register(idle.get_extra_info("socket"), select.POLLIN)
    return bool(look.poll(0))
