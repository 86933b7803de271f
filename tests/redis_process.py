"""A real Redis for a test, on a port of its own, which keeps nothing."""

import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from redis import Redis
from redis.exceptions import ConnectionError as NobodyThereError

from tests.gunicorn_process import HOST
from tests.waiting import wait_until

needs_redis = pytest.mark.skipif(shutil.which("redis-server") is None, reason="needs redis-server")


class RedisServer:
    """It can be killed, stopped, and started again."""

    def __init__(self, folder: Path, port: int, *options: str) -> None:
        self.port = port
        self._command = [
            "redis-server",
            "--bind",
            HOST,
            "--port",
            str(port),
            "--save",
            "",
            "--dir",
            str(folder),
            *options,
        ]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://{HOST}:{self.port}"

    def start(self) -> None:
        self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL)
        wait_until(self._answers)

    def signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)
        if number == signal.SIGKILL:
            self._process.wait()

    def client(self) -> "Redis":
        return Redis(host=HOST, port=self.port)

    def _answers(self) -> bool:
        with self.client() as client:
            try:
                return bool(client.ping())
            except NobodyThereError:
                return False


@contextmanager
def redis_server(folder: Path, *options: str) -> Iterator[RedisServer]:
    """A Redis that answers, until the block ends."""
    with socket.create_server((HOST, 0)) as listener:
        port = listener.getsockname()[1]
    server = RedisServer(folder, port, *options)
    server.start()
    try:
        yield server
    finally:
        server.signal(signal.SIGCONT)
        server.signal(signal.SIGKILL)
