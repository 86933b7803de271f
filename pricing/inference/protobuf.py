"""Just enough of protobuf to look into an ONNX file: the fields of a message, and long lists of numbers at once.

An ONNX file is a protobuf message (protobuf.dev/programming-guides/encoding). What is none is a ModelError, and no
other error comes from here, whatever the bytes are.
"""

from collections.abc import Iterator
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pricing.errors import ModelError

BROKEN: Final = "not a valid ONNX file"
MAX_FIELDS: Final = 1_000  # of one message, beside the numbers of a tree; ours have 20

_VARINT, _EIGHT_BYTES, _BYTES, _FOUR_BYTES = 0, 1, 2, 5  # wire types
_LONGEST_VARINT: Final = 10  # bytes
_BLOCK: Final = 32_768  # bytes of a list that are decoded at once: five times as fast as a megabyte, by the cache
_MORE: Final = 0x80  # the bit of a byte that announces more bytes

Value: TypeAlias = int | memoryview


def fields(data: memoryview) -> Iterator[tuple[int, Value]]:
    """Number and value of each field of a message; values of fixed width are 0."""
    for _ in range(MAX_FIELDS):
        if not data:
            return
        number, value, data = first_field(data)
        yield number, value
    msg = f"a part of the graph has {MAX_FIELDS:,} fields or more; training writes a few dozen"
    raise ModelError(msg)


def first_field(data: memoryview) -> tuple[int, Value, memoryview]:
    """Number and value of the first field of a message, and what follows it."""
    key, data = _varint(data)
    number, wire_type = key >> 3, key & 7
    if wire_type == _VARINT:
        value, data = _varint(data)
        return number, value, data
    if wire_type == _BYTES:
        length, data = _varint(data)
        if length > len(data):
            raise ModelError(BROKEN)
        return number, data[:length], data[length:]
    if wire_type in {_EIGHT_BYTES, _FOUR_BYTES}:
        return number, 0, data[8 if wire_type == _EIGHT_BYTES else 4 :]
    raise ModelError(BROKEN)


def message(value: Value) -> memoryview:
    """The bytes of a field that holds a message or a text."""
    if isinstance(value, int):
        raise ModelError(BROKEN)
    return value


def number(value: Value) -> int:
    """The number of a field that holds one."""
    if not isinstance(value, int):
        raise ModelError(BROKEN)
    return value


def inside(data: memoryview, *path: int) -> memoryview:
    """The message at the end of a path of fields, each of which may be there once; empty when it is not."""
    for step in path:
        found = [message(value) for field, value in fields(data) if field == step]
        if len(found) > 1:  # protobuf would merge them
            raise ModelError(BROKEN)
        data = found[0] if found else memoryview(b"")
    return data


def floats(data: memoryview, key: int) -> NDArray[np.float32]:
    """A list of floats, each behind a key of one byte."""
    kind = np.dtype([("key", "u1"), ("value", "<f4")])
    if len(data) % kind.itemsize:
        raise ModelError(BROKEN)
    found = np.frombuffer(data, kind)
    if (found["key"] != key).any():
        raise ModelError(BROKEN)
    values: NDArray[np.float32] = found["value"]
    return values


def integers(data: memoryview, key: int) -> NDArray[np.int64]:
    """A list of whole numbers, each behind a key of one byte."""
    left, parts = np.frombuffer(data, np.uint8), [np.zeros(0, np.int64)]
    while len(left):
        values, used = _integers(left[:_BLOCK], key)
        parts.append(values)
        left = left[used:]
    return np.concatenate(parts)


def _integers(block: NDArray[np.uint8], key: int) -> tuple[NDArray[np.int64], int]:
    """The numbers that are whole in a block, and how many bytes they and their keys take."""
    ends = np.flatnonzero(block < _MORE)  # in turn a key and the last byte of a number
    keys, last = ends[: len(ends) // 2 * 2].reshape(-1, 2).T
    lengths = last - keys
    longest, used = int(lengths.max(initial=0)), len(keys) + int(lengths.sum())
    if not 0 < longest <= _LONGEST_VARINT or last[-1] + 1 != used or (block[keys] != key).any():
        raise ModelError(BROKEN)
    values = np.zeros(len(keys), np.int64)
    for place in range(longest):
        bits = (block.take(keys + (place + 1), mode="clip") & (_MORE - 1)) * (lengths > place)
        values |= bits.astype(np.int64) << (7 * place)
    return values, used


def _varint(data: memoryview) -> tuple[int, memoryview]:
    """The number that a message begins with, and what follows it."""
    value = 0
    for index, byte in enumerate(data[:_LONGEST_VARINT]):
        value |= (byte & (_MORE - 1)) << (7 * index)
        if byte < _MORE:
            return value, data[index + 1 :]
    raise ModelError(BROKEN)
