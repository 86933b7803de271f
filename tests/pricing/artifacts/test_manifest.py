"""The manifest's format, both ways, and the calibration table in it."""

import math
from collections.abc import Callable
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from pricing.artifacts.manifest import FORMAT, Calibration, Manifest, is_version, version_key
from pricing.artifacts.store import Artifact
from pricing.errors import DamagedArtifactError
from pricing.house import FEATURES

TABLE = Calibration(rows=200, levels=(0.5, 0.8, 0.99), quantiles=(1.0, 2.0, 3.0))

LAST = "bathrooms, age_years, distance_to_city"
OURS = f"this program serves square_feet, bedrooms, {LAST}"

Edit = Callable[[dict[str, Any]], object]


def edited(artifact: Artifact, edit: Edit) -> bytes:
    """The manifest's bytes after an edit of its JSON."""
    found = orjson.loads(artifact.manifest.to_bytes())
    edit(found)
    return orjson.dumps(found)


def test_a_manifest_that_was_written_and_read_is_the_same(published: Artifact) -> None:
    assert Manifest.parse(published.manifest.to_bytes()) == published.manifest


def test_a_manifest_is_indented_json_for_people(published: Artifact) -> None:
    assert published.manifest.to_bytes().startswith(
        b'{\n  "format": 3,\n  "readable_from": 1,\n  "version": "v1.0.0",\n'
    )


def test_a_split_that_does_not_say_what_it_hashes_has_hashed_every_feature(published: Artifact) -> None:
    before = Manifest.parse(edited(published, lambda m: m["split"].pop("identified_by")))
    assert before.split.identified_by == FEATURES
    assert published.manifest.split.identified_by == tuple(name for name in FEATURES if name != "age_years")


@given(seed=st.integers(0, 2**32 - 1), mean=st.floats(allow_nan=False, allow_infinity=False), text=st.text())
def test_every_float_and_text_comes_back_to_the_last_bit(
    published: Artifact, seed: int, mean: float, text: str
) -> None:
    example = published.manifest.examples[0].model_copy(update={"log_price": mean})
    changed = published.manifest.model_copy(update={"seed": seed, "examples": (example,), "family": text})
    assert Manifest.parse(changed.to_bytes()) == changed


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (
            lambda m: m.update(format="1"),
            "manifest.json: manifest: observed format '1', expected a whole number from 1",
        ),
        (lambda m: m.pop("format"), "manifest.json has format None, this program reads 3"),
        (lambda m: m.pop("seed"), "manifest.json: seed: Field required"),
        (lambda m: m["split"].pop("salt"), "manifest.json: split.salt: Field required"),
        (
            lambda m: m["split"].update(identified_by=["street"]),
            f"manifest.json: split: Value error, identified_by names street; {OURS}",
        ),
        (
            lambda m: m["split"].update(identified_by=[]),
            "manifest.json: split.identified_by: Tuple should have at least 1 item after validation, not 0",
        ),
        (
            lambda m: m["features"].insert(0, m["features"].pop(1)),
            f"manifest.json: manifest: Value error, features are bedrooms, square_feet, {LAST}; {OURS}",
        ),
        (
            lambda m: m["features"].pop(),
            f"manifest.json: manifest: Value error, features are square_feet, bedrooms, bathrooms, age_years; {OURS}",
        ),
        (
            lambda m: m["examples"][1]["features"].pop(),
            "manifest.json: manifest: Value error, every example needs 5 features",
        ),
        (
            lambda m: m["background"][1].pop(),
            "manifest.json: manifest: Value error, every house of the background needs 5 values",
        ),
        (
            lambda m: m["calibration"].update(rows=199),
            "manifest.json: calibration.rows: Input should be greater than or equal to 200",
        ),
    ],
)
def test_a_manifest_that_is_not_ours_is_refused_with_what_and_where(
    published: Artifact, edit: Edit, message: str
) -> None:
    with pytest.raises(DamagedArtifactError) as refused:
        Manifest.parse(edited(published, edit))
    assert str(refused.value) == message


@pytest.mark.parametrize(
    ("field", "edit"),
    [
        ("examples", lambda m: m.update(examples=[])),
        ("created_at", lambda m: m.update(created_at="2024-01-01T12:00:00")),  # without its offset
        ("version", lambda m: m.update(version="1.0.0")),
        ("graph.sha256", lambda m: m["graph"].update(sha256="ABC")),
        ("graph.size", lambda m: m["graph"].update(size=0)),
        ("background", lambda m: m.update(background=m["background"][:1] * 65)),
        ("background.0.2", lambda m: m["background"][0].__setitem__(2, "two")),
        ("examples.0.spread", lambda m: m["examples"][0].update(spread=0)),
        ("metrics.test.r2", lambda m: m["metrics"]["test"].pop("r2")),
    ],
)
def test_a_broken_value_is_named(published: Artifact, field: str, edit: Edit) -> None:
    with pytest.raises(DamagedArtifactError, match=rf"^manifest\.json: {field}: "):
        Manifest.parse(edited(published, edit))


def test_a_manifest_of_an_earlier_release_has_no_background(published: Artifact) -> None:
    found = Manifest.parse(edited(published, lambda m: (m.pop("background"), m.update(format=2))))
    assert found.background == ()


@pytest.mark.parametrize("data", [b"", b"{", b"\xff", b'{"format": NaN}'])
def test_what_is_no_json_is_refused(data: bytes) -> None:
    with pytest.raises(DamagedArtifactError, match=r"^manifest\.json is not JSON: "):
        Manifest.parse(data)


@pytest.mark.parametrize("data", [b"[]", b"1", b"null", b'"text"', b"{}"])
def test_json_that_is_no_manifest_has_no_format(data: bytes) -> None:
    with pytest.raises(DamagedArtifactError, match=rf"^manifest\.json has format None, this program reads {FORMAT}$"):
        Manifest.parse(data)


@pytest.mark.parametrize(
    ("asked", "held"),
    [
        (0.5, (0.5, 1.0)),
        (math.nextafter(0.5, 1), (0.8, 2.0)),
        (0.65, (0.8, 2.0)),
        (0.8, (0.8, 2.0)),
        (math.nextafter(0.8, 1), (0.99, 3.0)),
        (0.99, (0.99, 3.0)),
    ],
)
def test_between_two_levels_the_next_higher_is_held(asked: float, held: tuple[float, float]) -> None:
    assert TABLE.at(asked) == held


@pytest.mark.parametrize(
    "level", [math.nextafter(0.5, 0), math.nextafter(0.99, 1), 0, 1, -0.9, 90, math.nan, math.inf, -math.inf]
)
def test_a_level_outside_of_the_table_is_refused(level: float) -> None:
    with pytest.raises(ValueError, match=rf"^the level must be from 0\.5 to 0\.99, got {level}$"):
        TABLE.at(level)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rows": 199}, "greater than or equal to 200"),
        ({"quantiles": (1.0, 2.0)}, "3 levels, but 2 quantiles"),
        ({"levels": (), "quantiles": ()}, r"levels must run from 0\.5 to 0\.99"),
        ({"levels": (0.51, 0.8, 0.99)}, r"levels must run from 0\.5 to 0\.99"),
        ({"levels": (0.5, 0.8, 0.98)}, r"levels must run from 0\.5 to 0\.99"),
        ({"levels": (0.5, 0.5, 0.99)}, "levels must rise, and quantiles must not fall"),
        ({"levels": (0.5, 0.995, 0.99)}, "levels must rise, and quantiles must not fall"),
        ({"quantiles": (1.0, 3.0, 2.0)}, "levels must rise, and quantiles must not fall"),
        ({"quantiles": (0.0, 2.0, 3.0)}, "greater than 0"),
        ({"quantiles": (1.0, 2.0, math.inf)}, "finite number"),
        ({"quantiles": (1.0, math.nan, 3.0)}, "finite number"),
    ],
)
def test_a_calibration_that_is_no_table_is_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Calibration.model_validate(TABLE.model_dump() | change)


def test_equal_quantiles_are_a_table() -> None:
    table = Calibration(rows=200, levels=(0.5, 0.99), quantiles=(1.0, 1.0))
    assert table.at(0.7) == (0.99, 1.0)


@pytest.mark.parametrize("name", ["v0.0.0", "v1.0.0", "v1.10.0", "v999999.0.0"])
def test_a_version_is_three_numbers(name: str) -> None:
    assert is_version(name)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "v1",
        "v1.0",
        "1.0.0",
        "v01.0.0",
        "v1.0.0\n",
        " v1.0.0",
        "v1.0.0-rc",
        "V1.0.0",
        "v1.0.-1",
        "v1.٣.0",
        "v1000000.0.0",
    ],
)
def test_nothing_else_is_a_version(published: Artifact, name: str) -> None:
    assert not is_version(name)
    with pytest.raises(DamagedArtifactError, match=r"^manifest\.json: version: "):
        Manifest.parse(edited(published, lambda m: m.update(version=name)))


def test_versions_are_ordered_by_number() -> None:
    assert sorted(["v1.10.0", "v1.9.0", "v10.0.0", "v2.0.10", "v2.0.9"], key=version_key) == [
        "v1.9.0",
        "v1.10.0",
        "v2.0.9",
        "v2.0.10",
        "v10.0.0",
    ]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"trained_from": 10.0, "trained_to": 9.0}, "is not a range within the bounds"),
        ({"trained_to": 1e300}, "is not a range within the bounds"),
        ({"bins": (2.0, 1.0)}, "bins must rise"),
    ],
)
def test_what_training_cannot_have_seen_is_refused(published: Artifact, change: dict[str, object], reason: str) -> None:
    first, *rest = published.manifest.features
    features = (first.model_copy(update=change), *rest)
    data = published.manifest.model_copy(update={"features": features}).to_bytes()

    with pytest.raises(DamagedArtifactError, match=reason):
        Manifest.parse(data)
