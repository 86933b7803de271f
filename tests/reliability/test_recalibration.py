"""Recalibration on real sales, month by month, and on sales whose dates mean nothing."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import pytest

from pricing.artifacts.store import Artifact
from pricing.house import Column
from pricing.inference.predictor import load
from train.models.training import Plan, train
from train.promotion.recalibrating import recalibrated
from train.sales import rows as data
from train.sales.rows import Sales
from train.sales.split import Mask

SALES: Final = Path(__file__).parents[3] / "shared" / "data" / "king_county_more.csv"
LEARNED: Final = 0.6
DAYS: Final = 30

pytestmark = pytest.mark.skipif(not SALES.exists(), reason="king_county_more.csv is not here")


class Course(NamedTuple):
    """A year with a recalibration after each month."""

    ratio: Column
    inside: dict[float, float]
    deployed: list[bool]
    moves: list[float]


@pytest.fixture(scope="module")
def sales() -> Sales:
    return data.read(SALES)


def course(sales: Sales) -> Course:
    """Learn from the first sales by date; after each month, recalibrate with all sales since, and deploy if better."""
    assert sales.sold_on is not None
    days = (sales.sold_on - sales.sold_on.min()).astype(int)
    first = int(np.quantile(days, LEARNED))
    learned = sales.where(days <= first)
    champion = train(learned, Plan("v1.0.0", "0", 0, "gradient-boosting"), lambda _: None)
    ratios, hits, deployed, moves = [], {0.5: list[Mask](), 0.9: list[Mask]()}, list[bool](), list[float]()
    for start in range(first, int(days.max()) + 1, DAYS):
        month = sales.where((days > start) & (days <= start + DAYS))
        if not len(month.prices):
            continue
        ratios.append(of_month(champion, month, hits))
        if start + DAYS < days.max():
            found = recalibrated(champion, sales.where(days <= start + DAYS), f"v1.0.{len(deployed) + 1}")
            moves.append(abs(found.manifest.calibration.shift - champion.manifest.calibration.shift))
            deployed.append(bool(found.manifest.recalibrated and not found.manifest.recalibrated.against))
            champion = found if deployed[-1] else champion
    inside = {level: float(np.concatenate(found).mean()) for level, found in hits.items()}
    return Course(np.concatenate(ratios), inside, deployed, moves)


def of_month(champion: Artifact, month: Sales, hits: dict[float, list[Mask]]) -> Column:
    predictor = load(champion)
    for level, found in hits.items():
        price, lower, upper = predictor.predict(month.houses, level).columns()
        found.append((lower <= month.prices) & (month.prices <= upper))
    ratio: Column = price / month.prices
    return ratio


def test_intervals_and_level_follow_the_market(sales: Sales) -> None:
    found = course(sales)
    sys.stdout.write(f"\nby date, recalibrated monthly: {found.inside}, median ratio {np.median(found.ratio):.3f}, ")
    sys.stdout.write(f"deployed {found.deployed}\n")
    assert abs(found.inside[0.9] - 0.9) <= 0.01
    assert abs(found.inside[0.5] - 0.5) <= 0.025
    assert 0.97 <= float(np.median(found.ratio)) <= 1.03


def test_nothing_changes_where_dates_mean_nothing(sales: Sales) -> None:
    assert sales.sold_on is not None
    months, deployments, moves = 0, 0, list[float]()
    for seed in range(200, 208):
        found = course(replace(sales, sold_on=np.random.default_rng(seed).permutation(sales.sold_on)))
        months, deployments = months + len(found.deployed), deployments + sum(found.deployed)
        moves += found.moves
    sys.stdout.write(f"\nshuffled dates: {deployments} of {months} deployed, prices move by at most {max(moves):.2%}\n")
    assert deployments <= months / 10
    assert max(moves) < 0.01
