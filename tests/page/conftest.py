"""A browser, its tabs, and services of one and of several versions."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser

from pricing.artifacts.deployment import split_traffic
from pricing.artifacts.store import Artifact, Store
from tests.browser import Watched, chromium, watched
from tests.gunicorn_process import ROOT, GunicornProcess, gunicorn


@pytest.fixture(scope="module")  # and not longer: beside its loop of events no other test could run one
def browser() -> Iterator[Browser]:
    """A real Chromium."""
    with chromium() as found:
        yield found


@pytest.fixture
def tabs(browser: Browser) -> Iterator[Watched]:
    """Tabs of a test, which fails if one of them breaks a rule."""
    with watched(browser) as found:
        yield found


@pytest.fixture(scope="session")
def several(
    published: Artifact, knowing: Artifact, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[GunicornProcess]:
    """A service of v2.0.0, which knows columns, and of v1.0.0, which knows none; half of the clients get it."""
    store = Store(tmp_path_factory.mktemp("several") / "artifacts")
    for artifact in (published, knowing):
        store.publish(artifact)
    store.deploy(knowing.manifest.version)
    store.swap_pointer(lambda current: split_traffic(current, {"v2.0.0": 50, "v1.0.0": 50}))
    with gunicorn(None, cwd=ROOT, workers=1, env={"APPRAISER_ARTIFACTS": str(store.root)}) as process:
        yield process
