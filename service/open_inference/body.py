"""The body of an inference request: JSON, and the binary tensors behind it.

* The header Inference-Header-Content-Length gives the length of the JSON before any content coding. Without it, all of
  the body is JSON. The content type is not looked at: clients send none, or a wrong one.
* Binary tensors follow the JSON in the order of the inputs, without a gap. All bytes must belong to a tensor.
* Parameters and fields that are not known are ignored, as the protocol wants.

https://github.com/kserve/open-inference-protocol (specification/protocol/inference_rest.md) has the protocol, and
triton-inference-server/server (docs/protocol/extension_binary_data.md) the binary tensors.
"""

from typing import Annotated, Any, Final, NamedTuple, NotRequired, cast

import orjson
from pydantic import (
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    StrictInt,
    TypeAdapter,
    ValidationError,
    with_config,
)
from typing_extensions import TypedDict

from pricing.format import reason_of
from service.contract import DEFAULT_LEVEL, Level
from service.errors import InvalidInferenceError

LENGTH_HEADER: Final = "Inference-Header-Content-Length"
MAX_DIGITS: Final = 10
"""Of a length: int() refuses thousands of them with an error of its own."""
MAX_INPUTS: Final = 128
"""Twice as many as a version has columns."""
MAX_SIZE: Final = 2**63 - 1
"""Of a dimension, as the protocol has it."""
_Size = Annotated[
    StrictInt,
    Field(ge=0, le=MAX_SIZE),
    BeforeValidator(lambda found: int(found) if type(found) is float and found.is_integer() else found),
]
"""In JSON, 5.0 is a whole number too."""
STRICT: Final = ConfigDict(strict=True, allow_inf_nan=False)


@with_config(STRICT)
class _TensorParameters(TypedDict):
    binary_data_size: NotRequired[Annotated[StrictInt, Field(ge=0)] | None]


@with_config(STRICT)
class _Tensor(TypedDict):
    name: str
    shape: Annotated[list[_Size], Field(max_length=8)]
    datatype: str
    parameters: NotRequired[_TensorParameters | None]
    data: NotRequired[list[Any] | None]


@with_config(STRICT)
class _OutputParameters(TypedDict):
    binary_data: NotRequired[StrictBool | None]


@with_config(STRICT)
class _Output(TypedDict):
    name: str
    parameters: NotRequired[_OutputParameters | None]


@with_config(STRICT)
class _Parameters(TypedDict):
    binary_data_output: NotRequired[StrictBool | None]
    confidence: NotRequired[Level | None]


@with_config(STRICT)
class _Body(TypedDict):
    id: NotRequired[str | None]
    parameters: NotRequired[_Parameters | None]
    inputs: Annotated[list[_Tensor], Field(min_length=1, max_length=MAX_INPUTS)]
    outputs: NotRequired[list[_Output] | None]


_BODY: Final[TypeAdapter[_Body]] = TypeAdapter(_Body)


class Tensor(NamedTuple):
    """An input as it was sent."""

    name: str
    shape: list[int]
    datatype: str
    content: list[Any] | memoryview
    """Elements of JSON, flat or nested; or little-endian bytes."""


class Output(NamedTuple):
    """An output that is asked for."""

    name: str
    is_binary: bool


class Inference(NamedTuple):
    """A request that has been read; its tensors have not."""

    id: str | None
    confidence: float
    inputs: list[Tensor]
    outputs: list[Output]
    """Empty if all are asked for."""
    is_binary: bool
    """Of an output that does not say."""


def read_body(body: bytes, header_length: str) -> Inference:
    """Read a body without its content coding; `header_length` is the header, empty if it was not sent.

    Raises InvalidInferenceError.
    """
    length = _length_of_json(header_length, len(body))
    found = _frame(body[:length])
    parameters = found.get("parameters") or {}
    is_binary = bool(parameters.get("binary_data_output"))
    return Inference(
        found.get("id"),
        parameters.get("confidence") or DEFAULT_LEVEL,
        _tensors(found["inputs"], memoryview(body)[length:]),
        _outputs(found.get("outputs") or [], is_binary=is_binary),
        is_binary,
    )


def _length_of_json(header: str, size: int) -> int:
    if not header:
        return size
    if not (header.isascii() and header.isdigit() and len(header) <= MAX_DIGITS):
        msg = f"The header {LENGTH_HEADER} is not valid: a number of bytes is expected."
        raise InvalidInferenceError(msg)
    length = int(header)
    if length > size:
        msg = f"The header {LENGTH_HEADER} is not valid: the body has {size:,} bytes, which is less."
        raise InvalidInferenceError(msg)
    if length == 0:
        msg = f"A raw request ({LENGTH_HEADER}: 0) has one input, and this model has one for each column: send JSON."
        raise InvalidInferenceError(msg)
    return length


def _frame(text: bytes) -> _Body:
    try:
        found: object = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        msg = f"The body is not valid JSON: {error}."
        raise InvalidInferenceError(msg) from None
    try:
        return _BODY.validate_python(found)
    except ValidationError as error:
        msg = f"The request is not valid: {reason_of(error, 'body')}."
        raise InvalidInferenceError(msg) from None


def _tensors(inputs: list[_Tensor], binary: memoryview) -> list[Tensor]:
    """Each input with its elements. Raises InvalidInferenceError."""
    found: dict[str, Tensor] = {}
    start = 0
    for number, tensor in enumerate(inputs):
        name, data = tensor["name"], tensor.get("data")
        size = (tensor.get("parameters") or {}).get("binary_data_size")
        if name in found:
            msg = f"Input {number} has the name of another input: each name is expected once."
            raise InvalidInferenceError(msg)
        if (data is None) == (size is None):
            observed = "neither" if data is None else "both"
            msg = f"Input {number} must have data or binary_data_size; {observed} of them is in it."
            raise InvalidInferenceError(msg)
        content: list[Any] | memoryview = data if data is not None else binary[start : start + cast("int", size)]
        if size is not None:
            start += size
            if start > len(binary):
                msg = f"The binary data is too short: {len(binary):,} bytes follow the JSON, input {number} ends later."
                raise InvalidInferenceError(msg)
        found[name] = Tensor(name, tensor["shape"], tensor["datatype"], content)
    if start != len(binary):
        msg = f"The binary data is too long: {len(binary):,} bytes follow the JSON, and the inputs have {start:,}."
        raise InvalidInferenceError(msg)
    return list(found.values())


def _outputs(outputs: list[_Output], *, is_binary: bool) -> list[Output]:
    """Raises InvalidInferenceError if an output is asked for twice: an answer could be as large as a client likes."""
    found: dict[str, Output] = {}
    for number, output in enumerate(outputs):
        name, asked = output["name"], (output.get("parameters") or {}).get("binary_data")
        if name in found:
            msg = f"Output {number} has the name of another output: each name is expected once."
            raise InvalidInferenceError(msg)
        found[name] = Output(name, is_binary if asked is None else asked)
    return list(found.values())
