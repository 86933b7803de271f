"""From cells as people write them to numbers, by the whole column and never by one cell.

* `$450,000`, `1 500` and `1'500` are numbers if the marks are used alike in the whole column.
* A point followed by three digits is a decimal point only if enough other cells of the column prove that points are
  decimal points: `450.000` may be 450 or 450,000, and one cell with `99.5` may be a slip.
* A cell that is not a number is returned as it was written, so that the refusal can show it.
"""

import math
import re
from collections.abc import Collection, Iterable
from typing import Final, NamedTuple

import numpy as np

from pricing.house import Column
from train.sales.table import Cells

MISSING: Final = frozenset(
    {"", "na", "n/a", "nan", "null", "none", "#n/a", "-", "?", "inf", "-inf", "+inf", "infinity"}
)
MIN_MARKED: Final = 2  # a mark in one cell only may be a slip
MIN_PROOF: Final = 0.01  # cells that prove decimal points, as a share of those that may have either
_PLAIN: Final = re.compile(r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)
_AMBIGUOUS: Final = re.compile(r"[+-]?[1-9]\d{0,2}(?:\.\d{3})+", re.ASCII)
_DECIMAL: Final = re.compile(r"[+-]?(?:0?\.\d*|\d+\.(?:\d{1,2}|\d{4,})?|0\.\d+|\d{4,}\.\d+)(?:[eE][+-]?\d+)?")
_GROUPED_BY: Final = {
    mark: re.compile(rf"[+-]?\d{{1,3}}(?:{mark}\d{{3}})*(?:\.\d+)?", re.ASCII) for mark in (",", " ", "'", "\u2019")
}
_SPACES: Final = re.compile("[\u00a0\u2007\u2009\u202f]")  # those that spreadsheets put between thousands


class Numbers(NamedTuple):
    """A column: float64 of shape (n,), NaN where no number was read, and the other cells, by row."""

    values: Column
    unread: dict[int, str]
    is_ambiguous: bool
    """Whether most of the cells have points that may mark decimals or thousands."""


def numbers(cells: Cells, *, from_text: bool = True) -> Numbers:
    """Read a column of text and numbers. Without `from_text`, text is not a number, as in JSON."""
    if isinstance(cells, np.ndarray) and cells.dtype == np.float64:
        return Numbers(np.where(np.isfinite(cells), cells, np.nan), {}, is_ambiguous=False)
    values = np.full(len(cells), np.nan)
    texts: dict[int, str] = {}
    for row, cell in enumerate(cells):
        if isinstance(cell, str) and from_text:
            text = _SPACES.sub(" ", cell).strip()
            if text.lower() not in MISSING:
                texts[row] = text
        elif isinstance(cell, int | float) and not isinstance(cell, bool):
            values[row] = _finite(cell)
    marks = _marks_of(texts.values())
    decimal = _are_decimal(texts.values())
    unread: dict[int, str] = {}
    ambiguous = 0
    for row, text in texts.items():
        plain = _without(text, marks)
        if not decimal and _AMBIGUOUS.fullmatch(text):
            ambiguous += 1
            unread[row] = text
        elif plain is None or not _PLAIN.fullmatch(plain):
            unread[row] = text
        else:
            values[row] = _finite(float(plain))
    return Numbers(values, unread, ambiguous * 2 > len(texts))


def _are_decimal(texts: Collection[str]) -> bool:
    """Whether the points of a column are proved to be decimal points, or no cell leaves that open."""
    ambiguous = [text for text in texts if _AMBIGUOUS.fullmatch(text)]
    if not ambiguous:
        return True
    proofs = sum(_DECIMAL.fullmatch(text) is not None for text in texts)
    return proofs >= MIN_PROOF * len(ambiguous) and proofs > sum(text.count(".") > 1 for text in ambiguous)


class _Marks(NamedTuple):
    dollar: bool
    mark: str


def _marks_of(texts: Iterable[str]) -> _Marks:
    """The marks that all cells of a column agree on; none if they do not."""
    texts = list(texts)
    dollars = sum("$" in text for text in texts)
    dollar = dollars >= MIN_MARKED and dollars == len(texts)
    bare = [text.replace("$", "").replace("- ", "-").strip() for text in texts] if dollar else texts
    for mark, pattern in _GROUPED_BY.items():
        if sum(mark in text for text in bare) >= MIN_MARKED and all(map(pattern.fullmatch, bare)):
            return _Marks(dollar, mark)
    return _Marks(dollar, "")


def _without(text: str, marks: _Marks) -> str | None:
    """The number without the marks of its column; None if it has one in the wrong place."""
    if marks.dollar:
        found = re.fullmatch(r"([+-]?)\$ ?([+-]?)(.+)", text)
        if found is None or (found[1] and found[2]):
            return None
        text = found[1] + found[2] + found[3]
    return text.replace(marks.mark, "") if marks.mark else text


def _finite(value: float) -> float:
    try:
        found = float(value)
    except OverflowError:  # a whole number beyond all floats
        return math.nan
    return found if math.isfinite(found) else math.nan
