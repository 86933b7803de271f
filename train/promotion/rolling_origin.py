"""Rolling origin: how a version like this one would have done on sales that came later.

For each of some past dates, a version learns from the sales until then only, and prices those of the following months
(Tashman 2000, "Out-of-sample tests of forecasting accuracy").
"""

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np

from pricing.artifacts.manifest import Manifest
from pricing.artifacts.store import Artifact
from pricing.artifacts.study import LaterSales, Origin
from pricing.inference.predictor import load
from train.errors import DataError
from train.models.encoding import inputs_of
from train.models.family_names import FAMILY_NAMES
from train.models.learning import Tell
from train.models.training import Plan, train
from train.sales.columns import wishes_of
from train.sales.rows import Sales

ORIGINS: Final = 3
STEP_DAYS: Final = 30
MONTH_DAYS: Final = 30
MONTHS: Final = 3
LEVELS: Final = (0.5, 0.9)
MIN_ROWS: Final = 30
"""Of a month."""


def with_rolling_origins(artifact: Artifact, sales: Sales, tell: Tell) -> Artifact:
    """The version with its rolling origins in the manifest; the same one if its sales have no dates, or are too few."""
    if sales.sold_on is None:
        return artifact
    found = tuple(_origins(artifact.manifest, sales, tell))
    metrics = artifact.manifest.metrics.model_copy(update={"rolling_origins": found})
    return artifact._replace(manifest=artifact.manifest.model_copy(update={"metrics": metrics}))


def _origins(manifest: Manifest, sales: Sales, tell: Tell) -> Iterator[Origin]:
    """The last origin has MONTHS of sales behind it; columns, family and rule for outliers are those of the version."""
    days = np.asarray(sales.sold_on).astype("datetime64[D]")
    family = next(name for name in FAMILY_NAMES if name == manifest.family)
    wishes, excludes = wishes_of(manifest.columns), manifest.data.excluded > 0
    plan = Plan(manifest.version, manifest.split.salt, manifest.seed, family, wishes, excludes)
    for number in range(ORIGINS):
        last = days.max() - np.timedelta64(MONTHS * MONTH_DAYS + number * STEP_DAYS)
        known = sales.where(days <= last)
        tell(f"rolling origin {last}: learning from {len(known.prices):,} sales")
        try:
            version = train(known, plan, lambda _: None)
        except DataError as error:
            tell(f"left out: rolling origin {last}, since {error}")
        else:
            months = tuple(_months(version, sales, days - last))
            yield Origin(last_sale=last.item(), rows=len(known.prices), months=months)


def _months(
    version: Artifact, sales: Sales, ahead: "np.ndarray[tuple[int], np.dtype[np.timedelta64]]"
) -> Iterator[LaterSales]:
    predictor = load(version)
    days = ahead.astype(np.int64)
    for month in range(1, MONTHS + 1):
        later = sales.where((days > (month - 1) * MONTH_DAYS) & (days <= month * MONTH_DAYS))
        if len(later.prices) < MIN_ROWS:
            continue
        inputs = inputs_of(later.houses, later.others, version.manifest.columns)
        coverage = []
        for level in LEVELS:
            price, lower, upper = predictor.predict(inputs, level).columns()
            coverage.append(float(np.mean((lower <= later.prices) & (later.prices <= upper))))
        ratio = price / later.prices
        yield LaterSales(
            month=month,
            rows=len(later.prices),
            levels=LEVELS,
            coverage=tuple(coverage),
            median_ratio=float(np.median(ratio)),
            mape=float(np.mean(np.abs(ratio - 1))),
        )


def pooled(origins: Sequence[Origin], month: int | None = None) -> LaterSales | None:
    """The mean over all sales of all origins, of one month ahead or of all (month 0)."""
    found = [later for origin in origins for later in origin.months if month in {None, later.month}]
    if not found:
        return None
    rows = np.array([later.rows for later in found])

    def mean(values: Sequence[float]) -> float:
        return float(np.average(values, weights=rows))

    return LaterSales(
        month=month or 0,
        rows=int(rows.sum()),
        levels=LEVELS,
        coverage=tuple(mean([later.coverage[place] for later in found]) for place in range(len(LEVELS))),
        median_ratio=mean([later.median_ratio for later in found]),
        mape=mean([later.mape for later in found]),
    )
