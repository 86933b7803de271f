"""What a training and a prediction cost: `python -m benchmarks.model [--data FILE [--columns NAMES]]`.

Without FILE the sales are synthetic. With columns, only boosting is trained, and the rows are as the version reads
them.

Prints, for each family: seconds of a training, size of the ONNX file, and what the Predictor takes for one house and
for each house of a batch of 1,000, in microseconds: median and the fastest tenth, since machines are shared and noisy.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from pricing.house import Matrix
from pricing.inference.predictor import Predictor, load
from train.models.encoding import inputs_of
from train.models.family_names import FAMILY_NAMES
from train.models.training import Plan, train
from train.sales import rows as data
from train.sales.columns import parse_wishes, wanted
from train.sales.rows import Reading

LEVEL = 0.9
BATCH = 1_000


def main() -> None:
    """Measure and print one line for each family."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", type=Path, help="CSV or Parquet with the contract's columns and price")
    parser.add_argument("--columns", default="none", help="as `appraiser train` takes them")
    options = parser.parse_args()
    path, columns = options.data, parse_wishes(options.columns)
    sales = data.synthetic(seed=0) if path is None else data.read(path, reading=Reading(others=wanted(columns)))
    print(f"{sales.source}, {len(sales.prices):,} rows; microseconds as median (fastest tenth)")
    print(f"{'family':18} {'training':>10} {'ONNX file':>10} {'one house':>16} {'each of 1,000':>16}")
    for family in FAMILY_NAMES[: 1 if columns else None]:
        begun = time.perf_counter()
        artifact = train(sales, Plan("v1.0.0", "0", 0, family, columns), tell=lambda _: None)
        seconds = time.perf_counter() - begun
        predictor = load(artifact)
        rows = inputs_of(sales.houses, sales.others, artifact.manifest.columns)
        one = microseconds(predictor, rows[:1], rounds=5_000)
        many = microseconds(predictor, rows[:BATCH], rounds=300)
        print(f"{family:18} {seconds:8.1f} s {len(artifact.graph) / 1e6:7.2f} MB {one:>16} {many:>16}")


def microseconds(predictor: Predictor, houses: Matrix, rounds: int) -> str:
    """Median and first decile of the time of a house, over `rounds` calls."""
    houses = np.ascontiguousarray(houses)
    times = np.array([seconds_of(lambda: predictor.predict(houses, LEVEL)) for _ in range(rounds)])
    median, fastest = np.quantile(times / len(houses) * 1e6, [0.5, 0.1])
    return f"{median:.2f} ({fastest:.2f})"


def seconds_of(call: Callable[[], object]) -> float:
    """Seconds of one call."""
    begun = time.perf_counter()
    call()
    return time.perf_counter() - begun


if __name__ == "__main__":
    main()
