"""Numbers of versions and keys that are out of use become one series: sums go on, and what is scraped stays bounded."""

import threading
from collections.abc import Collection
from pathlib import Path
from typing import Final

import numpy as np
import pytest

from pricing.artifacts.store import Artifact, Store
from service.deployment.loaded_models import ModelRegistry, ServedModel
from service.deployment.worker_slots import RunFolder
from service.observability.exposition import Exposition
from service.observability.metrics import RETIRED, Files, PredictionRun, WorkerMetrics
from service.observability.metrics_file import START_BYTES
from service.observability.retirement import Retirement
from tests.fake_service import HOUSE, NO_STORE, fake_model
from tests.fakes import ThousandDollarsASquareFoot
from tests.service.deployment.test_follow import publish
from tests.service.observability.test_exposition import die, worker

HOUSES: Final = np.array([list(HOUSE.values())], dtype=np.float32)


class InService(ModelRegistry):
    """Models whose versions a test sets."""

    def __init__(self, *versions: str) -> None:
        super().__init__(NO_STORE)
        self.versions = frozenset(versions)

    def named(self) -> frozenset[str]:
        return self.versions


class Valid:
    """Keys whose ids a test sets."""

    def __init__(self, *ids: str) -> None:
        self.ids = frozenset(ids)

    def active(self) -> frozenset[str]:
        return self.ids


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path / "run")


@pytest.fixture
def exposition(run: RunFolder) -> Exposition:
    return Exposition(run, NO_STORE, ModelRegistry(NO_STORE))


def count(metrics: WorkerMetrics, published: Artifact, *versions: str) -> None:
    """Answer a request with each version."""
    fake = fake_model(published.manifest, ThousandDollarsASquareFoot())
    for version in versions:
        manifest = fake.manifest.model_copy(update={"version": version})
        model = ServedModel.of(fake.digest, manifest, fake.predictor)
        prediction = model.predictor.predict(HOUSES, 0.9)
        metrics.predicted(model, "champion", HOUSES, prediction, PredictionRun("miss", 0.001))
        metrics.answered("/predict", "POST", "200", version, 0.001)
        metrics.loaded(version)


def by(exposition: Exposition, name: str, label: str = "version") -> dict[str, float]:
    """The numbers of a metric, added up by a label."""
    found: dict[str, float] = {}
    for metric in exposition.collect():
        for sample in metric.samples:
            if sample.name == name:
                key = sample.labels[label]
                found[key] = found.get(key, 0.0) + sample.value
    return found


def look(retirement: Retirement) -> None:
    """Look until a change is followed: with the look after the one that sees it."""
    retirement.look()
    retirement.look()


def test_a_version_that_is_out_of_service_goes_on_as_a_part_of_one_series(
    run: RunFolder, exposition: Exposition, published: Artifact
) -> None:
    (_, first), (_, second) = worker(run), worker(run)
    for metrics in (first, second):
        count(metrics, published, "v1.0.0", "v1.1.0", "v1.2.0", "v1.3.0")
    models = InService("v1.2.0", "v1.3.0")
    for metrics in (first, second):
        look(Retirement(run, models, metrics, None))
    count(first, published, "v1.3.0")

    for name in ("requests_total", "predictions_total", "price_dollars_count", "inference_seconds_count"):
        assert by(exposition, f"appraiser_{name}") == {RETIRED: 4.0, "v1.2.0": 2.0, "v1.3.0": 3.0}, name
    buckets = [s for m in exposition.collect() for s in m.samples if s.name == "appraiser_request_seconds_bucket"]
    assert {s.value for s in buckets if s.labels["version"] == RETIRED and s.labels["le"] == "+Inf"} == {4.0}
    assert by(exposition, "appraiser_feature_value_count") == {"v1.2.0": 10.0, "v1.3.0": 15.0}  # five features
    assert exposition.summary().requests == 9


def test_a_version_that_comes_back_begins_anew_and_the_sum_goes_on(
    run: RunFolder, exposition: Exposition, published: Artifact
) -> None:
    _, metrics = worker(run)
    models = InService("v1.1.0")
    retirement = Retirement(run, models, metrics, None)
    count(metrics, published, "v1.0.0", "v1.1.0")
    look(retirement)
    models.versions = frozenset({"v1.0.0"})
    count(metrics, published, "v1.0.0")
    look(retirement)

    assert by(exposition, "appraiser_predictions_total") == {RETIRED: 2.0, "v1.0.0": 1.0}


def test_numbers_are_kept_for_one_more_look_for_a_request_that_is_in_hand(
    run: RunFolder, exposition: Exposition, published: Artifact
) -> None:
    _, metrics = worker(run)
    count(metrics, published, "v1.0.0", "v1.1.0")
    retirement = Retirement(run, InService("v1.1.0"), metrics, None)

    retirement.look()
    assert set(by(exposition, "appraiser_predictions_total")) == {"v1.0.0", "v1.1.0"}
    retirement.look()
    assert set(by(exposition, "appraiser_predictions_total")) == {RETIRED, "v1.1.0"}


def test_while_nothing_is_in_service_nothing_is_retired(
    run: RunFolder, exposition: Exposition, published: Artifact
) -> None:
    _, metrics = worker(run)
    count(metrics, published, "v1.0.0")

    look(Retirement(run, InService(), metrics, None))

    assert by(exposition, "appraiser_predictions_total") == {"v1.0.0": 1.0}


def test_the_numbers_of_workers_that_are_no_more_are_retired_by_those_that_are(
    run: RunFolder, exposition: Exposition, published: Artifact
) -> None:
    (_, first), (slot, second) = worker(run), worker(run)
    count(first, published, "v1.0.0", "v1.1.0")
    count(second, published, "v1.0.0", "v1.1.0")
    die(slot)

    look(Retirement(run, InService("v1.1.0"), first, None))

    assert by(exposition, "appraiser_predictions_total") == {RETIRED: 2.0, "v1.1.0": 2.0}
    assert run.claim().number == 1


def test_keys_that_are_over_become_one_series(run: RunFolder, exposition: Exposition) -> None:
    _, metrics = worker(run)
    for number in range(5):
        metrics.asked_with(f"key-{number}", "200")
    keys = Valid("key-3", "key-4")
    retirement = Retirement(run, InService("v1.0.0"), metrics, keys)
    look(retirement)
    assert by(exposition, "appraiser_key_requests_total", "key_id") == {RETIRED: 3.0, "key-3": 1.0, "key-4": 1.0}

    keys.ids = frozenset({"key-4"})
    look(retirement)
    assert by(exposition, "appraiser_key_requests_total", "key_id") == {RETIRED: 4.0, "key-4": 1.0}


def test_refused_versions_do_not_pile_up(run: RunFolder, exposition: Exposition) -> None:
    _, metrics = worker(run)
    models = InService()
    retirement = Retirement(run, models, metrics, None)
    for number in range(50):
        metrics.refused(f"v2.{number}.0", "damaged")
        models.versions = frozenset({"v1.0.0", f"v2.{number}.0"})
        look(retirement)

    assert by(exposition, "appraiser_model_refusals_total") == {RETIRED: 49.0, "v2.49.0": 1.0}


def test_after_a_hundred_versions_text_and_files_are_as_after_three(
    run: RunFolder, exposition: Exposition, published: Artifact
) -> None:
    _, metrics = worker(run)
    models = InService()
    retirement = Retirement(run, models, metrics, None)
    sizes = []
    for number in range(100):
        count(metrics, published, f"v1.{number}.0")
        models.versions = frozenset({f"v1.{number}.0", f"v1.{number - 1}.0"})
        look(retirement)
        sizes.append(len(exposition.text().body))

    assert sizes[-1] < 1.1 * sizes[3]
    assert [path.stat().st_size for path in run.metrics()] == [START_BYTES] * 2
    assert by(exposition, "appraiser_predictions_total") == {RETIRED: 98.0, "v1.98.0": 1.0, "v1.99.0": 1.0}
    assert sorted(path.name for path in run.root.glob("*.aside")) == []


def test_who_scrapes_meanwhile_never_sees_a_sum_fall(
    run: RunFolder, exposition: Exposition, published: Artifact
) -> None:
    _, metrics = worker(run)
    sums: list[float] = []
    ending = threading.Event()

    def scrape() -> None:
        while not ending.is_set():
            sums.append(sum(by(exposition, "appraiser_predictions_total").values()))

    scraping = threading.Thread(target=scrape)
    scraping.start()
    for number in range(100):
        count(metrics, published, f"v1.{number}.0")
        metrics.retire({f"v1.{number}.0"}, ())
    ending.set()
    scraping.join()

    assert sums == sorted(sums)
    assert sum(by(exposition, "appraiser_predictions_total").values()) == 100.0


def versions(models: ModelRegistry) -> Collection[str]:
    return sorted(models.named())


def test_versions_in_service_and_those_that_were_refused_are_named(store: Store, published: Artifact) -> None:
    models = ModelRegistry(store)
    assert versions(models) == []
    publish(store, published, "v1.1.0", "v1.2.0")
    models.follow()
    assert versions(models) == ["v1.0.0"]
    store.deploy("v1.1.0")
    models.follow()
    store.deploy("v1.2.0")
    (store.root / "v1.2.0" / "model.onnx").write_bytes(b"")
    models.follow()

    assert versions(models) == ["v1.0.0", "v1.1.0", "v1.2.0"]


def test_a_worker_whose_numbers_are_not_kept_retires_them_too() -> None:
    metrics = WorkerMetrics()
    metrics.loaded("v1.0.0")

    metrics.retire({"v1.1.0"}, ())
    metrics.loaded("v1.1.0")


def test_a_later_worker_of_the_slot_goes_on_with_what_is_left(
    run: RunFolder, exposition: Exposition, published: Artifact
) -> None:
    slot, metrics = worker(run)
    count(metrics, published, "v1.0.0", "v1.1.0")
    metrics.retire({"v1.1.0"}, ())
    die(slot)

    later = WorkerMetrics(Files.of(*run.claim().metrics))
    count(later, published, "v1.1.0")

    assert by(exposition, "appraiser_predictions_total") == {RETIRED: 1.0, "v1.1.0": 2.0}
