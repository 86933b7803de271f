"""What a scrape costs after many versions: `python -m benchmarks.scrape`.

Three workers serve one version after the other, each with the one before as the previous champion, as deployments do. A
scrape is asked for in text and as a summary; figures are medians. Then what it takes to retire a version, during which
a worker counts nothing.
"""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from pricing.artifacts.store import Store
from service.contract import EXAMPLE_HOUSE
from service.deployment.loaded_models import ModelRegistry, ServedModel
from service.deployment.worker_slots import RunFolder
from service.observability.exposition import Exposition
from service.observability.metrics import Files, PredictionRun, WorkerMetrics
from train.models.training import Plan, train
from train.sales import rows as data

VERSIONS = (1, 30, 365, 1_000)
WORKERS = 3
ROUNDS = 20
ROUTES = ("/predict", "/predict/batch", "/models", "/model/info", "/metrics", "/health")


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        store = Store(root / "artifacts")
        plan = Plan("v1.0.0", "0", 0, "gradient-boosting")
        store.publish(train(data.synthetic(seed=0, rows=1_500), plan, tell=lambda _: None))
        store.deploy("v1.0.0")
        models = ModelRegistry(store)
        models.load()
        run = RunFolder(root / "run")
        workers = [WorkerMetrics(Files.of(*run.claim().metrics)) for _ in range(WORKERS)]
        exposition = Exposition(run, store, models)
        served, retiring = 0, []
        print("versions    text ms   summary ms       bytes of the text   bytes on disk")
        for versions in VERSIONS:
            while served < versions:
                serve(models.serving().champion, workers, served)
                retiring += [retire(metrics, served) for metrics in workers]
                served += 1
            text, summary = median(exposition.text), median(exposition.summary)
            size, files = len(exposition.text().body), sum(path.stat().st_size for path in run.metrics())
            print(f"{versions:8,} {text:10.1f} {summary:12.1f} {size:23,} {files:15,}")
        low, high = np.quantile(retiring, [0.5, 1])
        print(f"to retire a version takes a worker {low:.1f} ms, at most {high:.1f}")


def serve(model: ServedModel, workers: list[WorkerMetrics], number: int) -> None:
    """Count a prediction of a version, and some other requests, in each worker."""
    manifest = model.manifest.model_copy(update={"version": name(number)})
    served = ServedModel.of(model.digest, manifest, model.predictor)
    houses = np.array([list(EXAMPLE_HOUSE.values())], dtype=np.float32)
    prediction = model.predictor.predict(houses, 0.9)
    for metrics in workers:
        metrics.loaded(manifest.version)
        metrics.predicted(served, "champion", houses, prediction, PredictionRun("off", 0.001))
        metrics.answered("/predict", "POST", "200", manifest.version, 0.001)
        for route in ROUTES:
            metrics.answered(route, "GET", "200", "", 0.001)


def retire(metrics: WorkerMetrics, number: int) -> float:
    """Keep this version and the one before; returns milliseconds."""
    begun = time.perf_counter()
    metrics.retire({name(number), name(number - 1)}, ())
    return 1_000 * (time.perf_counter() - begun)


def median(scrape: Callable[[], object]) -> float:
    """Milliseconds of one scrape."""
    took = []
    for _ in range(ROUNDS):
        begun = time.perf_counter()
        scrape()
        took.append(1_000 * (time.perf_counter() - begun))
    return float(np.median(took))


def name(number: int) -> str:
    """Of a version."""
    return f"v1.{number}.0"


if __name__ == "__main__":
    main()
