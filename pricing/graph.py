"""What a graph may hold, looked up in the bytes of the ONNX file before onnxruntime sees them.

Trees and a little arithmetic are all that training writes, so anything else was not written by it. Only what decides is
read, down to operators and dimensions; the trees themselves, nearly all of the file, are passed over.

An ONNX file is a protobuf message (protobuf.dev/programming-guides/encoding); field numbers are those of onnx.proto.
"""

from collections.abc import Iterator
from math import prod
from typing import Final

from pricing.errors import ModelError

OPERATORS: Final = frozenset(
    {("ai.onnx.ml", "TreeEnsembleRegressor"), ("", "Add"), ("", "Cast"), ("", "Max"), ("", "Reshape")}
)
MOST_ELEMENTS: Final = 1_024  # of a constant; ours have one

_GRAPH, _TRAINING, _FUNCTION = 7, 20, 25  # of ModelProto
_NODE, _CONSTANT, _SPARSE_CONSTANT = 1, 5, 15  # of GraphProto
_OPERATOR, _DOMAIN = 4, 7  # of NodeProto
_DIMENSIONS, _EXTERNAL, _LOCATION = 1, 13, 14  # of TensorProto
# Every reference to another file has this key: one search covers all places in which a tensor may stand.
_EXTERNAL_KEY: Final = b"location"

BROKEN: Final = "the file is no ONNX file, or a damaged one"

_VARINT, _EIGHT_BYTES, _BYTES, _FOUR_BYTES = 0, 1, 2, 5  # wire types
_LONGEST_VARINT: Final = 10  # bytes

Field = tuple[int, int | memoryview]


def check_graph(graph: bytes) -> None:
    """Raise ModelError for what training never writes: other operators, data in other files, constants of any size."""
    if _EXTERNAL_KEY in graph:
        msg = "the graph keeps data in another file; all of it must be in model.onnx"
        raise ModelError(msg)
    found = False
    for number, value in _fields(memoryview(graph)):
        if number in {_TRAINING, _FUNCTION}:
            msg = "the graph defines functions or training; expected a plain graph"
            raise ModelError(msg)
        if number == _GRAPH:
            found = True
            _check_parts(_message(value))
    if not found:
        msg = f"the file of {len(graph):,} bytes holds no graph"
        raise ModelError(msg)


def _check_parts(graph: memoryview) -> None:
    for number, value in _fields(graph):
        if number == _NODE:
            _check_operator(_message(value))
        elif number == _CONSTANT:
            _check_constant(_message(value))
        elif number == _SPARSE_CONSTANT:
            msg = "the graph holds a sparse constant; training writes none"
            raise ModelError(msg)


def _check_operator(node: memoryview) -> None:
    texts = {number: bytes(_message(value)) for number, value in _fields(node) if number in {_OPERATOR, _DOMAIN}}
    domain, operator = (texts.get(number, b"").decode("ascii", "replace") for number in (_DOMAIN, _OPERATOR))
    if (domain, operator) not in OPERATORS:
        allowed = ", ".join(sorted(name for _, name in OPERATORS))
        msg = f"the graph uses the operator {_named(domain, operator)}; training writes {allowed} only"
        raise ModelError(msg)


def _check_constant(tensor: memoryview) -> None:
    dimensions: list[int] = []
    for number, value in _fields(tensor):
        if number in {_EXTERNAL, _LOCATION}:
            msg = "a constant of the graph is in another file; all of it must be in model.onnx"
            raise ModelError(msg)
        if number == _DIMENSIONS:
            dimensions += [value] if isinstance(value, int) else list(_varints(value))
    if prod(dimensions) > MOST_ELEMENTS:
        msg = f"a constant of the graph declares {prod(dimensions):,} elements; at most {MOST_ELEMENTS:,} are allowed"
        raise ModelError(msg)


def _named(domain: str, operator: str) -> str:
    name = f"{domain}.{operator}" if domain else operator
    return repr(name[:60])


def _fields(data: memoryview) -> Iterator[Field]:
    """Number and value of each field of a message; values of fixed width, which nothing here needs, are 0."""
    place = 0
    while place < len(data):
        key, place = _varint(data, place)
        number, wire_type = key >> 3, key & 7
        if wire_type == _VARINT:
            value, place = _varint(data, place)
            yield number, value
        elif wire_type == _BYTES:
            length, place = _varint(data, place)
            if length > len(data) - place:
                raise ModelError(BROKEN)
            yield number, data[place : place + length]
            place += length
        elif wire_type in {_EIGHT_BYTES, _FOUR_BYTES}:
            place += 8 if wire_type == _EIGHT_BYTES else 4
            yield number, 0
        else:
            raise ModelError(BROKEN)


def _varints(data: memoryview) -> Iterator[int]:
    place = 0
    while place < len(data):
        value, place = _varint(data, place)
        yield value


def _varint(data: memoryview, place: int) -> tuple[int, int]:
    """The number at a place, and the place behind it."""
    value = 0
    for index, byte in enumerate(data[place : place + _LONGEST_VARINT]):
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:  # noqa: PLR2004 -- the bit that says that more follows
            return value, place + index + 1
    raise ModelError(BROKEN)


def _message(value: int | memoryview) -> memoryview:
    if isinstance(value, int):
        raise ModelError(BROKEN)
    return value
