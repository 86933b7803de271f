"""The columns that a version knows beyond the five fields of the contract: how each is read, and what training saw.

* A column is optional: null and absent mean unknown, which is NaN in the matrix.
* A number must be a JSON number. A category may be text or a number: 98103 and "98103" are the same.
* A category that training has not seen is unknown, and gets a warning. Rare ones share a code.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import pairwise
from typing import Annotated, Any, Final, Literal, NamedTuple, Self

from pydantic import ConfigDict, Field, FiniteFloat, model_validator

from pricing.format import Part

MAX_COLUMNS: Final = 60
MAX_CATEGORIES: Final = 1_000
NAME_PATTERN: Final = r"^[A-Za-z_][A-Za-z0-9_ .-]{0,63}$"
MAX_TEXT: Final = 200  # characters of a category
UNKNOWN: Final = math.nan
EXACT: Final = 2.0**53  # below, every whole number is a float64
LARGEST: Final = 3.4028234663852886e38  # float32; what is larger is beyond every threshold too

Kind = Literal["number", "category"]
Name = Annotated[str, Field(pattern=NAME_PATTERN)]


class _Part(Part):
    model_config = ConfigDict(allow_inf_nan=False, json_schema_extra={"additionalProperties": False})


class Category(_Part):
    """One value of a column, and the number that stands for it in the graph."""

    value: str
    rows: int = Field(description="Rows that were learned from.")
    code: FiniteFloat = Field(description="Smoothed mean of the log prices of these rows, less that of all.")


class OptionalColumn(_Part):
    """A column that a version knows beyond the contract, and what training saw in it."""

    name: Name
    kind: Kind
    unit: str | None = None
    description: str | None = None
    group: str | None = None
    minimum: FiniteFloat | None = Field(default=None, description="Inclusive lower bound of a number.")
    maximum: FiniteFloat | None = Field(default=None, description="Inclusive upper bound of a number.")
    missing: Annotated[float, Field(ge=0, le=1)] = Field(description="Share of the rows without a value.")
    trained_from: FiniteFloat = Field(description="Lowest number; of categories, the lowest code.")
    trained_to: FiniteFloat = Field(description="Highest number; of categories, the highest code.")
    bins: tuple[FiniteFloat, ...] = Field(description="Rising quantiles of numbers or codes, for drift.")
    categories: tuple[Category, ...] = ()

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        if (self.kind == "category") != bool(self.categories) or len(self.categories) > MAX_CATEGORIES:
            msg = f"{self.name}: a category has 1 to {MAX_CATEGORIES:,} values, a number has none"
            raise ValueError(msg)
        if not self.trained_from <= self.trained_to or any(a >= b for a, b in pairwise(self.bins)):
            msg = f"{self.name}: trained_from must not be above trained_to, and bins must rise"
            raise ValueError(msg)
        return self


class ValueProblemError(Exception):
    """A value is not valid: pydantic's type for that, and a sentence."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind: Final = kind


class Cell(NamedTuple):
    """A value that was given."""

    number: float
    """For the matrix; NaN if training has not seen the category."""
    recorded: float | str
    """For the journal: reading this again gives the same number."""


class ReadRow(NamedTuple):
    """The further columns of one house."""

    numbers: list[float]
    """For the matrix, in the order of the columns; NaN is unknown."""
    recorded: dict[str, float | str]
    """The values that were given, by name."""
    unseen: list[int]
    """Places of categories that training has not seen."""


class RowReader:
    """Reads the further columns of a version from a house as a client sends it."""

    def __init__(self, columns: Iterable[OptionalColumn]) -> None:
        self._readers: Final = [(column.name, _reader(column)) for column in columns]
        self.names: Final = tuple(name for name, _ in self._readers)

    def read(self, house: Mapping[str, Any]) -> ReadRow:
        """Read the columns of a house. Raises ValueProblemError, which `problems` repeats for each column."""
        found = ReadRow([], {}, [])
        for place, (name, read) in enumerate(self._readers):
            value = house.get(name)
            if value is None:
                found.numbers.append(UNKNOWN)
                continue
            number, found.recorded[name] = read(value)
            found.numbers.append(number)
            if number != number:  # noqa: PLR0124 -- NaN; math.isnan takes twice as long
                found.unseen.append(place)
        return found

    def problems(self, house: Mapping[str, Any]) -> Iterator[tuple[str, ValueProblemError]]:
        """Each value of a house that is not valid, by its name."""
        for name, read in self._readers:
            if (value := house.get(name)) is not None:
                try:
                    read(value)
                except ValueProblemError as error:
                    yield name, error


def _reader(column: OptionalColumn) -> Callable[[Any], Cell]:
    return _category_reader(column) if column.kind == "category" else _number_reader(column)


def _number_reader(column: OptionalColumn) -> Callable[[Any], Cell]:
    lowest = -math.inf if column.minimum is None else column.minimum
    highest = math.inf if column.maximum is None else column.maximum

    def read(value: Any) -> Cell:  # noqa: ANN401 -- any JSON
        number = _finite(value) if type(value) is float or type(value) is int else None
        if number is None:
            kind = "float_type"
            raise ValueProblemError(kind, "Input should be a valid number")
        if number < lowest:
            kind = "greater_than_equal"
            raise ValueProblemError(kind, f"Input should be greater than or equal to {lowest:g}")
        if number > highest:
            kind = "less_than_equal"
            raise ValueProblemError(kind, f"Input should be less than or equal to {highest:g}")
        return Cell(max(-LARGEST, min(number, LARGEST)), number)

    return read


def _category_reader(column: OptionalColumn) -> Callable[[Any], Cell]:
    codes = {category.value: category.code for category in column.categories}

    def read(value: Any) -> Cell:  # noqa: ANN401 -- any JSON
        if type(value) is float or type(value) is int:
            _finite(value)
        elif type(value) is not str:
            kind = "category_type"
            raise ValueProblemError(kind, "Input should be a valid string or number")
        text = category_of(value)
        if len(text) > MAX_TEXT:
            kind = "string_too_long"
            raise ValueProblemError(kind, f"String should have at most {MAX_TEXT} characters")
        return Cell(codes.get(text, UNKNOWN), text)

    return read


def _finite(value: float) -> float:
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        kind = "finite_number"
        raise ValueProblemError(kind, "Input should be a finite number")
    return number


def category_of(value: str | float) -> str:
    """The name of a category: 98103, 98103.0, "98103" and " 98103 " are the same."""
    if isinstance(value, str):
        text = value.strip()
        whole = text.removesuffix(".0")
        return whole if whole.isdigit() else text
    is_whole = isinstance(value, int) or (value.is_integer() and abs(value) < EXACT)
    return str(int(value) if is_whole else value)
