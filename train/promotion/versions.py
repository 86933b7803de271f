"""The name of the next version, and the salt that it shares with those before."""

from contextlib import suppress
from typing import Final

import orjson

from pricing.artifacts.manifest import version_key
from pricing.artifacts.store import MANIFEST_FILE, Store
from pricing.errors import ArtifactError
from pricing.house import BOUNDS, FEATURES, UNITS
from train.sales.split import FIRST_SALT

FIRST_VERSION: Final = "v1.0.0"

Contract = list[tuple[object, ...]]


def next_version(store: Store) -> str:
    """v1.0.0 first; then the next minor of the highest, or the next major when the contract is another by now."""
    published = store.versions()
    if not published:
        return FIRST_VERSION
    major, minor, _ = version_key(published[-1])
    same = contract_of(store, published[-1]) in (None, contract())
    return f"v{major}.{minor + 1}.0" if same else f"v{major + 1}.0.0"


def contract() -> Contract:
    """Name, unit and bounds of each feature, as this program understands them."""
    return [(name, UNITS[name], BOUNDS[name].above, BOUNDS[name].minimum, BOUNDS[name].maximum) for name in FEATURES]


def contract_of(store: Store, version: str) -> Contract | None:
    """The same of a version, which may be one that this program cannot serve; None when its manifest is damaged."""
    with suppress(ArtifactError, orjson.JSONDecodeError, KeyError, TypeError):
        features = orjson.loads(store.read_beside(version, MANIFEST_FILE) or b"")["features"]
        return [tuple(feature[key] for key in ("name", "unit", "above", "minimum", "maximum")) for feature in features]
    return None


def salt(store: Store) -> str:
    """The salt of the newest version that is whole, so that no later model has seen the test rows of an earlier one."""
    for version in reversed(store.versions()):
        with suppress(ArtifactError):  # a damaged version must not prevent the training of its replacement
            return store.read(version).manifest.split.salt
    return FIRST_SALT
