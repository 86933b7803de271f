"""What was answered can be computed again, to the last bit, for as long as journal and version are kept."""

import math
import re
from pathlib import Path
from typing import Final

import httpx
import numpy as np
import pytest
from click.testing import CliRunner, Result

from cli import main
from pricing.artifacts.deployment import split_traffic
from pricing.artifacts.store import Artifact, Store
from pricing.inference.predictor import load
from pricing.journal.journal import Record, read
from pricing.journal.replay import MAX_ULPS, Replay, replayed
from tests.gunicorn_process import ROOT, GunicornProcess, gunicorn
from tests.reliability.workers import train_version

PREDICTIONS: Final = 1_000
HOUSE: Final = {"square_feet": 2000, "bedrooms": 3, "bathrooms": 2, "age_years": 10, "distance_to_city": 5.1}


@pytest.fixture
def three(published: Artifact, tmp_path: Path) -> Store:
    """Three versions of both families in service: champion, challenger, and the previous champion."""
    store = Store(tmp_path / "artifacts")
    others = (train_version("v1.1.0", "random-forest", seed=1), train_version("v1.2.0", "gradient-boosting", seed=2))
    for artifact in (published, *others):
        store.publish(artifact)
    store.deploy("v1.0.0")
    store.deploy("v1.1.0")
    store.swap_pointer(lambda now: split_traffic(now, {"v1.1.0": 60, "v1.2.0": 40}))
    return store


def ask(server: GunicornProcess) -> dict[str, float]:
    """Predictions of all three versions, alone and in batches, at several levels; price by prediction_id."""
    told: dict[str, float] = {}
    with httpx.Client(base_url=server.url) as client:
        for number in range(PREDICTIONS // 4):
            houses = [HOUSE | {"square_feet": 700.1 + 10 * number + place} for place in range(4)]
            query = {"confidence": 0.5 + 0.49 * number / 250}
            if number % 3 == 0:
                query |= {"model_version": "v1.0.0"}  # type: ignore[dict-item]
            alone = [client.post("/predict", json=house, params=query).json() for house in houses[:2]]
            both = client.post("/predict/batch", json={"houses": houses[2:]}, params=query).json()["predictions"]
            told |= {answer["prediction_id"]: answer["predicted_price"] for answer in (*alone, *both)}
    return told


def replay(store: Store, journal: Path, prediction_id: str) -> Result:
    places = ["--artifacts", str(store.root), "--journal", str(journal)]
    return CliRunner().invoke(main, [*places, "replay", prediction_id])


def test_1_000_predictions_of_three_versions_are_computed_again_to_the_last_bit(three: Store) -> None:
    with gunicorn(None, cwd=ROOT, workers=2, env={"APPRAISER_ARTIFACTS": str(three.root)}) as server:
        told = ask(server)
        records = list(read(server.journal))
        predictors = {
            version: load(three.read(version, three.seal(version))) for version in ("v1.0.0", "v1.1.0", "v1.2.0")
        }
        again = {record.prediction_id: replayed(record, predictors[record.model_version]) for record in records}
        by_version = {v: sum(record.model_version == v for record in records) for v in predictors}
        commands = [replay(three, server.journal, record.prediction_id) for record in records[::100]]

    assert len(told) == PREDICTIONS
    assert again == {name: Replay([], 0.0) for name in told}
    assert {record.prediction_id: round(record.predicted_price, 2) for record in records} == told
    assert min(by_version.values()) > PREDICTIONS // 10
    assert {record.arm for record in records} == {"champion", "challenger", "requested"}
    assert all(record.sha256 == three.deployment().sha256[record.model_version] for record in records)
    for command in commands:
        assert re.match(
            r"v1\.[012]\.0 answers as at 20\d\d-\d\d-\d\d \d\d:\d\d:\d\d UTC, to the last bit:\n", command.stdout
        )


@pytest.fixture
def recorded(store: Store, tmp_path: Path) -> tuple[Record, Path]:
    """One prediction, and the journal that has it."""
    places = {"APPRAISER_ARTIFACTS": str(store.root), "APPRAISER_JOURNAL": str(tmp_path / "journal")}
    with gunicorn(None, cwd=ROOT, workers=1, env=places) as server:
        httpx.post(f"{server.url}/predict", json=HOUSE).raise_for_status()
        server.stop()
    (record,) = read(tmp_path / "journal")
    return record, tmp_path / "journal"


def changed(journal: Path, field: str, was: float, ulps: int) -> float:
    """Record a number that is some units in the last place larger."""
    now = was
    for _ in range(ulps):
        now = math.nextafter(now, math.inf)
    (segment,) = journal.glob("*.jsonl")
    old, new = (f'"{field}":{value!r}'.encode() for value in (was, now))
    segment.write_bytes(segment.read_bytes().replace(old, new))
    return now


@pytest.mark.parametrize("field", ["predicted_price", "lower", "upper"])
def test_a_number_that_differs_by_more_than_exp_may_is_told(
    store: Store, recorded: tuple[Record, Path], field: str
) -> None:
    record, journal = recorded
    was = getattr(record, field)
    other = changed(journal, field, was, 3)

    found = replay(store, journal, record.prediction_id)

    assert (found.exit_code, found.stderr.splitlines()) == (
        1,
        [
            "Error: v1.0.0 answers otherwise than it did",
            f"{field}: recorded {other!r}, now {was!r}, 3 ulp apart; 2 are allowed",
        ],
    )


@pytest.mark.parametrize("ulps", [1, 2])
@pytest.mark.parametrize("field", ["predicted_price", "lower", "upper"])
def test_a_number_that_another_processor_has_rounded_otherwise_is_the_same(
    store: Store, recorded: tuple[Record, Path], field: str, ulps: int
) -> None:
    record, journal = recorded
    changed(journal, field, getattr(record, field), ulps)

    found = replay(store, journal, record.prediction_id)

    assert (found.exit_code, found.stderr) == (0, "")
    assert f" UTC, within {ulps} ulp, since exp differs between processors:\n" in found.stdout


def test_the_price_of_the_next_log_price_is_further_away_than_exp_may_be_wrong() -> None:
    for log_price in np.linspace(8.01, 25.0, 1_000):
        price, other = math.exp(log_price), math.exp(np.nextafter(log_price, np.inf))

        assert (other - price) / math.ulp(price) > 2 * MAX_ULPS


def test_a_version_that_is_not_what_it_was_is_told(store: Store, recorded: tuple[Record, Path]) -> None:
    record, journal = recorded
    manifest = store.root / "v1.0.0" / "manifest.json"
    manifest.write_bytes(manifest.read_bytes().replace(b'"seed": 0', b'"seed": 1'))

    found = replay(store, journal, record.prediction_id)

    assert found.exit_code == 1
    assert found.stderr.startswith("Error: observed sha256 ")


@pytest.mark.parametrize("name", ["", "x", "018cc4d1-5e00-4b3a-9f1c-4a7be93d0c55"])
def test_what_is_no_prediction_id_is_told(store: Store, tmp_path: Path, name: str) -> None:
    found = replay(store, tmp_path, name)

    assert found.exit_code == 1
    assert found.stderr.startswith(f"Error: {name!r} is not a prediction_id; they look like ")


def test_a_prediction_that_was_never_made_is_told(store: Store, recorded: tuple[Record, Path]) -> None:
    _, journal = recorded

    found = replay(store, journal, "018cc4d1-5e00-7b3a-9f1c-4a7be93d0c55")

    assert found.exit_code == 1
    assert found.stderr == (
        "Error: prediction 018cc4d1-5e00-7b3a-9f1c-4a7be93d0c55 was not found in "
        f"{journal}; its ID is of 2024-01-01 11:38 UTC\n"
    )


def test_a_version_that_the_journal_names_is_not_pruned(store: Store, recorded: tuple[Record, Path]) -> None:
    _, journal = recorded
    places = ["--artifacts", str(store.root), "--run", str(journal.with_name("run")), "--journal", str(journal)]
    for _ in range(3):
        trained = CliRunner().invoke(
            main, [*places, "train", "--deploy", "--keep", "1", "--family", "gradient-boosting"]
        )
        assert trained.exit_code in {0, 3}, trained.output

    assert store.versions() == ["v1.0.0", "v1.2.0", "v1.3.0"]  # not v1.1.0, which answered nobody
