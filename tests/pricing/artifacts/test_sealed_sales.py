"""The sales of a version are sealed like its graph: whole, or the version is refused."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

from pricing.artifacts.deployment import roll_back
from pricing.artifacts.sales_file import SALES_FILE
from pricing.artifacts.store import MAX_BYTES, Artifact, Store
from pricing.errors import DamagedArtifactError
from pricing.inference.predictor import load
from service.deployment.loaded_models import ModelRegistry
from tests.column_sales import Keeping


@pytest.fixture
def kept(store: Store, keeping: Keeping) -> Store:
    """v3.0.0, which keeps its sales, is deployed over v1.0.0, which keeps none."""
    store.publish(keeping.artifact)
    store.deploy("v3.0.0")
    return store


def test_what_is_published_is_read_again(kept: Store, keeping: Keeping) -> None:
    assert kept.read("v3.0.0") == keeping.artifact
    assert kept.read("v1.0.0").sales is None
    assert not (kept.root / "v1.0.0" / SALES_FILE).exists()


def test_a_worker_has_the_sales_of_the_version_that_keeps_them(kept: Store, keeping: Keeping) -> None:
    models = ModelRegistry(kept)
    models.follow()
    serving = models.serving()

    comparables = serving.champion.comparables
    assert comparables is not None
    assert len(comparables) == keeping.artifact.manifest.data.fit
    assert serving.models["v1.0.0"].comparables is None


DAMAGE: dict[str, Callable[[Path], object]] = {
    "another byte": lambda path: path.write_bytes(path.read_bytes()[:-1] + b"\xff"),
    "a byte less": lambda path: path.write_bytes(path.read_bytes()[:-1]),
    "none": lambda path: path.unlink(),
    "empty": lambda path: path.write_bytes(b""),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_version_whose_sales_are_not_those_that_were_sealed_is_refused(kept: Store, name: str) -> None:
    DAMAGE[name](kept.root / "v3.0.0" / SALES_FILE)
    models = ModelRegistry(kept)
    models.follow()

    (refused,) = models.refused
    assert (refused.version, SALES_FILE in refused.reason) == ("v3.0.0", True)
    assert models.serving().champion.manifest.version == "v1.0.0"
    with pytest.raises(DamagedArtifactError, match=SALES_FILE):
        kept.deploy("v3.0.0")


def test_sales_that_are_in_order_again_are_read_at_the_next_look(kept: Store) -> None:
    path = kept.root / "v3.0.0" / SALES_FILE
    good = path.read_bytes()
    path.write_bytes(good[:-1])
    models = ModelRegistry(kept)
    models.follow()
    assert not models.follow()

    path.write_bytes(good)

    assert models.follow()
    assert models.serving().champion.manifest.version == "v3.0.0"


def test_rollback_and_prune_know_nothing_of_them(kept: Store) -> None:
    kept.swap_pointer(roll_back)
    assert kept.deployment().champion == "v1.0.0"
    kept.publish(named(kept.read("v3.0.0"), "v3.1.0"))
    kept.publish(named(kept.read("v3.0.0"), "v3.2.0"))
    kept.deploy("v3.2.0")

    assert kept.prune(1) == ["v3.0.0", "v3.1.0"]
    assert kept.versions() == ["v1.0.0", "v3.2.0"]


def named(artifact: Artifact, version: str) -> Artifact:
    return artifact._replace(manifest=artifact.manifest.model_copy(update={"version": version}))


def test_other_sales_than_those_of_the_manifest_are_refused_before_anything_is_written(
    tmp_path: Path, keeping: Keeping
) -> None:
    store = Store(tmp_path / "artifacts")
    for sales in (b"another", None):
        with pytest.raises(DamagedArtifactError, match=r"of the sales of v3\.0\.0 "):
            store.publish(keeping.artifact._replace(sales=sales))
    assert not store.root.exists()


def test_sales_that_nobody_would_read_are_refused_before_anything_is_written(tmp_path: Path, keeping: Keeping) -> None:
    store, sales, manifest = Store(tmp_path / "artifacts"), bytes(MAX_BYTES + 1), keeping.artifact.manifest
    assert manifest.sales is not None
    sealed = manifest.sales.model_copy(update={"sha256": hashlib.sha256(sales).hexdigest()})
    with pytest.raises(DamagedArtifactError) as refused:
        store.publish(Artifact(manifest.model_copy(update={"sales": sealed}), keeping.artifact.graph, sales))
    assert str(refused.value) == f"observed 67,108,865 bytes of v3.0.0/{SALES_FILE}, expected 67,108,864 at most"
    assert not store.root.exists()


def test_sales_that_no_manifest_seals_are_not_written(tmp_path: Path, published: Artifact) -> None:
    store = Store(tmp_path / "artifacts")
    store.publish(published._replace(sales=b"not sealed"))
    assert not (store.root / "v1.0.0" / SALES_FILE).exists()


def test_an_earlier_release_reads_the_version_without_its_sales(kept: Store) -> None:
    """It knows no field `sales`, and so no file either."""
    artifact = kept.read("v3.0.0")
    plain = artifact.manifest.model_copy(update={"sales": None})
    load(Artifact(plain, artifact.graph))
