"""What comparables cost: `python -m benchmarks.comparables [--data FILE [--columns NAMES]]`.

Without FILE the sales are synthetic. Trains a version that keeps its sales, and asks it for comparables of random ones
of them. Prints what finding them takes, and what `?comparables=` adds to an answer of the whole application, in
milliseconds as median, lowest tenth and highest hundredth, since machines are shared and noisy. Then the resident
memory of a fresh process that has loaded the version, with and without its sales.
"""

import argparse
import atexit
import logging
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np
import orjson

from benchmarks.request import environ_of, expect_200
from pricing.artifacts.store import Artifact, Store
from pricing.inference.comparables import comparable_sales_of
from pricing.inference.predictor import load
from service.app import create_app
from service.observability.logs import RequestLog
from service.resources import Resources
from service.settings import Settings
from train.models.training import Plan, train
from train.sales import rows as data
from train.sales.columns import parse_wishes, wanted
from train.sales.rows import Reading

ROUNDS: Final = 2_000
COUNTS: Final = (5, 20)
SYNTHETIC_ROWS: Final = 30_000
LOADED: Final = """
import sys
from pathlib import Path
from pricing.artifacts.store import Store
from pricing.inference.comparables import comparable_sales_of
from pricing.inference.predictor import load

artifact = Store(Path(sys.argv[1])).read(sys.argv[2])
predictor = load(artifact)
sales = comparable_sales_of(artifact, predictor)
for _ in range(20):
    if sales is not None:
        sales.find(sales.rows(slice(0, 1)), 20)
del artifact
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmRSS")))
"""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", type=Path, help="CSV or Parquet with the contract's columns and price")
    parser.add_argument("--columns", default="none", help="as `appraiser train` takes them")
    options = parser.parse_args()
    columns = parse_wishes(options.columns)
    reading = Reading(others=wanted(columns))
    is_synthetic = options.data is None
    sales = data.synthetic(0, SYNTHETIC_ROWS) if is_synthetic else data.read(options.data, reading=reading)
    plan = Plan("v1.0.0", "0", 0, "gradient-boosting", columns, keep_sales=True)
    root = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, root)
    store = published(root, train(sales, plan, tell=lambda _: None))
    report_time(root, store.read("v1.0.0"))
    megabytes = [np.median([resident(store, version) for _ in range(5)]) for version in ("v1.0.0", "v1.1.0")]
    print(f"a process with the version: {megabytes[0]:.1f} MB with its sales, {megabytes[1]:.1f} MB without them")


def published(root: Path, artifact: Artifact) -> Store:
    """v1.0.0 with its sales, which is deployed, and the same without them as v1.1.0."""
    store = Store(root / "artifacts")
    store.publish(artifact)
    store.publish(Artifact(artifact.manifest.model_copy(update={"version": "v1.1.0", "sales": None}), artifact.graph))
    store.deploy("v1.0.0")
    return store


def report_time(root: Path, artifact: Artifact) -> None:
    """Print what it takes to find sales, and to answer with them."""
    found = comparable_sales_of(artifact, load(artifact))
    if found is None or artifact.manifest.sales is None:
        raise AssertionError
    print(f"{len(found):,} sales, {artifact.manifest.sales.size / 1e6:.1f} MB; milliseconds: median (10 %, 99 %)")
    rng = np.random.default_rng(0)
    rows = found.rows(rng.integers(len(found), size=ROUNDS))
    houses = [found.find(row[None], 1)[0].house for row in rows]
    for count in COUNTS:
        took = told([milliseconds(lambda row=row: found.find(row[None], count)) for row in rows])  # type: ignore[misc]  # noqa: B023
        print(f"to find {count:2}: {took}")
    settings = Settings(artifacts=root / "artifacts", run=root / "run", journal=root / "journal", cache_size=0)
    logging.disable()
    resources = replace(Resources.acquire(settings), log=RequestLog((root / "log").open("wb").fileno()))
    app = create_app(settings, resources).wsgi_app
    for query in ("", *(f"comparables={count}" for count in COUNTS)):
        environs = [environ_of("/predict", orjson.dumps(house)) | {"QUERY_STRING": query} for house in houses]
        took = told([milliseconds(lambda environ=environ: app(environ, expect_200)) for environ in environs])  # type: ignore[misc]
        print(f"an answer to ?{query:14}: {took}")


def milliseconds(call: Callable[[], object]) -> float:
    """The time of one call."""
    begun = time.perf_counter()
    call()
    return (time.perf_counter() - begun) * 1e3


def told(values: list[float]) -> str:
    """Median, lowest tenth and highest hundredth."""
    median, low, high = np.quantile(values, [0.5, 0.1, 0.99])
    return f"{median:.3f} ({low:.3f}, {high:.3f})"


def resident(store: Store, version: str) -> float:
    """Megabytes of a fresh process that has loaded a version, and found comparables if it can."""
    command = [sys.executable, "-c", LOADED, str(store.root), version]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout) / 1024


if __name__ == "__main__":
    main()
