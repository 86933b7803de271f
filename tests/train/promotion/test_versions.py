"""The next version's name, and the salt that versions share."""

from pathlib import Path

import orjson
import pytest

from pricing.artifacts.store import Artifact, Store
from train.promotion.versions import next_version, salt


def named(artifact: Artifact, version: str) -> Artifact:
    return artifact._replace(manifest=artifact.manifest.model_copy(update={"version": version}))


def another(artifact: Artifact, version: str, salt: str) -> Artifact:
    """The same artifact as another version with another salt."""
    split = artifact.manifest.split.model_copy(update={"salt": salt})
    return artifact._replace(manifest=artifact.manifest.model_copy(update={"version": version, "split": split}))


@pytest.mark.parametrize(
    ("versions", "following"),
    [
        ([], "v1.0.0"),
        (["v1.0.0"], "v1.1.0"),
        (["v1.0.0", "v1.9.0", "v1.10.3"], "v1.11.0"),
        (["v2.0.0", "v1.5.0"], "v2.1.0"),
        (["v0.0.1"], "v0.1.0"),
    ],
)
def test_the_next_version_is_the_next_minor_of_the_highest(
    tmp_path: Path, published: Artifact, versions: list[str], following: str
) -> None:
    store = Store(tmp_path / "artifacts")
    for version in versions:
        store.publish(named(published, version))

    assert next_version(store) == following


def test_the_first_salt_is_0(tmp_path: Path) -> None:
    assert salt(Store(tmp_path / "artifacts")) == "0"


def test_the_salt_is_that_of_the_newest_version(store: Store, published: Artifact) -> None:
    store.publish(another(published, "v1.10.0", "ten"))
    store.publish(another(published, "v1.9.0", "nine"))
    assert salt(store) == "ten"


def test_the_salt_is_that_of_the_newest_version_that_is_whole(store: Store, published: Artifact) -> None:
    store.publish(another(published, "v1.1.0", "whole"))
    store.publish(another(published, "v1.2.0", "damaged"))
    (store.root / "v1.2.0" / "model.onnx").write_bytes(b"damaged")
    assert salt(store) == "whole"


@pytest.mark.parametrize(
    "change",
    [{"name": "square_meters"}, {"unit": "square meters"}, {"maximum": 5_000.0}, {"above": 1.0}, {"minimum": 1.0}],
    ids=lambda change: next(iter(change)),
)
def test_after_another_contract_comes_the_next_major(store: Store, change: dict[str, object]) -> None:
    path = store.root / "v1.0.0" / "manifest.json"
    manifest = orjson.loads(path.read_bytes())
    manifest["features"][0] |= change
    path.write_bytes(orjson.dumps(manifest))

    assert next_version(store) == "v2.0.0"


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b'{"features": 1}', b'{"features": [{}]}'])
def test_after_a_damaged_manifest_comes_the_next_minor(store: Store, content: bytes) -> None:
    (store.root / "v1.0.0" / "manifest.json").write_bytes(content)

    assert next_version(store) == "v1.1.0"
