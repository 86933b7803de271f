"""The sales that a version learned from, for comparables: the file `sales.bin`, sealed by the manifest.

It is a line of JSON, filled up with spaces to a multiple of 8 bytes, and then arrays with nothing between them,
little-endian, one row after the other. Sales are in order of their date, newest first:

* prices, US dollars: float64 of shape (rows,)
* if `dated`, days of sale, since 1970-01-01: int32 of shape (rows,)
* the five fields: float32 of shape (5, rows)
* columns that are numbers, NaN is unknown: float32 of shape (numbers, rows)
* columns that are categories, as places in the manifest's list, 65535 is unknown: uint16 of shape (categories, rows)
* the position of the sale's leaf in each tree of the price, by value, 0 to 255: uint8 of shape (trees, rows)

Names, addresses and whatever else the file of the training had are not in it. The arrays are views of the bytes, so a
worker holds them once.
"""

from collections.abc import Iterator, Sequence
from datetime import date
from typing import Any, ClassVar, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationError

from pricing.artifacts.columns import OptionalColumn
from pricing.artifacts.manifest import Manifest
from pricing.errors import DamagedArtifactError
from pricing.format import Stored, reason_of
from pricing.house import BOUNDS, FEATURES, Column, Matrix, violations

SALES_FILE: Final = "sales.bin"
MAX_SALES: Final = 20_000
"""Bounds the memory of a worker, to 10 MB or so, and the time of an answer."""
MARKET_DAYS: Final = 30
"""Of each period of the market, counted back from the last sale."""
UNKNOWN_CATEGORY: Final = 0xFFFF
MAX_PRICE: Final = 1e10
FIRST_DAY, LAST_DAY = (date(year, 1, 1).toordinal() - date(1970, 1, 1).toordinal() for year in (1800, 9999))
_ALIGNED: Final = 8
_MAX_HEAD: Final = 1_024
_MAX_TREES: Final = 10_000


class Head(Stored):
    """The line of JSON before the arrays."""

    NEWEST: ClassVar[int] = 1
    rows: int = Field(ge=1, le=MAX_SALES)
    dated: bool
    trees: int = Field(ge=1, le=_MAX_TREES)


class KeptSales(NamedTuple):
    """The arrays of the file, as the list above has them."""

    prices: Column
    days: NDArray[np.int32] | None
    fields: Matrix
    numbers: Matrix
    categories: NDArray[np.uint16]
    leaves: NDArray[np.uint8]

    def to_bytes(self) -> bytes:
        """The content of the file."""
        trees, rows = self.leaves.shape
        head = Head(rows=rows, dated=self.days is not None, trees=trees)
        line = head.model_dump_json().encode()
        padding = b" " * (-(len(line) + 1) % _ALIGNED)
        arrays = (part for part in self if part is not None)
        content = (part.astype(part.dtype.newbyteorder("<")).tobytes() for part in arrays)
        return line + padding + b"\n" + b"".join(content)


def parse_sales(data: bytes, manifest: Manifest) -> KeptSales:
    """The sales of a version. Raises DamagedArtifactError for what training never writes.

    The head decides the size of the file exactly, so what reading it takes is bounded by its size.
    """
    head, start = _head(data)
    kinds = [column.kind for column in manifest.columns]
    layout = _layout(head, kinds.count("number"), kinds.count("category"))
    expected = start + sum(kind.itemsize * count * head.rows for kind, count in layout)
    if len(data) != expected:
        msg = f"{SALES_FILE}: observed {len(data):,} bytes, expected {expected:,} for {head.rows:,} sales"
        raise DamagedArtifactError(msg)
    if manifest.sales is not None and manifest.sales.rows != head.rows:
        msg = f"{SALES_FILE}: observed {head.rows:,} sales, expected {manifest.sales.rows:,}"
        raise DamagedArtifactError(msg)
    arrays = _arrays(data, start, layout, head.rows)
    found = KeptSales(next(arrays)[0], next(arrays)[0] if head.dated else None, *arrays)
    if problem := next(_problems(found, manifest.columns), None):
        msg = f"{SALES_FILE}: {problem}"
        raise DamagedArtifactError(msg)
    return found


def _head(data: bytes) -> tuple[Head, int]:
    end = data.find(b"\n", 0, _MAX_HEAD) + 1
    if not end or end % _ALIGNED:
        msg = f"{SALES_FILE}: a line of JSON, filled up to a multiple of {_ALIGNED} bytes, was not found"
        raise DamagedArtifactError(msg)
    try:
        return Head.model_validate_json(data[:end]), end
    except ValidationError as error:
        msg = f"{SALES_FILE}: {reason_of(error, 'head')}"
        raise DamagedArtifactError(msg) from error


def _layout(head: Head, numbers: int, categories: int) -> list[tuple[np.dtype[Any], int]]:
    """Type of each array, and how many rows of `head.rows` values it has."""
    dates = [(np.dtype("<i4"), 1)] if head.dated else []
    return [
        (np.dtype("<f8"), 1),
        *dates,
        (np.dtype("<f4"), len(FEATURES)),
        (np.dtype("<f4"), numbers),
        (np.dtype("<u2"), categories),
        (np.dtype("u1"), head.trees),
    ]


def _arrays(data: bytes, start: int, layout: Sequence[tuple[np.dtype[Any], int]], rows: int) -> Iterator[Any]:
    for kind, count in layout:
        yield np.frombuffer(data, kind, count * rows, start).reshape(count, rows)
        start += kind.itemsize * count * rows


def _problems(sales: KeptSales, columns: Sequence[OptionalColumn]) -> Iterator[str]:
    if not ((sales.prices > 0) & (sales.prices <= MAX_PRICE)).all():
        yield f"a price is not valid, expected a number above 0 and up to {MAX_PRICE:,.0f}"
    if sales.days is not None:
        if not ((sales.days >= FIRST_DAY) & (sales.days < LAST_DAY)).all():
            yield "a day of sale is not valid, expected 1800 to 9998"
        if (np.diff(sales.days) > 0).any():
            yield "the sales are not in order, expected the newest first"
    for name, values in zip(FEATURES, sales.fields, strict=True):
        if any(broken.any() for broken in violations(BOUNDS[name], values.astype(np.float64)).values()):
            yield f"a value of {name} is not within the bounds of the contract"
    if np.isinf(sales.numbers).any():
        yield "a value of a column is infinite"
    categories = [column for column in columns if column.kind == "category"]
    for column, places in zip(categories, sales.categories, strict=True):
        if ((places >= len(column.categories)) & (places != UNKNOWN_CATEGORY)).any():
            yield f"a place in the categories of {column.name} does not exist"
