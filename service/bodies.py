"""From the bytes of a body to houses, at a cost that its size bounds, whatever is in it.

pydantic finds every problem of a body and copies the value that each is about: 1 MiB of `{}` takes 400 ms and 160 MB.
Therefore:

* The opening brackets of a body are counted first, because pydantic's JSON takes 300 bytes and more for each.
* A body that follows the rules is read in one go. Of any other, only the fact is learned, without an error.
* The problems of such a body are looked for in plain Python objects, to which an error refers without a copy, a few
  rows at a time, and no further than an answer tells.
"""

from collections.abc import Generator, Iterable, Iterator, Sequence
from typing import Any, Final, TypeAlias, TypeVar

from pydantic import TypeAdapter, ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError, SchemaValidator, core_schema, from_json

from pricing.house import Values
from service.contract import BESIDE, MISPLACED, Houses, PlainHouseOfBatch, PlainOneHouse, frame_of, parser_of
from service.errors import MOST_PROBLEMS, InvalidRequestError

BODY: Final = "body"
BYTES_A_BRACKET: Final = 64
"""A house has more bytes than that, and one opening bracket."""
ROWS_A_STEP: Final = 500
"""Houses that are looked at, or priced, in one step: half a millisecond."""
T = TypeVar("T")
Steps: TypeAlias = Generator[bytes, None, T]
"""Work that takes a break wherever it yields b"", and its result."""


def whole(steps: Steps[T]) -> T:
    """Do it without breaks."""
    while True:
        try:
            next(steps)
        except StopIteration as done:
            result: T = done.value
            return result


class HouseParser:
    """Reads the body of a single prediction."""

    def __init__(self, max_bytes: int) -> None:
        """Prepare for bodies of at most so many bytes."""
        self._most = max_bytes // BYTES_A_BRACKET
        self._house: TypeAdapter[Values] = TypeAdapter(PlainOneHouse)
        self._quick = _without_errors(self._house)

    def parse(self, body: bytes) -> Values:
        """Raises InvalidRequestError with `loc` ["body", field]."""
        _check_brackets(body, self._most)
        return _read(self._quick, body) or _checked(self._house, _tree(body))


class HousesParser:
    """Reads the body of a batch."""

    def __init__(self, batch: type[Houses], max_bytes: int) -> None:
        """Prepare for bodies of at most so many bytes."""
        self._most = max_bytes // BYTES_A_BRACKET
        self._quick = _without_errors(parser_of(batch))
        self._frame = frame_of(batch)
        self._house: TypeAdapter[Values] = TypeAdapter(PlainHouseOfBatch)

    def parse(self, body: bytes) -> Steps[dict[str, Any]]:
        """Return `houses`, and the options that stand beside them.

        Raises InvalidRequestError with `loc` ["body", "houses", row, field] or ["body", name].
        """
        _check_brackets(body, self._most)
        found = _read(self._quick, body)
        if found is not None:
            return found  # type: ignore[no-any-return]
        yield b""
        tree: Any = _tree(body)
        frame, beside = self._check_frame(tree)
        yield b""
        houses = yield from self._checked_rows(tree["houses"], beside)
        return frame | {"houses": houses}

    def _check_frame(self, tree: object) -> tuple[dict[str, Any], list[InitErrorDetails]]:
        """Everything but the rows, and the problems of what stands beside them."""
        try:
            return self._frame.validate_python(tree), []
        except ValidationError as error:
            problems = list(_problems(error))
            if problems[0]["loc"][:1] in {(), ("houses",)}:  # `houses` is the first field: there are no rows to look at
                raise _invalid(problems) from error
            return {}, problems

    def _checked_rows(self, rows: Sequence[object], beside: Sequence[InitErrorDetails] = ()) -> Steps[list[Values]]:
        houses: list[Values] = []
        problems: list[InitErrorDetails] = []
        for number, row in enumerate(rows):
            try:
                houses.append(self._house.validate_python(row))
            except ValidationError as error:
                problems += _problems(error, "houses", number)
                if len(problems) >= MOST_PROBLEMS:
                    break
            if number % ROWS_A_STEP == ROWS_A_STEP - 1:
                yield b""
        if problems or beside:
            raise _invalid([*problems, *beside])
        return houses


def _without_errors(adapter: TypeAdapter[Any]) -> SchemaValidator:
    """The same rules; None for what breaks them."""
    return SchemaValidator(core_schema.with_default_schema(adapter.core_schema, default=None, on_error="default"))


def _read(quick: SchemaValidator, body: bytes) -> Any:  # noqa: ANN401 -- whatever the validator makes
    try:
        return quick.validate_json(body)
    except ValidationError as error:  # not JSON: one problem
        raise InvalidRequestError(BODY, error) from error


def _tree(body: bytes) -> object:
    """The same JSON as pydantic's validators read, as plain objects."""
    return from_json(body)


def _checked(adapter: TypeAdapter[T], value: object) -> T:
    try:
        return adapter.validate_python(value)
    except ValidationError as error:
        raise _invalid(_problems(error)) from error


def _problems(error: ValidationError, *where: str | int) -> Iterator[InitErrorDetails]:
    for problem in error.errors(include_url=False):
        # Of JSON, an integer above all floats is infinite; of Python, it is not a number that a float can be.
        is_huge = problem["type"] == "float_type" and type(problem["input"]) is int
        kind: str | PydanticCustomError = "finite_number" if is_huge else problem["type"]
        if kind == MISPLACED:
            kind = PydanticCustomError(MISPLACED, BESIDE)
        details: InitErrorDetails = {"type": kind, "loc": (*where, *problem["loc"]), "input": None}
        if "ctx" in problem:
            details["ctx"] = problem["ctx"]
        yield details


def _invalid(problems: Iterable[InitErrorDetails]) -> InvalidRequestError:
    """The first problems, in pydantic's words for JSON: what is a dictionary in Python is an object there."""
    told = list(problems)[:MOST_PROBLEMS]
    return InvalidRequestError(BODY, ValidationError.from_exception_data("body", told, input_type="json"))


def _check_brackets(body: bytes, most: int) -> None:
    if len(body) > most and body.count(b"[") + body.count(b"{") > most:
        problem = PydanticCustomError("too_many_brackets", f"JSON should have at most {most:,} opening brackets")
        raise _invalid([{"type": problem, "loc": (), "input": None}])
