"""One limit over all workers, with a real Redis; and what happens when that dies, hangs or comes back."""

import signal
import socket
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Final

import pytest

from service.access.redis_window import ANSWER_SECONDS
from service.settings import OnFailure
from tests.gunicorn_process import HOST, GunicornProcess
from tests.redis_process import RedisServer, needs_redis, redis_server
from tests.reliability.load import Load
from tests.reliability.scrapes import Scrapes
from tests.reliability.workers import BODIES, serve, store_of, train_version
from tests.waiting import sleep_until, wait_until

LIMIT: Final = 100  # a second
OFFERED: Final = 300.0  # a second
SECONDS: Final = 10.0
PASSES: Final = LIMIT * SECONDS
TOLERANCE: Final = 0.02

pytestmark = needs_redis


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    with redis_server(tmp_path) as server:
        yield server


def limited(folder: Path, storage: str, on_failure: OnFailure = "open") -> AbstractContextManager[GunicornProcess]:
    settings = {"RATE_LIMIT": f"{LIMIT}/second", "RATE_LIMIT_STORAGE": storage, "RATE_LIMIT_ON_FAILURE": on_failure}
    store = store_of(folder, train_version("v1.0.0", "gradient-boosting"))
    return serve(store, env={f"APPRAISER_{name}": value for name, value in settings.items()})


def offered(server: GunicornProcess, seconds: float) -> Load:
    """What became of a load over some seconds."""
    load = Load(server.port, BODIES, OFFERED)
    end = time.monotonic() + seconds
    with load.running():
        sleep_until(end)
    return load


def statuses(load: Load) -> Counter[int]:
    return Counter(outcome.status for outcome in load.outcomes)


def slowest(load: Load) -> float:
    """Milliseconds."""
    return 1e3 * max(outcome.finished - outcome.sent for outcome in load.outcomes)


def unknown(server: GunicornProcess, decision: OnFailure) -> int:
    """Requests whose limit was not known, as the service counts them."""
    return Scrapes(server).total("appraiser_limit_unknown_total", decision=decision)


def test_a_limit_in_redis_is_one_limit_for_all_workers(tmp_path: Path, redis: RedisServer) -> None:
    with limited(tmp_path, redis.url) as server:
        found = statuses(offered(server, SECONDS))

    print(f"\n{found.total():,} requests in {SECONDS:g} s over two workers, limit {LIMIT} a second: {dict(found)}")
    assert set(found) == {200, 429}
    assert abs(found[200] - PASSES) <= TOLERANCE * PASSES


def test_a_limit_in_memory_is_each_workers_own(tmp_path: Path) -> None:
    """The control: without Redis, what passes is more than the limit."""
    with limited(tmp_path, "memory://") as server:
        found = statuses(offered(server, SECONDS))

    print(f"\nwithout Redis: {dict(found)}")
    assert found[200] > (1 + TOLERANCE) * PASSES


@pytest.mark.parametrize(("on_failure", "status"), [("open", 200), ("closed", 503)])
def test_when_redis_dies_the_setting_decides_until_it_is_back(
    tmp_path: Path, redis: RedisServer, on_failure: OnFailure, status: int
) -> None:
    with limited(tmp_path, redis.url, on_failure) as server:
        assert set(statuses(offered(server, 1.0))) == {200, 429}
        before = unknown(server, on_failure)

        redis.signal(signal.SIGKILL)
        dead = offered(server, 3.0)
        counted = unknown(server, on_failure) - before
        redis.start()
        wait_until(lambda: set(statuses(offered(server, 1.0))) == {200, 429})

        print(
            f"\nRedis killed, {on_failure}: {dict(statuses(dead))}, counted {counted}, slowest {slowest(dead):.0f} ms"
        )
        assert statuses(dead) == {status: len(dead.outcomes)}
        assert (before, counted) == (0, len(dead.outcomes))
        assert server.log.count("storage answers again") == server.log.count("storage does not answer in time") == 2


def test_a_redis_that_hangs_stalls_nobody(tmp_path: Path, redis: RedisServer) -> None:
    with limited(tmp_path, redis.url) as server:
        usual = offered(server, 1.0)
        redis.signal(signal.SIGSTOP)
        hanging = offered(server, 3.0)
        redis.signal(signal.SIGCONT)
        wait_until(lambda: 429 in statuses(offered(server, 1.0)))

    stall = 1e3 * ANSWER_SECONDS
    print(f"\nslowest answer {slowest(usual):.0f} ms, beside a Redis that hangs {slowest(hanging):.0f} ms")
    assert statuses(hanging) == {200: len(hanging.outcomes)}
    assert slowest(hanging) < stall + 500.0  # a stall for each of them would have been 20 ms times 900


def test_a_redis_that_is_never_connected_stalls_nobody(tmp_path: Path) -> None:
    """It accepts and says nothing, so that connecting takes as long as a resolver that does not answer."""
    with (
        socket.create_server((HOST, 0)) as silent,
        limited(tmp_path, f"redis://{HOST}:{silent.getsockname()[1]}") as server,
    ):
        load = offered(server, 5.0)  # longer than an attempt to connect
        counted = unknown(server, "open")

    print(f"\nslowest answer beside a Redis that is never connected {slowest(load):.0f} ms")
    assert statuses(load) == {200: len(load.outcomes)} == {200: counted}
    assert slowest(load) < 500.0  # an attempt takes 2 s
