"""Inference requests, from their bytes to the bytes of their answers: what `/predict/batch` does, in other words."""

from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
import orjson

from pricing.house import FEATURES, Values, columns_to_matrix
from service.access.error_page import in_protocol
from service.deployment.loaded_models import ModelRegistry, Selection, ServedModel
from service.errors import (
    BodyTooLargeError,
    InvalidInferenceError,
    InvalidRequestError,
    UnknownModelError,
    refusal,
)
from service.open_inference.body import LENGTH_HEADER, Inference, Output, read_body
from service.open_inference.tensors import LENGTH, NUMBERS, TEXT, Columns, read_columns
from service.predictions.bodies import Steps
from service.predictions.columns import read_rows
from service.predictions.decoding import decoded
from service.predictions.handler import Answerer
from service.predictions.recorder import ServedPredictions
from service.reply import JSON_TYPE, Reply
from service.trace import Trace

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pricing.artifacts.columns import OptionalColumn
    from pricing.house import Matrix
    from service.predictions.columns import GivenColumns

BINARY_TYPE: Final = "application/octet-stream"
NUMBER: Final = "FP64"
PRICES: Final = ("price", "lower", "upper")
"""Outputs that are sent if none is asked for."""
PREDICTION_ID: Final = "prediction_id"
"""An output that is sent only if it is asked for: the identifier of each prediction in the journal."""


class InferenceRequest(NamedTuple):
    """The request, as far as its answer depends on it. A body that is too long is one byte longer than allowed."""

    model: str
    version: str | None
    header_length: str
    """The header Inference-Header-Content-Length; empty if it was not sent."""
    content_encoding: str
    client_id: str
    body: bytes
    trace: Trace

    @property
    def client(self) -> bytes:
        """The client, for the arm of a split, as of any prediction."""
        return self.client_id.encode("latin-1") or self.body


class Inferer:
    """Answers inference requests; made once by the composition root."""

    def __init__(
        self, answerer: Answerer, models: ModelRegistry, name: str, max_rows: int, max_body_bytes: int
    ) -> None:
        """`name` is that of the model in the protocol."""
        self._answerer = answerer
        self._models = models
        self.name: Final = name
        self._max_rows = max_rows
        self.max_body_bytes: Final = max_body_bytes

    def check_model(self, name: str) -> None:
        """Raise UnknownModelError unless it is the name of the model."""
        if name != self.name:
            msg = f"This model is not known; the model of this service is {self.name}."
            raise UnknownModelError(msg)

    def answer(self, request: InferenceRequest) -> Steps[Reply]:
        """Answer a request, with a break after each millisecond or so; whatever goes wrong becomes a reply too."""
        try:
            return (yield from self._infer(request))
        except Exception as error:  # noqa: BLE001 -- refusal() logs what nobody foresaw and answers 500
            return in_protocol(refusal(error, request.trace.request_id))

    def _infer(self, request: InferenceRequest) -> Steps[Reply]:
        self.check_model(request.model)
        asked = read_body(self._decoded(request), request.header_length)
        outputs = _outputs(asked)
        yield b""
        models = self._models.serving().models.values()
        known = [column.name for model in models for column in model.manifest.columns]
        # once: a swap in a break changes nothing
        chosen = self._answerer.choose(request.version, request.client, request.trace, 0)
        columns = read_columns(asked.inputs, _numbers_of(chosen.model), known, self._max_rows)
        request.trace.rows = columns.rows
        yield b""
        houses, matrix, given = yield from _read(chosen, columns)
        told = yield from self._answerer.price(request.trace, chosen, houses, matrix, given, asked.confidence)
        reply = _reply(self.name, asked.id, outputs, told)
        yield b""
        self._answerer.record(told, request.trace)  # no break after this: what is in the books is answered
        return reply

    def _decoded(self, request: InferenceRequest) -> bytes:
        most = self.max_body_bytes
        if len(request.body) > most:
            msg = f"The body is too large: at most {most:,} bytes are accepted."
            raise BodyTooLargeError(msg)
        return decoded(request.body, request.content_encoding, most) if request.content_encoding else request.body


def _numbers_of(model: ServedModel) -> tuple[str, ...]:
    """The columns that one input may have: all of a version if they are numbers, or the five fields."""
    columns: Sequence[OptionalColumn] = model.manifest.columns
    are_numbers = all(column.kind == "number" for column in columns)
    return (*FEATURES, *(column.name for column in columns if are_numbers))


def _read(chosen: Selection, columns: Columns) -> "Steps[tuple[list[Values], Matrix, GivenColumns | None]]":
    """The houses, and the input of the version. Raises InvalidInferenceError."""
    matrix = columns_to_matrix(columns.fields)
    houses = _houses(columns)
    reader = chosen.model.columns
    if reader is None:
        return houses, matrix, None
    names = [name for name in reader.names if name in columns.further]
    values = zip(*(columns.further[name] for name in names), strict=True) if names else [()] * columns.rows
    sent = [dict(zip(names, row, strict=True)) for row in values]
    try:
        matrix, given = yield from read_rows(reader, matrix, sent)
    except InvalidRequestError as error:
        *_, row, name = error.problems[0]["loc"]
        reason = error.problems[0]["msg"]
        msg = f"The value of row {row} of the input {name} is not valid: {reason}."
        raise InvalidInferenceError(msg) from None
    return houses, matrix, given


def _houses(columns: Columns) -> list[Values]:
    """The five fields of each row. Column by column takes a third of the time of row by row."""
    houses: list[Values] = [{} for _ in range(columns.rows)]
    for name in FEATURES:
        for house, value in zip(houses, columns.fields[name].tolist(), strict=True):
            house[name] = value
    return houses


def _outputs(asked: Inference) -> list[Output]:
    """The outputs to send. Raises InvalidInferenceError for one that is not known."""
    for number, output in enumerate(asked.outputs):
        if output.name not in {*PRICES, PREDICTION_ID}:
            msg = f"Output {number} is not known: {', '.join((*PRICES, PREDICTION_ID))} are known."
            raise InvalidInferenceError(msg)
    return asked.outputs or [Output(name, asked.is_binary) for name in PRICES]


def _reply(model: str, name: str | None, outputs: list[Output], told: ServedPredictions) -> Reply:
    """The answer: JSON, or JSON with the tensors behind it that are wanted as binary."""
    rendered, chunks = [], []
    for output in outputs:
        datatype, data = _rendered(output.name, told)
        tensor: dict[str, Any] = {"name": output.name, "shape": [len(told.entries)], "datatype": datatype}
        if output.is_binary:
            chunks.append(_bytes_of(data))
            tensor["parameters"] = {"binary_data_size": len(chunks[-1])}
        else:
            tensor["data"] = data
        rendered.append(tensor)
    parameters: dict[str, Any] = {"confidence_level": told.prediction.confidence_level}
    if told.outdated is not None:
        parameters["outdated"] = told.outdated["msg"]
    answer: dict[str, Any] = {"model_name": model, "model_version": told.chosen.model.manifest.version}
    answer |= {} if name is None else {"id": name}
    answer |= {"parameters": parameters, "outputs": rendered}
    head = orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY)
    body = b"".join((head, *chunks))
    kind = (
        (("Content-Type", BINARY_TYPE), (LENGTH_HEADER, str(len(head)))) if chunks else (("Content-Type", JSON_TYPE),)
    )
    return Reply(200, (*kind, ("Content-Length", str(len(body)))), body)


def _rendered(name: str, told: ServedPredictions) -> tuple[str, Any]:
    """The datatype and the elements of an output; here, at the edge, dollars are rounded to cents, halves up."""
    if name == PREDICTION_ID:
        return TEXT, [entry[0] for entry in told.entries]
    dollars = np.array(getattr(told.prediction, name), dtype=NUMBERS[NUMBER])
    return NUMBER, np.floor(dollars * 100 + 0.5) / 100


def _bytes_of(data: Any) -> bytes:  # noqa: ANN401 -- an array, or a list of texts
    if isinstance(data, list):
        return b"".join(LENGTH.pack(len(text)) + text.encode() for text in data)
    array: bytes = data.tobytes()
    return array
