"""What is counted: the right number at the right labels, a batch as its houses, and no label chosen by a client."""

import threading
import time
from array import array
from itertools import product
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from pricing.artifacts.manifest import Manifest
from pricing.artifacts.store import Artifact
from service.app import create_app
from service.deployment.worker_slots import RunFolder, WorkerState
from service.observability.exposition import Exposition
from service.observability.metrics import BATCH_ROWS, METRICS, Buckets, Files, WorkerMetrics
from service.observability.metrics_file import InMemoryMetrics, Sample
from service.predictions.recorder import JournalWriter, NullJournal, PredictionRecorder
from service.resources import Resources
from service.settings import Settings
from tests.fake_service import DEFAULTS, HOUSE, NO_STORE, NOW, Always, fake_model
from tests.fakes import KeptInMemory, ThousandDollarsASquareFoot

BINS: Final = (0.1, 5.0, 80.3)  # of distance_to_city; two of them are no float32
VERSION: Final = 'version="v1.2.3"'


class Service:
    """An application whose numbers are in a slot, and what it says of them."""

    def __init__(
        self, root: Path, manifest: Manifest, settings: Settings = DEFAULTS, journal: JournalWriter | None = None
    ) -> None:
        features = [
            f.model_copy(update={"bins": BINS}) if f.name == "distance_to_city" else f for f in manifest.features
        ]
        changed = manifest.model_copy(update={"features": tuple(features)})
        self.run = RunFolder(root)
        self.slot = self.run.claim()
        self.metrics = WorkerMetrics(Files.of(*self.slot.metrics))
        self.model = fake_model(changed, ThousandDollarsASquareFoot())
        models = Always(self.model)
        self.exposition = Exposition(self.run, NO_STORE, models)
        resources = Resources(
            models, self.metrics, self.exposition, PredictionRecorder(journal or KeptInMemory(), self.metrics)
        )
        self.client = create_app(settings, resources, lambda: NOW).test_client()

    def lines(self, *beginnings: str) -> list[str]:
        """Samples that are not 0, of the metrics that are named."""
        text = self.exposition.text().body.decode()
        found = (line for line in text.splitlines() if line.startswith(beginnings) and not line.endswith(" 0.0"))
        return sorted(found)


@pytest.fixture
def service(published: Artifact, tmp_path: Path) -> Service:
    return Service(tmp_path, published.manifest)


def test_two_equal_houses_and_a_mistake_are_counted_as_such(service: Service) -> None:
    for body in (HOUSE, HOUSE, HOUSE | {"square_feet": -1}):
        service.client.post("/predict", json=body)

    assert service.lines("appraiser_requests_total", "appraiser_predictions", "appraiser_cache", "appraiser_j") == [
        f'appraiser_cache_lookups_total{{result="hit",{VERSION}}} 1.0',
        f'appraiser_cache_lookups_total{{result="miss",{VERSION}}} 1.0',
        "appraiser_journal_records_total 2.0",
        f'appraiser_predictions_total{{arm="champion",{VERSION}}} 2.0',
        'appraiser_requests_total{method="POST",route="/predict",status="200",version="v1.2.3"} 2.0',
        'appraiser_requests_total{method="POST",route="/predict",status="422",version=""} 1.0',
    ]
    assert service.lines("appraiser_request_seconds_count", "appraiser_inference_seconds_count") == [
        f"appraiser_inference_seconds_count{{{VERSION}}} 1.0",  # the hit has not run the model
        'appraiser_request_seconds_count{route="/predict",version=""} 1.0',
        'appraiser_request_seconds_count{route="/predict",version="v1.2.3"} 2.0',
    ]


def test_without_a_cache_no_lookup_is_counted(published: Artifact, tmp_path: Path) -> None:
    service = Service(tmp_path, published.manifest, DEFAULTS.model_copy(update={"cache_size": 0}))

    service.client.post("/predict", json=HOUSE)
    service.client.post("/predict/batch", json={"houses": [HOUSE, HOUSE]})

    assert service.lines("appraiser_cache_lookups_total") == []
    assert service.lines("appraiser_inference_seconds_count") == [f"appraiser_inference_seconds_count{{{VERSION}}} 2.0"]


def test_a_batch_counts_its_rows_and_what_is_out_of_range_by_feature(service: Service) -> None:
    houses = [HOUSE, HOUSE | {"square_feet": 9_000}, HOUSE | {"square_feet": 8_000, "age_years": 200}]

    service.client.post("/predict/batch", json={"houses": houses})

    assert service.lines("appraiser_batch_rows", "appraiser_out_of_range", "appraiser_predictions_total") == [
        *(f'appraiser_batch_rows_bucket{{le="{bound}"}} 1.0' for bound in sorted(("+Inf", *map(str, BATCH_ROWS[2:])))),
        "appraiser_batch_rows_count 1.0",
        "appraiser_batch_rows_sum 3.0",
        'appraiser_out_of_range_total{feature="age_years"} 1.0',
        'appraiser_out_of_range_total{feature="square_feet"} 2.0',
        f'appraiser_predictions_total{{arm="champion",{VERSION}}} 3.0',
    ]


def distances(service: Service) -> list[str]:
    name = "appraiser_feature_value"
    return service.lines(*(f'{name}_{part}{{feature="distance_to_city"' for part in ("bucket", "count", "sum")))


@pytest.mark.parametrize("batch", [True, False], ids=["batch", "alone"])
def test_values_at_the_edge_of_a_bin_are_in_it_also_when_no_float32_is_that_edge(
    service: Service, *, batch: bool
) -> None:
    houses = [HOUSE | {"distance_to_city": value} for value in (0.1, 5, 80.3, 81)]

    if batch:
        service.client.post("/predict/batch", json={"houses": houses})
    else:
        for house in houses:
            service.client.post("/predict", json=house)

    *buckets, count, total = distances(service)
    start = 'appraiser_feature_value_bucket{feature="distance_to_city",le="'
    assert buckets == [
        f'{start}+Inf",{VERSION}}} 4.0',
        f'{start}0.1",{VERSION}}} 1.0',
        f'{start}5.0",{VERSION}}} 2.0',
        f'{start}80.3",{VERSION}}} 3.0',
    ]
    assert count == f'appraiser_feature_value_count{{feature="distance_to_city",{VERSION}}} 4.0'
    assert float(total.rpartition(" ")[2]) == pytest.approx(166.4)


def test_prices_are_counted_up_to_each_round_number_of_dollars(service: Service) -> None:
    houses = [HOUSE | {"square_feet": thousands} for thousands in (50, 51, 399, 20_000)]

    service.client.post("/predict/batch", json={"houses": houses})

    found = dict(line.rsplit(" ", 1) for line in service.lines("appraiser_price_dollars_bucket"))
    bucket = 'appraiser_price_dollars_bucket{{le="{}",version="v1.2.3"}}'
    assert [float(found[bucket.format(le)]) for le in ("100000.0", "400000.0", "500000.0", "1e+07", "+Inf")] == [
        *(2, 3, 3, 3, 4)
    ]


def test_what_the_journal_drops_is_counted_apart(published: Artifact, tmp_path: Path) -> None:
    service = Service(tmp_path, published.manifest, journal=NullJournal())

    assert service.client.post("/predict/batch", json={"houses": [HOUSE, HOUSE]}).status_code == 200

    assert service.lines("appraiser_journal") == ["appraiser_journal_dropped_total 2.0"]


def test_loads_and_refusals_are_counted_by_version_and_reason(service: Service) -> None:
    service.metrics.loaded("v1.0.0")
    service.metrics.loaded("v1.0.0")
    service.metrics.refused("v2.0.0", "damaged")
    service.metrics.refused("", "unreadable deployment")

    assert service.lines("appraiser_model_loads", "appraiser_model_refusals") == [
        'appraiser_model_loads_total{version="v1.0.0"} 2.0',
        'appraiser_model_refusals_total{reason="damaged",version="v2.0.0"} 1.0',
        'appraiser_model_refusals_total{reason="unreadable deployment",version=""} 1.0',
    ]


def histogram(bounds: list[float]) -> tuple[Buckets, list[Sample]]:
    """A histogram, and its cells: one for each bucket, and the sum."""
    cells = [InMemoryMetrics().cell("", "", {}, "") for _ in range(len(bounds) + 2)]
    return Buckets(bounds, cells[:-1], cells[-1]), cells


def test_a_bucket_holds_its_upper_bound_and_the_last_one_holds_the_rest() -> None:
    buckets, cells = histogram([0.1, 0.2])

    for value in (0.0, 0.1, 0.15, 0.2, 0.25, 1e300):
        buckets.observe(value)

    assert [cell.value for cell in cells] == [2.0, 2.0, 2.0, 1e300]


EDGES: Final = st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=8, unique=True).map(sorted)


@given(EDGES, st.data())
def test_many_values_at_once_are_counted_as_one_by_one(edges: list[float], data: st.DataObject) -> None:
    value = st.one_of(st.sampled_from(edges), st.floats(-2e6, 2e6, width=32))
    values = np.array(data.draw(st.lists(value, max_size=20)), dtype=np.float32)
    (at_once, cells), (by_one, others) = histogram(edges), histogram(edges)

    at_once.observe_all(values)
    for number in values.tolist():
        by_one.observe(number)

    assert [cell.value for cell in cells[:-1]] == [cell.value for cell in others[:-1]]
    assert cells[-1].value == pytest.approx(others[-1].value, abs=1e-3)  # added up in another order


class Interrupted(array):  # type: ignore[type-arg]  # subscripted, it cannot be subclassed
    """A number that another thread may change between a look at it and its change."""

    def __getitem__(self, index: Any) -> Any:  # noqa: ANN401 -- as array itself
        found = super().__getitem__(index)
        time.sleep(0)
        return found


class InterruptedCells(InMemoryMetrics):
    """Such numbers by the name of their sample and `le`."""

    def __init__(self) -> None:
        self.cells: dict[str, Sample] = {}

    def cell(self, _family: str, name: str, labels: dict[str, str], _about: str) -> Sample:
        found = self.cells[name + labels.get("le", "")] = Sample(Interrupted("d", [0.0]), 0)
        return found


def test_threads_lose_no_count() -> None:
    counters, histograms = InterruptedCells(), InterruptedCells()
    metrics = WorkerMetrics(Files(counters, histograms))
    started = threading.Barrier(8)

    def count() -> None:
        started.wait()
        for _ in range(100):
            metrics.answered("/predict", "POST", "200", "v1.0.0", 0.5)
            metrics.journaled(2, kept=True)

    threads = [threading.Thread(target=count) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert counters.cells["appraiser_requests_total"].value == 800.0
    assert counters.cells["appraiser_journal_records_total"].value == 1_600.0
    assert histograms.cells["appraiser_request_seconds_bucket0.5"].value == 800.0
    assert histograms.cells["appraiser_request_seconds_sum"].value == 400.0


def test_a_service_that_has_seen_everything_says_what_is_declared_and_nothing_else(service: Service) -> None:
    for house in (HOUSE, HOUSE, HOUSE | {"age_years": 200}):
        service.client.post("/predict", json=house)
    service.client.post("/predict/batch", json={"houses": [HOUSE, HOUSE]})
    service.client.application.observer.unparsed(414)  # type: ignore[attr-defined]
    service.metrics.loaded("v1.2.3")
    service.metrics.refused("v1.3.0", "missing")
    service.metrics.log_line_dropped()
    service.metrics.asked_with("0123456789ab", "200")
    service.metrics.limit_unknown("open")
    service.metrics.journaled(1, kept=False)
    service.slot.write(WorkerState(generation=7, ready=True))

    scraped = service.client.get("/metrics").text
    families = list(text_string_to_metric_families(scraped))
    found = {
        family.name + "_total" * (family.type == "counter"): (
            family.type,
            {frozenset(sample.labels) - {"le"} for sample in family.samples},
            family.documentation,
        )
        for family in families
    }

    assert found == {name: (kind, {frozenset(labels)}, about) for name, (kind, labels, about) in METRICS.items()}
    assert len(families) == len(found)
    numbers = {sample.name: sample.value for family in families for sample in family.samples if not sample.labels}
    assert numbers["appraiser_workers"] == numbers["appraiser_log_lines_dropped_total"] == 1.0
    samples = [sample for family in families for sample in family.samples]
    (unparsed,) = (sample for sample in samples if sample.name == "appraiser_unparsed_requests_total")
    assert (unparsed.labels, unparsed.value) == ({"status": "414"}, 1.0)


WEIRD: Final = ("☃", "x" * 5_000, "a\nb", '"}\\', "../../etc/passwd", "%2e%2e", "{version}", "v9.9.9", "-1", "")
METHODS: Final = ("BREW", "get", "GE T", "TRACE", "PROPFIND", "POST", "GET", "x" * 200)


def test_whatever_clients_send_makes_no_label(service: Service) -> None:
    for path, method in product(WEIRD, METHODS):
        headers = {"X-Client-Id": "weird", "X-Request-ID": "weird", "User-Agent": "weird", "Host": "weird"}
        service.client.open("/" + path, method=method, headers=headers)
        service.client.open("/docs/static/" + path, method=method)
    for path in WEIRD:
        service.client.post("/predict", json=HOUSE, query_string={"model_version": path, "confidence": path})
        service.client.get("/model/info", query_string={"model_version": path, path: path})
        service.client.post(
            "/predict", json=HOUSE | {path: path}, headers={"X-Client-Id": path.encode("unicode_escape")}
        )
    service.client.post("/predict", json=HOUSE, query_string={"model_version": "v9.9.9"})

    values: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(service.exposition.text().body.decode()):
        if family.name in {"appraiser_requests", "appraiser_request_seconds", "appraiser_predictions"}:
            for name, value in (pair for sample in family.samples for pair in sample.labels.items() if pair[0] != "le"):
                values.setdefault(name, set()).add(value)

    assert values == {
        "route": {"/", "/predict", "/model/info", "/docs/static/", "other"},
        "method": {"GET", "POST", "other"},
        "status": {"200", "404", "405", "422"},
        "version": {"", "v1.2.3"},
        "arm": {"champion"},
    }
