"""New code without a new socket: gunicorn's USR2, with a good release and with two that are broken."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Final

import httpx
import pytest

from service.deployment.worker_slots import RunFolder
from tests.gunicorn_process import ROOT, GunicornProcess
from tests.reliability.load import RATE, Load, Outcome
from tests.reliability.workers import (
    BODIES,
    WORKERS,
    children,
    is_at_full_strength,
    loaded,
    serve,
    store_of,
    train_version,
)
from tests.waiting import wait_until

UPGRADES: Final = 10
TRAVEL_SECONDS: Final = 0.02  # at any time two clients have connected and not asked yet
CONFIGURATION: Final = f"""
import runpy
globals().update(runpy.run_path({str(ROOT / "gunicorn.conf.py")!r}))
wsgi_app = "release:application"
pidfile = "pid"
"""
RELEASE: Final = """
from service.app import create_app

def application(environ, start_response):
    def start(status, headers, exc_info=None):
        return start_response(status, [*headers, ("X-Release", "{number}")], exc_info)
    return app(environ, start)

app = create_app()
application.limits = app.limits
"""


def install(folder: Path, release: str, configuration: str = CONFIGURATION) -> None:
    """Put a release where gunicorn looks for it when it starts anew."""
    (folder / "gunicorn.conf.py").write_text(configuration)
    (folder / "release.py").write_text(release)


@contextmanager
def first_release(folder: Path) -> Iterator[GunicornProcess]:
    """Two workers of release 1; whatever master is left at the end is stopped."""
    store = store_of(folder, train_version("v1.0.0", "gradient-boosting"))
    install(folder, RELEASE.format(number=1))
    with serve(store, cwd=folder) as server:
        wait_until(lambda: is_at_full_strength(RunFolder(server.run), 1))
        yield server


def is_the_master(folder: Path, pid: int) -> bool:
    """Whether a master has noticed that it is the only one."""
    with suppress(FileNotFoundError):
        return (folder / "pid").read_text().strip() == str(pid)
    return False


def release_of(server: GunicornProcess) -> str:
    with httpx.Client(timeout=30) as client:
        return client.post(f"{server.url}/predict", content=BODIES[0]).headers["X-Release"]


def on_new_connections(outcomes: list[Outcome]) -> list[Outcome]:
    return [outcome for outcome in outcomes if not outcome.kept]


def tell(what: str, load: Load) -> None:
    new = on_new_connections(load.outcomes)
    kept = [outcome.error for outcome in load.failed() if outcome.kept]
    print(
        f"\n{what}: {len(new):,} requests on new connections, {len(on_new_connections(load.failed()))} failed; "
        f"{len(load.outcomes) - len(new):,} on kept ones, failed {kept}"
    )


def test_a_good_release_takes_over_and_no_new_connection_fails(tmp_path: Path) -> None:
    with first_release(tmp_path) as server:
        run, old = RunFolder(server.run), server.pid
        try:
            with loaded(server, TRAVEL_SECONDS).running() as load:
                for number in range(2, UPGRADES + 2):
                    install(tmp_path, RELEASE.format(number=number))
                    os.kill(old, signal.SIGUSR2)
                    wait_until(lambda: is_at_full_strength(run, 1, 2 * WORKERS))
                    new = int((tmp_path / "pid.2").read_text())
                    os.kill(old, signal.SIGTERM)
                    wait_until(lambda: is_at_full_strength(run, 1))
                    wait_until(partial(is_the_master, tmp_path, new))
                    assert release_of(server) == str(number)
                    old = new
            tell(f"{UPGRADES} upgrades", load)
            assert on_new_connections(load.failed()) == []
        finally:
            stop(old)


@pytest.mark.parametrize(
    ("release", "configuration", "told"),
    [
        ("raise RuntimeError('this release is broken')", CONFIGURATION, "this release is broken"),
        ("application = None", CONFIGURATION, "Failed to find application object: 'application'"),
        (RELEASE.format(number=2), "workers = = 2", "SyntaxError: invalid syntax"),
    ],
    ids=["raises when imported", "no application", "no configuration"],
)
def test_a_broken_release_leaves_the_old_one_serving(
    tmp_path: Path, release: str, configuration: str, told: str
) -> None:
    with first_release(tmp_path) as server:
        run, workers = RunFolder(server.run), children(server.pid)
        with loaded(server).running() as load:
            install(tmp_path, release, configuration)
            os.kill(server.pid, signal.SIGUSR2)
            wait_until(lambda: told in server.log)
            wait_until(lambda: children(server.pid) == workers)
            answered = len(load.outcomes)
            wait_until(lambda: len(load.outcomes) > answered + RATE)
        assert is_at_full_strength(run, 1)
        assert release_of(server) == "1"
        tell(f"a broken release ({told})", load)
        assert load.failed() == []


def stop(pid: int) -> None:
    """Stop a master, and wait for its end."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
        wait_until(lambda: not Path(f"/proc/{pid}").exists() or "(zombie)" in Path(f"/proc/{pid}/status").read_text())
