"""What the rule for promotion decides, by simulation; `python -m benchmarks.promotion_power` prints the whole table.

The seed is fixed, and every bound is four standard errors or more away from what the command shows.
"""

import numpy as np
import pytest

from benchmarks.promotion_power import Simulation

REPLICATES = 300


@pytest.fixture(scope="module")
def simulation() -> Simulation:
    return Simulation(seed=1)


@pytest.mark.parametrize("houses", [200, 500, 1_000])
def test_a_fifth_that_is_20_percent_worse_passes_in_less_than_5_percent_of_the_cases(
    simulation: Simulation, houses: int
) -> None:
    assert simulation.shares(houses, loss=0.2, replicates=REPLICATES).promoted < 0.01


def test_a_fifth_that_is_10_percent_worse_passes_in_about_5_percent_of_the_cases_at_most(
    simulation: Simulation,
) -> None:
    assert simulation.shares(1_000, loss=0.1, replicates=REPLICATES).promoted < 0.05 + 4 * 0.0126


def test_a_better_challenger_passes_when_there_are_rows_enough_and_else_hears_how_many(simulation: Simulation) -> None:
    few, many = (simulation.shares(houses, loss=0.0, replicates=REPLICATES) for houses in (200, 2_000))

    assert few.promoted < 0.4
    assert few.promoted + few.undecided > 0.95
    assert many.promoted > 0.95


def test_the_number_of_houses_that_would_be_enough_is(simulation: Simulation) -> None:
    """Of a challenger that is better throughout, told on average, over which its verdicts scatter."""
    told = [
        int(sentence.rpartition("about ")[2].partition(" ")[0].replace(",", ""))
        for _ in range(REPLICATES)
        for sentence in simulation.verdict(200, loss=0.0).against
        if "are worse" in sentence and "enough" in sentence
    ]
    assert 200 < np.median(told) < 2_000
    assert simulation.shares(int(np.quantile(told, 0.9)), loss=0.0, replicates=100).promoted > 0.6


def test_an_interval_that_holds_is_not_refused_for_houses_that_are_sold_20_times(simulation: Simulation) -> None:
    def refused(*, known: bool) -> float:
        verdicts = [simulation.verdict(200, loss=-0.1, sales=20, known=known) for _ in range(REPLICATES)]
        return float(np.mean([any("interval" in sentence for sentence in each.against) for each in verdicts]))

    assert refused(known=True) < 0.1
    assert refused(known=False) > 0.3  # the control: sales that count as houses
