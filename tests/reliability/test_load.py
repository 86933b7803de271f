"""The client itself: it records what happens, and goes on at its rate whatever happens."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import orjson

from tests.reliability.load import KEPT, Load
from tests.waiting import wait_until

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 13\r\n\r\n" + b'{"price": 1}\n'


@contextmanager
def serving(serve: Callable[[socket.socket, int], None]) -> Iterator[int]:
    """A server whose connections are handed to `serve` with their number, each in a thread; yields its port."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=128)

    def accept() -> None:
        number = 0
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=(client, number), daemon=True).start()
            number += 1

    thread = threading.Thread(target=accept)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


def answer_all(client: socket.socket, _number: int) -> None:
    with client:
        while client.recv(65536):
            client.sendall(ANSWER)


def asked(port: int, count: int, rate: float = 200.0) -> Load:
    load = Load(port, [orjson.dumps({"house": number}) for number in range(10)], rate)
    with load.running():
        wait_until(lambda: len(load.outcomes) >= count)
    return load


def test_every_request_is_recorded_with_its_answer_and_half_of_the_connections_are_kept() -> None:
    with serving(answer_all) as port:
        load = asked(port, 100)

    assert load.failed() == []
    assert all(outcome.answer == {"price": 1} for outcome in load.outcomes)
    kept = {outcome.port for outcome in load.outcomes if outcome.kept}
    own = [outcome.port for outcome in load.outcomes if not outcome.kept]
    assert KEPT <= len(kept) < 30
    assert load.dropped == 0
    assert len(set(own)) == len(own) >= 50


def test_a_connection_that_ends_without_an_answer_is_a_failure() -> None:
    def end_every_tenth(client: socket.socket, number: int) -> None:
        if number % 10 == 9:
            client.recv(65536)
            client.close()
        else:
            answer_all(client, number)

    with serving(end_every_tenth) as port:
        load = asked(port, 100)

    assert {outcome.error for outcome in load.failed()} <= {"IncompleteReadError", "ConnectionResetError"}
    assert 3 <= len(load.failed()) <= 20
    assert all(outcome.port for outcome in load.failed())


def test_a_kept_connection_that_is_closed_while_it_is_idle_costs_no_request() -> None:
    def answer_once(client: socket.socket, _number: int) -> None:
        with client:
            client.recv(65536)
            client.sendall(ANSWER)

    with serving(answer_once) as port:
        load = asked(port, 60, rate=20)

    assert load.failed() == []
    kept = sum(outcome.kept for outcome in load.outcomes)
    assert kept - 2 * KEPT < load.dropped <= kept - KEPT


def test_nobody_there_is_a_failure() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    load = Load(port, [b"{}"])
    stop = time.monotonic() + 0.2
    with load.running():
        wait_until(lambda: time.monotonic() > stop)

    assert {outcome.error for outcome in load.outcomes} == {"ConnectionRefusedError"}


def test_a_service_that_stalls_is_not_asked_less() -> None:
    go_on = threading.Event()

    def stall(client: socket.socket, number: int) -> None:
        go_on.wait(30)
        answer_all(client, number)

    with serving(stall) as port:
        load = Load(port, [b"{}"])
        with load.running():
            begun = time.monotonic()
            wait_until(lambda: time.monotonic() > begun + 0.5)
            assert load.outcomes == []
            go_on.set()

    assert load.failed() == []
    assert len(load.outcomes) >= 80
    assert max(outcome.seconds for outcome in load.outcomes) > 0.4
