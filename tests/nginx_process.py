"""A real nginx for a test, with deploy/nginx.conf as it is shipped; what is to be filled in beside it is filled in."""

import random
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from tests.gunicorn_process import HOST, ROOT, STOP_SECONDS
from tests.waiting import wait_until

DEPLOY: Final = ROOT / "deploy"
needs_nginx = pytest.mark.skipif(shutil.which("nginx") is None, reason="needs nginx")


@dataclass(frozen=True)
class NginxProcess:
    """A running nginx: its port, and its log, a line for each request and what it complains of."""

    port: int
    log_path: Path

    @property
    def url(self) -> str:
        """Base address, without a slash at its end."""
        return f"http://{HOST}:{self.port}"

    @property
    def log(self) -> str:
        """All that it has written so far."""
        return self.log_path.read_text(errors="replace")


@contextmanager
def nginx(*instances: int, listen: str = "listen {};") -> Iterator[NginxProcess]:
    """Pass requests to instances on these ports until the block ends; `listen` is what listen.conf shall say."""
    port = free_port()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)  # where root starts it, nginx works as nobody
        shutil.copytree(DEPLOY, folder / "deploy")
        fill_in(folder / "deploy" / "nginx", port, instances, listen)
        with (folder / "log").open("ab") as log:
            process = subprocess.Popen([*command(folder), "-g", "daemon off;"], stdout=log, stderr=log)
        try:
            server = NginxProcess(port, folder / "log")
            wait_until(lambda: process.poll() is not None or is_listened_to(port))
            assert process.poll() is None, f"nginx ended at once:\n{server.log}"
            yield server
        except BaseException as error:
            error.add_note(f"The log of nginx:\n{(folder / 'log').read_text(errors='replace')[-10_000:]}")
            raise
        finally:
            with suppress(ProcessLookupError):
                process.send_signal(signal.SIGTERM)
            process.wait(STOP_SECONDS)


def fill_in(folder: Path, port: int, instances: tuple[int, ...], listen: str) -> None:
    """Say where to listen and who answers, in the words of the shipped file but for addresses."""
    (folder / "listen.conf").write_text(listen.format(f"{HOST}:{port}"))
    shipped = (folder / "instances.conf").read_text().splitlines()[-1]
    _, address, rest = shipped.split(" ", 2)
    assert address.endswith(":8000")
    (folder / "instances.conf").write_text("\n".join(f"server {HOST}:{instance} {rest}" for instance in instances))


def command(folder: Path) -> list[str]:
    """How nginx is started, but for the last argument; it writes to a folder, and reads what is in `deploy` there."""
    return ["nginx", "-p", str(folder), "-e", "stderr", "-c", str(folder / "deploy" / "nginx.conf")]


def free_port() -> int:
    """A port that the system gives to no client: nobody has it by chance while its server is away."""
    while True:
        port = random.randrange(10_000, 30_000)  # noqa: S311 -- no secret
        with suppress(OSError), socket.create_server((HOST, port)):
            return port


def is_listened_to(port: int) -> bool:
    """Whether a server accepts connections there."""
    with suppress(ConnectionRefusedError), socket.create_connection((HOST, port)):
        return True
    return False
