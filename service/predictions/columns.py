"""The further columns of the version that answers: read after it is chosen, so that other versions cost nothing more.

The body has been parsed, and is good, before. What the contract ignored in it may be a column of this version.
"""

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any, Final, NamedTuple

import numpy as np
from pydantic_core import InitErrorDetails, PydanticCustomError, from_json

from pricing.artifacts.columns import ReadRow, RowReader, ValueProblemError
from pricing.house import FEATURES, Matrix, Values, to_matrix
from service.errors import MAX_PROBLEMS
from service.predictions.bodies import ROWS_A_STEP, Steps, invalid

HOUSES: Final = "houses"
FIELDS: Final = len(FEATURES)


class GivenColumns(NamedTuple):
    """The further columns of the houses of a request."""

    recorded: list[dict[str, float | str]]
    """The values that were given, by name, for each house."""
    unseen: list[tuple[int, int]]
    """Row and column, in the input of the version, of each category that training has not seen."""
    not_given: list[list[str]]
    """The columns that were not given, for each house."""


def read_one(reader: RowReader, house: Values, body: bytes) -> tuple[Matrix, GivenColumns]:
    """The input of the version, of shape (1, 5 + columns). Raises InvalidRequestError with `loc` ["body", name]."""
    sent: Mapping[str, Any] = from_json(body)
    try:
        row = reader.read(sent)
    except ValueProblemError:
        raise invalid(_problems(reader, sent)) from None
    return np.concatenate([to_matrix([house]), np.array([row.numbers], dtype=np.float32)], axis=1), _given(
        reader, [row]
    )


def read_many(reader: RowReader, houses: list[Values], body: bytes) -> Steps[tuple[Matrix, GivenColumns]]:
    """The same for a batch, of shape (n, 5 + columns). Raises it with `loc` ["body", "houses", row, name]."""
    return (yield from read_rows(reader, to_matrix(houses), from_json(body)[HOUSES]))


def read_rows(
    reader: RowReader, fields: Matrix, sent: Sequence[Mapping[str, Any]]
) -> Steps[tuple[Matrix, GivenColumns]]:
    """The same for the five fields, of shape (n, 5), and for each house what was sent of further columns."""
    rows: list[ReadRow] = []
    for start in range(0, len(sent), ROWS_A_STEP):
        yield b""
        try:
            rows += map(reader.read, sent[start : start + ROWS_A_STEP])
        except ValueProblemError:
            raise invalid(_problems_from(reader, sent, start)) from None
    numbers = np.fromiter(chain.from_iterable(row.numbers for row in rows), dtype=np.float32)
    return np.concatenate([fields, numbers.reshape(len(rows), -1)], axis=1), _given(reader, rows)


def _given(reader: RowReader, rows: list[ReadRow]) -> GivenColumns:
    names = reader.names
    return GivenColumns(
        [row.recorded for row in rows],
        [(number, FIELDS + place) for number, row in enumerate(rows) for place in row.unseen],
        [[name for name in names if name not in row.recorded] for row in rows],
    )


def _problems(reader: RowReader, house: Mapping[str, Any], *where: str | int) -> list[InitErrorDetails]:
    return [
        {
            "type": PydanticCustomError(error.kind, "{message}", {"message": str(error)}),
            "loc": (*where, name),
            "input": None,
        }
        for name, error in reader.problems(house)
    ]


def _problems_from(reader: RowReader, houses: Sequence[Mapping[str, Any]], start: int) -> list[InitErrorDetails]:
    found: list[InitErrorDetails] = []
    for number in range(start, len(houses)):
        found += _problems(reader, houses[number], HOUSES, number)
        if len(found) >= MAX_PROBLEMS:
            break
    return found
