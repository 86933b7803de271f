"""The moving window in Redis: nobody waits for a connection, only Redis' clock counts, and what fails is replaced."""

import logging
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from redis.exceptions import RedisError

from service.access.redis_window import LATE_SECONDS, PROBE, STRIKES, RedisLink, RedisWindow
from tests.redis_process import RedisServer, needs_redis, redis_server
from tests.waiting import wait_until

AnyClient = Any  # redis' own; its types say that each answer may be one to be awaited
HOUR: Final = 3_601_000_000  # microseconds, and a second in which the test may be slow


class Clock:
    """A time that a test sets."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class FakeLink:
    """A link that answers, fails or is late, as a test says."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.takes = 0.0
        self.tries_take = 0.0
        self.fails = False
        self.hits = self.tries = 0
        self.is_closed = False

    def hit(self, client: str) -> float:
        assert not self.is_closed
        is_tried = client == PROBE
        self.tries += is_tried
        self.hits += not is_tried
        self._clock.now += self.tries_take if is_tried else self.takes
        if self.fails:
            raise TimeoutError
        return 0.0

    def close(self) -> None:
        self.is_closed = True


class Server:
    """Makes links, as long as it is let: a resolver, or a server, that does not answer until then."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.links: list[FakeLink] = []
        self.next = FakeLink(self.clock)
        self.lets = threading.Event()
        self.asked = threading.Event()
        self.threads: set[str] = set()
        self.fails = False

    def connect(self) -> FakeLink:
        self.threads.add(threading.current_thread().name)
        self.asked.set()
        if threading.current_thread() is threading.main_thread():
            raise TimeoutError  # a request would have waited here; the test sees it in `threads`
        assert self.lets.wait(60)
        if self.fails:
            self.clock.now += 0.1
            raise ConnectionRefusedError
        link, self.next = self.next, FakeLink(self.clock)
        self.links.append(link)
        return link

    def window(self, idle_seconds: float = 60.0) -> RedisWindow:
        return RedisWindow(self.connect, self.clock, look_seconds=0.001, idle_seconds=idle_seconds)


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.lets.set()


def connected(server: Server) -> tuple[RedisWindow, FakeLink]:
    server.lets.set()
    window = server.window()
    assert window.wait(30)
    return window, server.links[0]


def test_while_a_resolver_does_not_answer_no_request_waits_for_it(server: Server) -> None:
    window = server.window()
    assert server.asked.wait(30)

    assert [window.hit("a") for _ in range(100)] == [None] * 100
    assert not window.wait(0)

    server.lets.set()
    assert window.wait(30)
    assert window.hit("a") == 0.0
    assert server.threads == {"limits"}


def test_a_link_that_fails_is_closed_and_replaced_beside_the_requests(server: Server) -> None:
    window, link = connected(server)
    server.lets.clear()
    server.asked.clear()
    link.fails = True

    assert [window.hit("a") for _ in range(100)] == [None] * 100
    assert (link.hits, link.is_closed) == (1, True)  # the answer may still come, to be taken for another

    assert server.asked.wait(30)
    server.lets.set()
    wait_until(lambda: len(server.links) == 2 and window.hit("a") == 0.0)
    assert server.threads == {"limits"}


def test_a_link_that_is_late_in_a_row_is_given_up_though_its_answers_count(server: Server) -> None:
    window, link = connected(server)
    server.lets.clear()
    link.takes = 2 * LATE_SECONDS

    assert [window.hit("a") for _ in range(STRIKES + 1)] == [0.0] * STRIKES + [None]
    assert link.is_closed


def test_late_answers_that_are_not_in_a_row_are_forgiven(server: Server) -> None:
    window, link = connected(server)
    for number in range(20):
        link.takes = 0.0 if number % STRIKES == 0 else 2 * LATE_SECONDS
        assert window.hit("a") == 0.0

    assert not link.is_closed


def test_a_new_link_is_taken_only_when_it_answers_in_time(server: Server) -> None:
    late = server.next
    late.tries_take = 2 * LATE_SECONDS
    server.lets.set()
    window = server.window()
    wait_until(lambda: server.links)

    assert window.wait(30)
    assert late.is_closed
    assert (late.hits, server.links.index(late)) == (0, 0)


def test_a_server_that_connects_but_does_not_count_is_not_taken(server: Server) -> None:
    full = server.next
    full.fails = True
    server.lets.set()
    window = server.window()

    assert window.wait(30)
    assert (full.tries, full.hits, full.is_closed) == (1, 0, True)


def test_a_link_that_nobody_uses_is_tried_and_replaced_before_somebody_does(server: Server) -> None:
    server.lets.set()
    window = server.window(idle_seconds=0.001)
    assert window.wait(30)
    first = server.links[0]
    wait_until(lambda: first.tries > 3)  # one of them was that of the beginning
    first.fails = True

    wait_until(lambda: first.is_closed and window.wait(0))
    assert window.hit("a") == 0.0


def test_what_lasts_is_logged_once_and_so_is_its_end_and_a_hiccup_is_not(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    window, link = connected(server)
    link.fails = True
    assert window.hit("a") is None
    assert window.wait(30)
    assert caplog.record_tuples == []

    server.fails = True
    server.links[1].fails = True
    window.hit("a")
    wait_until(lambda: caplog.records)
    server.asked.clear()
    assert server.asked.wait(30)
    server.fails = False
    assert window.wait(30)
    wait_until(lambda: len(caplog.records) == 2)

    assert caplog.record_tuples == [
        (
            "service.access.redis_window",
            logging.ERROR,
            "the limits' storage does not answer in time (ConnectionRefusedError); it is asked again when it does",
        ),
        ("service.access.redis_window", logging.WARNING, "the limits' storage answers again"),
    ]


# --- A real one


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with redis_server(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def client(redis: RedisServer) -> Iterator[AnyClient]:
    with redis.client() as client:
        client.flushall()
        yield client


def step(client: AnyClient, key: str, microseconds: int) -> None:
    """Set Redis' clock, in effect: what was counted moves the other way."""
    moments = [int(moment) - microseconds for moment in client.lrange(key, 0, -1)]
    client.delete(key)
    client.rpush(key, *moments)


@needs_redis
def test_links_share_one_limit_and_a_refusal_says_how_long(redis: RedisServer, client: AnyClient) -> None:
    links = [RedisLink(redis.url, 4, 3_600) for _ in range(2)]

    assert [link.hit("a") for link in links * 2] == [0.0] * 4
    assert 3_500 < links[0].hit("a") <= 3_600
    assert links[1].hit("b") == 0.0
    assert client.llen("appraiser:limit:4/3600:a") == 4
    assert 3_500 < client.ttl("appraiser:limit:4/3600:a") <= 3_600
    for link in links:
        link.close()


@needs_redis
def test_a_request_comes_back_when_the_oldest_leaves_the_window(redis: RedisServer, client: AnyClient) -> None:
    link, key = RedisLink(redis.url, 2, 60), "appraiser:limit:2/60:a"
    link.hit("a")
    step(client, key, 40_000_000)
    link.hit("a")
    assert 10 < link.hit("a") <= 20
    step(client, key, 21_000_000)

    assert link.hit("a") == 0.0
    assert 20 < link.hit("a") <= 39
    assert client.llen(key) == 2
    link.close()


@needs_redis
@pytest.mark.parametrize(("limit", "seconds"), [(5, 1), (5, 3_600), (5, 86_400)])
@pytest.mark.parametrize("microseconds", [-HOUR, -HOUR // 7_200, HOUR // 7_200, HOUR])
def test_when_its_clock_is_set_a_client_waits_for_one_window_at_most(
    redis: RedisServer, client: AnyClient, limit: int, seconds: int, microseconds: int
) -> None:
    link = RedisLink(redis.url, limit, seconds)
    for _ in range(limit):
        assert link.hit("a") == 0.0
    assert link.hit("a") > 0.0

    step(client, f"appraiser:limit:{limit}/{seconds}:a", microseconds)
    left = link.hit("a")

    assert 0.0 <= left <= seconds
    # within a window nobody gains by a clock that is set back; else it begins anew
    assert (left == 0.0) == (abs(microseconds) >= seconds * 1_000_000)
    link.close()


@needs_redis
def test_a_link_to_what_is_not_there_raises_what_a_window_takes_for_no_answer() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises((RedisError, OSError)):
        RedisLink(f"redis://127.0.0.1:{port}", 1, 1)


@needs_redis
def test_a_script_that_redis_has_lost_costs_one_answer(redis: RedisServer, client: AnyClient) -> None:
    window = RedisWindow(lambda: RedisLink(redis.url, 100, 3_600), look_seconds=0.001)
    assert window.wait(30)
    assert window.hit("a") == 0.0
    client.script_flush()

    assert window.hit("a") is None
    wait_until(lambda: window.hit("a") == 0.0)


@needs_redis
def test_a_link_speaks_to_a_redis_with_a_password_at_a_unix_socket(tmp_path: Path) -> None:
    path = tmp_path / "redis.sock"
    with redis_server(tmp_path, "--unixsocket", str(path)) as server:
        server.client().config_set("requirepass", "secret")
        link = RedisLink(f"redis+unix://:secret@{path}", 1, 1)
        assert link.hit("a") == 0.0
        link.close()
        with pytest.raises(RedisError):
            RedisLink(f"redis+unix://{path}", 1, 1)
