"""Retraining on real sales: more of them are deployed, chance and nonsense are not; `pytest -s` shows the figures.

Challengers are random forests where they should differ by chance: boosting without subsampling gives the same model for
every seed.
"""

import io
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np
import pytest
from rich.console import Console

from pricing.artifacts.store import Store
from pricing.inference.predictor import load
from train.models.family_names import FamilyName
from train.models.training import Plan, train
from train.promotion.judge import Candidate, Verdict, judge
from train.promotion.publish import TrainOptions, train_and_publish
from train.promotion.retraining import RetrainOptions, choose_evidence, retrain, unseen_by
from train.sales import rows as data
from train.sales.rows import Sales
from train.sales.split import FIRST_SALT, positions, sides, split_by_house

KING_COUNTY: Final = Path(__file__).resolve().parents[2] / "../shared/data/king_county.csv"
FIRST_ROWS: Final = 2_000
OWN_ROWS: Final = 4_000
CHALLENGERS: Final = 20

pytestmark = pytest.mark.skipif(not KING_COUNTY.exists(), reason="king_county.csv is not here")


def first_rows(tmp_path: Path, rows: int) -> Path:
    """The oldest sales, in a file of their own."""
    path = tmp_path / "first.csv"
    path.write_text("\n".join(KING_COUNTY.read_text().splitlines()[: rows + 1]))
    return path


def champion_on(tmp_path: Path, rows: int, family: FamilyName) -> Store:
    """A store in which v1.0.0, trained on the oldest sales, is deployed."""
    store = Store(tmp_path / "artifacts")
    order = TrainOptions(first_rows(tmp_path, rows), None, family, None, deploy=True, seed=0)
    train_and_publish(store, order, Console(file=io.StringIO()))
    store.deploy("v1.0.0")
    return store


def verdict_on(store: Store, learned: Sales, judged: Sales, family: FamilyName, seed: int) -> Verdict:
    """Of a challenger that learned from some sales and is judged on others, as `retrain` judges."""
    artifact = store.read("v1.0.0")
    champion = Candidate(artifact.manifest, load(artifact))
    challenger = train(learned, Plan("v1.1.0", artifact.manifest.split.salt, seed, family), lambda _: None)
    evidence = choose_evidence(store, artifact.manifest, judged, unseen_by(artifact.manifest, judged))
    return judge(champion, Candidate(challenger.manifest, load(challenger)), evidence)


def shuffled(sales: Sales, seed: int, *, test_rows_too: bool, salt: str = FIRST_SALT) -> Sales:
    """The same houses with each other's prices; the test rows keep theirs unless `test_rows_too`."""
    rng = np.random.default_rng(seed)
    split = split_by_house(salt)
    position = positions(sales.houses, split)
    moved = np.arange(len(position))
    if not test_rows_too:
        moved = np.flatnonzero(~sides(position, split).test)
    prices = sales.prices.copy()
    prices[moved] = prices[rng.permutation(moved)]
    return replace(sales, prices=prices)


def tell(what: str, verdicts: list[Verdict]) -> None:
    gains = np.array([verdict.gain for verdict in verdicts])
    better = sum(verdict.is_better for verdict in verdicts)
    lucky = int((gains > 0).sum())
    print(
        f"\n{what}: {better} of {len(verdicts)} are better; gain {gains.min():.2%} to {gains.max():.2%}; "
        f"by `gain > 0` alone {lucky} would be deployed"
    )


def test_ten_times_the_sales_make_a_better_model(tmp_path: Path) -> None:
    store = champion_on(tmp_path, FIRST_ROWS, "gradient-boosting")
    told = io.StringIO()

    verdict = retrain(
        store, RetrainOptions(KING_COUNTY, None, None, 0, dry_run=False), Console(file=told, soft_wrap=True)
    )

    print(f"\n{told.getvalue()}")
    assert verdict.is_better
    assert verdict.only_new
    assert verdict.gain_lower > 0.05


@pytest.mark.parametrize("test_rows_too", [False, True], ids=["learned rows", "whole file"])
def test_no_challenger_that_learned_from_shuffled_prices_is_better(tmp_path: Path, *, test_rows_too: bool) -> None:
    store = champion_on(tmp_path, FIRST_ROWS, "gradient-boosting")
    sales = data.read(KING_COUNTY)
    verdicts = []
    for seed in range(CHALLENGERS):
        learned = shuffled(sales, seed, test_rows_too=test_rows_too)
        verdicts.append(verdict_on(store, learned, learned, "gradient-boosting", seed))

    tell(f"trained on shuffled prices, {'the whole file' if test_rows_too else 'test rows as they were'}", verdicts)
    assert not any(verdict.is_better for verdict in verdicts)


def test_no_challenger_that_learned_from_the_champions_own_rows_is_better(tmp_path: Path) -> None:
    store = champion_on(tmp_path, OWN_ROWS, "random-forest")
    sales = data.read(first_rows(tmp_path, OWN_ROWS))
    verdicts = [verdict_on(store, sales, sales, "random-forest", seed + 1) for seed in range(CHALLENGERS)]

    tell("trained again on the champion's own rows, with another seed", verdicts)
    assert not any(verdict.is_better for verdict in verdicts)
    # the control: without an interval and a least gain, luck would be deployed
    assert any(verdict.gain > 0 for verdict in verdicts)
