"""What metrics, log line and journal cost: `python -m benchmarks.observability`.

One house a request, in process, through the whole WSGI application: once with everything, files and all, and once with
each part, or all of them, taken out. They take turns in one run, since machines are shared and noisy; figures are
medians over the rounds, differences are of the same round. Houses differ, and the cache is off. "Bare" has neither ids
of requests nor anything else that stands around an answer. Then a scrape.
"""

import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import orjson
from werkzeug.routing import Map, Rule

from benchmarks.request import REQUESTS, ROUNDS, in_turn
from pricing.artifacts.store import Store
from pricing.ids import Ids
from pricing.journal.journal import Columns, Context, Entry, Journal
from service.contract import EXAMPLE_HOUSE, batch_of
from service.deployment.loaded_models import ModelRegistry, ServedModel
from service.deployment.worker_slots import RunFolder
from service.observability.exposition import Exposition
from service.observability.logs import RequestLog
from service.observability.metrics import Files, PredictionRun, WorkerMetrics
from service.observability.observer import Observer, Routes
from service.predictions.cache import Cache
from service.predictions.handler import Answerer
from service.predictions.middleware import PredictionMiddleware
from service.predictions.recorder import JournalWriter, PredictionRecorder
from service.resources import Resources
from train.models.training import Plan, train
from train.sales import rows as data

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

VERSIONS = 10
BODY_BYTES = {"/predict": 1 << 14, "/predict/batch": 1 << 20}


class NoMetrics(WorkerMetrics):
    """Counts nothing."""

    def answered(self, *_: object) -> None:
        """Do nothing."""

    def predicted(self, *_: object) -> None:
        """Do nothing."""

    def journaled(self, _rows: int, *, kept: bool) -> None:
        """Do nothing."""


class NoBooks(PredictionRecorder):
    """Keeps none."""

    def enter(self, *_: object) -> None:
        """Do nothing."""


class NoJournal:
    """Records nothing, and says that it has."""

    def append(self, _context: Context, _entries: list[Entry], _columns: Columns | None = None) -> bool:
        """Do nothing."""
        return True


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        store = Store(root / "artifacts")
        store.publish(train(data.synthetic(seed=0), Plan("v1.0.0", "0", 0, "gradient-boosting"), tell=lambda _: None))
        store.deploy("v1.0.0")
        models = ModelRegistry(store)
        models.load()
        run = RunFolder(root / "run")
        slot = run.claim()
        metrics = WorkerMetrics(Files.of(*slot.metrics))
        journal = Journal(root / "journal", "benchmark", slot.number, 64 * 1024 * 1024, 1)
        journal.start()
        with (root / "log").open("wb") as file:
            report(run, store, models, metrics, journal, RequestLog(file.fileno()))
        journal.stop()
        scrape(run, store, models)


def report(  # noqa: PLR0913, PLR0917 -- the parts
    run: RunFolder, store: Store, models: ModelRegistry, metrics: WorkerMetrics, journal: Journal, log: RequestLog
) -> None:
    """Print what each part costs."""
    exposition = Exposition(run, store, models)
    nothing, nowhere = NoMetrics(), NoJournal()

    def parts(metrics: WorkerMetrics, journal: JournalWriter, log: RequestLog | None) -> Resources:
        return Resources(models, metrics, exposition, PredictionRecorder(journal, metrics), log)

    none = Resources(models, nothing, exposition, NoBooks(nowhere, nothing))
    made = {
        "bare": application(none, observed=False),
        "without all three": application(parts(nothing, nowhere, None)),
        "with all three": application(parts(metrics, journal, log)),
        "without metrics": application(parts(nothing, journal, log)),
        "without the log": application(parts(metrics, journal, None)),
        "without the journal": application(parts(metrics, nowhere, log)),
    }
    bodies = [orjson.dumps(EXAMPLE_HOUSE | {"square_feet": 500 + number}) for number in range(REQUESTS)]
    times = in_turn(made, bodies)
    print(f"{ROUNDS} rounds of {REQUESTS:,} houses, microseconds a request; difference to all three (tenths 1 and 9)")
    for name, took in times.items():
        low, middle, high = np.quantile(times["with all three"] - took, [0.1, 0.5, 0.9])
        print(f"{name:20} {np.median(took):6.1f}   {middle:5.1f} ({low:.1f} to {high:.1f})")


def application(resources: Resources, *, observed: bool = True) -> "WSGIApplication":
    """The path of a prediction, with what stands around it."""
    ids = Ids()
    answerer = Answerer(resources.models, resources.metrics, resources.books, Cache(0), batch_of(1), BODY_BYTES, ids)
    predictions = PredictionMiddleware(not_reached, answerer)
    rules = Map([Rule(path) for path in answerer.paths])
    if not observed:
        return predictions
    return Observer(Routes(rules), resources.metrics, resources.log, ids).around(predictions)


def not_reached(_environ: object, _start: object) -> list[bytes]:
    """All requests are predictions."""
    raise NotImplementedError


def scrape(run: RunFolder, store: Store, models: ModelRegistry) -> None:
    """Print what one scrape costs when two workers have served ten versions."""
    model = models.serving().champion
    houses = np.array([list(EXAMPLE_HOUSE.values())], dtype=np.float32)
    prediction = model.predictor.predict(houses, 0.9)
    for slot in (run.claim(), run.claim()):
        metrics = WorkerMetrics(Files.of(*slot.metrics))
        for number in range(VERSIONS):
            manifest = model.manifest.model_copy(update={"version": f"v1.{number}.0"})
            served = ServedModel.of(model.digest, manifest, model.predictor)
            metrics.predicted(served, "champion", houses, prediction, PredictionRun("off", 0.001))
            metrics.answered("/predict", "POST", "200", manifest.version, 0.001)
    exposition = Exposition(run, store, models)
    took = []
    for _ in range(ROUNDS):
        begun = time.perf_counter()
        body = exposition.text().body
        took.append(1_000 * (time.perf_counter() - begun))
    sizes = sum(path.stat().st_size for path in run.metrics())
    print(
        f"a scrape of {VERSIONS} versions and 3 slots: {np.median(took):.1f} ms, {len(body):,} bytes; files {sizes:,}"
    )


if __name__ == "__main__":
    main()
