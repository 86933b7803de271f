"""Groups of sales, and their figures."""

import numpy as np
import pytest

from pricing.artifacts.evidence import MIN_GROUP
from train.evidence.groups import Priced, by_category, by_number, by_place, by_price, of_groups, short


def priced(sold: np.ndarray, ratio: float | np.ndarray = 1.0) -> Priced:
    price = sold * ratio
    return Priced(price, price / 1.2, price * 1.2, sold, np.ones(len(sold)))


def labels(values: list[float]) -> dict[str, int]:
    return {label: int(rows.sum()) for label, rows in by_number(np.array(values, dtype=np.float64))}


def test_the_figures_of_a_group_are_those_of_its_sales() -> None:
    found = priced(np.full(40, 100_000.0), 1.1).figures()

    assert found == {"mape": 0.1, "median_ratio": 1.1, "coverage": 1.0, "median_width": short(1.2 - 1 / 1.2)}


def test_a_group_below_the_least_number_of_sales_has_no_figures() -> None:
    assert priced(np.full(MIN_GROUP - 1, 1.0)).figures() == {}
    assert priced(np.full(MIN_GROUP, 1.0)).figures() != {}


def test_a_house_that_was_sold_twice_counts_once_in_coverage() -> None:
    sold = np.full(40, 100_000.0)
    rows = priced(sold, np.where(np.arange(40) < 2, 2.0, 1.0))._replace(vote=np.where(np.arange(40) < 2, 0.5, 1.0))

    assert rows.coverage == short(38 / 39)


def test_a_number_with_few_values_has_a_group_for_each() -> None:
    assert labels([0, 0, 1, 2.5]) == {"0": 2, "1": 1, "2.5": 1}


def test_a_number_with_many_values_has_fifths_and_equal_values_are_together() -> None:
    assert labels([*range(100)]) == {"0 to 20": 21, "21 to 40": 20, "41 to 59": 19, "60 to 79": 20, "80 to 99": 20}
    assert labels([0] * 90 + [*range(1_000_000, 1_000_020)]) == {"0": 90, "1,000,000 to 1,000,019": 20}


def test_unknown_numbers_are_a_group_of_their_own() -> None:
    assert labels([np.nan, 1, 1]) == {"1": 2, "(unknown)": 1}
    assert labels([np.nan]) == {"(unknown)": 1}


def test_beyond_the_largest_categories_the_others_are_one_group() -> None:
    found = {label: int(rows.sum()) for label, rows in by_category(["a", "a", "b", None, None, None, "c"], largest=2)}

    assert found == {"(unknown)": 3, "a": 2, "2 other categories": 2}


def test_every_sale_is_in_exactly_one_group() -> None:
    values = np.random.default_rng(0).normal(size=500).round(1)

    assert (np.sum([rows for _, rows in by_number(values)], axis=0) == 1).all()


@pytest.mark.parametrize(("rows", "bands"), [(29, 1), (60, 2), (200, 6), (5_000, 10)])
def test_bands_of_the_price_are_never_too_small(rows: int, bands: int) -> None:
    found = by_price(priced(np.linspace(1e5, 1e6, rows)))

    assert len(found) == bands
    assert sum(band.rows for band in found) == rows
    assert all(band.mape is not None for band in found) == (rows >= MIN_GROUP)
    assert all(list(band.sold) == sorted(band.sold) for band in found)


def test_the_map_leaves_out_cells_with_too_few_sales() -> None:
    x = np.repeat([0.0, 1.0, 0.5], [100, 100, MIN_GROUP - 1])
    found = by_place(priced(np.full(len(x), 1e5), 1.1), ("longitude", x), ("latitude", x))

    assert found is not None
    assert [(cell.x, cell.y, cell.rows, cell.median_ratio) for cell in found.cells] == [
        (0, 0, 100, 1.1),
        (7, 7, 100, 1.1),
    ]
    assert found.elsewhere == MIN_GROUP - 1


def test_a_map_needs_places_that_differ() -> None:
    same = np.full(100, 1.0)

    assert by_place(priced(np.full(100, 1e5)), ("longitude", same), ("latitude", same)) is None
    assert by_place(priced(np.full(100, 1e5)), ("longitude", same * np.nan), ("latitude", same)) is None


def of_sizes(sizes: dict[str, int]) -> list[tuple[str, int]]:
    names = np.repeat([*sizes], [*sizes.values()])
    groups = ((name, names == name) for name in sizes)
    return [(group.group, group.rows) for group in of_groups(priced(np.full(len(names), 1e5)), groups)]


def test_groups_without_sales_are_left_out() -> None:
    assert of_sizes({"none": 0, "all": 40}) == [("all", 40)]


def test_a_value_of_very_few_sales_is_not_named() -> None:
    assert of_sizes({"Mary": 1, "John": 4, "Ann": 5}) == [("Ann", 5), ("(less than 5 sales each)", 5)]
