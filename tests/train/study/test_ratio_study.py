"""The measures of a ratio study: the worked examples of the standard, their intervals, and what is not defined."""

import json
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest

from pricing.house import Column
from train.study.ratio_study import _lower_rank, ratio_study, vei
from train.study.studies import Sold, by_category, studies, study

TABLES: Final = Path(__file__).parents[4] / "shared" / "cases" / "ratio_tables.json"


def sales(count: int, noise: float = 0.1, per_doubling: float = 0.0, seed: int = 0) -> tuple[Column, Column]:
    """Predictions and prices; the ratio changes by so much with each doubling of the price."""
    rng = np.random.default_rng(seed)
    price = np.exp(rng.normal(13, 0.5, count))
    bias = (1 + per_doubling) ** np.log2(price / np.exp(13))
    return price * bias * np.exp(noise * rng.standard_normal(count)), price


@pytest.mark.skipif(not TABLES.exists(), reason="ratio_tables.json is not here")
def test_the_worked_examples_agree_within_their_printed_digits(subtests: pytest.Subtests) -> None:
    tables: dict[str, Any] = json.loads(TABLES.read_text())
    assert len(tables) == 5
    for name, table in tables.items():
        predicted, price = np.array(table["estimate"], float), np.array(table["sale_price"], float)
        found = {measure: estimate.value for measure, estimate in ratio_study(predicted, price).items()}
        found["vei_significance"] = vei(predicted, price).significance
        for measure, expected in table["expected"].items():
            digits = len(str(expected).partition(".")[2])
            with subtests.test(f"{name} {measure}"):
                assert abs(found[measure] - expected) <= 0.5 * 10**-digits + 1e-9


def test_the_measures_of_perfect_predictions() -> None:
    _, price = sales(300)
    found = {name: estimate.value for name, estimate in ratio_study(price * 0.9, price).items()}
    assert found == pytest.approx({"median_ratio": 0.9, "cod": 0, "prd": 1, "prb": 0, "mki": 1, "vei": 0}, abs=1e-12)


def test_a_planted_bias_is_found_by_every_measure_of_vertical_equity() -> None:
    found = {name: estimate.value for name, estimate in ratio_study(*sales(20_000, 0.05, -0.08)).items()}
    assert found["prb"] == pytest.approx(-0.08, abs=0.01)
    assert found["prd"] > 1.03
    assert found["mki"] < 0.95
    assert found["vei"] < -10


@pytest.mark.parametrize(("count", "groups"), [(20, 2), (50, 2), (51, 4), (500, 4), (501, 10)])
def test_the_vei_compares_more_groups_of_more_sales(count: int, groups: int) -> None:
    predicted, price = sales(count, 0, -0.2)
    value = np.sort(price)
    parts = np.array_split(value, groups)
    expected = (1 - 0.2) ** np.log2(np.median(parts[-1]) / np.median(parts[0])) - 1
    assert vei(predicted, price).value == pytest.approx(100 * expected, rel=0.35)
    assert np.isnan(vei(predicted[:19], price[:19]).value)


def test_an_interval_of_a_median_holds_its_level() -> None:
    """In a simulation of 4,000 samples of each size; the standard error is 0.5 points."""
    rng = np.random.default_rng(0)
    for count in (20, 55, 200):
        ratio = np.sort(rng.standard_normal((4_000, count)), axis=1)
        rank = max(_lower_rank(count), 1)
        inside = np.mean((ratio[:, rank - 1] <= 0) & (ratio[:, -rank] >= 0))
        assert 0.89 <= inside <= 0.96


def test_intervals_are_seeded_and_hold() -> None:
    """Of 200 samples, the 95 % interval contains the true COD in 95 %; the standard error is 1.5 points."""
    predicted, price = sales(400)
    assert ratio_study(predicted, price, 100, 1) == ratio_study(predicted, price, 100, 1)
    assert ratio_study(predicted, price, 100, 1) != ratio_study(predicted, price, 100, 2)
    true = ratio_study(*sales(400_000))["cod"].value
    hits = 0
    for seed in range(200):
        found = ratio_study(*sales(400, seed=seed), resamples=200)["cod"]
        hits += found.lower <= true <= found.upper
    assert 0.9 <= hits / 200 <= 0.99


def test_what_is_not_defined_is_null() -> None:
    found = study("all", Sold(np.full(10, 110.0), np.full(10, 100.0)))
    assert (found.prb.value, found.vei.value, found.mki.value) == (None, None, None)
    assert found.median_ratio.value == pytest.approx(1.1)


def test_all_and_each_fifth_are_studied_and_small_categories_are_not_judged() -> None:
    predicted, price = sales(1_000)
    sold = Sold(predicted, price, np.full(1_000, 0.1))
    every = studies(sold, resamples=50)
    assert [found.group for found in every] == ["all", *(f"fifth {number}" for number in range(1, 6))]
    assert [found.rows for found in every] == [1_000, *[200] * 5]
    assert every[0].cod.lower is not None
    assert every[0].fsd_coverage == pytest.approx(0.683, abs=0.05)
    small = np.arange(1_000) < 29
    assert list(by_category(sold, {"small": small}, 0)) == [("small", 29)]
    (large,) = by_category(sold, {"large": ~small}, 0)
    assert not isinstance(large, tuple)
    assert large.rows == 971
