"""What a real worker cannot read for a moment: it says so, and takes it as soon as it can."""

import resource
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from pricing.artifacts.store import Artifact, Store
from service.access.api_keys import KEYS_FILE, KeyStore
from tests.bad_artifacts import named
from tests.bodies import GOOD
from tests.gunicorn_process import ROOT, GunicornProcess, gunicorn
from tests.reliability.workers import children
from tests.waiting import wait_until

OPEN_FILES: Final = "Too many open files"
LINKS: Final = "Too many levels of symbolic links"


def serve(store: Store) -> Any:  # noqa: ANN401 -- a context manager of a process
    env = {"APPRAISER_ARTIFACTS": str(store.root), "APPRAISER_REQUIRE_KEYS": "true"}
    return gunicorn(None, cwd=ROOT, workers=1, env=env)


@pytest.fixture
def keys(store: Store) -> KeyStore:
    return KeyStore(store.root)


@pytest.fixture
def server(store: Store) -> Iterator[GunicornProcess]:
    with serve(store) as server:
        yield server


@pytest.fixture
def client(server: GunicornProcess) -> Iterator[httpx.Client]:
    """One connection, which is open before anything fails."""
    with httpx.Client(base_url=server.url, timeout=30) as client:
        assert client.get("/health/ready").json() == {"status": "ready", "version": "v1.0.0", "generation": 1}
        yield client


def spoil(path: Path) -> Callable[[], object]:
    """Put something in its place that can neither be looked at nor read, by root either; returns how it ends."""
    aside = path.with_name("aside")
    path.rename(aside)
    path.symlink_to(path.name)
    return lambda: aside.replace(path)


def limit_open_files(pid: int, most: int) -> int:
    """Set what a process may open, and return what it might before."""
    before, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (most, hard))
    return before


def test_without_free_descriptors_nothing_is_lost_but_time(
    store: Store, keys: KeyStore, published: Artifact, server: GunicornProcess, client: httpx.Client
) -> None:
    key, text = keys.create("a client", ["predict"], None)
    headers = {"X-API-Key": text}
    wait_until(lambda: client.post("/predict", content=GOOD, headers=headers).status_code == 200)
    store.publish(named(published, "v1.1.0"))
    (worker,) = children(server.pid)
    before = limit_open_files(worker, 1)
    keys.revoke(key.id)
    store.deploy("v1.1.0")

    def told() -> tuple[bool, bool]:
        health = client.get("/health/ready").json()
        refused = [found["reason"] for found in health.get("refused", [])]
        return OPEN_FILES in health.get("keys_unreadable", ""), any(OPEN_FILES in reason for reason in refused)

    wait_until(lambda: told() == (True, True))
    assert client.post("/predict", content=GOOD, headers=headers).status_code == 200  # by what was read before

    limit_open_files(worker, before)
    ready = {"status": "ready", "version": "v1.1.0", "generation": 2}
    wait_until(lambda: client.get("/health/ready").json() == ready)
    assert client.post("/predict", content=GOOD, headers=headers).json()["detail"] == "This key has been revoked."


def test_keys_that_cannot_be_read_are_in_health_and_metrics_as_long_as_that_lasts(
    keys: KeyStore, client: httpx.Client
) -> None:
    _, text = keys.create("a client", ["metrics"], None)

    def metrics() -> str:
        return client.get("/metrics", headers={"X-API-Key": text}).text

    gauge = 'appraiser_worker_keys_unreadable{worker="0"} '
    wait_until(lambda: f"{gauge}0.0" in metrics())

    mend = spoil(keys.root / KEYS_FILE)
    wait_until(lambda: f"{gauge}1.0" in metrics())
    assert client.get("/health/ready").json() == {
        "status": "ready",
        "version": "v1.0.0",
        "generation": 1,
        "keys_unreadable": f"keys.json cannot be read: {LINKS}",
    }

    mend()
    wait_until(lambda: f"{gauge}0.0" in metrics())
    assert "keys_unreadable" not in client.get("/health/ready").json()


def test_a_worker_that_starts_without_keys_lets_nobody_pass_until_it_has_them(store: Store, keys: KeyStore) -> None:
    _, text = keys.create("a client", ["predict"], None)
    mend = spoil(keys.root / KEYS_FILE)
    detail = "The keys cannot be read, so no key can be checked; /health/ready has the reason."
    with serve(store) as server, httpx.Client(base_url=server.url, headers={"X-API-Key": text}, timeout=30) as client:
        answer = client.post("/predict", content=GOOD)
        assert (answer.status_code, answer.json(), answer.headers["Retry-After"]) == (503, {"detail": detail}, "1")
        health = client.get("/health/ready")
        reason = f"keys.json cannot be read: {LINKS}"
        assert (health.status_code, health.json()) == (503, {"detail": detail, "keys_unreadable": reason})
        assert client.post("/predict", content=GOOD, headers={"X-API-Key": "another"}).status_code == 503

        mend()
        wait_until(lambda: client.post("/predict", content=GOOD).status_code == 200)
        assert client.post("/predict", content=GOOD, headers={"X-API-Key": "another"}).status_code == 401
        assert client.get("/health/ready").status_code == 200
