"""What whole files cost: `python -m benchmarks.score [--rows N] [--sample N] [--only ENDING]`.

Makes random houses of five columns as Parquet and as CSV, and prices both with `appraiser score` and the deployed
version. Prints seconds, rows per second, seconds of processors, and the highest resident memory of all processes
together; memory that they share counts in each. Then compares a sample of the prices with what the service answers for
the same houses.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import duckdb
import orjson

from pricing.artifacts.store import Store
from pricing.house import FEATURES
from pricing.ids import Ids
from service.contract import batch_of
from service.deployment.loaded_models import ModelRegistry
from service.observability.metrics import WorkerMetrics
from service.predictions.cache import Cache
from service.predictions.handler import BATCH, SINGLE, Answerer, Request
from service.predictions.recorder import NullJournal, PredictionRecorder
from service.trace import Trace

ROWS: Final = 10_000_000
SAMPLE: Final = 1_000_000
HOUSES: Final = 1_000  # in a batch
LOOK_SECONDS: Final = 0.05
MAKE: Final = """
copy (
    select round(400 + random() * 4000)::int as square_feet, round(1 + random() * 5)::int as bedrooms,
        round(2 + random() * 8) / 2 as bathrooms, round(random() * 100)::int as age_years,
        round(random() * 30, 2) as distance_to_city
    from range({rows})
) to '{path}' (format parquet)
"""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition(":")[0])
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--sample", type=int, default=SAMPLE)
    parser.add_argument("--only", choices=("parquet", "csv"))
    options = parser.parse_args()
    artifacts = Path(os.environ.get("APPRAISER_ARTIFACTS", "artifacts"))
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        make(root, options.rows)
        for ending in (options.only,) if options.only else ("parquet", "csv"):
            out = root / f"prices.{ending}"
            seconds, processors, memory = measure(artifacts, root / f"houses.{ending}", out)
            print(
                f"{ending:8} {options.rows:,} rows: {seconds:.1f} s, {options.rows / seconds:,.0f} rows/s, "
                f"{processors:.1f} s of processors, {memory / 1e6:,.0f} MB, load {os.getloadavg()[0]:.1f}",
                flush=True,
            )
            compared, different = compare(artifacts, out, max(1, options.rows // options.sample))
            print(f"{'':8} {compared:,} rows compared with the service: {different:,} differ", flush=True)
            out.unlink()


def make(root: Path, rows: int) -> None:
    """Write the houses in both forms."""
    with duckdb.connect() as connection:
        connection.execute("select setseed(0.5)")
        connection.execute(MAKE.format(rows=rows, path=root / "houses.parquet"))
        connection.execute(f"copy (from '{root / 'houses.parquet'}') to '{root / 'houses.csv'}' (header)")


def measure(artifacts: Path, houses: Path, out: Path) -> tuple[float, float, int]:
    """Seconds of a run, those of processors, and the highest resident memory of its processes in bytes."""
    appraiser = str(Path(sys.executable).with_name("appraiser"))
    begun, used = time.perf_counter(), children_seconds()
    command = [appraiser, "--artifacts", str(artifacts), "score", str(houses), "--out", str(out), "--quiet"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        highest, over = 0, threading.Event()
        while process.poll() is None:
            highest = max(highest, sum(map(resident, family(process.pid))))
            over.wait(LOOK_SECONDS)
    if process.returncode:
        sys.exit(f"{command} ended with {process.returncode}")
    return time.perf_counter() - begun, children_seconds() - used, highest


def children_seconds() -> float:
    """What the ended children of this process, and theirs, have used of processors."""
    found = os.times()
    return found.children_user + found.children_system


def family(pid: int) -> Iterator[int]:
    """A process, its children, and theirs."""
    yield pid
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text("utf-8").split()
    except OSError:  # it has ended
        return
    for child in children:
        yield from family(int(child))


def resident(pid: int) -> int:
    """The resident memory of a process in bytes; 0 if it has ended."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text("utf-8").split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


def compare(artifacts: Path, out: Path, every: int) -> tuple[int, int]:
    """How many rows were compared with the answers of the service, and how many differ in any figure."""
    answerer = service(artifacts)
    compared = different = 0
    relation = f"read_parquet('{out}')" if out.suffix == ".parquet" else f"read_csv('{out}')"
    names = ", ".join((*FEATURES, "price", "lower", "upper", "model_version"))
    with duckdb.connect(config={"threads": "1"}) as connection:
        numbered = f"select *, row_number() over () as number from {relation}"  # noqa: S608 -- our own file
        query = f"select {names} from ({numbered}) where number % ? = 0"  # noqa: S608 -- our own names
        rows = connection.execute(query, [every])
        while batch := rows.fetchmany(HOUSES):
            answers = ask(answerer, [dict(zip(FEATURES, row, strict=False)) for row in batch])
            compared += len(batch)
            different += sum(
                row[len(FEATURES) :] != answer for row, answer in zip(batch, map(figures, answers), strict=True)
            )
    return compared, different


def service(artifacts: Path) -> Answerer:
    """The service's own code below the wire."""
    models, metrics = ModelRegistry(Store(artifacts)), WorkerMetrics()
    models.load()
    sizes = dict.fromkeys((SINGLE, BATCH), 1 << 24)
    books = PredictionRecorder(NullJournal(), metrics)
    return Answerer(models, metrics, books, Cache(0), batch_of(HOUSES), sizes, Ids())


def ask(answerer: Answerer, houses: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The answers to a batch."""
    reply = answerer.answer(Request(BATCH, "", "", "", orjson.dumps({"houses": houses}), Trace("")))
    answer: dict[str, Any] = orjson.loads(reply.body)
    predictions: list[dict[str, Any]] = answer["predictions"]
    return predictions


def figures(answer: dict[str, Any]) -> tuple[float, float, float, str]:
    """What a row of the file has of an answer."""
    interval = answer["confidence_interval"]
    return answer["predicted_price"], interval["lower"], interval["upper"], answer["model_version"]


if __name__ == "__main__":
    main()
