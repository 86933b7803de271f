"""Configures gunicorn: bare `gunicorn` in this folder reads this file. Each number carries its reason."""

import os
import socket
import sys
from collections.abc import Callable, Iterable, Iterator
from logging.config import dictConfig
from pathlib import Path
from typing import Any

from gunicorn.glogging import Logger

from service.deployment.worker_slots import RunFolder
from service.observability.logs import UnwaitingText, configuration
from service.observability.sink import stderr
from service.settings import OUR_WORKER, UNIX, Proxy, check_platform, read_hosting, read_settings


def usable_cpus(cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """The CPUs that this process may use: by affinity, and by the quota of its control group, at least one."""
    allowed = len(os.sched_getaffinity(0))
    v2, v1 = ["cpu.max"], ["cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us"]
    names = v2 if (cgroup / v2[0]).exists() else v1
    try:
        quota, period = " ".join((cgroup / name).read_text(encoding="ascii") for name in names).split()
    except (OSError, ValueError):
        return allowed
    return allowed if quota in {"max", "-1"} else max(1, min(allowed, int(quota) // int(period)))


def addresses(port: int, make: Callable[[int], socket.socket] = socket.socket) -> list[str]:
    """Where to listen: on IPv4 and IPv6, as far as this host has them, which only a trial shows."""
    try:
        with make(socket.AF_INET6) as probe:
            probe.bind(("::", 0))
            is_for_both = not probe.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
    except OSError:  # the kernel, or this container, has no IPv6
        return [f"0.0.0.0:{port}"]
    return [f"[::]:{port}"] if is_for_both else [f"0.0.0.0:{port}", f"[::]:{port}"]


def as_peers(proxies: Iterable[Proxy]) -> Iterator[str]:
    """Their networks, and those of IPv4 also as a socket of both families names their addresses."""
    for network in proxies:
        if network == UNIX:
            continue
        yield str(network)
        if network.version == 4:  # noqa: PLR2004
            yield f"::ffff:{network.network_address}/{96 + network.prefixlen}"


def heartbeat_folder(memory: Path, run: Path) -> str:
    """Where the heartbeats are: in memory, if files can be made there, otherwise in the run folder."""
    return str(memory if os.access(memory, os.W_OK | os.X_OK) else run)


check_platform()
settings = read_settings()  # a wrong setting ends the start here, with a sentence, before any worker
hosting = read_hosting()

wsgi_app = "service.app:create_app()"
bind = addresses(hosting.port)
# `appraiser serve` checks this variable before gunicorn reads it, which ends in a traceback where it is not a number.
workers = hosting.web_concurrency or usable_cpus()

# Reads whole requests on an event loop, so that slow clients hold sockets and not workers.
# Against it, with the same application (benchmarks/RESULTS.md and slow_clients.py): uvicorn-worker answers 0.58 of its
# requests a second, at a p99 of 3.9 ms instead of 1.8; gthread 0.38 at 8.3 ms, and 192 slow clients stop it for good.
worker_class = OUR_WORKER if settings.worker == "own" else settings.worker
threads = 4 if settings.worker == "gthread" else 1

# Importing onnxruntime starts a thread, and a session inherited across fork hung or crashed when it was destroyed.
preload_app = False

# A worker beats four times a second; one that is silent for 30 s is stuck: even 10,000 houses, each with a warning,
# take 0.3 s.
timeout = 30

# Requests in hand take milliseconds; what is not finished after 4 s never will be, and a stop takes at most 5 s.
graceful_timeout = 4

# The side that closes an idle connection first may close it on a request that is on its way. So that side is the client
# or its proxy: common load balancers close after 60 s. If all places are taken, 5 s of idling are enough to be closed.
keepalive = settings.keepalive_seconds

# No route of ours with its query has 200 bytes; 4,094 are gunicorn's own default.
limit_request_line = 4094

# A browser sends 20 header fields, and each proxy on the way adds some: 64 leave room for all of them. A field of 8,190
# bytes has room for whatever nginx and Apache let through by default. Half a megabyte in all, for which a worker has as
# many places as for bodies: APPRAISER_MAX_IN_HAND.
limit_request_fields = 64
limit_request_field_size = 8190

# An idle connection costs a worker 5 kB. If all are taken, a new one waits until one is free.
worker_connections = 1000

# The heartbeat is a file: on a disk, a slow fsync would look like a dead worker. On /dev/shm there is none; where that
# is missing or read-only, the run folder is written to anyway.
worker_tmp_dir = heartbeat_folder(Path("/dev/shm"), settings.run)  # noqa: S108 -- memory, named as gunicorn's manual does

# A socket for remote control that is not used here.
control_socket_disable = True

# What others than these proxies send about a client is not believed; gunicorn's own default would believe this host.
# A socket of both families gives an IPv4 peer as ::ffff:1.2.3.4.
forwarded_allow_ips = ",".join(as_peers(settings.trusted_proxies))

# And they are believed by the one header that deploy/nginx.conf sets: a client could send the others through a proxy.
# gunicorn itself trusts every peer at a UNIX socket: if no peer is trusted, no header states the scheme.
secure_scheme_headers = {"X-FORWARDED-PROTO": "https"} if settings.trusted_proxies else {}


class Lines(Logger):  # type: ignore[misc]  # gunicorn carries no types
    """Writes gunicorn's log to stdout, in the shape of the requests' lines, and waits for no reader."""

    # Not gunicorn's setting logconfig_dict: with it, gunicorn adds a line of its own for each request, with its query.
    def setup(self, cfg: Any) -> None:  # noqa: ANN401 -- untyped
        """Set up as gunicorn does, but for where lines go and what they look like."""
        super().setup(cfg)
        dictConfig(dict(configuration()))
        sys.stderr = UnwaitingText(stderr())  # a traceback or a warning waits for its reader no more than a line does


logger_class = Lines


def on_starting(server: Any) -> None:  # noqa: ANN401 -- gunicorn's hook, untyped
    """Hold the run folder for as long as this master or one of its workers lives; see that the journal can be kept."""
    if not settings.require_keys:
        server.log.warning(
            "Authentication is off: any client that reaches this port can use the API. Set APPRAISER_REQUIRE_KEYS=true."
        )
    try:
        RunFolder(settings.run).hold()
    except OSError as error:
        sys.exit(f"APPRAISER_RUN={str(settings.run)!r}: the folder cannot be written: {error.strerror}")
    try:
        settings.journal.mkdir(parents=True, exist_ok=True)
        os.scandir(settings.journal).close()
    except OSError as error:
        sys.exit(f"APPRAISER_JOURNAL={str(settings.journal)!r}: the folder cannot be used: {error.strerror}")
    if not os.access(settings.journal, os.W_OK | os.X_OK):
        sys.exit(f"APPRAISER_JOURNAL={str(settings.journal)!r}: the folder cannot be written: Permission denied")
