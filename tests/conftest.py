"""What several folders of tests share: one small real version, trained once a process, a store, and a gunicorn."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from hypothesis import settings

from pricing.artifacts.store import Artifact, Store
from tests.column_sales import Keeping, version_that_keeps_sales, version_with_columns
from tests.gunicorn_process import ROOT, GunicornProcess, gunicorn
from train.models.training import Plan, train
from train.sales import rows as data

ROWS = 1_500


def pytest_configure() -> None:
    """Hypothesis fails a slow example by default, and a busy machine is no defect."""
    settings.register_profile("appraiser", deadline=None)
    settings.load_profile("appraiser")


@pytest.fixture(scope="session")
def published() -> Artifact:
    """A real version v1.0.0 of gradient boosting on a reduced synthetic market; frozen, so that tests may share it."""
    return train(data.synthetic(seed=0, rows=ROWS), Plan("v1.0.0", "0", 0, "gradient-boosting"), lambda _: None)


@pytest.fixture
def store(published: Artifact, tmp_path: Path) -> Store:
    """A fresh store in which v1.0.0 is published and deployed as generation 1."""
    store = Store(tmp_path / "artifacts")
    store.publish(published)
    store.deploy(published.manifest.version)
    return store


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


@pytest.fixture(scope="session")
def knowing(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """A real version v2.0.0 that knows latitude, zip_code and heating besides the five fields."""
    return version_with_columns(tmp_path_factory.mktemp("sales"), "v2.0.0")


@pytest.fixture(scope="session")
def keeping(tmp_path_factory: pytest.TempPathFactory) -> Keeping:
    """A real version v3.0.0 that knows the same columns and keeps its sales, which have dates."""
    return version_that_keeps_sales(tmp_path_factory.mktemp("kept"))
