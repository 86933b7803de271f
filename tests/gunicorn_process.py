"""A real gunicorn for a test: started, waited for, stopped in bounded time, nothing left behind."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

OUR_WORKER = "worker.gunicorn_worker.AppraiserWorker"
ROOT = Path(__file__).resolve().parents[1]
HOST = "127.0.0.1"
# Bounds for what takes a second on an idle machine; a test that meets one has failed.
READY_SECONDS = 60.0
STOP_SECONDS = 30.0
LEFTOVER_SECONDS = 5.0

# gunicorn reads this instead of the folder's own configuration, which it takes over. Each worker reports when it has
# loaded the application. By then it also handles signals; one that comes right after the fork is lost, in any worker.
CONFIGURATION = """
import os, runpy

if os.path.exists("gunicorn.conf.py"):
    globals().update(runpy.run_path("gunicorn.conf.py"))

def when_ready(server):
    port = next(name[1] for name in (found.getsockname() for found in server.LISTENERS) if isinstance(name, tuple))
    os.write({fd}, b"%d %d\\n" % (server.num_workers, port))

def post_worker_init(worker):
    os.write({fd}, b"ready\\n")
"""


@dataclass(frozen=True)
class GunicornProcess:
    """A running master, its port and its log."""

    process: subprocess.Popen[bytes]
    port: int
    log_path: Path
    run: Path  # the run folder, unless `env` names another
    journal: Path  # the same
    lifeline: socket.socket  # every process of gunicorn holds its other end

    @property
    def url(self) -> str:
        """Base address, without a slash at its end."""
        return f"http://{HOST}:{self.port}"

    @property
    def pid(self) -> int:
        """Process id of the master."""
        return self.process.pid

    @property
    def log(self) -> str:
        """All that master and workers have written so far."""
        return self.log_path.read_text(errors="replace")

    def connect(self, timeout: float = 30.0) -> socket.socket:
        """Open a connection; `timeout` in seconds bounds each operation on it."""
        return socket.create_connection((HOST, self.port), timeout=timeout)

    def stop(self, timeout: float = STOP_SECONDS) -> float:
        """Send SIGTERM and return how many seconds the stop took. Raises TimeoutExpired after `timeout` seconds."""
        started = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(timeout)
        return time.monotonic() - started


@contextmanager
def gunicorn(  # noqa: PLR0913 -- what the command line says, as keywords
    app: str | None,
    *args: str,
    cwd: Path,
    worker_class: str | None = None,
    workers: int | None = None,
    env: Mapping[str, str] | None = None,
    port: int = 0,
) -> Iterator[GunicornProcess]:
    """Serve `app` on a free port, from `cwd`, until the block ends; what is None is left to a gunicorn.conf.py there.

    On `port` instead of a free one, where that is not 0.
    `args` are further arguments of gunicorn's command line; `env` is added to the environment. The block is entered
    when every worker has loaded the application. Raises AssertionError when gunicorn dies before, or leaves a process
    behind; to whatever is raised the log is added as a note.
    """
    command = [sys.executable, str(Path(sys.executable).with_name("gunicorn")), "--no-control-socket", *args]
    command += ["--worker-class", worker_class] if worker_class else []
    command += ["--workers", str(workers)] if workers else []
    command += ["--bind", f"{HOST}:{port}"]
    command += [app] if app else []
    with tempfile.TemporaryDirectory() as folder, _started(command, cwd, env or {}, Path(folder)) as server:
        try:
            yield server
            if server.process.poll() is None:
                server.stop()
            _assert_nothing_left(server.lifeline)
        except BaseException as error:
            error.add_note(f"The log of {' '.join(command)}:\n{server.log[-10_000:]}")
            raise


@contextmanager
def _started(command: list[str], cwd: Path, env: Mapping[str, str], folder: Path) -> Iterator[GunicornProcess]:
    lifeline, theirs = socket.socketpair()
    with lifeline, theirs, (folder / "log").open("wb") as log:
        configuration = folder / "gunicorn.conf.py"
        configuration.write_text(CONFIGURATION.format(fd=theirs.fileno()))
        process = subprocess.Popen(
            [*command, "--config", str(configuration)],
            cwd=cwd,
            env={
                **os.environ,
                "PYTHONPATH": str(ROOT),
                "APPRAISER_RUN": str(folder / "run"),
                "APPRAISER_JOURNAL": str(folder / "journal"),
                **env,
            },
            stdout=log,
            stderr=log,
            pass_fds=[theirs.fileno()],
            start_new_session=True,  # a group of its own, to be killed as one
        )
        theirs.close()  # our copy: the other end is gone when the last process of gunicorn is
        try:
            port = _await_workers(lifeline, folder / "log")
            yield GunicornProcess(process, port, folder / "log", folder / "run", folder / "journal", lifeline)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _await_workers(lifeline: socket.socket, log: Path) -> int:
    """The port, once every worker is ready."""
    lifeline.settimeout(READY_SECONDS)
    with lifeline.makefile() as reports:
        workers, _, port = reports.readline().partition(" ")
        started = [reports.readline() for _ in range(int(workers or 1))]
    assert all([workers, *started]), f"gunicorn ended before it was ready:\n{log.read_text(errors='replace')}"
    return int(port)


def _assert_nothing_left(lifeline: socket.socket) -> None:
    lifeline.settimeout(LEFTOVER_SECONDS)
    try:
        while lifeline.recv(4096):  # reports of workers that replaced others
            pass
    except TimeoutError:
        message = "gunicorn has ended, but left a process behind"
        raise AssertionError(message) from None
