"""A table as it was read: columns of cells, where each row stands, and which rows could not be read."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

from numpy.typing import NDArray

Cells: TypeAlias = Sequence[object] | NDArray[Any]


class Broken(NamedTuple):
    """A row that could not be read, with its reason and its line."""

    reason: str
    line: int


class Table(NamedTuple):
    """Cells by column: text, numbers or None, one for each row. `lines` are those that an editor shows, from 1."""

    columns: Mapping[str, Cells]
    lines: Sequence[int]
    broken: tuple[Broken, ...] = ()
    notes: tuple[str, ...] = ()
    """One sentence for each thing about the file that its owner may want to know."""
    repeated: frozenset[str] = frozenset()
    """Names that several columns have; the first of them is here."""
    has_text_numbers: bool = True
    """Whether text may be a number; in JSON it may not."""
