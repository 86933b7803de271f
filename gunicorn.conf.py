"""How gunicorn runs the service: bare `gunicorn` in this folder reads this file. Each number carries its reason."""

import logging
import os
import sys
from pathlib import Path
from typing import Any

from service.settings import read_settings
from service.slots import RunFolder


def usable_cpus(cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """The CPUs that this process may use: by affinity, and by the quota of its control group (v2), at least one."""
    allowed = len(os.sched_getaffinity(0))
    try:
        quota, period = (cgroup / "cpu.max").read_text(encoding="ascii").split()
    except (OSError, ValueError):
        return allowed
    return allowed if quota == "max" else max(1, min(allowed, int(quota) // int(period)))


settings = read_settings()  # a wrong setting ends the start here, with a sentence, before any worker

wsgi_app = "service.app:create_app()"
bind = f"0.0.0.0:{os.environ.get('PORT') or '8000'}"
workers = int(os.environ.get("WEB_CONCURRENCY", "0")) or usable_cpus()

# Reads whole requests on an event loop, so that slow clients hold sockets and not workers; see service/worker.py.
worker_class = settings.worker
threads = 4 if settings.worker == "gthread" else 1

# Importing onnxruntime starts a thread, and a session inherited across fork hung or crashed when it was destroyed.
preload_app = False

# A worker beats four times a second; one that is silent for 30 s is stuck: even 10,000 houses, each with a warning,
# take 0.3 s.
timeout = 30

# Requests in hand take milliseconds; what is not finished after 4 s never will be, and a stop takes at most 5 s.
graceful_timeout = 4

# An idle connection costs a socket; 5 s spares a client that asks again the handshake.
keepalive = 5

# The heartbeat is a file: on a disk, a slow fsync would look like a dead worker.
worker_tmp_dir = "/dev/shm"  # noqa: S108 -- memory, private to gunicorn, and named as its manual does

# A socket for remote control that nobody here uses.
control_socket_disable = True


def on_starting(_server: Any) -> None:  # noqa: ANN401 -- gunicorn's hook, untyped
    """Hold the run folder for as long as this master or one of its workers lives."""
    try:
        RunFolder(settings.run).hold()
    except OSError as error:
        sys.exit(f"APPRAISER_RUN={str(settings.run)!r}: the folder cannot be written: {error.strerror}")


def post_fork(server: Any, worker: Any) -> None:  # noqa: ANN401, ARG001 -- gunicorn's hook, untyped
    """Let the service log as gunicorn does, with time, process and level."""
    log, gunicorns = logging.getLogger("service"), server.log.error_log
    log.handlers, log.level, log.propagate = gunicorns.handlers, gunicorns.level, False
