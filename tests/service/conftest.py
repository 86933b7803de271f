"""What the tests of the service share: a deployed store that nobody changes, and a gunicorn that serves it."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from pricing.store import Artifact, Store
from tests.gunicorn_process import ROOT, GunicornProcess, gunicorn


@pytest.fixture(scope="session")
def artifacts(published: Artifact, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which v1.0.0 is deployed; tests that change something take `store` instead."""
    store = Store(tmp_path_factory.mktemp("deployed") / "artifacts")
    store.publish(published)
    store.deploy(published.manifest.version)
    return store.root


@pytest.fixture(scope="session")
def server(artifacts: Path) -> Iterator[GunicornProcess]:
    """A real gunicorn as gunicorn.conf.py makes it, with two workers."""
    with gunicorn(None, cwd=ROOT, workers=2, env={"APPRAISER_ARTIFACTS": str(artifacts)}) as process:
        yield process


@pytest.fixture(scope="session")
def http(server: GunicornProcess) -> Iterator[httpx.Client]:
    """A client of `server` that keeps its connections."""
    with httpx.Client(base_url=server.url, timeout=30) as client:
        yield client
