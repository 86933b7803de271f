"""House, and what is derived from it."""

import math
from typing import Any, Final

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import ValidationError

from pricing.house import BOUNDS, FEATURES, UNITS, Bounds, House, columns_to_matrix, decimal, to_matrix, violations

GOOD: Final[dict[str, float]] = {
    "square_feet": 2000,
    "bedrooms": 3,
    "bathrooms": 2,
    "age_years": 10,
    "distance_to_city": 5,
}

# What House calls a refusal, by the beginning of the reason that `violations` gives.
ERROR_TYPES: Final = {
    "missing": "finite_number",
    "not a whole": "multiple_of",
    "not above": "greater_than",
    "below": "greater_than_equal",
    "above": "less_than_equal",
}


def parse(field: str, token: str) -> House:
    """A house whose `field` is the JSON token."""
    values = {name: repr(value) for name, value in GOOD.items()} | {field: token}
    return House.model_validate_json("{" + ", ".join(f'"{name}": {value}' for name, value in values.items()) + "}")


def refusal(field: str, value: object) -> str | None:
    """The type of error that House has for the value, None when it accepts it."""
    try:
        House.model_validate(GOOD | {field: value})
    except ValidationError as error:
        (first,) = error.errors()
        assert first["loc"] == (field,)
        return first["type"]
    return None


def test_the_fields_their_units_and_bounds_are_those_of_the_contract() -> None:
    assert FEATURES == ("square_feet", "bedrooms", "bathrooms", "age_years", "distance_to_city")
    assert UNITS == {
        "square_feet": "square feet",
        "bedrooms": "whole rooms",
        "bathrooms": "rooms",
        "age_years": "years",
        "distance_to_city": "miles",
    }
    expected = {
        "square_feet": Bounds(above=0, minimum=None, maximum=50_000, whole=False),
        "bedrooms": Bounds(above=None, minimum=0, maximum=50, whole=True),
        "bathrooms": Bounds(above=None, minimum=0, maximum=50, whole=False),
        "age_years": Bounds(above=None, minimum=0, maximum=500, whole=False),
        "distance_to_city": Bounds(above=None, minimum=0, maximum=1_000, whole=False),
    }
    assert expected == BOUNDS


@pytest.mark.parametrize("field", FEATURES)
def test_a_whole_number_may_be_written_with_and_without_a_point(field: str) -> None:
    assert parse(field, "2") == parse(field, "2.0") == parse(field, "2e0")


@pytest.mark.parametrize("field", FEATURES)
@pytest.mark.parametrize(
    ("token", "error_type"),
    [
        ('"2"', "float_type"),
        ('""', "float_type"),
        ("true", "float_type"),
        ("false", "float_type"),
        ("null", "float_type"),
        ("[2]", "float_type"),
        ("{}", "float_type"),
        ("NaN", "finite_number"),
        ("Infinity", "finite_number"),
        ("-Infinity", "finite_number"),
        ("1e999", "finite_number"),
    ],
)
def test_what_is_no_finite_json_number_is_refused(field: str, token: str, error_type: str) -> None:
    with pytest.raises(ValidationError) as refused:
        parse(field, token)
    assert [(error["loc"], error["type"]) for error in refused.value.errors()] == [((field,), error_type)]


@pytest.mark.parametrize("field", FEATURES)
def test_a_number_of_5000_digits_is_refused(field: str) -> None:
    with pytest.raises(ValidationError):
        parse(field, "9" * 5_000)


@pytest.mark.parametrize("field", FEATURES)
def test_a_missing_field_is_refused(field: str) -> None:
    rest = {name: value for name, value in GOOD.items() if name != field}
    with pytest.raises(ValidationError) as refused:
        House.model_validate(rest)
    assert [(error["loc"], error["type"]) for error in refused.value.errors()] == [((field,), "missing")]


@pytest.mark.parametrize(
    ("field", "lowest", "too_low", "highest", "too_high"),
    [
        ("square_feet", math.nextafter(0, 1), 0.0, 50_000, math.nextafter(50_000, math.inf)),
        ("bedrooms", 0, -1, 50, 51),
        ("bathrooms", 0, math.nextafter(0, -1), 50, math.nextafter(50, math.inf)),
        ("age_years", 0, math.nextafter(0, -1), 500, math.nextafter(500, math.inf)),
        ("distance_to_city", 0, math.nextafter(0, -1), 1_000, math.nextafter(1_000, math.inf)),
    ],
)
def test_each_bound_holds_to_the_last_bit_on_both_sides(
    field: str, lowest: float, too_low: float, highest: float, too_high: float
) -> None:
    assert refusal(field, lowest) is None
    assert refusal(field, highest) is None
    assert refusal(field, too_low) == ("greater_than" if field == "square_feet" else "greater_than_equal")
    assert refusal(field, too_high) == "less_than_equal"


def test_bedrooms_are_whole_and_bathrooms_need_not_be() -> None:
    assert refusal("bedrooms", 2.5) == "multiple_of"
    assert refusal("bathrooms", 2.25) is None


def test_fields_that_are_not_known_are_ignored() -> None:
    assert House.model_validate(GOOD | {"color": "red"}) == House.model_validate(GOOD)


def test_a_house_does_not_change() -> None:
    house = House.model_validate(GOOD)
    with pytest.raises(ValidationError):
        house.bedrooms = 4


def bounds_and_their_neighbors(bounds: Bounds) -> list[float]:
    exact = [bound for bound in (bounds.above, bounds.minimum, bounds.maximum) if bound is not None]
    return [near for b in exact for near in (math.nextafter(b, -math.inf), b, math.nextafter(b, math.inf))]


# Whole numbers that are off by about pydantic's own tolerance, a billionth.
ALMOST_WHOLE = st.builds(lambda whole, off: whole + off * 1e-10, st.integers(-60, 60), st.floats(-20, 20))
NUMBERS = st.floats() | st.floats(-10, 60_000) | st.integers(-10, 60_000).map(float) | ALMOST_WHOLE


@pytest.mark.parametrize("field", FEATURES)
@given(numbers=st.lists(NUMBERS, max_size=20))
@example(numbers=[])
def test_a_whole_column_is_refused_exactly_where_house_refuses(field: str, numbers: list[float]) -> None:
    values = np.array([*bounds_and_their_neighbors(BOUNDS[field]), *numbers], dtype=np.float64)
    found = violations(BOUNDS[field], values)
    for number, value in enumerate(values.tolist()):
        reasons = [reason for reason, mask in found.items() if mask[number]]
        expected = refusal(field, value)
        assert len(reasons) == (expected is not None), value
        assert [kind for start, kind in ERROR_TYPES.items() if reasons and reasons[0].startswith(start)] == (
            [] if expected is None else [expected]
        ), value


def test_reasons_are_words_for_a_person() -> None:
    found = violations(BOUNDS["square_feet"], np.array([math.nan, 0, 50_001, 2_000]))
    assert {reason: mask.tolist() for reason, mask in found.items()} == {
        "missing or not a finite number": [True, False, False, False],
        "not above 0": [False, True, False, False],
        "above 50,000": [False, False, True, False],
    }
    assert list(violations(BOUNDS["bedrooms"], np.array([2.5]))) == [
        "missing or not a finite number",
        "not a whole number",
        "below 0",
        "above 50",
    ]


def test_a_value_that_breaks_two_rules_is_counted_under_the_first() -> None:
    found = violations(BOUNDS["bedrooms"], np.array([50.5, -0.5]))
    assert [reason for reason, mask in found.items() if mask.any()] == ["not a whole number"]


def test_the_matrix_has_the_order_of_the_features_and_float32() -> None:
    house = House(distance_to_city=0.1, age_years=4, bathrooms=3, bedrooms=2, square_feet=1)
    matrix = to_matrix([house.model_dump(), GOOD])
    assert matrix.dtype == np.float32
    assert matrix.tolist() == [[1, 2, 3, 4, float(np.float32(0.1))], [2000, 3, 2, 10, 5]]


def test_no_houses_make_an_empty_matrix_of_five_columns() -> None:
    assert to_matrix([]).shape == (0, 5)


@given(rows=st.lists(st.tuples(*[st.floats(0.001, 49)] * 5), min_size=1, max_size=5))
def test_columns_and_houses_round_to_the_same_bits(rows: list[tuple[float, ...]]) -> None:
    whole = [(*row[:1], float(round(row[1])), *row[2:]) for row in rows]
    houses = [House.model_validate(dict(zip(FEATURES, row, strict=True))) for row in whole]
    # in another order than that of the features
    columns: dict[str, Any] = {
        name: np.array([row[index] for row in whole]) for index, name in reversed(list(enumerate(FEATURES)))
    }
    assert columns_to_matrix(columns).tobytes() == to_matrix(house.model_dump() for house in houses).tobytes()
    assert columns_to_matrix(columns).dtype == np.float32


@given(st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_the_decimal_of_a_float32_rounds_back_to_it(value: float) -> None:
    assert np.float32(decimal(np.float32(value))) == np.float32(value)


def test_the_decimal_of_a_float32_is_the_shortest() -> None:
    assert decimal(np.float32(0.1)) == 0.1
