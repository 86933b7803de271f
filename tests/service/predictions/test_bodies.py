"""Bodies are read at a bounded cost, and yet refused in the words of pydantic, which knows no bound."""

import json
from collections.abc import Sequence
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from service.contract import PlainHouseOfBatch, PlainOneHouse, batch_of, rows_of
from service.errors import MAX_PROBLEMS, InvalidRequestError
from service.predictions.bodies import BYTES_A_BRACKET, ROWS_A_STEP, HouseParser, HousesParser, whole
from tests.bodies import CASES, FIELDS, GOOD, MAX_BATCH_BYTES, MAX_BYTES, TEXTS, Case, batch

PLAIN: Final[TypeAdapter[Any]] = TypeAdapter(PlainOneHouse)
PLAIN_BATCH: Final[TypeAdapter[Any]] = rows_of(batch_of(10_000), PlainHouseOfBatch)
SINGLE: Final = HouseParser(MAX_BATCH_BYTES)
MANY: Final = HousesParser(batch_of(10_000), MAX_BATCH_BYTES)
PIECES: Final = (
    *("1", "0", "-1", "2.5", "1e999", "-1e999", "NaN", "Infinity", '"2"', '""', "true", "null", "[]", "{}", "[1]"),
    *('{"a": 1}', "9" * 25, "9" * 4_000, "-" + "9" * 4_000, "50", "51", "1e-5", "-0.0", "1.0000000001"),
)


def in_one_go(adapter: TypeAdapter[Any], body: bytes) -> Any:  # noqa: ANN401 -- houses or problems
    """What pydantic makes of a body without any bound."""
    try:
        return adapter.validate_json(body)
    except ValidationError as error:
        found = error.errors(include_url=False, include_context=False, include_input=False)
        told = [{"type": one["type"], "loc": ["body", *one["loc"]], "msg": one["msg"]} for one in found]
        return told[:MAX_PROBLEMS]


def single(body: bytes) -> Any:  # noqa: ANN401 -- the same
    try:
        return SINGLE.parse(body)
    except InvalidRequestError as error:
        return error.problems


def many(body: bytes) -> Any:  # noqa: ANN401 -- the same
    try:
        return whole(MANY.parse(body))
    except InvalidRequestError as error:
        return error.problems


@pytest.mark.parametrize("case", [case for case in CASES if len(case.body) < MAX_BYTES], ids=lambda case: case.name)
def test_a_body_of_the_table_is_read_and_refused_in_the_words_of_pydantic(case: Case) -> None:
    assert single(case.body) == in_one_go(PLAIN, case.body)
    assert many(case.body) == in_one_go(PLAIN_BATCH, case.body)


values = st.sampled_from([*PIECES, *[None] * len(PIECES)])
rows = st.one_of(
    st.fixed_dictionaries(dict.fromkeys(FIELDS, values)).map(
        lambda row: "{" + ", ".join(f'"{name}": {value or TEXTS[name]}' for name, value in row.items()) + "}"
    ),
    st.sets(st.sampled_from(FIELDS)).map(lambda names: json.dumps(dict.fromkeys(names, 3))),
    st.sampled_from(PIECES),
)


@given(rows)
def test_any_house_is_read_and_refused_in_the_words_of_pydantic(row: str) -> None:
    assert single(row.encode()) == in_one_go(PLAIN, row.encode())


@given(
    st.one_of(st.lists(rows, max_size=40).map(lambda found: f"[{', '.join(found)}]"), st.sampled_from(PIECES)),
    st.sampled_from(["", ', "confidence": 0.5', ', "confidence": 90', ', "model_version": "v1", "confidence": "0.5"']),
)
def test_any_batch_is_read_and_refused_in_the_words_of_pydantic(houses: str, beside: str) -> None:
    body = f'{{"houses": {houses}{beside}}}'.encode()
    assert many(body) == in_one_go(PLAIN_BATCH, body)


class Looked(Sequence[object]):
    """Rows that remember how many of them were looked at."""

    def __init__(self, row: object) -> None:
        self.row = row
        self.looked_at = 0

    def __len__(self) -> int:
        return 1_000

    def __getitem__(self, index: Any) -> Any:  # noqa: ANN401 -- of a sequence
        self.looked_at += 1
        return self.row


@pytest.mark.parametrize(("row", "expected"), [({}, 4), (None, 20)])
def test_no_row_is_looked_at_when_as_many_problems_are_known_as_are_told(row: object, expected: int) -> None:
    looked = Looked(row)

    refused = MANY._problems_from(looked, 0)

    assert (looked.looked_at, len(refused.problems)) == (expected, MAX_PROBLEMS)


def test_an_error_holds_nothing_of_a_large_body() -> None:
    """An error of pydantic's has a copy of what it is about: here, of the house, for each field that it lacks."""
    body = batch(b'{"x": [' + b"1, " * 100_000 + b"1]}")

    with pytest.raises(InvalidRequestError) as refused:
        whole(MANY.parse(body))

    assert [problem["type"] for problem in refused.value.problems] == ["missing"] * len(FIELDS)
    error: BaseException | None = refused.value
    while error is not None:
        assert not isinstance(error, ValidationError) or len(repr(error.errors())) < 1_000
        error = error.__cause__


@pytest.mark.parametrize("bracket", [b"[", b"{", b"[]", b"{}", b'"["'])
def test_brackets_are_counted_before_a_body_is_read(bracket: bytes) -> None:
    most = MAX_BATCH_BYTES // BYTES_A_BRACKET
    body = batch(GOOD.replace(b"{", b'{"a": [' + (bracket + b",") * most + b"0], ", 1))

    assert many(body) == [
        {"type": "too_many_brackets", "loc": ["body"], "msg": "JSON should have at most 16,384 opening brackets"}
    ]


def test_a_batch_that_is_not_regular_is_read_in_steps() -> None:
    named = GOOD.replace(b"{", b"{" + b"".join(b'"name %d": 1, ' % number for number in range(12)), 1)

    assert list(MANY.parse(batch(*[named] * 2_000))) == [b""] * (2_000 // ROWS_A_STEP)
    assert list(MANY.parse(batch(*[GOOD] * 2_000))) == [b""]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (batch(*[GOOD] * 10_000), True),
        (batch(*[GOOD] * 10_001), False),
        (batch(b"{" + b", ".join(b'"%d": 1' % number for number in range(16 * 2)) + b"}"), False),
        (batch(GOOD[:-1] + b', "more": [' + b", ".join([b"0"] * 16 * 2) + b"]}"), False),
    ],
)
def test_a_body_with_more_in_it_than_a_batch_is_not_read_in_one_go(body: bytes, *, expected: bool) -> None:
    assert MANY._is_regular(body) == expected
