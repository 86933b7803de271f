"""Which further columns of a file a version learns from, and what kind each has.

* What is asked for by name is taken, or refused with one sentence. `all` takes what can be learned from, and names what
  it leaves out with the reason.
* A column is a number or a category. Without a kind, its values decide.
* Identifiers, dates, free text and constants teach nothing. A column that holds the price in another form, as price per
  square foot does, is not known for a house that is for sale.
"""

import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, FiniteFloat, TypeAdapter, ValidationError

from pricing.artifacts.columns import (
    MAX_CATEGORIES,
    MAX_COLUMNS,
    MAX_TEXT,
    NAME_PATTERN,
    Kind,
    OptionalColumn,
    category_of,
)
from pricing.format import reason_of
from pricing.house import Column
from train.errors import DataError
from train.sales.numbers import MISSING, numbers
from train.sales.rows import SOLD_ON, OtherColumns, Sales, day_of
from train.sales.tables import COLUMNS

ALL: Final = "all"
NONE: Final = "none"
MIN_CODE_DIGITS: Final = 5  # whole numbers that all have so many digits are codes, as zip codes are, not quantities
IDENTIFIER_SHARE: Final = 0.5  # of different categories: a value that hardly any two rows share teaches nothing
WHOLE_IDENTIFIER_SHARE: Final = 0.95  # of different whole numbers
DATE_SHARE: Final = 0.9
TEXT_WORDS: Final = 4  # on average
LEAK: Final = 0.98  # share of the variance of log prices that is explained with the column


class Wish(BaseModel):
    """A column as it was asked for: everything else follows from its values."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Kind | None = None
    unit: str | None = None
    description: str | None = None
    group: str | None = None
    minimum: FiniteFloat | None = None
    maximum: FiniteFloat | None = None


Wishes = Mapping[str, Wish]
ColumnChoice = Wishes | Literal["all"]
"""Columns by name, or all that can be learned from."""
NO_WISHES: Final[Wishes] = {}


@dataclass(frozen=True)
class Values:
    """A column to learn from: float64 of shape (n,), of categories their place in `names`; NaN is unknown."""

    name: str
    wish: Wish
    kind: Kind
    values: Column
    names: tuple[str, ...] = ()


class Chosen(NamedTuple):
    """The columns to learn from, and a sentence for each that was left out."""

    columns: tuple[Values, ...]
    left_out: tuple[str, ...]


def parse_wishes(text: str) -> ColumnChoice:
    """`latitude,zip_code:category` as wishes; `all` and `none` mean all and none. Raises DataError."""
    if text in {ALL, NONE}:
        return "all" if text == ALL else NO_WISHES
    found: dict[str, Wish] = {}
    for part in (piece.strip() for piece in text.split(",")):
        name, _, kind = (piece.strip() for piece in part.partition(":"))
        if not name or name in found or (kind and kind not in {"number", "category"}):
            msg = f"--columns: expected NAME, NAME:number or NAME:category, each name once, got {part!r}"
            raise DataError(msg)
        found[name] = Wish(kind=kind or None)  # type: ignore[arg-type]  # checked above
    return checked(found)


def read_wishes(path: Path) -> Wishes:
    """A TOML file with a table for each column: kind, unit, description, minimum, maximum, group. Raises DataError."""
    try:
        found = tomllib.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        msg = f"{path}: cannot be read as TOML: {error}"
        raise DataError(msg) from error
    try:
        return checked(TypeAdapter(dict[str, Wish]).validate_python(found))
    except ValidationError as error:
        msg = f"{path}: {reason_of(error)}"
        raise DataError(msg) from error


def checked(wishes: Wishes, option: str = "--columns") -> Wishes:
    """The wishes of an option, if their names and number are possible. Raises DataError."""
    if taken := [name for name in wishes if name in {*COLUMNS, SOLD_ON}]:
        msg = f"{option}: {taken[0]} is a field of the contract, which every version knows; name further columns only"
        raise DataError(msg)
    if odd := [name for name in wishes if not re.fullmatch(NAME_PATTERN, name)]:
        msg = f"{option}: {odd[0][:60]!r} is not a name; expected letters, digits, spaces, _, . and -, at most 64"
        raise DataError(msg)
    if len(wishes) > MAX_COLUMNS:
        msg = f"{option}: {len(wishes)} columns are named, at most {MAX_COLUMNS} are possible"
        raise DataError(msg)
    return wishes


def wanted(choice: ColumnChoice) -> tuple[str, ...] | None:
    """The further columns that are read of a file; None for all."""
    return None if isinstance(choice, str) else tuple(choice)


def wishes_of(columns: Iterable[OptionalColumn]) -> Wishes:
    """The columns of a version, for another that learns from the same ones."""
    known = ("kind", "unit", "description", "group", "minimum", "maximum")
    return {column.name: Wish(**{field: getattr(column, field) for field in known}) for column in columns}


def choose(sales: Sales, wishes: ColumnChoice) -> Chosen:
    """Return the columns of the sales that are wished for, or all that can be learned from.

    Raises DataError for a wish that cannot be met.
    """
    if not isinstance(wishes, str):
        if missing := [name for name in wishes if name not in sales.others.values]:
            msg = f"{sales.source}: missing column {', '.join(missing)}; name columns of the file with --columns"
            raise DataError(msg)
        found = tuple(values_of(sales.others, name, wish) for name, wish in wishes.items())
        for wished in found:
            if objection := _objection(sales, wished):
                msg = f"{sales.source}: column {wished.name} {objection}"
                raise DataError(msg)
        return Chosen(found, ())
    taken: list[Values] = []
    left_out: list[str] = []
    for name in sales.others.values:
        reason = None if re.fullmatch(NAME_PATTERN, name) else "has a name that is not possible"
        column = None if reason else values_of(sales.others, name, Wish())
        if column is not None:
            reason = _objection(sales, column)
        if reason or column is None:
            left_out.append(f"{name} {reason}")
        else:
            taken.append(column)
    if len(taken) > MAX_COLUMNS:
        msg = f"{sales.source}: {len(taken)} columns can be learned from, at most {MAX_COLUMNS} are possible; name them"
        raise DataError(msg)
    return Chosen(tuple(taken), tuple(left_out))


def values_of(cells: OtherColumns, name: str, wish: Wish) -> Values:
    """The values of a column by its kind. Raises DataError if a number was wished for and a cell holds none."""
    found = numbers(cells.values[name], from_text=cells.are_text)
    kind = wish.kind or ("category" if found.unread or found.is_ambiguous or _are_codes(found.values) else "number")
    if kind == "category":
        return _categories(name, wish, cells.values[name])
    if found.unread:
        row, text = next(iter(found.unread.items()))
        msg = (
            f'{cells.source}: column {name} is not a number everywhere, such as "{text[:30]}" in accepted row {row + 1}'
        )
        raise DataError(msg)
    lowest, highest = wish.minimum, wish.maximum
    low = -np.inf if lowest is None else lowest
    high = np.inf if highest is None else highest
    inside = (found.values >= low) & (found.values <= high)
    with np.errstate(over="ignore"):
        values = np.where(inside, found.values, np.nan).astype(np.float32).astype(np.float64)
    return Values(name, wish, "number", np.where(np.isfinite(values), values, np.nan))


def _are_codes(values: Column) -> bool:
    known = values[~np.isnan(values)]
    if not len(known) or not (known == np.round(known)).all() or known.min() < 10 ** (MIN_CODE_DIGITS - 1):
        return False
    return len(str(int(known.min()))) == len(str(int(known.max()))) and len(np.unique(known)) <= MAX_CATEGORIES


def _categories(name: str, wish: Wish, cells: NDArray[Any]) -> Values:
    texts = texts_of(cells)
    names = tuple(sorted({text for text in texts if text is not None}))
    place = {text: float(number) for number, text in enumerate(names)}
    values = np.array([np.nan if text is None else place[text] for text in texts])
    return Values(name, wish, "category", values, names)


def texts_of(cells: NDArray[Any]) -> list[str | None]:
    """The cells as names of categories; None is unknown."""
    return [_text(cell) for cell in cells]


def _text(cell: object) -> str | None:
    if cell is None or (isinstance(cell, float) and np.isnan(cell)):
        return None
    text = category_of(cell) if isinstance(cell, str | int | float) else str(cell)
    return None if text.lower() in MISSING else text[:MAX_TEXT]


def _objection(sales: Sales, column: Values) -> str | None:
    """Why the column cannot be learned from; None if it can."""
    known = ~np.isnan(column.values)
    different = len(np.unique(column.values[known]))
    if different < 2:  # noqa: PLR2004 -- one value, or none
        return "has the same value everywhere" if different else "has no values"
    if _are_dates(sales.others.values[column.name], known):
        return "holds dates" + ("; --sold-on names the date of sale" if sales.sold_on is None else "")
    rows = int(known.sum())
    return (_of_category if column.kind == "category" else _of_number)(sales, column, different, rows)


def _of_category(_sales: Sales, column: Values, different: int, rows: int) -> str | None:
    if different > IDENTIFIER_SHARE * rows:
        is_text = np.mean([len(name.split()) for name in column.names]) >= TEXT_WORDS
        return "is free text" if is_text else f"is an identifier: {different:,} different values in {rows:,} rows"
    if different > MAX_CATEGORIES:
        return f"has {different:,} categories, at most {MAX_CATEGORIES:,} are possible"
    return None


def _of_number(sales: Sales, column: Values, different: int, rows: int) -> str | None:
    known = column.values[~np.isnan(column.values)]
    is_whole = bool((known == np.round(known)).all())
    if is_whole and different > WHOLE_IDENTIFIER_SHARE * rows and not _explains(sales.prices, column.values):
        return f"is an identifier: {different:,} different whole numbers in {rows:,} rows"
    if leaks(sales, column.values):
        return "leaks the price: with it, prices follow almost exactly"
    return None


def _are_dates(cells: NDArray[Any], known: NDArray[np.bool_]) -> bool:
    some = [cell for cell in cells[known][:1_000] if isinstance(cell, str)]
    return bool(some) and sum(day_of(cell) is not None for cell in some) > DATE_SHARE * len(some)


def _explains(prices: Column, values: Column) -> bool:
    """Whether a number is related to the price, as an identifier is not."""
    known = ~np.isnan(values)
    ranks = np.array([np.argsort(np.argsort(part[known])) for part in (values, prices)])
    return bool(abs(np.corrcoef(ranks[0], ranks[1])[0, 1]) > 0.2)  # noqa: PLR2004 -- of ranks; identifiers are near 0


def leaks(sales: Sales, values: Column) -> bool:
    """Whether log prices follow from the logarithms of the column and of the five fields, but not from the fields."""
    known = ~np.isnan(values) & (values > 0)
    if known.sum() < 0.5 * len(values):
        return False
    target = np.log(sales.prices[known])
    fields = np.log1p(sales.houses[known].astype(np.float64))
    further = np.column_stack([fields, np.log(values[known]), values[known]])
    return _explained(further, target) > LEAK > _explained(fields, target)


def _explained(columns: NDArray[np.float64], target: Column) -> float:
    """R² of a linear regression."""
    spread = columns.std(axis=0)
    scaled = (columns - columns.mean(axis=0)) / np.where(spread > 0, spread, 1)
    design = np.column_stack([np.ones(len(target)), scaled])
    fitted = design @ np.linalg.lstsq(design, target, rcond=None)[0]
    total = float(np.sum((target - target.mean()) ** 2))
    return 1 - float(np.sum((target - fitted) ** 2)) / total if total else 0.0


def subset(columns: Iterable[Values], mask: NDArray[np.bool_]) -> Iterator[Values]:
    """The same columns for some of the rows."""
    for column in columns:
        yield Values(column.name, column.wish, column.kind, column.values[mask], column.names)
