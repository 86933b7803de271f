"""Why a price: Shapley values of the groups of a version, exact, in US dollars.

* A coalition is a set of groups. Its value is the mean of f over the background, after each house of it has taken the
  fields of the coalition from the house that is explained. Values of this kind are called interventional (Janzing,
  Minorics and Bloebaum 2020, "Feature relevance quantification in explainable AI").
* f is the price, or the width of the interval, in dollars. The quantile of the width is that of the explained house, in
  all coalitions: its own gaps decide it.
* The value of a group is what it adds, on average over all orders in which the groups may join (Shapley 1953). With so
  few groups all coalitions are computed, so nothing is estimated but by the choice of the background.
* Where the house has the fields of a group from the background already, both coalitions are one row of the run.
"""

from collections.abc import Sequence
from functools import cache
from math import factorial, floor
from typing import Final, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pricing.artifacts.groups import Group, groups_of
from pricing.artifacts.manifest import Manifest
from pricing.house import Column, Matrix
from pricing.inference.predictor import Predictor

Mask: TypeAlias = NDArray[np.bool_]
Indices: TypeAlias = NDArray[np.int64]
CENTS: Final = 100


class Contribution(NamedTuple):
    """Dollars that a group adds to the base."""

    group: Group
    price: float
    width: float


class Explanation(NamedTuple):
    """With the bases, the contributions add up to price and width, up to the last bits of a float."""

    base_price: float
    base_width: float
    contributions: tuple[Contribution, ...]


class Coalitions(NamedTuple):
    """The houses of all coalitions."""

    rows: Matrix
    """Each that differs once, float32 of shape (m, 5 + columns)."""
    places: Indices
    """Of the row of each house of the background in each coalition, of shape (houses, 2 ** groups)."""


class Explainer:
    """Explains the prices of one version."""

    def __init__(self, predictor: Predictor, groups: Sequence[Group], background: Matrix) -> None:
        """Take the background as float32 of shape (houses, 5 + columns); each of its columns is in one group."""
        self._predictor = predictor
        self._groups: Final = tuple(groups)
        self._background = background
        self._members = np.zeros((len(groups), background.shape[1]), dtype=np.bool_)
        for member, group in zip(self._members, groups, strict=True):
            member[list(group.places)] = True
        self._sets: Indices = np.arange(1 << len(groups))
        self._taken = (_bits(len(groups)) @ self._members).astype(np.bool_)

    def coalitions(self, house: Matrix) -> Coalitions:
        """The rows to run for a house, float32 of shape (1, 5 + columns)."""
        differs = (house.view(np.int32) != self._background.view(np.int32)) @ self._members.T  # bits: NaN is itself
        same = ~(differs.astype(np.int64) << np.arange(len(self._groups))).sum(axis=1, keepdims=True)
        is_first = (self._sets & same) == 0
        which, sets = np.nonzero(is_first)
        number = np.cumsum(is_first).reshape(is_first.shape) - 1
        rows = np.where(self._taken[sets], house, self._background[which])
        return Coalitions(rows, np.take_along_axis(number, self._sets & ~same, axis=1))

    def values(self, house: Matrix, level: float, places: Indices, outputs: tuple[Column, Column]) -> Explanation:
        """The explanation at a level, from `Predictor.outputs` for the rows of the coalitions."""
        log_price, spread = outputs
        price, times = np.exp(log_price), np.exp(self._predictor.quantile(house, level) * spread)
        worth = np.stack([price, price * times - price / times])[:, places].mean(axis=1)  # 2, coalitions
        found = (worth @ _weights(len(self._groups)).T).tolist()
        base_price, base_width = worth[:, 0].tolist()
        return Explanation(base_price, base_width, tuple(map(Contribution, self._groups, *found)))

    def explain(self, house: Matrix, level: float) -> Explanation:
        """Explain one house, float32 of shape (1, 5 + columns), with the interval at a level, in one run."""
        rows, places = self.coalitions(house)
        return self.values(house, level, places, self._predictor.outputs(rows))


def explainer_of(predictor: Predictor, manifest: Manifest) -> Explainer | None:
    """The explainer of a version; None if it has no background."""
    if not manifest.background:
        return None
    background = np.array(manifest.background, dtype=np.float32)  # null becomes NaN
    return Explainer(predictor, groups_of(manifest.columns), background)


def to_cents(parts: Sequence[float], total: int) -> list[int]:
    """Dollars as whole cents that add up to `total`, each at most a cent off: by the largest remainders (Hamilton)."""
    cents = [part * CENTS for part in parts]
    found = [floor(part) for part in cents]
    left = total - sum(found)
    by_remainder = sorted(range(len(parts)), key=lambda place: found[place] - cents[place])
    for place in by_remainder[: abs(left)]:
        found[place] += 1 if left > 0 else -1
    return found


@cache
def _bits(groups: int) -> Mask:
    """Which groups are in each coalition, of shape (2 ** groups, groups)."""
    found: Mask = (np.arange(1 << groups)[:, None] >> np.arange(groups)) & 1 == 1
    return found


@cache
def _weights(groups: int) -> Column:
    """The values are these times the worths of the coalitions; of shape (groups, 2 ** groups)."""
    inside = _bits(groups).T
    size = inside.sum(axis=0)
    orders = np.array([factorial(k) * factorial(groups - 1 - k) for k in range(groups)]) / factorial(groups)
    found: Column = np.where(inside, orders[np.maximum(size - 1, 0)], -orders[np.minimum(size, groups - 1)])
    return found
