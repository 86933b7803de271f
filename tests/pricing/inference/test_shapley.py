"""Shapley values, compared with their definition: the average over all orders in which the groups may join."""

from collections.abc import Sequence
from decimal import Decimal
from itertools import permutations
from math import exp
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pricing.artifacts.groups import Group, groups_of
from pricing.artifacts.store import Artifact
from pricing.house import Matrix
from pricing.inference.predictor import Predictor, load
from pricing.inference.shapley import Explainer, explainer_of, to_cents

FIVE = np.array([[2_000, 3, 2, 10, 5], [700, 1, 1, 90, 40], [9_000, 7, 6, 0, 0.5]], dtype=np.float32)
COLUMNS = np.array(  # latitude, zip_code and heating; unknown are none, some and all of them
    [[47.9, -0.2, 0.3], [np.nan, 0.25, np.nan], [np.nan, np.nan, np.nan]], dtype=np.float32
)
TINY = 1e-6  # of a dollar


class Case(NamedTuple):
    """A version, and houses as it reads them."""

    artifact: Artifact
    predictor: Predictor
    houses: Matrix

    @property
    def background(self) -> Matrix:
        return np.array(self.artifact.manifest.background, dtype=np.float32)

    @property
    def groups(self) -> tuple[Group, ...]:
        return groups_of(self.artifact.manifest.columns)


@pytest.fixture(params=["five fields", "further columns"])
def case(request: pytest.FixtureRequest, published: Artifact, knowing: Artifact) -> Case:
    if request.param == "five fields":
        return Case(published, load(published), FIVE)
    return Case(knowing, load(knowing), np.column_stack([FIVE, COLUMNS]).astype(np.float32))


def by_definition(case: Case, house: Matrix, level: float) -> tuple[list[float], list[float]]:
    """Price and width of each group, as Shapley defined them; nothing of it is shared with what is tested."""
    known = {name for name, value in zip(case.artifact.manifest.columns, house[5:], strict=True) if value == value}  # noqa: PLR0124 -- NaN
    names = {column.name for column in known}
    quantiles = next(
        (
            table.quantiles
            for table in case.artifact.manifest.gap_calibrations
            if set(table.given) == names and len(names) < len(house) - 5
        ),
        case.artifact.manifest.calibration.quantiles,
    )
    quantile = quantiles[case.artifact.manifest.calibration.levels.index(level)]

    def worth(joined: Sequence[Group]) -> tuple[float, float]:
        rows = case.background.copy()
        for group in joined:
            rows[:, list(group.places)] = house[list(group.places)]
        found = [case.predictor.outputs(row.reshape(1, -1)) for row in rows]
        prices = [exp(log_price.item()) for log_price, _ in found]
        widths = [
            price * (exp(quantile * spread.item()) - exp(-quantile * spread.item()))
            for price, (_, spread) in zip(prices, found, strict=True)
        ]
        return sum(prices) / len(rows), sum(widths) / len(rows)

    worths: dict[frozenset[Group], tuple[float, float]] = {}

    def remembered(joined: Sequence[Group]) -> tuple[float, float]:
        key = frozenset(joined)
        if key not in worths:
            worths[key] = worth(joined)
        return worths[key]

    gains: dict[str, list[tuple[float, float]]] = {group.name: [] for group in case.groups}
    for order in permutations(case.groups):
        for place, group in enumerate(order):
            before, after = remembered(order[:place]), remembered(order[: place + 1])
            gains[group.name].append((after[0] - before[0], after[1] - before[1]))
    means = [np.mean(gains[group.name], axis=0).tolist() for group in case.groups]
    return [mean[0] for mean in means], [mean[1] for mean in means]


@pytest.mark.parametrize("level", [0.5, 0.9])
def test_values_are_those_of_the_definition(case: Case, level: float) -> None:
    explainer = explainer_of(case.predictor, case.artifact.manifest)
    assert explainer is not None
    for house in case.houses:
        price, width = by_definition(case, house, level)

        found = explainer.explain(house.reshape(1, -1), level)

        assert [part.group for part in found.contributions] == list(case.groups)
        scale = max(map(abs, price))
        assert [part.price for part in found.contributions] == pytest.approx(price, rel=1e-9, abs=1e-9 * scale)
        assert [part.width for part in found.contributions] == pytest.approx(width, rel=1e-9, abs=1e-9 * scale)


def test_they_add_up_to_the_price_and_the_width_of_the_predictor(case: Case) -> None:
    explainer = explainer_of(case.predictor, case.artifact.manifest)
    assert explainer is not None
    for house in case.houses:
        (price,), (lower,), (upper,), *_ = case.predictor.predict(house.reshape(1, -1), 0.9)

        found = explainer.explain(house.reshape(1, -1), 0.9)

        assert found.base_price + sum(part.price for part in found.contributions) == pytest.approx(price, rel=1e-12)
        width = found.base_width + sum(part.width for part in found.contributions)
        assert width == pytest.approx(upper - lower, rel=1e-12)


def test_the_base_is_the_mean_of_the_background(case: Case) -> None:
    explainer = explainer_of(case.predictor, case.artifact.manifest)
    assert explainer is not None

    found = explainer.explain(case.houses[:1], 0.9)

    assert found.base_price == pytest.approx(np.mean(case.predictor.predict(case.background, 0.9).price), rel=1e-12)


def test_a_house_of_the_background_alone_is_explained_by_nothing(case: Case) -> None:
    for house in case.background[:, None]:
        explainer = Explainer(case.predictor, case.groups, np.ascontiguousarray(house))

        rows, _ = explainer.coalitions(house)
        found = explainer.explain(house, 0.9)

        assert len(rows) == 1  # also where it is unknown: NaN is the same as NaN
        assert all(abs(part.price) + abs(part.width) < TINY for part in found.contributions)


def test_a_group_that_the_house_shares_with_the_whole_background_adds_nothing(case: Case) -> None:
    background = case.background.copy()
    background[:, 1] = case.houses[0, 1]
    background[:, 2] = case.houses[0, 2]
    explainer = Explainer(case.predictor, case.groups, background)

    found = explainer.explain(case.houses[:1], 0.9)

    rooms = [part for part in found.contributions if set(part.group.fields) <= {"bedrooms", "bathrooms"}]
    assert rooms
    assert all(abs(part.price) + abs(part.width) < TINY for part in rooms)
    assert len(explainer.coalitions(case.houses[:1]).rows) <= len(background) << (len(case.groups) - len(rooms))


def test_a_version_without_a_background_has_no_explainer(case: Case) -> None:
    manifest = case.artifact.manifest.model_copy(update={"background": ()})

    assert explainer_of(case.predictor, manifest) is None


def test_the_level_of_a_recalibration_counts(published: Artifact) -> None:
    calibration = published.manifest.calibration.model_copy(update={"shift": 0.25})
    risen = published._replace(manifest=published.manifest.model_copy(update={"calibration": calibration}))
    before, after = (explainer_of(load(artifact), artifact.manifest) for artifact in (published, risen))
    assert before is not None
    assert after is not None

    assert after.explain(FIVE[:1], 0.9).base_price == pytest.approx(
        exp(0.25) * before.explain(FIVE[:1], 0.9).base_price, rel=1e-12
    )


AMOUNTS = st.floats(-1e7, 1e7, allow_nan=False)


@given(parts=st.lists(AMOUNTS, min_size=1, max_size=8), base=AMOUNTS)
def test_cents_add_up_and_none_is_more_than_a_cent_off(parts: list[float], base: float) -> None:
    total = round((base + sum(parts)) * 100) - round(base * 100)

    found = to_cents(parts, total)

    assert sum(found) == total
    assert all(
        abs(cents - Decimal(part) * 100) <= Decimal("1.000001") for cents, part in zip(found, parts, strict=True)
    )


@pytest.mark.parametrize(
    ("parts", "total", "cents"),
    [
        ([0.004, 0.004, 0.004], 1, [1, 0, 0]),
        ([1.0, -2.0], -100, [100, -200]),
        ([-0.006, 0.006], 0, [-1, 1]),
        ([0.0, 0.0], 0, [0, 0]),
        ([-1e-12, 5.0], 500, [0, 500]),  # a group that adds nothing is not charged for the last bit of a float
        ([0.01], 0, [0]),
    ],
)
def test_the_largest_remainders_get_the_cents(parts: list[float], total: int, cents: list[int]) -> None:
    assert to_cents(parts, total) == cents
