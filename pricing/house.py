"""A house: five fields with units and bounds, declared once. Everything else is derived from here."""

from collections.abc import Iterable, Mapping
from itertools import chain
from operator import itemgetter
from typing import Any, Final, NamedTuple, TypeAlias

import annotated_types
import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

Column: TypeAlias = NDArray[np.float64]
Matrix: TypeAlias = NDArray[np.float32]
Values: TypeAlias = dict[str, float]
"""A house by the names of FEATURES."""


def _feature(unit: str, description: str, example: float, **bounds: float) -> Any:  # noqa: ANN401 -- as Field itself
    return Field(  # type: ignore[call-overload]  # Field wants each bound by name
        description=f"{description}, in {unit}.", examples=[example], json_schema_extra={"x-unit": unit}, **bounds
    )


# pydantic's own tolerance for multiples of 1, far below the resolution of float32
WHOLE_TOLERANCE: Final = 1e-9


class House(BaseModel):
    """One house as the contract describes it. Numbers must be JSON numbers: no text, no booleans, no NaN."""

    model_config = ConfigDict(strict=True, frozen=True, allow_inf_nan=False, extra="ignore")

    square_feet: float = _feature("square feet", "Living area", 2000, gt=0, le=50_000)
    bedrooms: float = _feature("whole rooms", "Number of bedrooms", 3, ge=0, le=50, multiple_of=1)
    bathrooms: float = _feature("rooms", "Number of bathrooms; quarters are common", 2, ge=0, le=50)
    age_years: float = _feature("years", "Age of the building", 10, ge=0, le=500)
    distance_to_city: float = _feature("miles", "Distance to the city center", 5, ge=0, le=1_000)


class Bounds(NamedTuple):
    """The bounds of a field. `above` is exclusive, `minimum` and `maximum` are inclusive; None means no such bound."""

    above: float | None
    minimum: float | None
    maximum: float | None
    whole: bool


def _bounds(metadata: Iterable[object]) -> Bounds:
    found: dict[type, float] = {}
    for rule in metadata:
        match rule:
            case annotated_types.Gt(bound) | annotated_types.Ge(bound) | annotated_types.Le(bound):
                found[type(rule)] = float(bound)  # type: ignore[arg-type]  # House's bounds are numbers
            case annotated_types.MultipleOf(1):
                found[type(rule)] = 1.0
            case _:
                pass  # strictness and finiteness, which hold for every field
    above, minimum, maximum = (found.get(kind) for kind in (annotated_types.Gt, annotated_types.Ge, annotated_types.Le))
    return Bounds(above, minimum, maximum, annotated_types.MultipleOf in found)


FEATURES: Final[tuple[str, ...]] = tuple(House.model_fields)
UNITS: Final[dict[str, str]] = {
    name: field.json_schema_extra["x-unit"]  # type: ignore[index, misc]  # _feature always gives a dict
    for name, field in House.model_fields.items()
}
BOUNDS: Final[dict[str, Bounds]] = {name: _bounds(field.metadata) for name, field in House.model_fields.items()}

_values_of = itemgetter(*FEATURES)


def to_matrix(houses: Iterable[Mapping[str, float]]) -> Matrix:
    """Houses as float32 of shape (n, 5), columns in the order of FEATURES.

    This and `columns_to_matrix` are the only places where values are rounded to float32, for training and serving.
    """
    values = chain.from_iterable(map(_values_of, houses))
    return np.fromiter(values, dtype=np.float32).reshape(-1, len(FEATURES))


def columns_to_matrix(columns: dict[str, Column]) -> Matrix:
    """Columns of shape (n,) by feature name as float32 of shape (n, 5), columns in the order of FEATURES."""
    return np.column_stack([columns[name] for name in FEATURES]).astype(np.float32)


def decimal(value: np.float32) -> float:
    """The shortest decimal that is this float32: 0.1, and not 0.10000000149011612. Rounded back, it is the same."""
    return float(str(value))


def violations(bounds: Bounds, values: Column) -> dict[str, NDArray[np.bool_]]:
    """Apply the rules of one field, as in BOUNDS, to a whole column of shape (n,).

    Returns a mask of shape (n,) by reason; a value is refused for the first rule that it breaks, as House refuses it.
    """
    above, minimum, maximum, whole = bounds
    finite = np.isfinite(values)
    known = np.where(finite, values, 0)
    rules: dict[str, NDArray[np.bool_]] = {"missing or not a finite number": ~finite}
    if whole:
        rules["not a whole number"] = np.abs(known - np.round(known)) > WHOLE_TOLERANCE
    if above is not None:
        rules[f"not above {above:,g}"] = known <= above
    if minimum is not None:
        rules[f"below {minimum:,g}"] = known < minimum
    if maximum is not None:
        rules[f"above {maximum:,g}"] = known > maximum
    refused = np.zeros(len(values), dtype=np.bool_)
    for reason, broken in rules.items():
        rules[reason] = broken & ~refused
        refused |= broken
    return rules
