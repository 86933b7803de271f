"""The acceptor, with a loop and listeners that do what a test says."""

import asyncio
import errno
import logging
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, cast

import pytest

from worker.acceptor import AWAY, PLACES, Acceptor, ConnectionCounts
from worker.limits import DEFAULTS

if TYPE_CHECKING:
    import socket

OURS, OTHER = 0, 1


class Task:
    """A connection that is about to be: it has come, or it was gone."""

    def __init__(self, error: Exception | None) -> None:
        self._error = error

    def cancelled(self) -> bool:
        return False

    def exception(self) -> Exception | None:
        return self._error

    def add_done_callback(self, call: Callable[["Task"], None]) -> None:
        call(self)


class Loop:
    """Tells readers what the test wants them to know, at a time that the test sets."""

    def __init__(self) -> None:
        self.now = 100.0
        self.readers: dict[object, Callable[[], None]] = {}
        self.arriving_fails: Exception | None = None

    def time(self) -> float:
        return self.now

    def add_reader(self, file: object, call: Callable[[object], None], argument: object) -> None:
        self.readers[file] = lambda: call(argument)

    def remove_reader(self, file: object) -> None:
        self.readers.pop(file, None)

    def create_task(self, coroutine: Coroutine[Any, Any, Any]) -> Task:
        coroutine.close()
        return Task(self.arriving_fails)

    async def connect_accepted_socket(self, _protocol: object, _client: object) -> None:
        raise NotImplementedError

    def turn(self) -> None:
        for call in list(self.readers.values()):
            call()


class Client:
    def settimeout(self, seconds: float) -> None:
        assert seconds == 0


class Listener:
    """A queue of clients; an exception among them is raised."""

    def __init__(self, waiting: int = 0) -> None:
        self.queue: deque[Client | OSError] = deque(Client() for _ in range(waiting))

    def accept(self) -> tuple[Client, object]:
        if not self.queue:
            raise BlockingIOError
        found = self.queue.popleft()
        if isinstance(found, OSError):
            raise found
        return found, None


class Workers:
    """Our worker's acceptor, and another worker that lives: this process is both."""

    def __init__(self, waiting: int, most: int = 1000) -> None:
        self.census = ConnectionCounts()
        assert (self.census.reserve(), self.census.reserve()) == (OURS, OTHER)
        self.loop, self.listener = Loop(), Listener(waiting)
        self.acceptor = Acceptor(
            cast("asyncio.AbstractEventLoop", self.loop),
            [cast("socket.socket", self.listener)],
            asyncio.Protocol,
            most=most,
            census=self.census,
            place=OURS,
            head_start_seconds=DEFAULTS.head_start_seconds,
            log=logging.getLogger("test"),
        )
        self.acceptor.open()

    def other_has(self, count: int) -> None:
        self.census.publish(OTHER, count)

    def turns(self, count: int) -> int:
        """Turn the loop; returns how many connections we have then."""
        for _ in range(count):
            self.loop.turn()
        return self.acceptor.count


def test_without_another_worker_each_turn_of_the_loop_takes_one() -> None:
    workers = Workers(waiting=3)
    assert [workers.turns(1) for _ in range(4)] == [1, 2, 3, 3]


def test_who_has_more_leaves_the_next_one_to_who_has_fewer() -> None:
    workers = Workers(waiting=5)
    workers.other_has(0)
    assert workers.turns(10) == 1
    workers.other_has(1)
    assert workers.turns(10) == 2


def test_the_head_start_ends_and_does_not_begin_again_for_the_next_one() -> None:
    workers = Workers(waiting=5)
    workers.other_has(0)
    assert workers.turns(10) == 1
    workers.loop.now += DEFAULTS.head_start_seconds
    assert workers.turns(2) == 3


def test_another_head_start_begins_when_the_other_has_taken_one() -> None:
    workers = Workers(waiting=9)
    workers.other_has(0)
    workers.turns(1)
    workers.turns(1)
    workers.loop.now += DEFAULTS.head_start_seconds
    assert workers.turns(3) == 4
    workers.other_has(1)
    assert workers.turns(3) == 4


def test_another_head_start_begins_when_we_were_even_in_between() -> None:
    workers = Workers(waiting=9)
    workers.other_has(0)
    workers.turns(2)
    workers.loop.now += DEFAULTS.head_start_seconds
    workers.acceptor.gone()
    assert workers.turns(3) == 1


@pytest.mark.parametrize("count", [AWAY, 1, 2])
def test_who_takes_none_or_has_no_fewer_is_not_waited_for(count: int) -> None:
    workers = Workers(waiting=2)
    workers.other_has(count)
    assert workers.turns(2) == 2


def test_who_is_dead_is_not_waited_for() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as dead:
        pass
    workers = Workers(waiting=3)
    workers.census.occupy(OTHER, dead.pid)
    workers.other_has(0)
    assert workers.turns(3) == 3


def test_when_full_nothing_is_taken_and_nobody_waits_for_us() -> None:
    workers = Workers(waiting=3, most=2)
    assert workers.turns(5) == 2
    assert not workers.acceptor.is_open
    assert workers.census.has_fewer(100) is None
    workers.acceptor.open()
    assert workers.turns(5) == 2
    workers.acceptor.gone()
    assert workers.turns(5) == 1
    workers.acceptor.open()
    assert workers.census.has_fewer(100) == 1
    assert workers.turns(5) == 2


@pytest.mark.parametrize("error", [BlockingIOError(), ConnectionAbortedError(), InterruptedError()])
def test_who_is_gone_before_it_is_taken_is_nobody(error: OSError) -> None:
    workers = Workers(waiting=1)
    workers.listener.queue.appendleft(error)
    assert workers.turns(1) == 0
    assert workers.turns(1) == 1


def test_without_descriptors_who_waits_goes_on_waiting(caplog: pytest.LogCaptureFixture) -> None:
    workers = Workers(waiting=1)
    workers.listener.queue.appendleft(OSError(errno.EMFILE, "Too many open files"))
    assert workers.turns(5) == 0
    assert [record.message for record in caplog.records] == [
        "No connection can be taken: [Errno 24] Too many open files"
    ]
    workers.acceptor.open()
    assert workers.turns(5) == 1


def test_who_is_gone_while_it_arrives_is_not_counted() -> None:
    workers = Workers(waiting=1)
    workers.loop.arriving_fails = ConnectionResetError()
    assert workers.turns(1) == 0
    assert not workers.listener.queue


def test_the_end_takes_all_that_wait_whoever_has_fewer() -> None:
    workers = Workers(waiting=5, most=4)
    workers.other_has(0)
    workers.acceptor.finish()
    assert workers.acceptor.count == 4
    assert not workers.loop.readers


def test_the_place_of_a_dead_worker_is_given_again() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as dead:
        pass
    census = ConnectionCounts()
    assert [census.reserve() for _ in range(3)] == [0, 1, 2]
    census.occupy(1, dead.pid)
    census.publish(1, 7)
    assert census.reserve() == 1
    assert census.has_fewer(100) is None


def test_a_thousand_workers_have_a_place_each_and_all_others_share_one() -> None:
    census = ConnectionCounts()
    assert [census.reserve() for _ in range(PLACES + 2)] == [*range(PLACES), PLACES - 1, PLACES - 1]
