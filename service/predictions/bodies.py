"""From the bytes of a body to houses, at a cost that its size bounds, whatever is in it.

pydantic's `validate_json` finds every problem of a body and copies the value that each is about. It takes 300 bytes for
each pair of brackets, and looks for each field among all names. 1 MiB may take 0.8 s and 160 MB. Therefore:

* The opening brackets of a body are counted first.
* One with as few objects, names and values as a good one is read in one go, which only decides whether it is good.
* Any other is read as plain Python objects, to which an error refers without a copy.
* Problems are looked for a few rows at a time, and no further than an answer lists.
"""

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from typing import Annotated, Any, Final, LiteralString, TypeAlias, TypeVar

from pydantic import FailFast, TypeAdapter, ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError, SchemaValidator, core_schema, from_json

from pricing.house import Values
from service.contract import (
    BESIDE,
    MISPLACED,
    NOT_OF_BATCH,
    ONE_BY_ONE,
    Houses,
    PlainHouseOfBatch,
    PlainOneHouse,
    max_rows_of,
    rows_of,
)
from service.errors import MAX_PROBLEMS, InvalidRequestError

BODY: Final = "body"
QUERY: Final = "query"
BYTES_A_BRACKET: Final = 64
"""A house has more bytes than that, and one opening bracket."""
NAMES_AN_OBJECT: Final = 16
"""A house has five."""
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
        self._quick = _quick(self._house)

    def parse(self, body: bytes) -> Values:
        """Raises InvalidRequestError with `loc` ["body", field]."""
        _check_brackets(body, self._most)
        found: Values | None = self._quick(body)
        return found or _checked(self._house, _tree(body))


class HousesParser:
    """Reads the body of a batch."""

    def __init__(self, batch: type[Houses], max_bytes: int) -> None:
        """Prepare for bodies of at most so many bytes."""
        self._most = max_bytes // BYTES_A_BRACKET
        self._most_rows = max_rows_of(batch)
        self._quick = _quick(rows_of(batch, PlainHouseOfBatch))
        self._frame = rows_of(batch, Any)
        self._rows: TypeAdapter[list[Values]] = TypeAdapter(Annotated[list[PlainHouseOfBatch], FailFast()])
        self._house: TypeAdapter[Values] = TypeAdapter(PlainHouseOfBatch)

    def parse(self, body: bytes) -> Steps[dict[str, Any]]:
        """Return `houses`, and the options that stand beside them.

        Raises InvalidRequestError with `loc` ["body", "houses", row, field] or ["body", name].
        """
        _check_brackets(body, self._most)
        found: dict[str, Any] | None = self._quick(body) if self._is_regular(body) else None
        if found is not None:
            yield b""
            return found
        return (yield from self._parse_slowly(body))

    def _is_regular(self, body: bytes) -> bool:
        """Whether it has no more objects than a batch, and so few names and values that none of them takes long."""
        objects = body.count(b"{")
        most = NAMES_AN_OBJECT * objects
        return objects <= self._most_rows + 1 and body.count(b":") <= most and body.count(b",") <= most

    def _parse_slowly(self, body: bytes) -> Steps[dict[str, Any]]:
        tree: Any = _tree(body)
        frame, beside = self._check_frame(tree)
        rows = tree["houses"]
        houses: list[Values] = []
        for start in range(0, len(rows), ROWS_A_STEP):
            yield b""
            try:
                houses += self._rows.validate_python(rows[start : start + ROWS_A_STEP])
            except ValidationError:
                raise self._problems_from(rows, start, beside) from None
        if beside:
            raise invalid(beside)
        return frame | {"houses": houses}

    def _check_frame(self, tree: object) -> tuple[dict[str, Any], list[InitErrorDetails]]:
        """Everything but the rows, and the problems of what stands beside them. Raises InvalidRequestError."""
        try:
            return self._frame.validate_python(tree), []
        except ValidationError as error:
            problems = list(_problems(error))
            if problems[0]["loc"][:1] in {(), ("houses",)}:  # `houses` is the first field, so no rows can be read
                raise invalid(problems) from error
            return {}, problems

    def _problems_from(
        self, rows: Sequence[object], start: int, beside: Sequence[InitErrorDetails] = ()
    ) -> InvalidRequestError:
        problems: list[InitErrorDetails] = []
        for number in range(start, len(rows)):
            try:
                self._house.validate_python(rows[number])
            except ValidationError as error:
                problems += _problems(error, "houses", number)
                if len(problems) >= MAX_PROBLEMS:
                    break
        return invalid([*problems, *beside])


def _quick(adapter: TypeAdapter[Any]) -> Callable[[bytes], Any]:
    """Reads by the same rules, in less time; None for what breaks them, whatever it is."""
    schema = core_schema.with_default_schema(adapter.core_schema, default=None, on_error="default")
    validate_json = SchemaValidator(schema).validate_json

    def read(body: bytes) -> Any:  # noqa: ANN401 -- what the adapter makes
        try:
            return validate_json(body)
        except ValidationError:  # not JSON
            return None

    return read


def _check_brackets(body: bytes, most_brackets: int) -> None:
    if len(body) > most_brackets and body.count(b"[") + body.count(b"{") > most_brackets:
        message = f"JSON should have at most {most_brackets:,} opening brackets"
        raise invalid([{"type": PydanticCustomError("too_many_brackets", message), "loc": (), "input": None}])


def _tree(body: bytes) -> object:
    try:
        return from_json(body)
    except ValueError as error:
        raise invalid([{"type": "json_invalid", "loc": (), "input": None, "ctx": {"error": str(error)}}]) from error


def _checked(adapter: TypeAdapter[T], value: object) -> T:
    try:
        return adapter.validate_python(value)
    except ValidationError as error:
        raise invalid(_problems(error)) from error


def _problems(error: ValidationError, *where: str | int) -> Iterator[InitErrorDetails]:
    for problem in error.errors(include_url=False):
        # Of JSON, an integer above all floats is infinite; of Python, it is not a number that a float can be.
        is_huge = problem["type"] == "float_type" and type(problem["input"]) is int
        kind: str | PydanticCustomError = "finite_number" if is_huge else problem["type"]
        if kind == MISPLACED:
            kind = PydanticCustomError(MISPLACED, BESIDE)
        elif kind == NOT_OF_BATCH:
            kind = PydanticCustomError(NOT_OF_BATCH, ONE_BY_ONE)
        details: InitErrorDetails = {"type": kind, "loc": (*where, *problem["loc"]), "input": None}
        if "ctx" in problem:
            details["ctx"] = problem["ctx"]
        yield details


def invalid(problems: Iterable[InitErrorDetails]) -> InvalidRequestError:
    """The refusal of a body, in pydantic's words for JSON: what is a dictionary in Python is an object there."""
    told = list(problems)[:MAX_PROBLEMS]
    return InvalidRequestError(BODY, ValidationError.from_exception_data("body", told, input_type="json"))


def refused_in_query(kind: LiteralString, message: str, *loc: str) -> InvalidRequestError:
    """The refusal of a query for one reason."""
    error = PydanticCustomError(kind, "{message}", {"message": message})
    problem: InitErrorDetails = {"type": error, "loc": loc, "input": None}
    return InvalidRequestError(QUERY, ValidationError.from_exception_data(QUERY, [problem]))
