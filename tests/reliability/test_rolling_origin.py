"""The rolling-origin report beside what came of it: versions of three dates, and all the sales that followed."""

import sys
from itertools import product
from pathlib import Path
from statistics import mean
from typing import Final

import numpy as np
import pytest

from pricing.inference.predictor import load
from train.models.training import Plan, train
from train.promotion.rolling_origin import LEVELS, pooled, with_rolling_origins
from train.sales import rows as data

SALES: Final = Path(__file__).parents[3] / "shared" / "data" / "king_county_more.csv"
SHARES: Final = (0.6, 0.7, 0.8)
SALTS: Final = ("0", "1", "2")
LOWEST: Final = {0.5: 0.465, 0.9: 0.88}

pytestmark = pytest.mark.skipif(not SALES.exists(), reason="king_county_more.csv is not here")


def test_later_sales_are_covered_about_as_the_report_predicts() -> None:
    sales = data.read(SALES)
    assert sales.sold_on is not None
    days = (sales.sold_on - sales.sold_on.min()).astype(int)
    predicted, observed = {level: list[float]() for level in LEVELS}, {level: list[float]() for level in LEVELS}
    for share, salt in product(SHARES, SALTS):
        is_known = days <= np.quantile(days, share)
        known, later = sales.where(is_known), sales.where(~is_known)
        version = train(known, Plan("v1.0.0", salt, 0, "gradient-boosting"), lambda _: None)
        origins = with_rolling_origins(version, known, lambda _: None).manifest.metrics.rolling_origins
        report = pooled(origins)
        assert report is not None
        assert len(origins) == 3
        for level, forecast in zip(LEVELS, report.coverage, strict=True):
            _, lower, upper = load(version).predict(later.houses, level).columns()
            predicted[level].append(forecast)
            observed[level].append(float(np.mean((lower <= later.prices) & (later.prices <= upper))))
    for level in LEVELS:
        forecast, came = mean(predicted[level]), mean(observed[level])
        sys.stdout.write(f"\nat {level}: predicted {forecast:.2%}, observed {came:.2%}: {observed[level]}\n")
        assert came >= LOWEST[level]
    # At 0.5 the report is 4 points too good: this market began to rise only after the last of these dates.
    assert abs(mean(predicted[0.9]) - mean(observed[0.9])) <= 0.025
