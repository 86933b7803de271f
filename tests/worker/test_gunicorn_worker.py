"""The worker, in a real gunicorn: deadlines, limits, stops, and what a WSGI application may expect of its server."""

import json
import os
import re
import select
import signal
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

import pytest
from gunicorn.config import Config
from gunicorn.errors import ConfigError

from tests.gunicorn_process import GunicornProcess, gunicorn
from tests.raw_http import answer, ask, everything, request
from tests.waiting import wait_until
from worker.gunicorn_worker import AppraiserWorker

# Seconds; gunicorn wants whole ones for keepalive.
KEEPALIVE, HEADER, BODY, WRITE, DRAIN = 1, 2.0, 1.0, 1.0, 1.0
LIMITS = (
    f"Limits(header_seconds={HEADER}, body_seconds={BODY}, write_seconds={WRITE}, max_body_bytes=1000, "
    f"drain_seconds={DRAIN}, drain_bytes=8_000_000)"
)
# On a loaded machine; without its deadline, a connection would stay for good.
LATE = 8.0

APPLICATION = """
import json, os, time
from worker.limits import Limits

calls = 0

def app(environ, start_response):
    global calls
    calls += 1
    path, _, argument = environ["PATH_INFO"][1:].partition("/")
    headers = [("Content-Type", "text/plain")]
    if path == "raise":
        raise ValueError("on purpose")
    if path == "cr":
        headers.append(("X", "a\\r\\nb"))
    if path == "nap":
        time.sleep(float(argument))
    if path == "environ":
        content = json.dumps({k: v for k, v in environ.items() if isinstance(v, str | bool | tuple)}).encode()
        start_response("200 OK", [("Content-Length", str(len(content)))])  # stock would send chunks
        return [content]
    start_response("204 No Content" if path == "empty" else "200 OK", headers)
    if path == "pid":
        return [str(os.getpid()).encode()]
    if path == "calls":
        return [str(calls).encode()]
    if path == "big":
        return [b"x" * int(argument)]
    return [environ["wsgi.input"].read()] if path == "echo" else []

app.limits = LIMITS
"""


def serve(folder: Path, *args: str, limits: str = LIMITS, workers: int = 1) -> AbstractContextManager[GunicornProcess]:
    """Serve APPLICATION with our worker."""
    (folder / "application.py").write_text(APPLICATION.replace("LIMITS", limits))
    return gunicorn(
        "application:app", *args, cwd=folder, worker_class="worker.gunicorn_worker.AppraiserWorker", workers=workers
    )


ACCESS_LOG = ("--access-logfile", "-")


# With an access log, gunicorn's parser reads every request; else those that are not ordinary.
@pytest.fixture(scope="module", params=[(), ACCESS_LOG], ids=["ordinary", "parsed"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GunicornProcess]:
    folder = tmp_path_factory.mktemp("server")
    with serve(folder, "--keep-alive", str(KEEPALIVE), *request.param) as server:
        yield server


def seconds_until_closed(client: socket.socket, drip: bytes = b"") -> float:
    """Wait until the server closes; meanwhile send `drip` every 0.1 seconds."""
    started = time.monotonic()
    client.settimeout(0.1 if drip else 30)
    while True:
        try:
            if not client.recv(65536):
                break
        except TimeoutError:
            assert drip, "never closed"
            assert time.monotonic() - started < 30, "never closed"
            client.sendall(drip)
        except ConnectionError:
            break
    return time.monotonic() - started


def is_let_go(client: socket.socket, seconds: float) -> bool:
    """Whether the server gives up the whole socket: then what is sent to it comes back as a reset."""
    poller = select.poll()
    poller.register(client, select.POLLERR | select.POLLHUP)
    try:
        client.sendall(b"x")
    except ConnectionError:
        return True
    return bool(poller.poll(seconds * 1000))


def waits(client: socket.socket) -> bool:
    """Whether nothing arrives for half a second."""
    return not select.select([client], [], [], 0.5)[0]


# Headers


def test_a_first_connection_that_stays_silent_is_closed_at_its_deadline(server: GunicornProcess) -> None:
    with server.connect() as client:
        assert HEADER - 0.5 < seconds_until_closed(client) < HEADER + LATE


@pytest.mark.parametrize("drip", [b"", b"x"])
def test_a_half_sent_first_header_is_closed_at_its_deadline(server: GunicornProcess, drip: bytes) -> None:
    with server.connect() as client:
        client.sendall(request("/")[:-4])
        assert HEADER - 0.5 < seconds_until_closed(client, drip) < HEADER + LATE


@pytest.mark.parametrize("drip", [b"", b"x"])
def test_a_half_sent_later_header_is_closed_at_its_deadline(server: GunicornProcess, drip: bytes) -> None:
    with server.connect() as client:
        client.sendall(request("/"))
        assert answer(client)[0] == 200
        client.sendall(request("/")[:-4])
        assert HEADER - 0.5 < seconds_until_closed(client, drip) < HEADER + LATE


def test_a_half_header_behind_a_whole_request_is_closed_at_its_deadline(server: GunicornProcess) -> None:
    with server.connect() as client:
        client.sendall(request("/") + request("/")[:-4])
        assert answer(client)[0] == 200
        assert HEADER - 0.5 < seconds_until_closed(client) < HEADER + LATE


def test_an_idle_connection_is_closed_after_keepalive(server: GunicornProcess) -> None:
    with server.connect() as client:
        client.sendall(request("/"))
        assert answer(client)[0] == 200
        assert KEEPALIVE - 0.5 < seconds_until_closed(client) < KEEPALIVE + LATE


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"GET /%s HTTP/1.1\r\n\r\n" % (b"x" * 5000), 414),
        (request("/", "X: " + "x" * 9000), 431),
        (request("/", *["X: x"] * 101), 431),
        (request("/", "Content-Length: " + "9" * 5000), 413),
    ],
)
def test_gunicorns_own_limits_still_hold(server: GunicornProcess, sent: bytes, status: int) -> None:
    assert ask(server, sent)[0] == status


# Bodies


@pytest.mark.parametrize("drip", [b"", b"x"])
@pytest.mark.parametrize("framing", ["Content-Length: 900", "Transfer-Encoding: chunked"])
def test_a_half_sent_body_is_answered_408_at_its_deadline(server: GunicornProcess, framing: str, drip: bytes) -> None:
    with server.connect() as client:
        started = time.monotonic()
        client.sendall(request("/echo", framing, method="POST") + b"384\r\n")
        client.settimeout(0.1)
        while not select.select([client], [], [], 0.1)[0] and time.monotonic() < started + 30:
            client.sendall(drip)
        client.settimeout(30)
        assert BODY - 0.5 < time.monotonic() - started < BODY + LATE
        assert answer(client) == (408, b'{"detail":"The body did not arrive within 1 seconds."}')
        assert seconds_until_closed(client) < LATE


TOO_LARGE = (413, b'{"detail":"The body is too large: at most 1,000 bytes are accepted."}')


def test_a_body_that_will_be_too_large_is_refused_before_it_is_sent(server: GunicornProcess) -> None:
    with server.connect() as client:
        client.sendall(request("/echo", "Content-Length: 1001", method="POST"))
        head, _, content = everything(client).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 413 Payload Too Large\r\n")
    assert {b"Content-Type: application/json", b"Connection: close"} < set(head.split(b"\r\n"))
    assert content == TOO_LARGE[1]


def test_a_chunked_body_is_refused_as_soon_as_it_is_too_large(server: GunicornProcess) -> None:
    with server.connect() as client:
        client.sendall(request("/echo", "Transfer-Encoding: chunked", method="POST"))
        client.sendall(b"3e8\r\n" + b"x" * 1000 + b"\r\n1\r\nx")
        assert answer(client) == TOO_LARGE
        assert seconds_until_closed(client) < LATE


@pytest.mark.parametrize(
    ("framing", "sent"),
    [
        ("Content-Length: 1000", b"x" * 1000),
        (
            "Transfer-Encoding: chunked",
            b"1f4\r\n%b\r\n1F4;a=b\r\n%b\r\n0\r\nX: trailer\r\n\r\n" % (b"x" * 500, b"x" * 500),
        ),
    ],
)
def test_a_body_of_exactly_the_limit_is_served(server: GunicornProcess, framing: str, sent: bytes) -> None:
    assert ask(server, request("/echo", framing, method="POST") + sent) == (200, b"x" * 1000)


def test_a_body_of_one_mebibyte_is_served_by_default(tmp_path: Path) -> None:
    sent = request("/echo", "Content-Length: 1048576", method="POST") + b"x" * 1_048_576
    with serve(tmp_path, limits="Limits()") as server:
        assert ask(server, sent) == (200, b"x" * 1_048_576)
        assert ask(server, sent.replace(b"1048576", b"1048577"))[0] == 413


def test_a_client_that_sends_everything_first_still_reads_why_it_was_refused(server: GunicornProcess) -> None:
    with server.connect() as client:
        client.sendall(request("/echo", "Content-Length: 4000000", method="POST"))
        for _ in range(400):
            client.sendall(b"x" * 10_000)
        assert answer(client) == TOO_LARGE


def test_a_refused_client_cannot_go_on_sending(server: GunicornProcess) -> None:
    with server.connect() as client:
        client.sendall(request("/echo", "Content-Length: 1000000000", method="POST"))
        assert answer(client) == TOO_LARGE
        with pytest.raises(ConnectionError):
            client.sendall(b"x" * 100_000_000)  # ten times what is drained


def test_a_refused_client_that_does_not_close_is_let_go(server: GunicornProcess) -> None:
    with server.connect() as client:
        client.sendall(request("/echo", "Content-Length: 1001", method="POST"))
        assert answer(client) == TOO_LARGE
        assert seconds_until_closed(client) < LATE
        deadline = time.monotonic() + DRAIN + LATE
        while not is_let_go(client, 0.1):
            assert time.monotonic() < deadline


def test_a_client_that_asks_before_it_sends_its_body_is_told_to_continue(server: GunicornProcess) -> None:
    with server.connect() as client:
        client.sendall(request("/echo", "Content-Length: 5", "Expect: 100-continue", method="POST"))
        assert client.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.sendall(b"hello")
        assert answer(client) == (200, b"hello")


def test_a_client_that_asks_before_it_sends_too_much_is_told_not_to(server: GunicornProcess) -> None:
    sent = request("/echo", "Content-Length: 5000", "Expect: 100-continue", method="POST")
    assert ask(server, sent) == TOO_LARGE


def test_a_client_that_leaves_in_the_middle_of_its_body_harms_nobody(server: GunicornProcess) -> None:
    with server.connect() as client:
        client.sendall(request("/echo", "Content-Length: 5", method="POST") + b"he")
    assert ask(server, request("/"))[0] == 200


# Answers


def test_a_client_that_does_not_read_its_answer_is_reset(server: GunicornProcess) -> None:
    with server.connect() as client:
        client.sendall(request("/big/50000000"))
        poller = select.poll()
        poller.register(client, select.POLLERR | select.POLLHUP)
        assert poller.poll((WRITE + LATE) * 1000)


def test_a_client_that_reads_slowly_but_in_time_gets_all_of_its_answer(server: GunicornProcess) -> None:
    with server.connect() as client:
        client.sendall(request("/big/10000000"))
        time.sleep(WRITE / 2)  # the slow reading itself
        assert answer(client) == (200, b"x" * 10_000_000)


@pytest.mark.parametrize("path", ["/", "/big/1000000"])
def test_a_client_that_does_not_close_after_its_last_answer_is_let_go(server: GunicornProcess, path: str) -> None:
    with server.connect() as client:
        client.sendall(request(path, "Connection: close"))
        assert answer(client)[0] == 200
        assert seconds_until_closed(client) < LATE
        assert is_let_go(client, LATE)


def test_a_client_that_has_closed_its_sending_half_is_answered(server: GunicornProcess) -> None:
    with server.connect() as client:
        client.sendall(request("/nap/0.3") + request("/big/2") + request("/big/3"))
        client.shutdown(socket.SHUT_WR)  # known when the nap is over and two requests are still in hand
        assert answer(client)[0] == 200
        assert answer(client) == (200, b"xx")
        assert answer(client) == (200, b"xxx")
        assert seconds_until_closed(client) < LATE


def test_a_client_that_has_closed_its_sending_half_reads_why_it_was_refused(server: GunicornProcess) -> None:
    with server.connect() as client:
        client.sendall(request("/echo", "Content-Length: 1001", method="POST"))
        client.shutdown(socket.SHUT_WR)
        assert answer(client) == TOO_LARGE
        assert seconds_until_closed(client) < LATE


def test_pipelined_requests_are_answered_in_order(server: GunicornProcess) -> None:
    with server.connect() as client:
        client.sendall(b"".join(request("/echo", "Content-Length: 1", method="POST") + b"%d" % i for i in range(10)))
        assert [answer(client) for _ in range(10)] == [(200, b"%d" % i) for i in range(10)]


def test_half_a_header_behind_an_answer_that_is_not_taken_stays_the_half_of_its_header(server: GunicornProcess) -> None:
    with server.connect() as client:
        client.sendall(request("/big/20000000"))
        assert select.select([client], [], [], 10)[0]  # it is answered, and more than the kernel holds
        client.sendall(b"GET /big/3 HTTP/1.1\r\nX: ")
        assert answer(client)[0] == 200
        client.sendall(request("/big/5"))  # the rest of that header, and no request of its own
        assert answer(client) == (200, b"xxx")


def test_a_client_that_pipelines_takes_turns_with_the_others(tmp_path: Path) -> None:
    many = 4_000
    with serve(tmp_path) as server, server.connect() as greedy, server.connect() as modest:
        modest.sendall(request("/"))
        assert answer(modest)[0] == 200
        greedy.sendall(request("/nap/0.5") + request("/") * many)  # all of them have arrived when the nap is over
        modest.sendall(request("/calls"))
        assert int(answer(modest)[1]) < many // 2


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (request("/", "Content-Length: 999999", method="POST"), 413),
        (request("/", "Transfer-Encoding: gzip, chunked", method="POST"), 501),
    ],
)
def test_a_header_that_was_refused_is_refused_again(server: GunicornProcess, sent: bytes, status: int) -> None:
    assert [ask(server, sent)[0] for _ in range(3)] == [status] * 3


def test_a_header_that_is_known_has_the_addresses_of_its_own_connection(server: GunicornProcess) -> None:
    for _ in range(3):
        with server.connect() as client:
            client.sendall(request("/environ"))
            environ = json.loads(answer(client)[1])
            assert environ["REMOTE_PORT"] == str(client.getsockname()[1])


def test_a_client_that_pipelines_is_read_no_faster_than_it_is_answered(tmp_path: Path) -> None:
    """A worker that read on would have nearly all of it in memory before the first answers are out."""
    sent = (request("/", "Content-Length: 60000", method="POST") + b"x" * 60_000) * 500
    with serve(tmp_path, limits="Limits()") as server, server.connect() as client:
        before = most_memory(int(ask(server, request("/pid"))[1]))
        sender = threading.Thread(target=client.sendall, args=[sent])
        sender.start()
        assert {answer(client)[0] for _ in range(500)} == {200}
        sender.join()
        assert most_memory(int(ask(server, request("/pid"))[1])) - before < len(sent) / 4


def test_a_body_in_small_pieces_takes_no_more_memory_than_in_large_ones(tmp_path: Path) -> None:
    pieces = 150_000
    sent = request("/echo", "Transfer-Encoding: chunked", method="POST") + b"2\r\nxx\r\n" * pieces + b"0\r\n\r\n"
    with serve(tmp_path, limits="Limits()") as server:
        pid = int(ask(server, request("/pid"))[1])
        before = most_memory(pid)
        assert ask(server, sent) == (200, b"xx" * pieces)
        assert most_memory(pid) - before < 10 * 2 * pieces


def most_memory(pid: int) -> int:
    """Bytes that a process has had at most."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1]) * 1024


# In hand

PLACES = 2
# However long it takes until a deadline frees a place: what a test waits for has another cause.
CROWD = (
    "Limits(body_seconds=600, write_seconds=600, drain_seconds=600, max_body_bytes=1000, "
    f"max_in_hand={PLACES}, unlimited=frozenset({{'/big/60000000'}}))"
)


@pytest.fixture(scope="module", params=[(), ACCESS_LOG], ids=["ordinary", "parsed"])
def crowded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GunicornProcess]:
    """A worker that has room for two requests in hand."""
    with serve(tmp_path_factory.mktemp("crowded"), "--keep-alive", "600", *request.param, limits=CROWD) as server:
        yield server


# Its client is told to go on when the worker has taken it in hand.
HALF = request("/echo", "Transfer-Encoding: chunked", "Expect: 100-continue", method="POST")


def begin(server: GunicornProcess, clients: ExitStack) -> socket.socket | None:
    """Send half a request: its connection when the worker has taken it in hand, None when it was refused."""
    client = clients.enter_context(server.connect())
    client.sendall(HALF)
    return client if answer(client)[0] == 100 else None


def fill(server: GunicornProcess, clients: ExitStack, places: int = PLACES) -> list[socket.socket]:
    """Take so many places; they are free as soon as the worker has noticed that others have gone."""
    held: list[socket.socket] = []

    def has_taken_one() -> bool:
        client = begin(server, clients)
        held.extend([client] if client else [])
        return client is not None

    for _ in range(places):
        wait_until(has_taken_one)
    return held


def test_one_request_too_many_that_would_have_to_be_held_is_answered_503(crowded: GunicornProcess) -> None:
    with ExitStack() as clients:
        fill(crowded, clients)
        late = clients.enter_context(crowded.connect())
        late.sendall(request("/echo", "Content-Length: 5", method="POST") + b"he")
        head, _, content = everything(late).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
    assert {b"Retry-After: 1", b"Content-Type: application/json", b"Connection: close"} < set(head.split(b"\r\n"))
    assert content == b'{"detail":"Too many requests are in hand; try again in a second."}'


def test_so_is_a_large_header_that_is_not_whole_refused_then_and_only_then(crowded: GunicornProcess) -> None:
    large = request("/big/3", *(f"X-{number}: {'x' * 8_000}" for number in range(10)))
    with ExitStack() as clients:
        first, _ = fill(crowded, clients)
        assert ask(crowded, large[:-2])[0] == 431
        first.sendall(b"0\r\n\r\n")
        assert answer(first)[0] == 200
        with crowded.connect() as other:
            other.sendall(large[:-2])
            other.sendall(large[-2:])
            assert answer(other) == (200, b"xxx")
        fill(crowded, clients, 1)


def test_what_is_whole_is_answered_however_many_are_in_hand(crowded: GunicornProcess) -> None:
    with ExitStack() as clients:
        fill(crowded, clients)
        other = clients.enter_context(crowded.connect())
        for sent, expected in (
            (request("/big/3"), b"xxx"),
            (request("/echo", "Content-Length: 2", method="POST") + b"ab", b"ab"),
            (request("/echo", "Transfer-Encoding: chunked", method="POST") + b"1\r\na\r\n0\r\n\r\n", b"a"),
        ):
            other.sendall(sent)
            assert answer(other) == (200, expected)
        other.sendall(request("/big/3") + HALF)
        assert [answer(other)[0] for _ in range(2)] == [200, 503]


def reset(client: socket.socket) -> None:
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


ENDS: dict[str, Callable[[socket.socket], None]] = {
    "the client has sent the rest": lambda client: client.sendall(b"1\r\na\r\n0\r\n\r\n"),
    "the client closes": socket.socket.close,
    "the client closes its half": lambda client: client.shutdown(socket.SHUT_WR),
    "the client resets": reset,
    "its body is too large": lambda client: client.sendall(b"3e9\r\n" + b"x" * 1001),
    "its body is no HTTP": lambda client: client.sendall(b"nonsense\r\n"),
}


@pytest.mark.parametrize("end", ENDS)
def test_one_place_is_free_again_when(crowded: GunicornProcess, end: str) -> None:
    with ExitStack() as clients:
        held = fill(crowded, clients)
        assert begin(crowded, clients) is None
        ENDS[end](held[0])
        fill(crowded, clients, 1)
        assert begin(crowded, clients) is None


def test_a_place_is_free_again_when_the_body_has_not_come_in_time(tmp_path: Path) -> None:
    with (
        serve(tmp_path, limits="Limits(body_seconds=0.5, drain_seconds=600, max_in_hand=1)") as server,
        ExitStack() as clients,
    ):
        (late,) = fill(server, clients, 1)
        assert begin(server, clients) is None
        assert answer(late)[0] == 408
        assert begin(server, clients)  # although the late one has not closed yet


def test_an_answer_is_in_hand_until_its_client_has_taken_it(crowded: GunicornProcess) -> None:
    with ExitStack() as clients:
        slow, other = fill(crowded, clients)
        slow.sendall(b"0\r\n\r\n" + request("/big/50000000"))
        assert answer(slow) == (200, b"")
        assert begin(crowded, clients) is None
        assert answer(slow)[0] == 200
        fill(crowded, clients, 1)
        assert begin(crowded, clients) is None
        other.sendall(b"0\r\n\r\n")
        assert answer(other) == (200, b"")


def test_an_answer_too_many_that_is_not_taken_at_once_is_given_up(crowded: GunicornProcess) -> None:
    with ExitStack() as clients:
        fill(crowded, clients)
        slow = clients.enter_context(crowded.connect())
        slow.sendall(request("/big/50000000"))
        poller = select.poll()
        poller.register(slow, select.POLLERR | select.POLLHUP)
        assert poller.poll(LATE * 1000)


def test_but_not_that_of_health_and_metrics(crowded: GunicornProcess) -> None:
    with ExitStack() as clients:
        fill(crowded, clients)
        assert ask(crowded, request("/big/60000000"))[0] == 200


# Connections


def test_above_worker_connections_a_client_waits_until_there_is_room(tmp_path: Path) -> None:
    limits = "Limits(header_seconds=300)"
    with serve(tmp_path, "--worker-connections", "3", limits=limits) as server, ExitStack() as clients:
        held = [clients.enter_context(server.connect()) for _ in range(3)]
        for client in held:
            client.sendall(request("/") + b"G")  # one request, and the beginning of another
            assert answer(client)[0] == 200
        waiting = clients.enter_context(server.connect())
        waiting.sendall(request("/"))
        assert waits(waiting)
        held[0].close()
        assert answer(waiting)[0] == 200


def test_a_connection_that_idles_makes_room_when_all_places_are_taken(tmp_path: Path) -> None:
    arguments = ["--worker-connections", "3", "--keep-alive", "3600"]
    with serve(tmp_path, *arguments) as server, ExitStack() as clients:
        idle = [clients.enter_context(server.connect()) for _ in range(3)]
        for client in idle:
            client.sendall(request("/"))
            assert answer(client)[0] == 200
        waiting = clients.enter_context(server.connect())
        waiting.sendall(request("/"))
        assert answer(waiting)[0] == 200
        assert any(everything(client) == b"" for client in idle)


def test_a_worker_that_is_full_leaves_clients_to_the_other(tmp_path: Path) -> None:
    limits = "Limits(header_seconds=300)"
    arguments = ["--worker-connections", "3"]
    with serve(tmp_path, *arguments, limits=limits, workers=2) as server, ExitStack() as clients:
        pids = []
        for _ in range(6):
            client = clients.enter_context(server.connect())
            client.sendall(request("/pid") + b"G")
            pids.append(answer(client)[1])
        assert sorted(pids.count(pid) for pid in set(pids)) == [3, 3]


def test_the_worker_with_fewer_connections_takes_the_next_ones(tmp_path: Path) -> None:
    many = 16
    limits = "Limits(header_seconds=300, head_start_seconds=1)"  # so that busy cores do not decide
    with serve(tmp_path, workers=2, limits=limits) as server, ExitStack() as clients:

        def pid_of_next() -> int:
            client = clients.enter_context(server.connect())
            client.sendall(request("/pid") + b"G")
            return int(answer(client)[1])

        stopped = pid_of_next()
        os.kill(stopped, signal.SIGSTOP)
        try:
            assert stopped not in {pid_of_next() for _ in range(many)}
        finally:
            os.kill(stopped, signal.SIGCONT)
        while pid_of_next() != stopped:  # its head start was over; that it takes one gives it another
            pass
        assert {pid_of_next() for _ in range(many - 2)} == {stopped}


def test_more_than_a_hundred_clients_may_wait_for_room(tmp_path: Path) -> None:
    limits = "Limits(header_seconds=300)"  # stock lets a hundred wait, whatever gunicorn's backlog says
    with serve(tmp_path, "--worker-connections", "1", limits=limits) as server, ExitStack() as clients:
        for _ in range(120):
            clients.enter_context(server.connect(timeout=5))


def test_a_worker_is_replaced_after_max_requests_and_nobody_notices(tmp_path: Path) -> None:
    with serve(tmp_path, "--max-requests", "5") as server:
        answers = [ask(server, request("/pid")) for _ in range(15)]
    assert {status for status, _ in answers} == {200}
    assert len({pid for _, pid in answers}) >= 3


# Stops

PATIENT = "Limits(header_seconds=60, body_seconds=60, write_seconds=60, stop_seconds=20)"
PATIENT_ARGUMENTS = ("--keep-alive", "60", "--graceful-timeout", "60")


def test_silent_and_idle_connections_do_not_hold_up_a_stop(tmp_path: Path) -> None:
    with serve(tmp_path, *PATIENT_ARGUMENTS, limits=PATIENT) as server, ExitStack() as clients:
        for _ in range(10):
            clients.enter_context(server.connect())
            idle = clients.enter_context(server.connect())
            idle.sendall(request("/"))
            assert answer(idle)[0] == 200
        assert server.stop() < 5


def test_a_stop_waits_for_a_request_in_hand(tmp_path: Path) -> None:
    with serve(tmp_path, *PATIENT_ARGUMENTS, limits=PATIENT) as server, server.connect() as slow:
        slow.sendall(request("/echo", "Content-Length: 5", method="POST") + b"hel")
        with server.connect() as idle:
            idle.sendall(request("/"))
            assert answer(idle)[0] == 200
            server.process.terminate()
            assert seconds_until_closed(idle) < LATE  # so the stop has begun
        with pytest.raises(ConnectionRefusedError):
            server.connect()
        slow.sendall(b"lo")
        assert answer(slow) == (200, b"hello")
        assert server.process.wait(LATE) == 0


def test_a_client_without_a_request_in_hand_may_send_one_when_the_worker_stops(tmp_path: Path) -> None:
    limits = PATIENT.replace(")", ", stop_idle_seconds=20)")
    with (
        serve(tmp_path, *PATIENT_ARGUMENTS, limits=limits) as server,
        server.connect() as new,
        server.connect() as idle,
    ):
        idle.sendall(request("/"))
        assert answer(idle)[0] == 200  # so the worker has accepted the other one too
        server.process.terminate()
        wait_until(lambda: is_refused(server))  # so the stop has begun
        for client in (new, idle):
            client.sendall(request("/"))
            assert answer(client)[0] == 200
            assert seconds_until_closed(client) < LATE
        assert server.process.wait(LATE) == 0


def is_refused(server: GunicornProcess) -> bool:
    """Whether nobody listens any more."""
    try:
        server.connect().close()
    except ConnectionRefusedError:
        return True
    return False


def test_a_stop_while_the_application_loads_is_not_lost(tmp_path: Path) -> None:
    # the master passes the signal on, and takes 30 s when nobody listens
    loads = "import os, signal, time\nos.kill(os.getppid(), signal.SIGTERM)\ntime.sleep(1)\napp = print\n"
    (tmp_path / "slow_start.py").write_text(loads)
    with gunicorn("slow_start:app", cwd=tmp_path, worker_class="worker.gunicorn_worker.AppraiserWorker") as server:
        assert server.process.wait(LATE) == 0


def test_a_stop_gives_up_on_unfinished_requests_in_bounded_time(tmp_path: Path) -> None:
    limits = PATIENT.replace("20", "1")
    with serve(tmp_path, *PATIENT_ARGUMENTS, limits=limits) as server, ExitStack() as clients:
        for sent in (b"GET", request("/", "Content-Length: 5") + b"hel", request("/big/50000000")):
            clients.enter_context(server.connect()).sendall(sent)
        assert ask(server, request("/"))[0] == 200
        assert 0.5 < server.stop() < 5


# What an application may expect


def test_the_environ_is_that_of_a_stock_worker(server: GunicornProcess) -> None:
    headers = ("Accept: a", "X-Name: caf\xe9", "Cookie: a=1", "Content-Type: text/plain", "Content-Length: 2")
    sent = request("/environ/a%20b/%C3%A9%FF?q=%20", *headers, method="POST") + b"ab"
    folder = Path(f"/proc/{server.pid}/cwd").resolve()
    with gunicorn("application:app", cwd=folder, worker_class="sync") as stock:
        ours, theirs = json.loads(ask(server, sent)[1]), json.loads(ask(stock, sent)[1])
    for its_own in ("REMOTE_PORT", "SERVER_PORT"):
        assert ours.pop(its_own) != theirs.pop(its_own)
    del theirs["RAW_URI"]  # gunicorn's own, in no specification
    del ours["service.takes_steps"]
    assert ours == theirs


def test_head_has_the_length_of_get(server: GunicornProcess) -> None:
    with server.connect() as client:
        client.sendall(request("/big/5", method="HEAD") + request("/big/5"))
        assert answer(client, "HEAD") == (200, b"")
        assert answer(client) == (200, b"xxxxx")


def test_an_answer_without_content_keeps_the_connection(server: GunicornProcess) -> None:
    with server.connect() as client:
        client.sendall(request("/empty") + request("/big/1"))
        assert answer(client) == (204, b"")
        assert answer(client) == (200, b"x")


@pytest.mark.parametrize("path", ["/raise", "/cr"])
def test_an_application_that_fails_is_answered_500_and_serves_on(server: GunicornProcess, path: str) -> None:
    with server.connect() as client:
        client.sendall(request(path) + request("/big/1"))
        assert answer(client) == (500, b'{"detail":"The service failed to answer; the failure has been logged."}')
        assert answer(client) == (200, b"x")
    assert "the application failed" in server.log


def test_an_upgrade_to_websocket_is_an_ordinary_request(server: GunicornProcess) -> None:
    headers = (
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        f"Sec-WebSocket-Key: {'A' * 22}==",
    )
    assert ask(server, request("/big/1", *headers)) == (200, b"x")


def test_the_access_log_has_every_answer(tmp_path: Path) -> None:
    with serve(tmp_path, *ACCESS_LOG) as server:
        assert ask(server, request("/too/large", "Content-Length: 1001", method="POST")) == TOO_LARGE
        assert ask(server, request("/big/3"))[0] == 200
        server.stop()  # a line is written after its answer
        assert '"POST /too/large HTTP/1.1" 413 ' in server.log
        assert '"GET /big/3 HTTP/1.1" 200 3 ' in server.log


HOOKS = """
def pre_request(worker, request):
    worker.log.info("before %s", request.path)
    if request.path == "/refused":
        raise ValueError("on purpose")

def post_request(worker, request, environ, response):
    worker.log.info("after %s %s", environ["PATH_INFO"], response.status)
"""


def test_the_hooks_of_gunicorn_see_every_request(tmp_path: Path) -> None:
    (tmp_path / "gunicorn.conf.py").write_text(HOOKS)
    with serve(tmp_path) as server:
        assert ask(server, request("/big/3")) == (200, b"xxx")
        assert ask(server, request("/refused"))[0] == 500
        server.stop()
        told = re.findall(r"(?:before|after) /.*", server.log)
    assert told == ["before /big/3", "after /big/3 200", "before /refused", "after /refused 500"]


@pytest.mark.parametrize("parser", ["auto", "python", "fast"])
def test_gunicorns_choice_of_a_parser_does_not_matter(parser: str) -> None:
    configuration = Config()
    configuration.set("http_parser", parser)
    AppraiserWorker.check_config(configuration, log=None)


@pytest.mark.parametrize(
    ("setting", "value"), [("certfile", "cert.pem"), ("protocol", "uwsgi"), ("http2_cleartext", "upgrade")]
)
def test_what_is_not_offered_is_refused_at_the_start(setting: str, value: str) -> None:
    configuration = Config()
    configuration.set(setting, value)
    with pytest.raises(ConfigError, match="plain HTTP"):
        AppraiserWorker.check_config(configuration, log=None)
