"""What an explanation costs: `python -m benchmarks.explanations [--data FILE [--columns NAMES]]`.

Without FILE the sales are synthetic. Prints, for a version with the five fields, and for one with columns by its own
groups and by as many as there may be: rows of the graph, milliseconds of an explanation and of its longest step, median
and the slowest tenth over houses. Once all columns of the houses are known, and once none is. The milliseconds are of
the CPU, since machines are shared; nothing waits, so that an idle machine takes no longer.
"""

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np

from pricing.artifacts.groups import MAX_GROUPS, Group, groups_of
from pricing.artifacts.store import Artifact
from pricing.house import FEATURES, Matrix
from pricing.inference.predictor import Predictor, load
from pricing.inference.shapley import Explainer
from service.predictions.parts import COALITIONS_A_STEP
from train.models.encoding import inputs_of
from train.models.training import Plan, train
from train.sales import rows as data
from train.sales.columns import NO_WISHES, ColumnChoice, parse_wishes, wanted
from train.sales.rows import Reading

LEVEL: Final = 0.9
HOUSES: Final = 300


def main() -> None:
    """Measure and print one line for each version, its groups, and what is known."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", type=Path, help="CSV or Parquet with the contract's columns and price")
    parser.add_argument("--columns", default="none", help="as `appraiser train` takes them")
    options = parser.parse_args()
    print(f"{HOUSES} houses, median (slowest tenth)")
    print(f"{'groups':>6} {'known':8} {'background':>10} {'rows':>15} {'ms':>15} {'ms, longest step':>17}")
    wished = parse_wishes(options.columns)
    for columns in (NO_WISHES, wished) if wished else (NO_WISHES,):
        artifact, houses = version(options.data, columns)
        predictor = load(artifact)
        own = groups_of(artifact.manifest.columns)
        for groups in (own, split(own)) if columns else (own,):
            for known, rows in (("all", houses), ("five", without(houses))) if columns else (("all", houses),):
                report(predictor, artifact, groups, known, rows)


def version(path: Path | None, columns: ColumnChoice) -> tuple[Artifact, Matrix]:
    """A version, and the first of its sales as it reads them."""
    sales = data.synthetic(seed=0) if path is None else data.read(path, reading=Reading(others=wanted(columns)))
    artifact = train(sales, Plan("v1.0.0", "0", 0, "gradient-boosting", columns), tell=lambda _: None)
    rows = inputs_of(sales.houses, sales.others, artifact.manifest.columns)
    return artifact, rows[np.linspace(0, len(rows) - 1, HOUSES, dtype=np.int64)]


def without(houses: Matrix) -> Matrix:
    """The same houses with the five fields alone."""
    found = houses.copy()
    found[:, len(FEATURES) :] = np.nan
    return found


def split(groups: Sequence[Group]) -> tuple[Group, ...]:
    """The same fields in as many groups as there may be: the largest one is halved again and again."""
    found = list(groups)
    while len(found) < MAX_GROUPS:
        name, fields, places = found.pop(max(range(len(found)), key=lambda place: len(found[place].fields)))
        half = len(fields) // 2
        found += [Group(name, fields[:half], places[:half]), Group(f"{name} 2", fields[half:], places[half:])]
    return tuple(found)


def report(predictor: Predictor, artifact: Artifact, groups: Sequence[Group], known: str, houses: Matrix) -> None:
    """Explain each house, in steps as the service does, and print what it took."""
    background = np.array(artifact.manifest.background, dtype=np.float32)
    explainer = Explainer(predictor, groups, background)
    found = np.array([cost(predictor, explainer, house.reshape(1, -1)) for house in houses])
    told = [f"{np.median(part):.2f} ({np.quantile(part, 0.9):.2f})" for part in found.T]
    told[0] = f"{np.median(found[:, 0]):,.0f} ({np.quantile(found[:, 0], 0.9):,.0f})"
    print(f"{len(groups):6} {known:8} {len(background):10} {told[0]:>15} {told[1]:>15} {told[2]:>17}")


def cost(predictor: Predictor, explainer: Explainer, house: Matrix) -> tuple[float, float, float]:
    """Rows, milliseconds, and milliseconds of the longest step."""
    marks = [time.thread_time()]
    rows, places = explainer.coalitions(house)
    outputs = []
    for start in range(0, len(rows), COALITIONS_A_STEP):
        marks.append(time.thread_time())
        outputs.append(predictor.outputs(rows[start : start + COALITIONS_A_STEP]))
    log_price, spread = map(np.concatenate, zip(*outputs, strict=True))
    explainer.values(house, LEVEL, places, (log_price, spread))
    marks.append(time.thread_time())
    return len(rows), (marks[-1] - marks[0]) * 1e3, float(np.diff(marks).max()) * 1e3


if __name__ == "__main__":
    main()
