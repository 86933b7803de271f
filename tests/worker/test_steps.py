"""Answers that are made in steps, in a real gunicorn: who comes meanwhile is served, and nothing else is different."""

import socket
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from tests.gunicorn_process import OUR_WORKER, GunicornProcess, gunicorn
from tests.raw_http import answer, ask, everything, request
from tests.waiting import wait_until

APPLICATION = """
from worker.limits import Limits

calls = 0

class Patient:
    '''Takes breaks until there have been so many calls in all, and then says how many breaks it has taken.'''

    def __init__(self, environ, start_response, calls):
        assert environ["service.takes_steps"]
        self.start_response, self.calls, self.body = start_response, calls, environ["wsgi.input"].read()

    def __iter__(self):
        taken = 0
        while calls < self.calls:
            taken += 1
            yield b""
        if self.body == b"fail":
            raise ValueError("on purpose")
        self.start_response("200 OK", [])
        yield b"%d breaks" % bool(taken) + b"x" * len(self.body)

    def close(self):
        print("closed", flush=True)

def app(environ, start_response):
    global calls
    calls += 1
    path, _, argument = environ["PATH_INFO"][1:].partition("/")
    if path == "until":
        return Patient(environ, start_response, int(argument))
    if path == "while":  # taken at once, whatever the others wait for
        start_response("200 OK", [])
        return [b"calls: %d" % calls]
    raise ValueError(path)

app.limits = LIMITS
"""
LIMITS = (
    "Limits(max_in_hand=4, stop_seconds=20, stop_idle_seconds=20, body_seconds=60, header_seconds=60, write_seconds=60)"
)
NEVER = 1_000_000
BROKEN = (500, b'{"detail":"The service failed to answer; the failure has been logged."}')


def serve(folder: Path, *args: str, limits: str = LIMITS) -> AbstractContextManager[GunicornProcess]:
    (folder / "application.py").write_text(APPLICATION.replace("LIMITS", limits))
    arguments = ("--keep-alive", "60", "--graceful-timeout", "60", *args)
    return gunicorn("application:app", *arguments, cwd=folder, worker_class=OUR_WORKER, workers=1)


def until(calls: int, body: bytes = b"", *headers: str) -> bytes:
    return request(f"/until/{calls}", f"Content-Length: {len(body)}", *headers, method="POST") + body


OTHER = request("/while")


# With an access log, gunicorn's parser reads every request.
@pytest.fixture(params=[(), ("--access-logfile", "-")], ids=["ordinary", "parsed"])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[GunicornProcess]:
    with serve(tmp_path, *request.param) as server:
        yield server


def test_others_are_served_between_two_steps(server: GunicornProcess) -> None:
    with server.connect() as long, server.connect() as short:
        long.sendall(until(4))
        for _ in range(3):
            short.sendall(OTHER)
            assert answer(short)[0] == 200
        assert answer(long) == (200, b"1 breaks")


def test_who_comes_in_chunks_is_served_in_steps_too(server: GunicornProcess) -> None:
    with server.connect() as long:
        long.sendall(request("/until/2", "Transfer-Encoding: chunked", method="POST") + b"3\r\nabc\r\n0\r\n\r\n")
        assert ask(server, OTHER)[0] == 200
        assert answer(long) == (200, b"1 breaksxxx")


def test_nothing_behind_it_on_its_connection_is_answered_before_it(server: GunicornProcess) -> None:
    with server.connect() as long:
        long.sendall(until(3) + OTHER + until(0) + OTHER[:-2])
        calls = 0
        while calls != 3:
            calls = int(ask(server, OTHER)[1].removeprefix(b"calls: "))
            assert calls <= 3
        assert answer(long) == (200, b"1 breaks")
        assert answer(long) == (200, b"calls: 4")
        assert answer(long) == (200, b"0 breaks")
        long.sendall(b"\r\n")
        assert answer(long) == (200, b"calls: 6")


def test_what_comes_while_it_is_made_is_answered_after_it(server: GunicornProcess) -> None:
    with server.connect() as long:
        long.sendall(until(2))
        long.sendall(OTHER)
        assert ask(server, OTHER) == (200, b"calls: 2")
        assert answer(long) == (200, b"1 breaks")
        assert answer(long) == (200, b"calls: 3")


def test_the_first_to_come_is_the_first_to_be_answered(server: GunicornProcess) -> None:
    with server.connect() as first, server.connect() as second:
        first.sendall(until(4))
        wait_for_calls(server, 2)
        second.sendall(until(0))
        wait_for_calls(server, 4)
        assert answer(first) == (200, b"1 breaks")
        assert answer(second) == (200, b"0 breaks")


def wait_for_calls(server: GunicornProcess, calls: int) -> None:
    wait_until(lambda: int(ask(server, OTHER)[1].removeprefix(b"calls: ")) >= calls)


def test_an_answer_that_fails_in_a_step_is_a_500_and_the_connection_goes_on(server: GunicornProcess) -> None:
    with server.connect() as long:
        long.sendall(until(2, b"fail"))
        assert ask(server, OTHER)[0] == 200
        assert answer(long) == BROKEN
        long.sendall(OTHER)
        assert answer(long)[0] == 200
    assert server.log.count("closed") == 1


def test_a_large_answer_in_steps_arrives_whole(server: GunicornProcess) -> None:
    with server.connect() as long:
        long.sendall(until(2, b"x" * 1_000_000))
        assert ask(server, OTHER)[0] == 200
        status, body = answer(long)
        assert (status, body[8:]) == (200, b"x" * 1_000_000)


def test_a_client_that_leaves_in_the_middle_harms_nobody(server: GunicornProcess) -> None:
    with server.connect() as long:
        long.sendall(until(0) + until(4))
        assert answer(long) == (200, b"0 breaks")
        wait_for_calls(server, 3)
    with server.connect() as other:
        other.sendall(OTHER + until(0))
        assert answer(other)[0] == 200
        assert answer(other) == (200, b"0 breaks")


def test_a_client_that_has_closed_its_sending_half_is_answered(server: GunicornProcess) -> None:
    with server.connect() as long:
        long.sendall(until(0) + until(4))
        long.shutdown(socket.SHUT_WR)
        wait_for_calls(server, 4)
        assert [answer(long)[0] for _ in range(2)] == [200, 200]
        assert long.recv(1) == b""


def test_without_a_place_in_hand_it_is_answered_whole(tmp_path: Path) -> None:
    with (
        serve(tmp_path, limits=LIMITS.replace("max_in_hand=4", "max_in_hand=1")) as server,
        server.connect() as half,
        server.connect() as late,
    ):
        half.sendall(request("/until/0", "Content-Length: 5", "Expect: 100-continue", method="POST"))
        assert answer(half)[0] == 100
        late.sendall(until(0, b"ab"))
        assert answer(late) == (200, b"0 breaksxx")
        half.sendall(b"hello")
        assert answer(half) == (200, b"0 breaksxxxxx")
        late.sendall(until(4))  # the place is free again
        wait_for_calls(server, 4)
        assert answer(late) == (200, b"1 breaks")


def test_a_stop_waits_for_its_end(server: GunicornProcess) -> None:
    with server.connect() as long, server.connect() as other:
        other.sendall(OTHER)
        assert answer(other)[0] == 200
        long.sendall(until(3))
        server.process.terminate()
        wait_until(lambda: is_refused(server))
        other.sendall(OTHER)
        assert answer(other)[0] == 200
        assert answer(long) == (200, b"1 breaks")
        assert long.recv(1) == b""
    assert server.process.wait(10) == 0


def is_refused(server: GunicornProcess) -> bool:
    try:
        server.connect().close()
    except ConnectionRefusedError:
        return True
    return False


def test_what_never_ends_is_cut_off_when_the_time_of_a_stop_is_over(tmp_path: Path) -> None:
    with serve(tmp_path, limits=LIMITS.replace("stop_seconds=20", "stop_seconds=1", 1)) as server:
        with server.connect() as long:
            long.sendall(until(0) + until(NEVER))
            assert answer(long)[0] == 200
            server.stop()
            assert everything(long) == b""
        assert server.log.count("closed") == 2


def test_the_last_request_of_a_worker_may_be_one_of_them(tmp_path: Path) -> None:
    with serve(tmp_path, "--max-requests", "2") as server:
        with server.connect() as long:
            long.sendall(until(2))
            assert ask(server, OTHER)[0] == 200
            assert answer(long) == (200, b"1 breaks")
            assert long.recv(1) == b""
        wait_until(lambda: ask(server, OTHER) == (200, b"calls: 1"))


def test_access_log_and_hooks_are_told_at_its_end(tmp_path: Path) -> None:
    (tmp_path / "gunicorn.conf.py").write_text(
        "def post_request(worker, request, environ, response):\n"
        "    worker.log.info('after %s %s', environ['PATH_INFO'], response.status)\n"
    )
    with serve(tmp_path, "--access-logfile", "-") as server:
        with server.connect() as long:
            long.sendall(until(2))
            assert ask(server, OTHER)[0] == 200
            assert answer(long)[0] == 200
        server.stop()
        assert '"POST /until/2 HTTP/1.1" 200 8 ' in server.log
        assert server.log.index("after /while 200") < server.log.index("after /until/2 200")
