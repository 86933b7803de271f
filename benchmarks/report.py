"""What the report of a version costs: `python -m benchmarks.report [--data FILE [--columns NAMES]]`.

Without FILE the sales are 20,000 synthetic ones. Prints the seconds to gather its figures on the test rows and to write
the page, the bytes of both, and the memory that a worker keeps for the figures.
"""

import argparse
import os
import time
import tracemalloc
from pathlib import Path

from pricing.artifacts.manifest import Manifest
from report.page import report_of
from train.evidence.gather import with_evidence
from train.models.training import Plan, train
from train.sales import rows as data
from train.sales.columns import parse_wishes, wanted
from train.sales.rows import Reading

SALES = 20_000


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", type=Path, help="CSV or Parquet with the contract's columns and price")
    parser.add_argument("--columns", default="none", help="as `appraiser train` takes them")
    options = parser.parse_args()
    path, columns = options.data, parse_wishes(options.columns)
    sales = data.synthetic(0, SALES) if path is None else data.read(path, reading=Reading(others=wanted(columns)))
    artifact = train(sales, Plan("v1.0.0", "0", 0, "gradient-boosting", columns), tell=lambda _: None)
    begun, worked = time.perf_counter(), os.times()
    found = with_evidence(artifact, sales).manifest
    gathered, now = time.perf_counter(), os.times()
    page = report_of(found)
    written = time.perf_counter()
    cpu = now.user + now.system - worked.user - worked.system
    sizes = [len(manifest.to_bytes()) for manifest in (artifact.manifest, found)]
    kept = [memory_of(manifest.to_bytes()) for manifest in (artifact.manifest, found)]
    print(f"{sales.source}, {len(sales.prices):,} sales, {len(found.columns)} further columns")
    print(f"figures gathered in {gathered - begun:.2f} s ({cpu:.2f} s of CPU), page in {written - gathered:.2f} s")
    print(f"page {len(page):,} bytes; manifest {sizes[0]:,} -> {sizes[1]:,} bytes")
    print(f"a worker keeps {(kept[1] - kept[0]) / 1e3:,.0f} kB for the figures")


def memory_of(content: bytes) -> int:
    """Bytes that a parsed manifest takes."""
    tracemalloc.start()
    manifest = Manifest.parse(content)
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    del manifest
    return size


if __name__ == "__main__":
    main()
