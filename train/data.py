"""From a file of sales to rows that every later step may trust."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

import duckdb
import numpy as np

from pricing.house import BOUNDS, FEATURES, Bounds, Column, Matrix, columns_to_matrix, violations
from train import market
from train.errors import DataError

HIGHEST_REFUSED_SHARE: Final = 0.05
LINES_SHOWN: Final = 5
PRICE: Final = "price"
PRICE_BOUNDS: Final = Bounds(above=0, minimum=None, maximum=None, whole=False)
COLUMNS: Final = (*FEATURES, PRICE)

_PARQUET_MAGIC: Final = b"PAR1"


class Refusal(NamedTuple):
    """Rows that one rule of one field refuses; a row that breaks two rules is counted under both."""

    field: str
    reason: str
    rows: int
    first_lines: tuple[int, ...]

    def __str__(self) -> str:
        lines = ", ".join(map(str, self.first_lines)) + (", ..." if self.rows > len(self.first_lines) else "")
        return f"{self.field} {self.reason}: {self.rows:,} rows (line {lines})"


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
            # every cell as text: a cell that is no number is a refused row with a line number, not a failed reading
            relation, first_line = "read_csv($path, header = true, all_varchar = true, strict_mode = true)", 2
        case ".parquet":
            _check_beginning(path, parquet=True)
            relation, first_line = "read_parquet($path)", 1
        case other:
            msg = f"{path}: expected a file that ends in .csv or .parquet, got {other or 'no ending'}"
            raise DataError(msg)
    return accept(_query(path, relation), path.name, synthetic=False, first_line=first_line)


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


def _query(path: Path, relation: str) -> dict[str, Column]:
    """The contract's columns as float64, NaN where a cell is missing or not a number."""
    with duckdb.connect() as connection:
        try:
            described = connection.execute(f"describe from {relation}", {"path": str(path)}).fetchall()
            types = {name: kind for name, kind, *_ in described}
            _check_columns(path, types)
            wanted = ", ".join(f'try_cast("{name}" as double) as "{name}"' for name in COLUMNS)
            found = connection.execute(f"select {wanted} from {relation}", {"path": str(path)}).fetchnumpy()  # noqa: S608 -- our own names
        except duckdb.Error as error:
            msg = f"{path}: cannot be read as {path.suffix[1:].upper()}: {str(error).splitlines()[0]}"
            raise DataError(msg) from error
    return {name: np.ma.filled(np.ma.asarray(found[name], dtype=np.float64), np.nan) for name in COLUMNS}


def _check_columns(path: Path, types: dict[str, str]) -> None:
    missing = [name for name in COLUMNS if name not in types]
    if missing:
        msg = f"{path}: missing column {', '.join(missing)}; expected {', '.join(COLUMNS)}; found {', '.join(types)}"
        raise DataError(msg)
    for name in COLUMNS:
        if types[name] == "BOOLEAN":
            msg = f"{path}: column {name} holds booleans, expected numbers"
            raise DataError(msg)
