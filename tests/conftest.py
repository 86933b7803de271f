"""What several folders of tests share: one small real version, trained once a process, and a store that holds it."""

from pathlib import Path

import pytest
from hypothesis import settings

from pricing.store import Artifact, Store
from train import data
from train.training import Plan, train

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
