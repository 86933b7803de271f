"""What the rule for promotion decides, by simulation: `python -m benchmarks.promotion_power [--replicates N]`.

Champion and challenger err on the same houses, by an error that both share and one of each alone, with the tails and
the correlation of two models of King County (2,000 sales against all). The challenger's errors are 10 % smaller in four
fifths of the price range; in the dearest fifth they are larger by the true loss. Its interval holds. Prints which share
is promoted, its standard error, and which share is left open by too few rows.
"""

import argparse
from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np

from pricing.artifacts.manifest import Calibration
from pricing.house import Column, Matrix
from pricing.inference.predictor import Predictor
from train.models.training import Plan, train
from train.promotion.judge import Candidate, JudgementRows, Verdict, judge
from train.sales import rows as data

HOUSES: Final = (200, 500, 1_000, 2_000, 5_000)
LOSSES: Final = (0.0, 0.05, 0.1, 0.2)
REPLICATES: Final = 400
ERROR: Final = 0.1
GAIN: Final = 0.1
FREEDOM: Final = 6  # of Student's t: mean absolute errors then scatter as on King County, by 0.8 of themselves
OF_ITS_OWN: Final = 0.3  # of a model's error, in units of the shared one: a correlation of 0.8 of the absolute errors


class Made:
    """A model with given log prices and spreads."""

    def __init__(self, log_price: Column, spread: Column) -> None:
        self._answer = log_price, spread

    def run(self, _houses: Matrix) -> tuple[Column, Column]:
        """Whatever is asked."""
        return self._answer


class Shares(NamedTuple):
    """Of so many simulated verdicts."""

    promoted: float
    undecided: float
    standard_error: float


class Simulation:
    """Draws verdicts; the same seed draws the same ones."""

    def __init__(self, seed: int) -> None:
        self._rng = np.random.default_rng(seed)
        self._manifest = train(data.synthetic(0, 1_500), Plan("v1.0.0", "0", 0, "gradient-boosting"), _quietly).manifest
        scores = np.abs(self._errors(200_000)[1])
        self._table = Calibration(
            rows=200, levels=(0.5, 0.9, 0.99), quantiles=tuple(np.quantile(scores, [0.5, 0.9, 0.99]))
        )

    def shares(self, houses: int, loss: float, replicates: int, sales: int = 1) -> Shares:
        """Of challengers with this true loss in the dearest fifth, on so many houses, each sold so many times."""
        verdicts = [self.verdict(houses, loss, sales) for _ in range(replicates)]
        promoted = float(np.mean([verdict.is_better for verdict in verdicts]))
        undecided = float(np.mean([verdict.is_undecided for verdict in verdicts]))
        return Shares(promoted, undecided, (promoted * (1 - promoted) / replicates) ** 0.5)

    def verdict(self, houses: int, loss: float, sales: int = 1, *, known: bool = True) -> Verdict:
        """One verdict; unless it is `known` which sales are of one house, each is taken for a house of its own."""
        fifth = np.arange(houses) % 5
        log_price = 10 + 2.0 * fifth  # so far apart that no error makes one fifth look like another
        factor = np.where(fifth == fifth.max(), 1 + loss, 1 - GAIN)
        old, new = self._errors(houses)
        columns = log_price, ERROR * old, ERROR * factor * new, ERROR * factor
        log_price, old, new, spread = (np.repeat(column, sales) for column in columns)
        rows = houses * sales
        position = np.repeat(np.arange(houses) / houses, sales) if known else np.arange(rows) / rows
        evidence = JudgementRows(
            np.zeros((rows, 5), np.float32), np.exp(log_price), position, 0, only_new=False, used_before=0
        )
        champion = Predictor(Made(log_price + old, spread), self._table)
        challenger = Predictor(Made(log_price + new, spread), self._table)
        return judge(Candidate(self._manifest, champion), Candidate(self._manifest, challenger), evidence)

    def _errors(self, houses: int) -> tuple[Column, Column]:
        shared, old, new = self._rng.standard_t(FREEDOM, (3, houses))
        return shared + OF_ITS_OWN * old, shared + OF_ITS_OWN * new


def _quietly(_: str) -> None:
    pass


def main(arguments: Sequence[str] | None = None) -> None:
    """Simulate and print one line for each number of houses."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--replicates", type=int, default=REPLICATES)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    simulation = Simulation(options.seed)
    print(f"promoted ± standard error (left open), of {options.replicates}, by true loss of the dearest fifth")
    print(f"{'test houses':>11}" + "".join(f"{loss:>22.0%}" for loss in LOSSES))
    for houses in HOUSES:
        cells = [simulation.shares(houses, loss, options.replicates) for loss in LOSSES]
        told = (f"{cell.promoted:.1%} ± {cell.standard_error:.1%} ({cell.undecided:.0%})" for cell in cells)
        print(f"{houses:>11,}" + "".join(f"{cell:>22}" for cell in told))


if __name__ == "__main__":
    main()
