"""A worker accepts no more connections than its limit of open files allows, and says so."""

import socket
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import pytest

from tests.gunicorn_process import HOST, GunicornProcess, gunicorn
from tests.raw_http import answer, request
from worker.limits import RESERVE, Descriptors

CONFIGURATION: Final = """
import resource

resource.setrlimit(resource.RLIMIT_NOFILE, {limits})
worker_connections = 300
"""
APPLICATION: Final = """
def app(environ, start_response):
    open("/dev/null").close()  # as one that reads a file for an answer
    start_response("200 OK", [])
    return [b"ok"]
"""


@pytest.mark.parametrize(
    ("found", "wanted", "expected"),
    [
        pytest.param(Descriptors(4096, 4096, 30), 1_000, (1_000, 4096), id="enough"),
        pytest.param(Descriptors(1024, 4096, 30), 1_000, (1_000, 1_030 + RESERVE), id="raised"),
        pytest.param(Descriptors(256, 1024, 30), 1_000, (994 - RESERVE, 1024), id="raised, but not far enough"),
        pytest.param(Descriptors(1024, 1024, 24), 1_000, (1_000 - RESERVE, 1024), id="too few"),
        pytest.param(Descriptors(32, 32, 30), 1_000, (1, 32), id="at least one"),
    ],
)
def test_connections_are_what_the_limit_leaves(found: Descriptors, wanted: int, expected: tuple[int, int]) -> None:
    assert found.connections(wanted) == expected


def serve_and_connect(folder: Path, limits: tuple[int, int], stack: ExitStack) -> tuple[GunicornProcess, list[bytes]]:
    """Ask on 300 connections at once; return what came of those that were answered before any of them closed."""
    (folder / "gunicorn.conf.py").write_text(CONFIGURATION.format(limits=limits))
    (folder / "application.py").write_text(APPLICATION)
    server = stack.enter_context(
        gunicorn("application:app", cwd=folder, worker_class="worker.gunicorn_worker.AppraiserWorker", workers=1)
    )
    with ExitStack() as connections:
        clients = [
            connections.enter_context(socket.create_connection((HOST, server.port), timeout=30)) for _ in range(300)
        ]
        for client in clients:
            client.sendall(request("/"))
        assert answer(clients[0])[0] == 200
        answered = []
        for client in clients:  # each makes room for another
            answered.append(answer(client)[1] if client is not clients[0] else b"ok")
            client.close()
    return server, answered


def test_a_worker_with_too_few_descriptors_accepts_fewer_connections_and_says_so(tmp_path: Path) -> None:
    with ExitStack() as stack:
        server, answered = serve_and_connect(tmp_path, (200, 200), stack)

        assert answered == [b"ok"] * 300
        assert server.log.count(" connections instead of worker_connections=300: its limit of open files is 200.") == 1
        assert "No connection can be taken" not in server.log
        assert "failed" not in server.log


def test_a_worker_raises_its_limit_as_far_as_it_may(tmp_path: Path) -> None:
    with ExitStack() as stack:
        server, answered = serve_and_connect(tmp_path, (200, 1024), stack)

        assert answered == [b"ok"] * 300
        assert "connections instead of" not in server.log
