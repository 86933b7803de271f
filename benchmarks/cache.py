"""What the cache costs and saves: `python -m benchmarks.cache [--data FILE]`, without FILE on synthetic sales.

Answers single houses in process, from the bytes of the request to those of the answer: without a cache, with one that
never holds what is asked (a miss, and an entry thrown out, each time), and with one that always does. The three take
turns in one run, since machines are shared and noisy; figures are medians over the rounds, ratios of the same round.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import orjson

from pricing.artifacts.store import Store
from pricing.ids import Ids
from service.contract import EXAMPLE_HOUSE, batch_of
from service.deployment.loaded_models import ModelRegistry
from service.deployment.worker_slots import RunFolder
from service.observability.exposition import Exposition
from service.observability.metrics import WorkerMetrics
from service.predictions.cache import Cache
from service.predictions.handler import Answerer, Request
from service.predictions.recorder import NullJournal, PredictionRecorder
from service.resources import Resources
from service.trace import Trace
from train.models.family_names import FAMILY_NAMES
from train.models.training import Plan, train
from train.sales import rows as data

HOUSES = 2_000
ROUNDS = 25
BODY_BYTES = {"/predict": 1 << 14, "/predict/batch": 1 << 20}


def main() -> None:
    """Measure and print one line for each family."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", type=Path, help="a file of sales that `appraiser train` takes")
    path = parser.parse_args().data
    sales = data.synthetic(seed=0) if path is None else data.read(path)
    requests = [request(number) for number in range(HOUSES)]
    print(f"{ROUNDS} rounds of {HOUSES:,} houses, microseconds an answer; ratio to no cache (tenths 1 and 9)")
    for family in FAMILY_NAMES:
        with tempfile.TemporaryDirectory() as folder:
            store = Store(Path(folder))
            store.publish(train(sales, Plan("v1.0.0", "0", 0, family), tell=lambda _: None))
            store.deploy("v1.0.0")
            report(family, ModelRegistry(store), requests)


def report(family: str, models: ModelRegistry, requests: list[Request]) -> None:
    """Print the three figures of one family."""
    models.load()
    sizes = {"no cache": 0, "miss": HOUSES // 2, "hit": HOUSES}
    exposition = Exposition(RunFolder(Path("none")), Store(Path("none")), models)
    metrics = WorkerMetrics()
    resources = Resources(models, metrics, exposition, PredictionRecorder(NullJournal(), metrics))
    answerers = {
        name: Answerer(
            resources.models, resources.metrics, resources.books, Cache(size), batch_of(1), BODY_BYTES, Ids()
        )
        for name, size in sizes.items()
    }
    for answerer in answerers.values():
        microseconds(answerer, requests)  # warm, and the cache that shall hit is full
    times = {name: np.empty(ROUNDS) for name in answerers}
    for number in range(ROUNDS):
        for name, answerer in answerers.items():
            times[name][number] = microseconds(answerer, requests)
    for name, found in times.items():
        low, middle, high = np.quantile(found / times["no cache"], [0.1, 0.5, 0.9])
        print(f"{family:18} {name:9} {np.median(found):6.1f}   {middle:.2f} ({low:.2f} to {high:.2f})")


def request(number: int) -> Request:
    """A house that no other number has."""
    return Request("/predict", "", "", "", orjson.dumps(EXAMPLE_HOUSE | {"square_feet": 500 + number}), Trace(""))


def microseconds(answerer: Answerer, requests: list[Request]) -> float:
    """The mean of one round."""
    begun = time.perf_counter()
    for asked in requests:
        answerer.answer(asked)
    return (time.perf_counter() - begun) / len(requests) * 1e6


if __name__ == "__main__":
    main()
