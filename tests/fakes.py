"""Stand-ins with answers that can be computed in the head."""

import math

import numpy as np

from pricing.house import Column, Matrix
from pricing.ids import Ids
from pricing.journal.journal import Columns, Context, Entry

DOLLARS_A_SQUARE_FOOT = 1_000.0
SPREAD = math.log(2)  # where the quantile is 1, the bounds are half and twice the price


class SameIds(Ids):
    """The same ids for every request: 0 for a house alone, and 0, 1, ... for those of a batch."""

    def take(self, count: int) -> list[str]:
        return [f"018cc4d1-5e00-7000-8000-{number:012x}" for number in range(count)]

    def one(self) -> str:
        return self.take(1)[0]


class KeptInMemory:
    """A journal (`service.predictions.recorder.JournalWriter`) whose records can be looked at."""

    def __init__(self) -> None:
        self.records: list[tuple[Context, Entry]] = []

    def append(self, context: Context, entries: list[Entry], columns: Columns | None = None) -> bool:
        del columns
        self.records += [(context, entry) for entry in entries]
        return True


class ThousandDollarsASquareFoot:
    """A graph (`Runs` of the predictor) whose price is 1000 dollars a square foot, with the same spread for all."""

    def run(self, houses: Matrix) -> tuple[Column, Column]:
        square_feet = houses[:, 0].astype(np.float64)
        return np.log(DOLLARS_A_SQUARE_FOOT * square_feet), np.full(len(houses), SPREAD)
