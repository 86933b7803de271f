"""Metrics, declared once: names, labels and buckets; and the counts of a worker.

Labels are routes, methods and statuses that the service has, versions that it has loaded, features of a house: never a
text that a client has chosen.
"""

import threading
from bisect import bisect_left
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final, Literal, NamedTuple

import numpy as np
from prometheus_client.utils import floatToGoString

from pricing.house import Column, Matrix, decimal
from pricing.inference.predictor import Prediction
from service.deployment.loaded_models import ServedModel
from service.observability.metrics_file import Fate, InMemoryMetrics, Labels, MetricsFile, Sample


class Declared(NamedTuple):
    """The declaration of a metric."""

    kind: Literal["counter", "histogram", "gauge"]
    labels: tuple[str, ...]
    about: str


METRICS: Final[Mapping[str, Declared]] = {
    "appraiser_requests_total": Declared(
        "counter",
        ("route", "method", "status", "version"),
        "Requests answered; version is empty where none was chosen.",
    ),
    "appraiser_request_seconds": Declared(
        "histogram", ("route", "version"), "From the whole request to the whole answer."
    ),
    "appraiser_key_requests_total": Declared(
        "counter", ("key_id", "status"), "Requests that came with a key of ours, by its id."
    ),
    "appraiser_limit_unknown_total": Declared(
        "counter", ("decision",), "Requests whose limit could not be looked up: let pass (open) or refused (closed)."
    ),
    "appraiser_unparsed_requests_total": Declared("counter", ("status",), "Requests that were not valid HTTP."),
    "appraiser_predictions_total": Declared("counter", ("version", "arm"), "Houses priced."),
    "appraiser_cache_lookups_total": Declared(
        "counter", ("version", "result"), "Single houses looked up in the cache."
    ),
    "appraiser_inference_seconds": Declared(
        "histogram", ("version",), "One run of the model, of any number of houses."
    ),
    "appraiser_batch_rows": Declared("histogram", (), "Houses in a batch."),
    "appraiser_out_of_range_total": Declared(
        "counter", ("feature",), "Values outside of what the model was trained on."
    ),
    "appraiser_feature_value": Declared(
        "histogram", ("version", "feature"), "Values of houses, over the bins of the version's training rows."
    ),
    "appraiser_price_dollars": Declared("histogram", ("version",), "Predicted prices, US dollars."),
    "appraiser_model_loads_total": Declared("counter", ("version",), "Versions loaded by workers."),
    "appraiser_model_refusals_total": Declared("counter", ("version", "reason"), "Versions refused by workers."),
    "appraiser_journal_records_total": Declared("counter", (), "Predictions in the journal."),
    "appraiser_journal_dropped_total": Declared("counter", (), "Predictions answered, but not in the journal."),
    "appraiser_log_lines_dropped_total": Declared(
        "counter", (), "Requests whose log line was dropped: stdout did not take it."
    ),
    "appraiser_workers": Declared("gauge", (), "Living workers."),
    "appraiser_worker_ready": Declared("gauge", ("worker",), "Whether a worker can predict."),
    "appraiser_worker_generation": Declared("gauge", ("worker",), "Deployment that a worker serves whole; 0: none."),
    "appraiser_worker_refusals": Declared("gauge", ("worker",), "Versions of the deployment that a worker refuses."),
    "appraiser_worker_keys_unreadable": Declared(
        "gauge", ("worker",), "1 if a worker cannot read the stored keys and uses those that it read last."
    ),
    "appraiser_deployment_generation": Declared(
        "gauge", (), "Generation that is deployed; 0: none, or it cannot be read."
    ),
    "appraiser_build_info": Declared("gauge", ("version", "python", "onnxruntime"), "1, of this release."),
    "appraiser_model_info": Declared(
        "gauge", ("version", "role", "family", "sha256"), "1 for each version in service."
    ),
    "appraiser_version_age_days": Declared(
        "gauge", ("version", "role"), "Days since the last sale of a version in service; without dates, since training."
    ),
    "appraiser_max_version_age_days": Declared(
        "gauge", (), "Age above which a version is outdated; absent without a limit."
    ),
}

# A prediction takes 0.1 ms, a batch of 1,000 houses some milliseconds, and what takes 10 s has lost its client.
REQUEST_SECONDS: Final = (
    *(0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025),
    *(0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
)
INFERENCE_SECONDS: Final = (0.000005, 0.00001, 0.000025, *REQUEST_SECONDS[:-3])
BATCH_ROWS: Final = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1_000.0, 2_000.0, 5_000.0, 10_000.0)
PRICE_DOLLARS: Final = tuple(
    thousands * 1_000.0
    for thousands in (50, 100, 150, 200, 250, 300, 400, 500, 600, 800, 1_000, 1_500, 2_000, 3_000, 5_000, 10_000)
)


RETIRED: Final = "retired"
"""The version, and the key, that all which are no longer in use are added up as."""
BINS_OF_A_VERSION: Final = "appraiser_feature_value"  # which are other bins for each, so they cannot be added up


class Files(NamedTuple):
    """Where the numbers of a worker are; numbers without a file are its own."""

    counters: MetricsFile | InMemoryMetrics
    histograms: MetricsFile | InMemoryMetrics

    @classmethod
    def of(cls, counters: Path, histograms: Path) -> "Files":
        """Open both. Raises OSError."""
        return cls(MetricsFile(counters), MetricsFile(histograms))


def fate_of(versions: Collection[str], keys: Collection[str]) -> Fate:
    """The fate of each series when only these versions and keys are left."""
    kept = {"version": {"", RETIRED, *versions}, "key_id": {"", RETIRED, *keys}}

    def fate(name: str, labels: Labels) -> Labels | None:
        left = {key: value if value in kept.get(key, {value}) else RETIRED for key, value in labels.items()}
        return None if left != labels and name.startswith(BINS_OF_A_VERSION) else left

    return fate


class _Counter:
    def __init__(self, file: MetricsFile | InMemoryMetrics, name: str) -> None:
        self._file = file
        self._name = name
        self._declared = METRICS[name]
        self._cells: dict[tuple[str, ...], Sample] = {}

    def of(self, *values: str) -> Sample:
        """The cell of these labels."""
        found = self._cells.get(values)
        if found is None:
            labels = dict(zip(self._declared.labels, values, strict=True))
            family = self._name.removesuffix("_total")
            found = self._cells[values] = self._file.cell(family, self._name, labels, self._declared.about)
        return found


class Buckets:
    """One histogram: a cell for each bucket, not cumulative, and the sum."""

    def __init__(self, bounds: Sequence[float], cells: list[Sample], total: Sample) -> None:
        self.bounds: Final = bounds  # upper and inclusive; above the last one is a bucket without
        self.cells: Final = cells
        self.total: Final = total

    def observe(self, value: float) -> None:
        """Count one value."""
        cell, total = self.cells[bisect_left(self.bounds, value)], self.total
        cell.numbers[cell.index] += 1.0
        total.numbers[total.index] += value

    def observe_all(self, values: Column | Matrix) -> None:
        """Count many, of shape (n,)."""
        counts = np.bincount(np.searchsorted(self.bounds, values, side="left"), minlength=len(self.cells))
        for index in np.flatnonzero(counts).tolist():
            self.cells[index].add(float(counts[index]))
        self.total.add(float(values.sum(dtype=np.float64)))


def observe_each(histograms: Iterable[Buckets], values: Iterable[float]) -> None:
    """Count one value in each, as `observe` does, without a call for each: a prediction counts in six."""
    for histogram, value in zip(histograms, values, strict=True):
        if value != value:  # noqa: PLR0124 -- NaN: a column that is unknown
            continue
        cell, total = histogram.cells[bisect_left(histogram.bounds, value)], histogram.total
        cell.numbers[cell.index] += 1.0
        total.numbers[total.index] += value


class _Histogram:
    def __init__(self, file: MetricsFile | InMemoryMetrics, name: str) -> None:
        self._file = file
        self._name = name
        self._declared = METRICS[name]
        self._found: dict[tuple[str, ...], Buckets] = {}

    def of(self, bounds: Sequence[float], *values: str) -> Buckets:
        """The histogram of these labels; its bounds are taken when it is first asked for."""
        found = self._found.get(values)
        if found is None:
            found = self._found[values] = self._make(bounds, dict(zip(self._declared.labels, values, strict=True)))
        return found

    def _make(self, bounds: Sequence[float], labels: dict[str, str]) -> Buckets:
        about = self._declared.about
        cells = [
            self._file.cell(self._name, f"{self._name}_bucket", {**labels, "le": _text(bound)}, about)
            for bound in (*bounds, float("inf"))
        ]
        return Buckets(bounds, cells, self._file.cell(self._name, f"{self._name}_sum", labels, about))


def _text(bound: float) -> str:
    """A bound as Prometheus writes it: 0.1 also for the float32 next to it, which houses are compared with."""
    return str(floatToGoString(decimal(np.float32(bound))))  # type: ignore[no-untyped-call]


class _OfVersion(NamedTuple):
    """The numbers that a prediction of one version touches, looked up once."""

    inference: Buckets
    values: list[Buckets]
    """Of the price, and of each feature."""
    hits: Sample
    misses: Sample


Outcome = Literal["hit", "miss", "off"]  # of a look into the cache


class PredictionRun(NamedTuple):
    """The origin of a prediction."""

    cache: Outcome
    seconds: float
    """That it took; of a hit it says nothing about the model."""


class WorkerMetrics:
    """The counts of one worker."""

    def __init__(self, files: Files | None = None) -> None:
        self._lock = threading.Lock()  # stock workers may run several threads
        self._files = files or Files(InMemoryMetrics(), InMemoryMetrics())
        self._begin()

    def _begin(self) -> None:
        """Take the cells of the files; more are taken when they are first needed."""
        counters, histograms = self._files
        self._requests = _Counter(counters, "appraiser_requests_total")
        self._unparsed = _Counter(counters, "appraiser_unparsed_requests_total")
        self._key_requests = _Counter(counters, "appraiser_key_requests_total")
        self._limit_unknown = _Counter(counters, "appraiser_limit_unknown_total")
        self._predictions = _Counter(counters, "appraiser_predictions_total")
        self._lookups = _Counter(counters, "appraiser_cache_lookups_total")
        self._outside = _Counter(counters, "appraiser_out_of_range_total")
        self._loads = _Counter(counters, "appraiser_model_loads_total")
        self._refusals = _Counter(counters, "appraiser_model_refusals_total")
        self._records = _Counter(counters, "appraiser_journal_records_total").of()
        self._dropped = _Counter(counters, "appraiser_journal_dropped_total").of()
        self._log_dropped = _Counter(counters, "appraiser_log_lines_dropped_total").of()
        self._seconds = _Histogram(histograms, "appraiser_request_seconds")
        self._inference = _Histogram(histograms, "appraiser_inference_seconds")
        self._batch = _Histogram(histograms, "appraiser_batch_rows").of(BATCH_ROWS)
        self._price = _Histogram(histograms, "appraiser_price_dollars")
        self._feature = _Histogram(histograms, "appraiser_feature_value")
        self._versions: dict[str, _OfVersion] = {}
        self._answered: dict[tuple[str, str, str, str], tuple[Sample, Buckets]] = {}

    def retire(self, versions: Collection[str], keys: Collection[str]) -> None:
        """Add up the numbers of all versions and keys but these as one. Raises OSError."""
        with self._lock:
            try:
                for file in self._files:
                    file.fold(fate_of(versions, keys))
            finally:
                self._begin()

    def answered(self, route: str, method: str, status: str, version: str, seconds: float) -> None:
        """A request was answered."""
        labels = route, method, status, version
        with self._lock:
            found = self._answered.get(labels)
            if found is None:
                buckets = self._seconds.of(REQUEST_SECONDS, route, version)
                found = self._answered[labels] = self._requests.of(*labels), buckets
            found[0].add(1.0)
            found[1].observe(seconds)

    def asked_with(self, key_id: str, status: str) -> None:
        """A request came with a key of ours."""
        with self._lock:
            self._key_requests.of(key_id, status).add(1.0)

    def limit_unknown(self, decision: str) -> None:
        """A request was let pass, or refused, without its limit."""
        with self._lock:
            self._limit_unknown.of(decision).add(1.0)

    def unparsed(self, status: int) -> None:
        """Count bytes that were not HTTP."""
        with self._lock:
            self._unparsed.of(str(status)).add(1.0)

    def predicted(
        self, model: ServedModel, arm: str, houses: Matrix, prediction: Prediction, run: PredictionRun
    ) -> None:
        """Houses were priced, of which these were the model's input."""
        with self._lock:
            found = self._of(model)
            self._predictions.of(model.manifest.version, arm).add(len(houses))
            if run.cache != "off":
                (found.hits if run.cache == "hit" else found.misses).add(1.0)
            if run.cache != "hit":
                found.inference.observe(run.seconds)
            if len(houses) == 1:  # numpy would take ten times as long for one
                observe_each(found.values, (*prediction.price, *houses[0].tolist()))
            else:
                for buckets, column in zip(found.values, (np.array(prediction.price), *houses.T), strict=True):
                    buckets.observe_all(column if model.columns is None else column[~np.isnan(column)])

    def batch(self, rows: int) -> None:
        """A batch has come."""
        with self._lock:
            self._batch.observe(rows)

    def out_of_range(self, counts: Mapping[str, int]) -> None:
        """Warnings were given: how many, by the name of the feature."""
        with self._lock:
            for name, count in counts.items():
                self._outside.of(name).add(count)

    def journaled(self, rows: int, *, kept: bool) -> None:
        """Predictions went to the journal, or were dropped."""
        with self._lock:
            (self._records if kept else self._dropped).add(rows)

    def loaded(self, version: str) -> None:
        """A version was loaded."""
        with self._lock:
            self._loads.of(version).add(1.0)

    def refused(self, version: str, reason: str) -> None:
        """A version was refused; the reason is one of a few words."""
        with self._lock:
            self._refusals.of(version, reason).add(1.0)

    def log_line_dropped(self) -> None:
        """A log line could not be written."""
        with self._lock:
            self._log_dropped.add(1.0)

    def _of(self, model: ServedModel) -> _OfVersion:
        version = model.manifest.version
        found = self._versions.get(version)
        if found is None:
            found = self._versions[version] = _OfVersion(
                inference=self._inference.of(INFERENCE_SECONDS, version),
                values=[
                    self._price.of(PRICE_DOLLARS, version),
                    *(
                        self._feature.of(np.array(feature.bins, dtype=np.float32).tolist(), version, feature.name)
                        for feature in model.known
                    ),
                ],
                hits=self._lookups.of(version, "hit"),
                misses=self._lookups.of(version, "miss"),
            )
        return found
