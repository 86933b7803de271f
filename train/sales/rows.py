"""From a file of sales to rows that every later step may trust."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np

from pricing.house import BOUNDS, Bounds, Column, Matrix, columns_to_matrix, violations
from train.errors import DataError
from train.sales import market, tables
from train.sales.tables import COLUMNS, PRICE

HIGHEST_REFUSED_SHARE: Final = 0.05
LINES_SHOWN: Final = 5
# Beyond these a single typing error would swallow R², and the mean percentage error, of all other rows.
PRICE_BOUNDS: Final = Bounds(above=None, minimum=1, maximum=1e10, whole=False)


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


def read(path: Path, query: str | None = None) -> Sales:
    """Read CSV, Parquet or JSON lines, or a table or query of a DuckDB file, by the ending of the name.

    Raises DataError, in one sentence, for whatever makes the file unusable.
    """
    columns, first_line = tables.read(path, query)
    return accept(columns, path.name, synthetic=False, first_line=first_line)


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
