"""A browser, its tabs, and services of one and of several versions."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser

from pricing.artifacts.deployment import split_traffic
from pricing.artifacts.store import REPORT_FILE, Artifact, Store
from report.page import report_of
from tests.browser import Watched, chromium, watched
from tests.column_sales import Keeping
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
    published: Artifact, keeping: Keeping, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[GunicornProcess]:
    """A service of v3.0.0, which knows columns and keeps its sales, and for half of the clients v1.0.0 without."""
    store = Store(tmp_path_factory.mktemp("several") / "artifacts")
    for artifact in (published, keeping.artifact):
        store.publish(artifact, {REPORT_FILE: report_of(artifact.manifest)})
    store.deploy("v3.0.0")
    store.swap_pointer(lambda current: split_traffic(current, {"v3.0.0": 50, "v1.0.0": 50}))
    with gunicorn(None, cwd=ROOT, workers=1, env={"APPRAISER_ARTIFACTS": str(store.root)}) as process:
        yield process
