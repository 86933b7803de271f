"""Which sales look like no market sales, and how they are reported."""

import numpy as np
import pytest

from train.study.outliers import SHOWN, Outlier, far_out, implausible, outliers, report

PRICES = np.array([400_000.0] * 100)


@pytest.mark.parametrize(
    ("price", "is_implausible"), [(1, True), (19_999, True), (20_000, False), (8_000_000, False), (8_000_001, True)]
)
def test_a_price_is_implausible_beyond_a_twentieth_and_twenty_times_the_median(
    price: float, *, is_implausible: bool
) -> None:
    prices = np.append(PRICES, price)
    assert implausible(prices).tolist() == [False] * 100 + [is_implausible]
    assert implausible(prices / 1_000).tolist() == [False] * 100 + [is_implausible]  # whatever the unit


@pytest.mark.parametrize(("error", "is_far_out"), [(-1.4, False), (-1.41, True), (2.1, False), (2.11, True)])
def test_a_log_error_is_far_out_beyond_three_interquartile_ranges_from_the_quartiles(
    error: float, *, is_far_out: bool
) -> None:
    errors = np.append(np.repeat([0.1, 0.6], 1_000), error)  # the quartiles; the fences are at -1.4 and 2.1
    assert far_out(errors).tolist() == [False] * 2_000 + [is_far_out]


def test_of_errors_of_a_normal_distribution_hardly_any_is_far_out() -> None:
    errors = np.random.default_rng(0).normal(0, 0.2, 1_000_000)
    assert far_out(errors).mean() < 1e-5  # 2.3 in a million


def test_each_outlier_has_its_line_its_price_and_its_reason() -> None:
    lines, prices = np.array([2, 9, 4]), np.array([1.0, 9e6, 50_000])
    cheap, dear = outliers(lines[:2], prices[:2], np.full(2, 4e5), are_implausible=True)
    (far,) = outliers(lines[2:], prices[2:], np.array([600_000.0]), are_implausible=False)
    assert list(map(str, (cheap, dear, far))) == [
        "line 2: $1: less than 1/20 of the median price of $400,000",
        "line 9: $9,000,000: more than 20 times the median price of $400,000",
        "line 4: $50,000, predicted $600,000: log error beyond 3 interquartile ranges",
    ]


def many(count: int) -> list[Outlier]:
    return [Outlier(line, 1_000.0 * line, 500_000.0, is_implausible=True) for line in range(2, count + 2)]


def test_the_farthest_are_shown_in_full_and_of_the_others_the_lines() -> None:
    *shown, others, total = report(many(SHOWN + 3)[::-1], 1_500, are_excluded=False)
    assert [sentence.partition(": $")[0] for sentence in shown] == [
        f"outlier: line {line}" for line in range(2, 2 + SHOWN)
    ]
    assert others == "further outliers: line 12, 13, 14"
    assert total == (
        "outliers: 13 of 1,500 sales look like no market sales and are learned from; --exclude-outliers leaves them out"
    )


def test_what_is_left_out_is_reported_as_left_out() -> None:
    *_, total = report(many(1), 1_500, are_excluded=True)
    assert total == "outliers: 1 of 1,500 sales look like no market sales and are left out"


def test_without_outliers_nothing_is_reported() -> None:
    assert list(report([], 1_500, are_excluded=True)) == []
