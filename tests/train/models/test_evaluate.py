"""Calibration and figures, on numbers that can be computed by hand."""

import math
from fractions import Fraction

import numpy as np
import pytest

from pricing.artifacts.manifest import Calibration
from pricing.house import Column, Matrix
from pricing.inference.predictor import Predictor
from tests.fakes import ThousandDollarsASquareFoot
from train.errors import DataError
from train.models.evaluate import LEVELS, REPORTED_LEVELS, calibrate, fifths, intervals, score

# The spread of the fake is log 2, so these quantiles make the bounds half and twice, a quarter and four times,
# an eighth and eight times the price.
TABLE = Calibration(rows=200, levels=(0.5, 0.8, 0.9, 0.99), quantiles=(1.0, 2.0, 3.0, 4.0))
PREDICTOR = Predictor(ThousandDollarsASquareFoot(), TABLE)


def houses(*square_feet: float) -> Matrix:
    """Houses whose predicted price is 1000 dollars a square foot."""
    return np.array([[feet, 3, 2, 10, 5] for feet in square_feet], dtype=np.float32)


def dollars(*prices: float) -> Column:
    return np.array(prices, dtype=np.float64)


def alone(rows: int) -> Column:
    """Positions of houses that are sold once."""
    return np.arange(rows) / rows


def table_of_ranks(rows: int) -> dict[float, float]:
    """Calibration on rows whose scores are 1, 2, 3 and so on, shuffled: each quantile is its own rank."""
    errors = np.random.default_rng(0).permutation(np.arange(1.0, rows + 1)) * np.resize([1, -1], rows)
    table = calibrate(errors, np.ones(rows), np.ones(rows), alone(rows))
    assert table.rows == rows
    return dict(zip(table.levels, table.quantiles, strict=True))


class TestCalibration:
    def test_there_is_a_level_for_each_hundredth_from_50_to_99(self) -> None:
        assert [str(level) for level in LEVELS] == [f"0.{percent}".removesuffix("0") for percent in range(50, 100)]

    @pytest.mark.parametrize("rows", [200, 201, 219, 250, 299, 999, 1_000, 1_499])
    def test_the_quantile_of_every_level_has_the_exact_rank(self, rows: int) -> None:
        assert table_of_ranks(rows) == {level: math.ceil((rows + 1) * Fraction(str(level))) for level in LEVELS}

    def test_of_999_rows_the_rank_is_the_level_itself(self) -> None:
        ranks = table_of_ranks(999)
        assert (ranks[0.5], ranks[0.9], ranks[0.95], ranks[0.99]) == (500, 900, 950, 990)

    def test_of_200_rows_the_rank_is_the_next_whole_one(self) -> None:
        ranks = table_of_ranks(200)
        assert (ranks[0.5], ranks[0.8], ranks[0.9], ranks[0.99]) == (101, 161, 181, 199)

    def test_a_score_is_the_size_of_the_log_error_in_spreads(self) -> None:
        # half and twice the price, at spreads of log 2 and twice that: scores of 1 and 1/2
        spread = np.repeat([math.log(2), 2 * math.log(2)], 150)
        prices = np.resize(dollars(50_000, 200_000), 300)
        table = calibrate(np.full(300, math.log(100_000)), spread, prices, alone(300))
        assert table.at(0.5)[1] == pytest.approx(1)  # the 151st of 150 halves and 150 ones
        more = calibrate(
            np.full(302, math.log(100_000)), np.append(spread, spread[-2:]), np.resize(prices, 302), alone(302)
        )
        assert more.at(0.5)[1] == pytest.approx(1 / 2)  # the 152nd of 152 halves and 150 ones

    def test_fewer_than_200_rows_are_refused(self) -> None:
        with pytest.raises(DataError) as refused:
            table_of_ranks(199)
        assert str(refused.value) == (
            "199 different houses are left for calibration, at least 200 are needed: "
            "bring about five times as many as that"
        )

    def test_houses_that_are_sold_again_and_again_count_once_and_not_ten_times(self) -> None:
        errors = np.random.default_rng(0).permutation(np.arange(1.0, 300))
        once = calibrate(errors, np.ones(299), np.ones(299), alone(299))
        tenfold = calibrate(*(np.repeat(column, 10) for column in (errors, np.ones(299), np.ones(299), alone(299))))
        assert tenfold.quantiles == once.quantiles
        assert tenfold.rows == 2_990

    def test_the_sales_of_a_house_share_its_vote(self) -> None:
        # 250 houses of score 1, and 49 houses of score 2 that are sold a hundred times each
        errors, position = np.repeat([1.0, 2.0], [250, 4_900]), np.append(alone(250), np.repeat(alone(49) + 1, 100))
        table = calibrate(errors, np.ones(5_150), np.ones(5_150), position)
        assert [table.at(level)[1] for level in (0.5, 0.83, 0.84)] == [1, 1, 2]  # of 300 the 250th is the last 1

    def test_fewer_than_200_houses_are_refused_however_often_they_are_sold(self) -> None:
        with pytest.raises(DataError, match=r"^199 different houses are left for calibration"):
            calibrate(np.ones(995), np.ones(995), np.ones(995), np.repeat(alone(199), 5))

    def test_prices_that_are_all_exact_still_make_intervals_of_some_width(self) -> None:
        table = calibrate(np.zeros(200), np.ones(200), np.ones(200), alone(200))
        assert min(table.quantiles) > 0


class TestScores:
    def test_on_four_houses(self) -> None:
        # in millions: predicted 1, 2, 3, 4, paid 2, 2, 3, 5; the mean of what was paid is 3
        found = score(PREDICTOR, houses(1_000, 2_000, 3_000, 4_000), dollars(2e6, 2e6, 3e6, 5e6))
        assert found.rows == 4
        assert found.mape == pytest.approx((1 / 2 + 0 + 0 + 1 / 5) / 4)
        assert found.median_error == pytest.approx(0.1)
        assert found.r2 == pytest.approx(1 - (1 + 0 + 0 + 1) / (1 + 1 + 0 + 4))

    def test_exact_prices_have_no_error(self) -> None:
        found = score(PREDICTOR, houses(1_000, 2_000), dollars(1e6, 2e6))
        assert (found.r2, found.mape, found.median_error) == pytest.approx((1, 0, 0))

    def test_an_error_is_a_share_of_what_was_paid(self) -> None:
        assert score(PREDICTOR, houses(1_000), dollars(500_000)).mape == pytest.approx(1)
        assert score(PREDICTOR, houses(1_000), dollars(2_000_000)).mape == pytest.approx(0.5)

    def test_equal_prices_have_nothing_to_explain(self) -> None:
        assert score(PREDICTOR, houses(1_000, 2_000), dollars(1e6, 1e6)).r2 == 0


class TestIntervals:
    def test_coverage_and_width_at_each_reported_level(self) -> None:
        # predicted 1,000,000; paid within a factor of 2, of 4, of 8, and outside of all of them
        paid = dollars(600_000, 1_900_000, 300_000, 7_000_000, 100_000)
        found = intervals(PREDICTOR, houses(*[1_000] * 5), paid, np.ones(5))
        assert [interval.level for interval in found] == list(REPORTED_LEVELS) == [0.5, 0.8, 0.9]
        assert [interval.coverage for interval in found] == [2 / 5, 3 / 5, 4 / 5]
        assert [interval.median_width for interval in found] == pytest.approx([2 - 1 / 2, 4 - 1 / 4, 8 - 1 / 8])

    def test_coverage_counts_houses(self) -> None:
        # one house that is sold three times, once inside, and one that is sold once, inside
        found = intervals(
            PREDICTOR, houses(*[1_000] * 4), dollars(1e6, 1e7, 1e7, 1e6), np.array([1 / 3, 1 / 3, 1 / 3, 1])
        )
        assert found[0].coverage == pytest.approx((1 / 3 + 1) / 2)

    def test_the_bounds_themselves_are_inside(self) -> None:
        _, (lower,), (upper,) = PREDICTOR.predict(houses(1_000), 0.5)[:3]
        outside = [math.nextafter(lower, 0), math.nextafter(upper, math.inf)]
        found = intervals(PREDICTOR, houses(*[1_000] * 4), dollars(lower, upper, *outside), np.ones(4))
        assert found[0].coverage == 2 / 4


class TestFifths:
    def test_rows_are_dealt_by_the_predicted_price_cheapest_first(self) -> None:
        feet = [10_000, 1_000, 9_000, 2_000, 8_000, 3_000, 7_000, 4_000, 6_000, 5_000]
        # the cheapest two sold for three times what was predicted, everybody else for that
        paid = dollars(*[feet_ * 1_000 * (3 if feet_ <= 2_000 else 1) for feet_ in feet])
        found = fifths(PREDICTOR, houses(*feet), paid, np.ones(10))
        assert [fifth.rows for fifth in found] == [2] * 5
        assert [fifth.lowest_price for fifth in found] == pytest.approx([1e6, 3e6, 5e6, 7e6, 9e6])
        assert [fifth.highest_price for fifth in found] == pytest.approx([2e6, 4e6, 6e6, 8e6, 10e6])
        assert [fifth.mape for fifth in found] == pytest.approx([2 / 3, 0, 0, 0, 0])
        assert [[interval.coverage for interval in fifth.intervals] for fifth in found] == [[0, 1, 1]] + [[1, 1, 1]] * 4

    def test_rows_that_do_not_divide_by_five_are_all_there(self) -> None:
        found = fifths(PREDICTOR, houses(*range(1, 13)), dollars(*range(1, 13)), np.ones(12))
        assert [fifth.rows for fifth in found] == [3, 3, 2, 2, 2]
