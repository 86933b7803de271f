"""The evidence of a version, gathered on its test rows."""

from collections.abc import Sequence
from typing import Final

import numpy as np

from pricing.artifacts.evidence import (
    Baseline,
    ColumnGroups,
    Evidence,
    Group,
    Held,
    Judged,
    Place,
    RefusedRows,
)
from pricing.artifacts.manifest import Manifest
from pricing.artifacts.store import Artifact
from pricing.house import FEATURES, Column, Matrix
from pricing.inference.predictor import OnnxGraph, Runs, predictor_of
from train.evidence.audits import audits
from train.evidence.effects import by_given, effects
from train.evidence.groups import (
    Priced,
    by_category,
    by_number,
    by_place,
    by_price,
    of_groups,
    priced_by,
    short,
)
from train.models.encoding import inputs_of
from train.sales.columns import texts_of
from train.sales.rows import Sales
from train.sales.split import Mask, hold_back, positions, sides, weights
from train.study.studies import Sold

LEVELS: Final = (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 0.99)
COORDINATES: Final = (("longitude", "latitude"), ("lon", "lat"), ("lng", "lat"), ("long", "lat"))
EXAMPLE: Final = ", such as "
"""Begins a cell of the file in a reason, which is no figure."""


def with_evidence(
    artifact: Artifact,
    sales: Sales,
    audited: Sequence[str] = (),
    held_back: Mask | None = None,
    judged: Judged | None = None,
) -> Artifact:
    """The version with its evidence in the manifest; `held_back` are rows, shape (n,), that are test rows too."""
    manifest = artifact.manifest
    position = positions(sales.houses, manifest.split)
    side = sides(position, manifest.split)
    side = side if held_back is None else hold_back(side, held_back)
    test = sales.where(side.test)
    matrix = inputs_of(test.houses, test.others, manifest.columns)
    predictor, vote = predictor_of(RunOnce(OnnxGraph(artifact.graph)), manifest), weights(position[side.test])
    priced = priced_by(predictor, matrix, test.prices, vote)
    found = predictor.predict(matrix, LEVELS[0])
    sold = Sold(priced.price, test.prices, None if found.fsd is None else np.array(found.fsd))
    each = [(level, priced_by(predictor, matrix, test.prices, vote, level)) for level in LEVELS]
    evidence = Evidence(
        refusals=_refusals(sales),
        baselines=_baselines(sales.where(side.fit), test),
        judged=judged,
        prices=by_price(priced),
        columns=tuple(_by_column(priced, matrix, test, manifest)),
        place=_place(priced, matrix, manifest),
        levels=tuple(Held(level=level, coverage=some.coverage, median_width=some.median_width) for level, some in each),
        given=tuple(by_given(predictor, matrix, priced, manifest.columns)),
        effects=tuple(effects(predictor, matrix, priced, manifest)),
        audits=tuple(audits(sold, test.others, audited)),
    )
    return artifact._replace(manifest=manifest.model_copy(update={"evidence": evidence}))


class RunOnce:
    """A graph that keeps its last outputs, since the same rows are asked for at several levels."""

    def __init__(self, graph: Runs) -> None:
        self._graph = graph
        self._rows: Matrix | None = None

    def run(self, houses: Matrix) -> tuple[Column, Column]:
        """Log prices and spreads of rows."""
        if houses is not self._rows:
            self._rows, self._found = houses, self._graph.run(houses)
        return self._found


def _refusals(sales: Sales) -> tuple[RefusedRows, ...]:
    return tuple(
        RefusedRows(field=refusal.field, reason=refusal.reason.partition(EXAMPLE)[0], rows=refusal.rows)
        for refusal in sales.refusals
    )


def _baselines(fit: Sales, test: Sales) -> tuple[Baseline, ...]:
    """Prices that need no model: one for all, and one for each square foot."""
    a_foot = float(np.median(fit.prices / fit.houses[:, 0]))
    rules = {
        "median price of a square foot, times the square feet": a_foot * test.houses[:, 0].astype(np.float64),
        "median price for every house": np.full(len(test.prices), np.median(fit.prices)),
    }
    found = []
    for rule, price in rules.items():
        error = np.abs(price / test.prices - 1)
        found.append(Baseline(rule=rule, mape=short(error.mean()), median_error=short(np.median(error))))
    return tuple(found)


def _by_column(priced: Priced, matrix: Matrix, test: Sales, manifest: Manifest) -> list[ColumnGroups]:
    found = [ColumnGroups(name=name, groups=_of_number(priced, matrix[:, i])) for i, name in enumerate(FEATURES)]
    for place, column in enumerate(manifest.columns, len(FEATURES)):
        cells = test.others.values.get(column.name)
        if column.kind == "category" and cells is not None:
            groups = of_groups(priced, by_category(texts_of(cells)))
        else:
            groups = _of_number(priced, matrix[:, place])
        found.append(ColumnGroups(name=column.name, groups=groups))
    return found


def _of_number(priced: Priced, values: Matrix) -> tuple[Group, ...]:
    return of_groups(priced, by_number(values.astype(np.float64)))


def _place(priced: Priced, matrix: Matrix, manifest: Manifest) -> Place | None:
    numbers = {c.name: place for place, c in enumerate(manifest.columns, len(FEATURES)) if c.kind == "number"}
    for x, y in COORDINATES:
        if {x, y} <= numbers.keys():
            return by_place(priced, *((name, _values(matrix, numbers[name])) for name in (x, y)))
    return None


def _values(matrix: Matrix, place: int) -> Column:
    return matrix[:, place].astype(np.float64)
