"""What a graph may hold, looked up in the bytes of the ONNX file before onnxruntime sees them.

Trees and a little arithmetic are all that training writes, so anything else was not written by it. Only what decides is
read: operators, dimensions, thresholds and leaves; the rest of the trees, which is most of the file, is passed over.

An ONNX file is a protobuf message (protobuf.dev/programming-guides/encoding); field numbers are those of onnx.proto.
"""

from collections.abc import Iterator
from typing import Final

import numpy as np

from pricing.errors import ModelError

OPERATORS: Final = frozenset(
    {("ai.onnx.ml", "TreeEnsembleRegressor"), ("", "Add"), ("", "Cast"), ("", "Max"), ("", "Reshape")}
)
MOST_FIELDS: Final = 1_000  # of one message, beside the numbers of a tree; ours have 20

_GRAPH, _TRAINING, _FUNCTION = 7, 20, 25  # of ModelProto
_NODE, _CONSTANT, _SPARSE_CONSTANT = 1, 5, 15  # of GraphProto
_OPERATOR, _ATTRIBUTE, _DOMAIN = 4, 5, 7  # of NodeProto
_NAME = 1  # of AttributeProto
_FLOATS: Final = frozenset({b"base_values", b"nodes_values", b"target_weights"})  # attributes
# As protobuf writes them: after the name a key and a number for each float, and at the end that they are floats.
_FLOAT: Final = np.dtype([("key", "u1"), ("value", "<f4")])
_FLOAT_KEY: Final = 0x3D
_ARE_FLOATS: Final = b"\xa0\x01\x06"
_DIMENSIONS, _EXTERNAL, _LOCATION = 1, 13, 14  # of TensorProto
# Every reference to another file has this key: one search covers all places in which a tensor may stand.
_EXTERNAL_KEY: Final = b"location"

BROKEN: Final = "the file is no ONNX file, or a damaged one"

_VARINT, _EIGHT_BYTES, _BYTES, _FOUR_BYTES = 0, 1, 2, 5  # wire types
_LONGEST_VARINT: Final = 10  # bytes

Value = int | memoryview


def check_graph(graph: bytes) -> None:
    """Raise ModelError for what training never writes.

    That is: other operators, data in other files, constants of more than one element, trees of anything but numbers.
    """
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
    texts = {_OPERATOR: b"", _DOMAIN: b""}
    for number, value in _fields(node):
        if number == _ATTRIBUTE:
            _check_floats(_message(value))
        elif number in texts:
            texts[number] = bytes(_message(value))
    domain, operator = (texts[number].decode("ascii", "replace") for number in (_DOMAIN, _OPERATOR))
    if (domain, operator) not in OPERATORS:
        allowed = ", ".join(sorted(name for _, name in OPERATORS))
        msg = f"the graph uses the operator {_named(domain, operator)}; training writes {allowed} only"
        raise ModelError(msg)


def _check_floats(attribute: memoryview) -> None:
    """A leaf that is NaN is a house without a price, and no example need be that house."""
    number, found, place = _field(attribute, 0)
    name = bytes(_message(found))
    if number != _NAME:
        raise ModelError(BROKEN)
    if name not in _FLOATS:
        return
    count = (len(attribute) - place) // _FLOAT.itemsize
    floats = np.frombuffer(attribute, _FLOAT, count, place)
    end = bytes(attribute[place + floats.nbytes :])
    if (floats["key"] != _FLOAT_KEY).any() or end != _ARE_FLOATS:
        raise ModelError(BROKEN)
    finite = np.isfinite(floats["value"])
    if not finite.all():
        bad = int(np.argmin(finite))
        msg = f"{name.decode()} of the trees: observed {floats['value'][bad]} at {bad:,}, expected finite numbers"
        raise ModelError(msg)


def _check_constant(tensor: memoryview) -> None:
    for number, value in _fields(tensor):
        if number in {_EXTERNAL, _LOCATION}:
            msg = "a constant of the graph is in another file; all of it must be in model.onnx"
            raise ModelError(msg)
        if number == _DIMENSIONS and (declared := _number(value)) != 1:
            msg = f"a constant of the graph declares {declared:,} elements in one dimension; expected 1"
            raise ModelError(msg)


def _named(domain: str, operator: str) -> str:
    name = f"{domain}.{operator}" if domain else operator
    return repr(name[:60])


def _fields(data: memoryview) -> Iterator[tuple[int, Value]]:
    """Number and value of each field of a message."""
    place = 0
    for _ in range(MOST_FIELDS):
        if place >= len(data):
            return
        number, value, place = _field(data, place)
        yield number, value
    msg = f"a part of the graph has {MOST_FIELDS:,} fields or more; training writes a few dozen"
    raise ModelError(msg)


def _field(data: memoryview, place: int) -> tuple[int, Value, int]:
    """Number and value of the field at a place, and the place behind it; values of fixed width are 0."""
    key, place = _varint(data, place)
    number, wire_type = key >> 3, key & 7
    if wire_type == _VARINT:
        value, place = _varint(data, place)
        return number, value, place
    if wire_type == _BYTES:
        length, place = _varint(data, place)
        if length > len(data) - place:
            raise ModelError(BROKEN)
        return number, data[place : place + length], place + length
    if wire_type in {_EIGHT_BYTES, _FOUR_BYTES}:
        return number, 0, place + (8 if wire_type == _EIGHT_BYTES else 4)
    raise ModelError(BROKEN)


def _varint(data: memoryview, place: int) -> tuple[int, int]:
    """The number at a place, and the place behind it."""
    value = 0
    for index, byte in enumerate(data[place : place + _LONGEST_VARINT]):
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:  # noqa: PLR2004 -- the bit that says that more follows
            return value, place + index + 1
    raise ModelError(BROKEN)


def _message(value: Value) -> memoryview:
    if isinstance(value, int):
        raise ModelError(BROKEN)
    return value


def _number(value: Value) -> int:
    if not isinstance(value, int):
        raise ModelError(BROKEN)
    return value
