"""From a file of sales to rows that every later step may trust."""

import hashlib
import re
import shlex
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from math import ceil
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pricing.house import BOUNDS, Bounds, Column, Matrix, columns_to_matrix, violations
from train.errors import DataError
from train.sales import market, tables
from train.sales.numbers import Numbers, numbers
from train.sales.table import Cells, Table
from train.sales.tables import COLUMNS, PRICE

HIGHEST_REFUSED_SHARE: Final = 0.05
MOST_REFUSED_PERCENT: Final = 50  # a file with more has another problem
LINES_SHOWN: Final = 5
CELL_SHOWN: Final = 30
# Beyond these a single typing error would swallow R², and the mean percentage error, of all other rows.
PRICE_BOUNDS: Final = Bounds(above=None, minimum=1, maximum=1e10, whole=False)
LOW_PRICE: Final = 1_000
SOLD_ON: Final = "sold_on"
FIRST_DATE: Final = date(1800, 1, 1)
SQUARE_METER: Final = 10.763910416709722  # square feet
KILOMETER: Final = 0.621371192237334  # miles

Dates = NDArray[np.datetime64]
Lines = NDArray[np.int64]


@dataclass(frozen=True)
class Reading:
    """The rules by which a file is read."""

    rename: Mapping[str, str] = field(default_factory=dict)
    """New name by the name in the file."""
    units: Mapping[str, float] = field(default_factory=dict)
    """By column, what its numbers are multiplied with."""
    allow_refused: float = HIGHEST_REFUSED_SHARE
    """Share of the rows that may be refused."""
    sold_on: str | None = None
    """The column of the date of sale, which must then be there; None for `sold_on`, if it is there."""
    others: Collection[str] | None = ()
    """Further columns that are kept as they are written; None keeps all."""


AS_IT_IS: Final = Reading()


class Refusal(NamedTuple):
    """Rows that one rule of one field refuses; a row that breaks two rules is counted under both."""

    field: str
    reason: str
    rows: int
    first_lines: tuple[int, ...]

    def __str__(self) -> str:
        lines = ", ".join(map(str, self.first_lines)) + (", ..." if self.rows > len(self.first_lines) else "")
        about = f"{self.field} {self.reason}".strip()
        return f"{about}: {self.rows:,} row{'s' * (self.rows > 1)} (line {lines})"


class OtherColumns(NamedTuple):
    """Further columns of a file as they are written, each of shape (n,)."""

    values: Mapping[str, NDArray[np.object_]]
    source: str
    are_text: bool = True

    def where(self, mask: NDArray[np.bool_]) -> "OtherColumns":
        """The same columns for some of the rows."""
        return self._replace(values={name: cells[mask] for name, cells in self.values.items()})


NO_OTHERS: Final = OtherColumns({}, "")


@dataclass(frozen=True)
class Sales:
    """Accepted rows: float32 of shape (n, 5) and prices in US dollars, float64 of shape (n,)."""

    houses: Matrix
    prices: Column
    source: str
    synthetic: bool
    refused: int
    refusals: tuple[Refusal, ...]
    lines: Lines
    """The line of each row in the file, from 1, of shape (n,)."""
    sold_on: Dates | None = None
    """Days, of shape (n,); None if the file has no dates."""
    others: OtherColumns = NO_OTHERS
    notes: tuple[str, ...] = ()

    def where(self, mask: NDArray[np.bool_]) -> "Sales":
        """Some of the accepted rows."""
        return replace(
            self,
            houses=self.houses[mask],
            prices=self.prices[mask],
            sold_on=None if self.sold_on is None else self.sold_on[mask],
            others=self.others.where(mask),
            lines=self.lines[mask],
        )

    @property
    def sha256(self) -> str:
        """Digest of what was accepted, in order."""
        return hashlib.sha256(self.houses.tobytes() + self.prices.tobytes()).hexdigest()


def synthetic(seed: int, rows: int = market.ROWS) -> Sales:
    """Return the built-in market."""
    return accept(market.synthetic_sales(rows, seed), market.NAME, synthetic=True, first_line=1)


def read(path: Path, query: str | None = None, reading: Reading = AS_IT_IS) -> Sales:
    """Read CSV, Parquet or JSON lines, or a table or query of a DuckDB file, by the ending of the name.

    Raises DataError, in one sentence, for whatever makes the file unusable.
    """
    wanted = None
    if reading.others is not None:
        wanted = {*COLUMNS, reading.sold_on or SOLD_ON, *reading.rename, *reading.others}
    table = _renamed(path, tables.read(path, query, wanted), reading.rename)
    _check_columns(path, table, reading)
    return _accepted(table, path.name, reading, synthetic=False)


def accept(columns: Mapping[str, Cells], source: str, *, synthetic: bool, first_line: int) -> Sales:
    """Keep the rows that House and the price's bounds allow. Raises DataError when more than 5 % are refused."""
    lines = range(first_line, first_line + len(columns[PRICE]))
    return _accepted(Table(columns, lines), source, Reading(others=()), synthetic=synthetic)


def _renamed(path: Path, table: Table, rename: Mapping[str, str]) -> Table:
    for old, new in rename.items():
        if old not in table.columns:
            msg = f"{path}: --rename names the column {old}, which was not found; found {_names(table)}"
            raise DataError(msg)
        if new in table.columns and new not in rename:
            msg = f"{path}: --rename {old}={new}: the file has a column {new} already"
            raise DataError(msg)
    columns = {rename.get(name, name): cells for name, cells in table.columns.items()}
    return table._replace(columns=columns, repeated=frozenset(rename.get(name, name) for name in table.repeated))


def _names(table: Table) -> str:
    return tables.shortened(table.columns)


def _check_columns(path: Path, table: Table, reading: Reading) -> None:
    needed = [*COLUMNS, *([reading.sold_on] if reading.sold_on else []), *reading.units]
    missing = [name for name in dict.fromkeys(needed) if name not in table.columns]
    if missing and not (table.has_text_numbers is False and not table.lines):
        expected = f"expected {', '.join(COLUMNS)}; found {_names(table)}"
        msg = f"{path}: missing column {', '.join(missing)}; {expected}; {_advice(missing, table)}"
        raise DataError(msg)
    for name in (*needed, *(reading.others or ())):
        if name in table.repeated:
            msg = f"{path}: column {name} is there more than once"
            raise DataError(msg)


def _advice(missing: Sequence[str], table: Table) -> str:
    """The option that names what is missing; names that differ in case, spaces and hyphens only are found."""
    there = {_letters(name): name for name in reversed(list(table.columns))}
    pairs = [f"{there[_letters(name)]}={name}" for name in missing if _letters(name) in there]
    if not pairs:
        return f"`--rename NAME={missing[0]}` renames a column"
    return f"`--rename {shlex.quote(','.join(pairs))}` renames what is there"


def _letters(name: str) -> str:
    return re.sub(r"[\s_-]", "", name).lower()


class _Refusals:
    """Which rows are refused, and the sentences about them."""

    def __init__(self, table: Table) -> None:
        self._lines = table.lines
        self.bad = np.zeros(len(table.lines), dtype=np.bool_)
        self.found: list[Refusal] = []
        for reason in dict.fromkeys(broken.reason for broken in table.broken):
            lines = [broken.line for broken in table.broken if broken.reason == reason]
            self.found.append(Refusal("", reason, len(lines), tuple(lines[:LINES_SHOWN])))

    def add(self, name: str, reason: str, mask: NDArray[np.bool_]) -> None:
        """Refuse the rows of a mask of shape (n,)."""
        if mask.any():
            first = tuple(int(self._lines[row]) for row in np.flatnonzero(mask)[:LINES_SHOWN])
            self.found.append(Refusal(name, reason, int(mask.sum()), first))
            self.bad |= mask


def _accepted(table: Table, source: str, reading: Reading, *, synthetic: bool) -> Sales:
    total = len(table.lines) + len(table.broken)
    if total == 0:
        msg = f"{source}: no rows"
        raise DataError(msg)
    refusals = _Refusals(table)
    columns: dict[str, Column] = {}
    for name in COLUMNS:
        found = _numbers_of(table, name, source)
        columns[name] = found.values * reading.units.get(name, 1)
        for reason, mask in _broken_rules(name, columns[name], found.unread).items():
            refusals.add(name, reason, mask)
    sold_on = _dates(table, reading, refusals)
    refused = int(refusals.bad.sum()) + len(table.broken)
    if refused > reading.allow_refused * total:
        share = f"{reading.allow_refused:.0%}"
        reasons = "; ".join(map(str, refusals.found))
        percent = ceil(100 * refused / total)
        hint = f"; --allow-refused {percent}% accepts that" if percent < MOST_REFUSED_PERCENT else ""
        msg = f"{source}: {refused:,} of {total:,} rows are refused, more than {share}: {reasons}{hint}"
        raise DataError(msg)
    good = ~refusals.bad
    kept = {name: values[good] for name, values in columns.items()}
    names = [
        name for name in table.columns if name not in COLUMNS and (reading.others is None or name in reading.others)
    ]
    return Sales(
        columns_to_matrix(kept),
        kept[PRICE],
        source,
        synthetic,
        refused,
        tuple(refusals.found),
        np.asarray(table.lines, dtype=np.int64)[good],
        None if sold_on is None else sold_on[good],
        OtherColumns({name: _objects(table.columns[name])[good] for name in names}, source, table.has_text_numbers),
        (*table.notes, *_doubts(kept[PRICE])),
    )


def _numbers_of(table: Table, name: str, source: str) -> Numbers:
    cells = table.columns.get(name, [None] * len(table.lines))
    if any(isinstance(cell, bool) for cell in cells[:1]) and table.has_text_numbers:
        msg = f"{source}: column {name} holds booleans, expected numbers"
        raise DataError(msg)
    found = numbers(cells, from_text=table.has_text_numbers)
    if found.is_ambiguous:
        cell = next(iter(found.unread.values()))
        msg = (
            f'{source}: column {name} has cells such as "{cell[:CELL_SHOWN]}": the point may separate thousands or '
            f"decimals; write thousands without a separator"
        )
        raise DataError(msg)
    return found


def _broken_rules(name: str, values: Column, unread: Mapping[int, str]) -> dict[str, NDArray[np.bool_]]:
    is_unread = np.zeros(len(values), dtype=np.bool_)
    is_unread[list(unread)] = True
    rules = {reason: mask & ~is_unread for reason, mask in violations(BOUNDS.get(name, PRICE_BOUNDS), values).items()}
    if not unread:
        return rules
    example = next(iter(unread.values()))[:CELL_SHOWN]
    others = " as the other cells are" if np.isfinite(values).any() else ""
    return {f'not a number{others}, such as "{example}"': is_unread, **rules}


def _dates(table: Table, reading: Reading, refusals: _Refusals) -> Dates | None:
    """The dates of sale of shape (n,); None if the file has none."""
    name = reading.sold_on or SOLD_ON
    if name not in table.columns:
        return None
    latest = datetime.now(UTC).date() + timedelta(days=1)  # in the zone where it is later than here
    found = [day_of(cell) for cell in table.columns[name]]
    is_date = np.array([day is not None for day in found], dtype=np.bool_)
    is_possible = np.array([day is not None and FIRST_DATE <= day <= latest for day in found], dtype=np.bool_)
    refusals.add(name, "not a date, such as 2014-10-13 or 20141013T000000", ~is_date)
    refusals.add(name, "before 1800 or in the future", is_date & ~is_possible)
    return np.array([day or FIRST_DATE for day in found], dtype="datetime64[D]")


def day_of(cell: object) -> date | None:
    """The day of a date, or of a moment, in ISO 8601, with or without hyphens."""
    text = str(int(cell) if isinstance(cell, float) and cell.is_integer() else cell).strip()
    try:
        return datetime.fromisoformat(text).date() if len(text) >= len("20141013") else None
    except ValueError:
        return None


def _objects(cells: Cells) -> NDArray[Any]:
    found = np.empty(len(cells), dtype=np.object_)
    found[:] = list(cells)
    return found


def _doubts(prices: Column) -> tuple[str, ...]:
    median = float(np.median(prices)) if len(prices) else LOW_PRICE
    if median >= LOW_PRICE:
        return ()
    return (f"half of the prices are below ${median:,.2f}: if they are in thousands, add --unit price=1000",)
