"""The counts of all workers of this service, as one: for Prometheus, and as a summary for people and scripts."""

import platform
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from typing import Final

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

from pricing.artifacts.store import Store
from pricing.errors import AppraiserError
from service.contract import Latency, Summary
from service.deployment.loaded_models import LoadedDeployment, ModelRegistry
from service.deployment.worker_slots import RunFolder
from service.errors import NotReadyError
from service.observability.metrics import METRICS
from service.reply import Reply

QUANTILES: Final = (0.5, 0.95, 0.99)
LIBRARIES: Final = ("appraiser", "onnxruntime")


class Exposition(Collector):
    """Adds up the numbers of all slots for each scrape, with the workers that run."""

    def __init__(
        self, run: RunFolder, store: Store, models: ModelRegistry, clock: Callable[[], int] = time.time_ns
    ) -> None:
        """`clock` gives nanoseconds of the Unix time."""
        self._run = run
        self._store = store
        self._models = models
        self._clock = clock
        self._build = {name: _version(name) for name in LIBRARIES}

    def text(self) -> Reply:
        """Everything, in the text format of Prometheus."""
        registry = CollectorRegistry(auto_describe=False)
        registry.register(self)
        body = generate_latest(registry)
        headers = (("Content-Type", CONTENT_TYPE_LATEST), ("Content-Length", str(len(body))))
        return Reply(200, headers, body)

    def describe(self) -> Iterable[Metric]:
        """Nothing: else prometheus-client would collect once to learn the names."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Every metric that has a number, and those of this moment."""
        yield from self._counted()
        yield from self._gauges()

    def summary(self) -> Summary:
        """The same in short, by route and by version, since the service was started."""
        counted = _Counted(self._counted())
        routes = {route: counted.answers(route=route) for route in counted.values_of("route")}
        versions = {
            name: counted.answers(version=name) | counted.predictions(name)
            for name in counted.values_of("version")
            if name
        }
        return Summary.model_validate(counted.answers() | counted.journal() | {"routes": routes, "versions": versions})

    def _counted(self) -> Iterable[Metric]:
        # an empty one is that of a worker which is just making it, or has found the disk full
        files = [path for path in self._run.metrics() if path.stat().st_size]
        return MultiProcessCollector.merge(files)  # type: ignore[no-any-return, no-untyped-call]

    def _gauges(self) -> Iterator[Metric]:
        with suppress(AppraiserError):  # the running workers are unknown, so their gauges are left out
            states = {str(number): state for number, state in self._run.states().items()}
            yield _gauge("appraiser_workers", [((), len(states))])
            for name, value in (
                ("appraiser_worker_ready", lambda state: int(state.ready)),
                ("appraiser_worker_generation", lambda state: state.generation),
                ("appraiser_worker_refusals", lambda state: len(state.refused)),
                ("appraiser_worker_keys_unreadable", lambda state: int(state.keys_unreadable)),
            ):
                yield _gauge(name, [((worker,), value(state)) for worker, state in states.items()])
        yield _gauge("appraiser_deployment_generation", [((), self._generation())])
        build = (self._build["appraiser"], platform.python_version(), self._build["onnxruntime"])
        yield _gauge("appraiser_build_info", [(build, 1)])
        with suppress(NotReadyError):
            serving = self._models.serving()
            info = [
                ((name, serving.deployment.role(name), model.manifest.family, model.manifest.graph.sha256), 1)
                for name, model in serving.models.items()
            ]
            yield _gauge("appraiser_model_info", info)
            yield from self._ages(serving)

    def _ages(self, serving: LoadedDeployment) -> Iterator[Metric]:
        now, roles = self._clock(), serving.deployment.role
        ages = {name: model.age for name, model in serving.models.items()}
        yield _gauge("appraiser_version_age_days", [((name, roles(name)), age.days(now)) for name, age in ages.items()])
        if limit := serving.champion.age.max_days:
            yield _gauge("appraiser_max_version_age_days", [((), limit)])

    def _generation(self) -> int:
        try:
            return self._store.deployment().generation
        except AppraiserError:
            return 0


def _gauge(name: str, samples: Iterable[tuple[tuple[str, ...], float]]) -> Metric:
    gauge = GaugeMetricFamily(name, METRICS[name].about, labels=METRICS[name].labels)
    for labels, value in samples:
        gauge.add_metric(labels, value)
    return gauge


class _Counted:
    """Samples of counters and histograms, added up over labels that are not asked for."""

    def __init__(self, metrics: Iterable[Metric]) -> None:
        self._samples: defaultdict[str, list[Sample]] = defaultdict(list)
        for metric in metrics:
            for sample in metric.samples:
                self._samples[sample.name].append(sample)

    def values_of(self, label: str) -> list[str]:
        return sorted({sample.labels[label] for sample in self._samples["appraiser_requests_total"]})

    def answers(self, **labels: str) -> dict[str, object]:
        requests = self._sum("appraiser_requests_total", labels)
        failed = self._sum("appraiser_requests_total", labels, status="5")
        return {
            "requests": requests,
            "refused": self._sum("appraiser_requests_total", labels, status="4"),
            "failed": failed,
            "error_rate": round(failed / requests, 6) if requests else 0.0,
            "milliseconds": self._latency("appraiser_request_seconds", labels),
        }

    def predictions(self, version: str) -> dict[str, object]:
        labels = {"version": version}
        return {
            "predictions": self._sum("appraiser_predictions_total", labels),
            "cache_hits": self._sum("appraiser_cache_lookups_total", labels | {"result": "hit"}),
            "inference_milliseconds": self._latency("appraiser_inference_seconds", labels),
        }

    def journal(self) -> dict[str, object]:
        return {f"journal_{name}": self._sum(f"appraiser_journal_{name}_total", {}) for name in ("records", "dropped")}

    def _sum(self, name: str, labels: Mapping[str, str], status: str = "") -> int:
        return int(sum(s.value for s in self._of(name, labels) if s.labels.get("status", "").startswith(status)))

    def _latency(self, name: str, labels: Mapping[str, str]) -> Latency | None:
        """Quantiles in milliseconds; None where nothing was measured."""
        buckets: defaultdict[float, float] = defaultdict(float)
        for sample in self._of(f"{name}_bucket", labels):
            buckets[float(sample.labels["le"])] += sample.value
        bounds = sorted(buckets.items())
        if not bounds or not bounds[-1][1]:
            return None
        p50, p95, p99 = (round(1_000 * quantile(bounds, share), 3) for share in QUANTILES)
        return Latency(p50=p50, p95=p95, p99=p99)

    def _of(self, name: str, labels: Mapping[str, str]) -> Iterator[Sample]:
        return (sample for sample in self._samples[name] if labels.items() <= sample.labels.items())


def quantile(bounds: list[tuple[float, float]], share: float) -> float:
    """The quantile of cumulative buckets as Prometheus' histogram_quantile has it: linear within a bucket.

    `bounds` are upper bounds, rising to infinity, and the counts up to each. Above the last finite bound nothing is
    known, so that bound is given.
    """
    rank = share * bounds[-1][1]
    lower, below = 0.0, 0.0
    for upper, count in bounds:
        if count >= rank and count > below:
            return lower if upper == float("inf") else lower + (upper - lower) * (rank - below) / (count - below)
        lower, below = upper, count
    return lower


def _version(name: str) -> str:
    """Of what is installed; the service may also run from its folder alone."""
    try:
        return version(name)
    except PackageNotFoundError:
        return ""
