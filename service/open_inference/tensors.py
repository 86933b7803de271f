"""From tensors to columns, and from columns to tensors: little-endian, row by row.

A number is FP64, FP32 or an integer, a category BYTES or a number. null and NaN are unknown, which only an optional
column may be.
"""

import struct
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import Any, Final, NamedTuple

import numpy as np

from pricing.house import BOUNDS, FEATURES, Column, violations
from service.errors import InvalidInferenceError
from service.open_inference.body import Tensor

TEXT: Final = "BYTES"
WHOLE: Final = "of all columns"
NUMBERS: "Final[Mapping[str, np.dtype[Any]]]" = {
    "FP64": np.dtype("<f8"),
    "FP32": np.dtype("<f4"),
    "INT64": np.dtype("<i8"),
    "INT32": np.dtype("<i4"),
    "INT16": np.dtype("<i2"),
    "INT8": np.dtype("<i1"),
    "UINT64": np.dtype("<u8"),
    "UINT32": np.dtype("<u4"),
    "UINT16": np.dtype("<u2"),
    "UINT8": np.dtype("<u1"),
}
LENGTH: Final = struct.Struct("<I")
NOTHING: Final = type(None)
VECTOR, MATRIX = 1, 2  # dimensions


class Columns(NamedTuple):
    """The columns of a request."""

    fields: dict[str, Column]
    """The five fields, each float64 of shape (n,)."""
    further: dict[str, list[Any]]
    """The elements of any other, by name; None is unknown."""
    rows: int


def read_columns(tensors: Sequence[Tensor], names: Sequence[str], known: Iterable[str], max_rows: int) -> Columns:
    """The columns of tensors, one for each column or one for all of them.

    `names` are the columns of a version that are numbers, in its order, if all of them are; of any other the five
    fields. `known` are the columns of all versions in service. Raises InvalidInferenceError.
    """
    rows = _rows(tensors, max_rows)
    if len(tensors) == 1 and len(tensors[0].shape) == MATRIX and tensors[0].shape[1] > 1:
        values = _matrix(tensors[0]._replace(name=WHOLE), names)  # its own name is a text of the client
    else:
        _check_names(tensors, {*FEATURES, *known})
        values = {tensor.name: _elements(tensor) for tensor in tensors}
    fields = {name: _number_column(name, values.pop(name, None)) for name in FEATURES}
    further = {name: _known(column) for name, column in values.items()}
    return Columns(fields, further, rows)


def _rows(tensors: Sequence[Tensor], max_rows: int) -> int:
    first = tensors[0].shape
    rows = first[0] if first else 0
    for number, tensor in enumerate(tensors):
        shape = tensor.shape
        if len(shape) not in {VECTOR, MATRIX} or (len(tensors) > 1 and shape[1:] not in ([], [1])):
            msg = (
                f"The shape of input {number} is not valid: [n] or [n, 1] is expected, with one input for each column."
            )
            raise InvalidInferenceError(msg)
        if shape[0] != rows:
            msg = f"The inputs have different numbers of rows: input {number} has {shape[0]:,}, input 0 has {rows:,}."
            raise InvalidInferenceError(msg)
    if not 1 <= rows <= max_rows:
        msg = f"The inputs have {rows:,} rows: 1 to {max_rows:,} are expected."
        raise InvalidInferenceError(msg)
    return rows


def _check_names(tensors: Sequence[Tensor], known: set[str]) -> None:
    for number, tensor in enumerate(tensors):
        if tensor.name not in known:
            msg = f"Input {number} is not known: no version in service has a column of this name."
            raise InvalidInferenceError(msg)
    if missing := [name for name in FEATURES if name not in {tensor.name for tensor in tensors}]:
        msg = f"An input is missing: {', '.join(missing)}."
        raise InvalidInferenceError(msg)


def _matrix(tensor: Tensor, names: Sequence[str]) -> dict[str, Any]:
    width = tensor.shape[1]
    if tensor.datatype not in {"FP32", "FP64"} or width not in {len(FEATURES), len(names)}:
        widths = " or ".join(str(known) for known in sorted({len(FEATURES), len(names)}))
        msg = f"One input for all columns has the datatype FP32 and the shape [n, {widths}]; another was observed."
        raise InvalidInferenceError(msg)
    columns = np.reshape(_numbers(tensor), tensor.shape).T
    return dict(zip(names[:width], columns, strict=True))


def _elements(tensor: Tensor) -> Any:  # noqa: ANN401 -- an array of numbers, or a list of texts
    if tensor.datatype == TEXT:
        return _texts(tensor)
    return _numbers(tensor)


def _numbers(tensor: Tensor) -> Any:  # noqa: ANN401 -- an array of any of NUMBERS
    """An array of shape (n * k,)."""
    name, shape, datatype, content = tensor
    kind = NUMBERS.get(datatype)
    if kind is None:
        msg = f"The datatype of the input {name} is not valid: {', '.join(NUMBERS)} or {TEXT} is expected."
        raise InvalidInferenceError(msg)
    count = shape[0] * (shape[1] if len(shape) == MATRIX else 1)
    if isinstance(content, memoryview):
        if len(content) != count * kind.itemsize:
            expected = f"{count * kind.itemsize:,} are expected of {count:,} elements of {datatype}"
            msg = f"The input {name} has {len(content):,} bytes: {expected}."
            raise InvalidInferenceError(msg)
        return np.frombuffer(content, dtype=kind)
    flat = _flat(tensor, content, count)
    kinds = set(map(type, flat))
    if not kinds <= ({int, float, NOTHING} if kind.kind == "f" else {int, NOTHING}):
        msg = f"An element of the input {name} is not valid: {datatype} is expected."
        raise InvalidInferenceError(msg)
    # An integer stays exact: a category of it is a text. As a number it is rounded to float64, as that of /predict.
    return np.array(flat, dtype=np.float64) if NOTHING in kinds or kind.kind == "f" else np.array(flat)


def _texts(tensor: Tensor) -> list[str | None]:
    name, shape, _, content = tensor
    if isinstance(content, memoryview):
        return _texts_of(content, name, shape[0])
    flat = _flat(tensor, content, shape[0])
    if not set(map(type, flat)) <= {str, NOTHING}:
        msg = f"An element of the input {name} is not valid: text is expected of {TEXT}."
        raise InvalidInferenceError(msg)
    return flat


def _texts_of(content: memoryview, name: str, count: int) -> list[str | None]:
    """Elements of a 4-byte length and the bytes."""
    found: list[str | None] = []
    place, size = 0, len(content)
    while place + LENGTH.size <= size and len(found) < count:
        (length,) = LENGTH.unpack_from(content, place)
        place += LENGTH.size
        try:
            found.append(str(content[place : place + length], "utf-8"))
        except UnicodeDecodeError:
            msg = f"Element {len(found)} of the input {name} is not valid UTF-8."
            raise InvalidInferenceError(msg) from None
        place += length
    if len(found) != count or place != size:
        msg = f"The bytes of the input {name} are not valid: {count:,} elements with their lengths are expected."
        raise InvalidInferenceError(msg)
    return found


def _flat(tensor: Tensor, data: list[Any], count: int) -> list[Any]:
    """Elements of JSON without their nesting."""
    flat = data
    if data and isinstance(data[0], list):
        width = tensor.shape[1] if len(tensor.shape) == MATRIX else 0
        is_regular = all(isinstance(row, list) and len(row) == width for row in data)
        flat = list(chain.from_iterable(data)) if is_regular else []
    if len(flat) != count:
        msg = f"The data of the input {tensor.name} does not have its shape: {count:,} elements are expected."
        raise InvalidInferenceError(msg)
    return flat


def _number_column(name: str, values: Any) -> Column:  # noqa: ANN401 -- of `_elements`
    """A field of the contract, within its bounds. Raises InvalidInferenceError."""
    if isinstance(values, list):
        msg = f"The datatype of the input {name} is not valid: {', '.join(NUMBERS)} is expected, not {TEXT}."
        raise InvalidInferenceError(msg)
    column: Column = np.asarray(values, dtype=np.float64)
    for reason, broken in violations(BOUNDS[name], column).items():
        if broken.any():
            msg = f"The value of row {int(np.argmax(broken))} of the input {name} is {reason}."
            raise InvalidInferenceError(msg)
    return column


def _known(values: Any) -> list[Any]:  # noqa: ANN401 -- of `_elements`
    """The elements of a further column; None instead of NaN."""
    if isinstance(values, list):
        return values
    found: list[Any] = values.tolist()
    if values.dtype.kind == "f" and np.isnan(values).any():
        return [None if value != value else value for value in found]  # noqa: PLR0124 -- NaN
    return found
