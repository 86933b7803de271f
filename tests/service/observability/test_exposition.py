"""/metrics: one answer whoever of the workers gives it, as text for Prometheus or as a summary in JSON."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

import httpx
import pytest
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.parser import text_string_to_metric_families

from pricing.artifacts.store import Artifact, Store
from service.app import create_app
from service.deployment.loaded_models import ModelRegistry
from service.deployment.worker_slots import RunFolder, Slot, WorkerState
from service.observability.exposition import Exposition, _version, quantile
from service.observability.metrics import Files, WorkerMetrics
from service.predictions.recorder import PredictionRecorder
from service.resources import Resources
from tests.fake_service import DEFAULTS, HOUSE, NO_STORE, Always, fake_model, resources
from tests.fakes import KeptInMemory, ThousandDollarsASquareFoot
from tests.gunicorn_process import GunicornProcess
from tests.waiting import wait_until

PLAIN: Final = "text/plain; version=1.0.0; charset=utf-8"
# What Prometheus 3 and 2 send.
PROMETHEUS_3: Final = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
    "application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,"
    "text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)
PROMETHEUS_2: Final = (
    "application/openmetrics-text;version=1.0.0;q=0.75,application/openmetrics-text;version=0.0.1;q=0.5,"
    "text/plain;version=0.0.4;q=0.25,*/*;q=0.1"
)


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path / "run")


@pytest.fixture
def exposition(run: RunFolder) -> Exposition:
    return Exposition(run, NO_STORE, ModelRegistry(NO_STORE))


def worker(run: RunFolder) -> tuple[Slot, WorkerMetrics]:
    """What a worker has after its start."""
    slot = run.claim()
    return slot, WorkerMetrics(Files.of(*slot.metrics))


def die(slot: Slot) -> None:
    """Free the slot, as the kernel does when its worker ends."""
    os.close(slot._lock)


def samples(exposition: Exposition, *names: str) -> dict[str, float]:
    """The numbers of some metrics, as they are written."""
    lines = exposition.text().body.decode().splitlines()
    return {key: float(value) for key, _, value in (li.rpartition(" ") for li in lines if li.startswith(names))}


def test_the_text_says_what_each_metric_is(run: RunFolder, exposition: Exposition) -> None:
    _, metrics = worker(run)
    metrics.loaded("v1.0.0")
    metrics.loaded("v1.0.0")

    reply = exposition.text()

    assert dict(reply.headers) == {"Content-Type": PLAIN, "Content-Length": str(len(reply.body))}
    lines = reply.body.decode().splitlines()
    first = lines.index("# HELP appraiser_model_loads_total Versions loaded by workers.")
    assert lines[first + 1 : first + 3] == [
        "# TYPE appraiser_model_loads_total counter",
        'appraiser_model_loads_total{version="v1.0.0"} 2.0',
    ]


def test_the_summary_is_that_of_all_workers(run: RunFolder, exposition: Exposition) -> None:
    (_, first), (_, second) = worker(run), worker(run)
    for metrics in (first, second):
        for _ in range(5):
            metrics.answered("/predict", "POST", "200", "v1.0.0", 0.5)  # the upper edge of a bucket that begins at 0.25
        for status in ("404", "422", "500"):
            metrics.answered("/predict", "POST", status, "", 0.5)
        metrics.answered("/health", "GET", "503", "", 20.0)
        metrics.journaled(5, kept=True)
        metrics.journaled(1, kept=False)

    summary = exposition.summary().model_dump()

    # 16 of 18 are between 250 and 500 ms, so the ninth is at 9/16 of that; above 10 s nothing is known
    assert summary["milliseconds"] == {"p50": 390.625, "p95": 10_000.0, "p99": 10_000.0}
    totals = ("requests", "refused", "failed", "error_rate", "journal_records", "journal_dropped")
    assert [summary[name] for name in totals] == [18, 4, 4, 0.222222, 10, 2]
    assert summary["routes"] == {
        "/predict": {
            "requests": 16,
            "refused": 4,
            "failed": 2,
            "error_rate": 0.125,
            "milliseconds": {"p50": 375.0, "p95": 487.5, "p99": 497.5},  # 250 + 250 * share
        },
        "/health": {
            "requests": 2,
            "refused": 0,
            "failed": 2,
            "error_rate": 1.0,
            "milliseconds": {"p50": 10_000.0, "p95": 10_000.0, "p99": 10_000.0},
        },
    }
    assert summary["versions"] == {
        "v1.0.0": {
            "requests": 10,
            "refused": 0,
            "failed": 0,
            "error_rate": 0.0,
            "milliseconds": {"p50": 375.0, "p95": 487.5, "p99": 497.5},
            "predictions": 0,
            "cache_hits": 0,
            "inference_milliseconds": None,
        }
    }


def test_a_service_that_was_asked_nothing_has_a_summary_too(exposition: Exposition) -> None:
    nothing = {"requests": 0, "refused": 0, "failed": 0, "error_rate": 0.0, "milliseconds": None}
    journal = {"journal_records": 0, "journal_dropped": 0}

    assert exposition.summary().model_dump() == nothing | journal | {"routes": {}, "versions": {}}


def test_the_summary_of_a_version_counts_houses_and_hits(run: RunFolder, published: Artifact) -> None:
    (_, metrics), models = worker(run), Always(fake_model(published.manifest, ThousandDollarsASquareFoot()))
    exposition = Exposition(run, NO_STORE, models)
    client = create_app(
        DEFAULTS, Resources(models, metrics, exposition, PredictionRecorder(KeptInMemory(), metrics))
    ).test_client()
    for _ in range(3):
        client.post("/predict", json=HOUSE)
    client.post("/predict/batch", json={"houses": [HOUSE, HOUSE]})

    summary = client.get("/metrics", headers={"Accept": "application/json"}).get_json()

    found = summary["versions"]["v1.2.3"]
    assert [found[name] for name in ("requests", "predictions", "cache_hits")] == [4, 5, 2]
    assert found["inference_milliseconds"]["p50"] > 0
    assert (summary["requests"], summary["journal_records"]) == (4, 5)


@pytest.mark.parametrize(
    ("counts", "share", "expected"),
    [
        ([10, 10, 10, 10], 0.5, 0.5),
        ([0, 10, 10, 10], 0.5, 1.5),
        ([5, 10, 10, 10], 0.5, 1.0),
        ([5, 5, 10, 10], 0.5, 1.0),
        ([5, 5, 10, 10], 0.75, 3.0),
        ([0, 0, 0, 10], 0.5, 4.0),
        ([0, 4, 9, 10], 0.99, 4.0),
        ([1, 1, 1, 1], 0.99, 0.99),
    ],
)
def test_quantiles_are_linear_within_a_bucket(counts: list[float], share: float, expected: float) -> None:
    assert quantile(list(zip([1.0, 2.0, 4.0, float("inf")], counts, strict=True)), share) == pytest.approx(expected)


def test_gauges_are_of_the_living_and_counters_of_all(run: RunFolder, exposition: Exposition) -> None:
    (first, counts), (second, more) = worker(run), worker(run)
    first.write(WorkerState(generation=3, ready=True))
    second.write(WorkerState(generation=2, ready=False, keys_unreadable=True))
    counts.loaded("v1.0.0")
    more.loaded("v1.0.0")
    loads = {'appraiser_model_loads_total{version="v1.0.0"}': 2.0}

    assert samples(exposition, "appraiser_worker", "appraiser_model_loads_total") == loads | {
        "appraiser_workers": 2.0,
        'appraiser_worker_ready{worker="0"}': 1.0,
        'appraiser_worker_ready{worker="1"}': 0.0,
        'appraiser_worker_generation{worker="0"}': 3.0,
        'appraiser_worker_generation{worker="1"}': 2.0,
        'appraiser_worker_refusals{worker="0"}': 0.0,
        'appraiser_worker_refusals{worker="1"}': 0.0,
        'appraiser_worker_keys_unreadable{worker="0"}': 0.0,
        'appraiser_worker_keys_unreadable{worker="1"}': 1.0,
    }

    die(first)
    assert samples(exposition, "appraiser_worker", "appraiser_model_loads_total") == loads | {
        "appraiser_workers": 1.0,
        'appraiser_worker_ready{worker="1"}': 0.0,
        'appraiser_worker_generation{worker="1"}': 2.0,
        'appraiser_worker_refusals{worker="1"}': 0.0,
        'appraiser_worker_keys_unreadable{worker="1"}': 1.0,
    }


def test_workers_that_come_and_go_share_the_files_of_their_slot(run: RunFolder, exposition: Exposition) -> None:
    for _ in range(20):
        slot, metrics = worker(run)
        metrics.loaded("v1.0.0")
        die(slot)

    assert samples(exposition, "appraiser_model_loads_total{") == {
        'appraiser_model_loads_total{version="v1.0.0"}': 20.0
    }
    assert [path.name for path in run.metrics()] == ["counter_0.db", "histogram_0.db"]


def test_the_deployment_and_the_models_in_service_are_said(run: RunFolder, store: Store, published: Artifact) -> None:
    models = ModelRegistry(store)
    models.load()

    found = samples(Exposition(run, store, models), "appraiser_deployment", "appraiser_model_info")

    sha256 = published.manifest.graph.sha256
    assert found == {
        "appraiser_deployment_generation": 1.0,
        f'appraiser_model_info{{family="gradient-boosting",role="champion",sha256="{sha256}",version="v1.0.0"}}': 1.0,
    }


def test_without_a_deployment_and_a_run_folder_there_is_an_answer(exposition: Exposition) -> None:
    found = samples(exposition, "appraiser_deployment", "appraiser_workers", "appraiser_model_info")

    assert found == {"appraiser_deployment_generation": 0.0, "appraiser_workers": 0.0}


def no_folder(root: Path) -> None:
    root.rmdir()
    root.write_text("a file")


def an_empty_file(root: Path) -> None:
    """What a full disk leaves, or a worker that is about to take its space."""
    (root / "counter_7.db").touch()


def a_file_of_zeros(root: Path) -> None:
    """A worker has taken its space and written nothing yet."""
    (root / "counter_7.db").write_bytes(bytes(4096))


def a_state_of_nobody(root: Path) -> None:
    slot = RunFolder(root).claim()
    (root / f"slot-{slot.number}.json").write_text("{")


@pytest.mark.parametrize("harm", [no_folder, an_empty_file, a_file_of_zeros, a_state_of_nobody])
def test_a_harmed_run_folder_does_not_fail_the_scrape(
    run: RunFolder, exposition: Exposition, harm: Callable[[Path], None]
) -> None:
    run.root.mkdir()
    harm(run.root)

    assert "appraiser_build_info" in exposition.text().body.decode()
    assert exposition.summary().requests == 0


@pytest.mark.parametrize("accept", [None, "", "*/*", "text/plain", "text/html,*/*;q=0.8", PROMETHEUS_2, PROMETHEUS_3])
def test_the_text_is_for_prometheus_and_for_who_wants_anything(accept: str | None) -> None:
    client = create_app(DEFAULTS, resources(ModelRegistry(NO_STORE))).test_client()
    response = client.get("/metrics", headers={} if accept is None else {"Accept": accept})

    assert (response.status_code, response.content_type) == (200, PLAIN)
    assert {family.name for family in text_string_to_metric_families(response.text)} == {
        "appraiser_workers",
        *(f"appraiser_worker_{name}" for name in ("ready", "generation", "refusals", "keys_unreadable")),
        "appraiser_deployment_generation",
        "appraiser_build_info",
    }


@pytest.mark.parametrize("accept", ["application/json", "application/json, text/plain;q=0.5", "application/*"])
def test_the_summary_is_for_who_prefers_json(accept: str) -> None:
    client = create_app(DEFAULTS, resources(ModelRegistry(NO_STORE))).test_client()
    response = client.get("/metrics", headers={"Accept": accept})

    assert (response.status_code, response.content_type) == (200, "application/json")
    assert response.get_json()["requests"] == 0


def answered_by(server: GunicornProcess, slot: int) -> float:
    """How many scrapes a worker has answered, by its own file."""
    merged = MultiProcessCollector.merge([server.run / f"counter_{slot}.db"])  # type: ignore[no-untyped-call]
    found = (s for m in merged for s in m.samples if s.name == "appraiser_requests_total")
    return float(sum(sample.value for sample in found if sample.labels["route"] == "/metrics"))


def test_whichever_worker_is_asked_the_counts_are_the_same(server: GunicornProcess) -> None:
    asked = 0
    began = [answered_by(server, slot) for slot in (0, 1)]

    def live() -> int:
        """What the next worker says, over a new connection."""
        routes = httpx.get(f"{server.url}/metrics", headers={"Accept": "application/json"}).json()["routes"]
        return int(routes["/health/live"]["requests"])

    httpx.get(f"{server.url}/health/live")
    first = live()

    def both_have_answered() -> bool:
        nonlocal asked
        httpx.get(f"{server.url}/health/live")
        asked += 1
        assert live() == first + asked
        return all(answered_by(server, slot) > began[slot] + 2 for slot in (0, 1))

    wait_until(both_have_answered)


def test_what_runs_from_its_folder_without_being_installed_has_no_version() -> None:
    assert _version("a-distribution-that-nobody-installs") == ""
    assert _version("prometheus-client")
