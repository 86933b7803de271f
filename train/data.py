"""From a file of sales to rows that every later step may trust."""

import csv
import glob
import hashlib
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

import duckdb
import numpy as np
from numpy.typing import NDArray

from pricing.house import BOUNDS, FEATURES, Bounds, Column, Matrix, columns_to_matrix, violations
from train import market
from train.errors import DataError

HIGHEST_REFUSED_SHARE: Final = 0.05
LINES_SHOWN: Final = 5
PRICE: Final = "price"
# Beyond these a single typing error would swallow R², and the mean percentage error, of all other rows.
PRICE_BOUNDS: Final = Bounds(above=None, minimum=1, maximum=1e10, whole=False)
COLUMNS: Final = (*FEATURES, PRICE)

_PARQUET_MAGIC: Final = b"PAR1"
# Nothing is guessed: DuckDB's sniffer skips lines that do not fit the rest, and takes a folder price=1 for a column.
# Every cell is text: one that is no number is a refused row with a line number, not a failed reading.
_CSV: Final = (
    "read_csv($path, columns = $columns, auto_detect = false, header = true, delim = ',', quote = '\"', escape = '\"', "
    "strict_mode = true, hive_partitioning = false)"
)
_PARQUET: Final = "read_parquet($path, hive_partitioning = false)"


class Refusal(NamedTuple):
    """Rows that one rule of one field refuses; a row that breaks two rules is counted under both."""

    field: str
    reason: str
    rows: int
    first_lines: tuple[int, ...]

    def __str__(self) -> str:
        lines = ", ".join(map(str, self.first_lines)) + (", ..." if self.rows > len(self.first_lines) else "")
        return f"{self.field} {self.reason}: {self.rows:,} row{'s' * (self.rows > 1)} (line {lines})"


@dataclass(frozen=True)
class Sales:
    """Accepted rows: float32 of shape (n, 5) and prices in US dollars, float64 of shape (n,)."""

    houses: Matrix
    prices: Column
    source: str
    synthetic: bool
    refused: int
    refusals: tuple[Refusal, ...]

    @property
    def sha256(self) -> str:
        """Digest of what was accepted, in order."""
        return hashlib.sha256(self.houses.tobytes() + self.prices.tobytes()).hexdigest()


def synthetic(seed: int, rows: int = market.ROWS) -> Sales:
    """Return the built-in market."""
    return accept(market.synthetic_sales(rows, seed), market.NAME, synthetic=True, first_line=1)


def read(path: Path) -> Sales:
    """Read CSV or Parquet. Raises DataError, in one sentence, for whatever makes the file unusable."""
    match path.suffix.lower():
        case ".csv":
            _check_beginning(path, parquet=False)
            return accept(_read_csv(path), path.name, synthetic=False, first_line=2)
        case ".parquet":
            _check_beginning(path, parquet=True)
            return accept(_read_parquet(path), path.name, synthetic=False, first_line=1)
        case other:
            msg = f"{path}: expected a file that ends in .csv or .parquet, got {other or 'no ending'}"
            raise DataError(msg)


def accept(columns: dict[str, Column], source: str, *, synthetic: bool, first_line: int) -> Sales:
    """Keep the rows that House and the price's bounds allow. Raises DataError when more than 5 % are refused."""
    total = len(columns[PRICE])
    if total == 0:
        msg = f"{source}: no rows"
        raise DataError(msg)
    bad = np.zeros(total, dtype=np.bool_)
    refusals = []
    for field in COLUMNS:
        for reason, mask in violations(BOUNDS.get(field, PRICE_BOUNDS), columns[field]).items():
            if mask.any():
                first = (np.flatnonzero(mask)[:LINES_SHOWN] + first_line).tolist()
                refusals.append(Refusal(field, reason, int(mask.sum()), tuple(first)))
                bad |= mask
    refused = int(bad.sum())
    if refused > HIGHEST_REFUSED_SHARE * total:
        msg = (
            f"{source}: {refused:,} of {total:,} rows are refused, more than {HIGHEST_REFUSED_SHARE:.0%}: "
            + "; ".join(map(str, refusals))
        )
        raise DataError(msg)
    kept = {name: values[~bad] for name, values in columns.items()}
    return Sales(columns_to_matrix(kept), kept[PRICE], source, synthetic, refused, tuple(refusals))


def _check_beginning(path: Path, *, parquet: bool) -> None:
    try:
        with path.open("rb") as file:
            beginning = file.read(4096)
    except OSError as error:
        msg = f"{path}: cannot be read: {error.strerror}"
        raise DataError(msg) from error
    if not beginning:
        msg = f"{path}: the file is empty"
        raise DataError(msg)
    if parquet != beginning.startswith(_PARQUET_MAGIC) or (b"\0" in beginning and not parquet):
        msg = f"{path}: the file is not what its ending says: its content is not {'Parquet' if parquet else 'CSV text'}"
        raise DataError(msg)


def _read_csv(path: Path) -> dict[str, Column]:
    names = _header(path)
    _check_columns(path, dict.fromkeys(names, "VARCHAR"))
    columns = {name if name in COLUMNS else f"ignored {number}": "VARCHAR" for number, name in enumerate(names)}
    return _numbers(path, _CSV, {"columns": columns})


def _header(path: Path) -> list[str]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            names = [name.strip() for name in next(csv.reader(file), [])]
    except (UnicodeDecodeError, csv.Error) as error:
        msg = f"{path}: the file is not what its ending says: its content is not CSV text in UTF-8"
        raise DataError(msg) from error
    if len(names) == 1 and {";", "\t", "|"} & set(names[0]):
        msg = f"{path}: cells must be separated by commas"
        raise DataError(msg)
    for name in COLUMNS:
        if names.count(name) > 1:
            msg = f"{path}: column {name} is there {names.count(name)} times"
            raise DataError(msg)
    return names


def _read_parquet(path: Path) -> dict[str, Column]:
    described = _query(path, f"describe from {_PARQUET}", {})
    _check_columns(path, dict(zip(described["column_name"], described["column_type"], strict=True)))
    return _numbers(path, _PARQUET, {})


def _numbers(path: Path, relation: str, options: dict[str, dict[str, str]]) -> dict[str, Column]:
    """The contract's columns as float64, NaN where a cell is missing or not a number."""
    names = ", ".join(f'"{name}"' for name in COLUMNS)
    numbers = ", ".join(f'try_cast("{name}" as double) as "{name}"' for name in COLUMNS)
    # materialized, else DuckDB moves the cast into its reader of CSV, where the first text ends the reading
    query = f"with cells as materialized (select {names} from {relation}) select {numbers} from cells"  # noqa: S608 -- our own names
    found = _query(path, query, options)
    return {name: np.ma.filled(np.ma.asarray(found[name], dtype=np.float64), np.nan) for name in COLUMNS}


def _query(path: Path, query: str, options: dict[str, dict[str, str]]) -> dict[str, NDArray[Any]]:
    parameters = {"path": glob.escape(str(path)), **options}  # else sales[1].csv would read sales1.csv
    with duckdb.connect() as connection:
        try:
            return connection.execute(query, parameters).fetchnumpy()
        except duckdb.Error as error:
            msg = f"{path}: cannot be read as {path.suffix[1:].upper()}: {_told(error)}"
            raise DataError(msg) from error


def _told(error: duckdb.Error) -> str:
    """DuckDB's account on one line, without its advice on options and without an echo of the file."""
    lines = str(error).partition("\nPossible")[0].removeprefix("Invalid Input Error: ").splitlines()
    return "; ".join(line for line in lines if line and not line.startswith("Original Line"))


def _check_columns(path: Path, types: dict[str, str]) -> None:
    missing = [name for name in COLUMNS if name not in types]
    if missing:
        found = textwrap.shorten(", ".join(types), 300) or "an empty line"
        msg = f"{path}: missing column {', '.join(missing)}; expected {', '.join(COLUMNS)}; found {found}"
        raise DataError(msg)
    for name in COLUMNS:
        if types[name] == "BOOLEAN":
            msg = f"{path}: column {name} holds booleans, expected numbers"
            raise DataError(msg)
