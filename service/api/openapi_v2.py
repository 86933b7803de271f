"""The operations of the Open Inference Protocol in the OpenAPI document: of requests and answers, the form in JSON."""

from collections.abc import Callable
from http import HTTPStatus
from typing import Any, Final, TypeAlias

from pricing.artifacts.manifest import HIGHEST_LEVEL, LOWEST_LEVEL, VERSION_PATTERN
from pricing.house import FEATURES
from service.access.error_page import PROTOCOL
from service.contract import CHAMPION, EXAMPLE_HOUSE, Houses
from service.open_inference.body import LENGTH_HEADER, MAX_INPUTS, MAX_SIZE
from service.open_inference.handler import BINARY_TYPE, NUMBER, PREDICTION_ID, PRICES
from service.open_inference.tensors import NUMBERS, TEXT
from service.reply import JSON_TYPE

Operation: TypeAlias = dict[str, Any]
Describes: TypeAlias = Callable[[type[Houses]], Operation]


def _object(
    properties: dict[str, Any], required: tuple[str, ...] | None = None, *, is_closed: bool = True
) -> Operation:
    """An object; an answer has no other properties, and a request may have some, which are ignored."""
    needed = list(properties if required is None else required)
    found = {"type": "object", "properties": properties} | ({"required": needed} if needed else {})
    return found | ({"additionalProperties": False} if is_closed else {})


_TEXT: Final = {"type": "string"}
# null is as good as absent, as clients send it.
_OR_NULL: Final = {kind: [kind, "null"] for kind in ("array", "boolean", "number", "object", "string")}
_SHAPE: Final = {
    "type": "array",
    "items": {"type": "integer", "minimum": 0, "maximum": MAX_SIZE},
    "minItems": 1,
    "maxItems": 2,
}
_ERROR: Final = _object({"error": {"type": "string", "description": "One sentence."}})
_UNREADY: Final = _object({"error": _TEXT, "ready": {"const": False}}, ("error",))
_DESCRIBED: Final = _object(
    {
        "name": _TEXT,
        "datatype": {"enum": [NUMBER, TEXT]},
        "shape": {"const": [-1]},
        "parameters": _object({"optional": {"const": True}}),
    },
    ("name", "datatype", "shape"),
)
_MODEL: Final = _object(
    {
        "name": _TEXT,
        "versions": {"type": "array", "items": {"type": "string", "pattern": VERSION_PATTERN}},
        "platform": _TEXT,
        "inputs": {"type": "array", "items": _DESCRIBED},
        "outputs": {"type": "array", "items": _DESCRIBED},
    }
)
_INPUT: Final = _object(
    {
        "name": _TEXT | {"description": "A column, as the metadata of the model names it."},
        "shape": _SHAPE | {"description": "[n] or [n, 1]; [n, columns] of one input for all columns."},
        "datatype": {"enum": [*NUMBERS, TEXT]},
        "data": {"type": _OR_NULL["array"], "description": "Its elements, flat or nested, as many as its shape has."},
        "parameters": {"type": _OR_NULL["object"]},
    },
    ("name", "shape", "datatype"),
    is_closed=False,
)
_OUTPUTS: Final = [*PRICES, PREDICTION_ID]
_REQUEST: Final = _object(
    {
        "id": {"type": _OR_NULL["string"], "description": "It is in the answer too."},
        "parameters": _object(
            {
                "confidence": {
                    "type": _OR_NULL["number"],
                    "minimum": LOWEST_LEVEL,
                    "maximum": HIGHEST_LEVEL,
                    "description": "Level of the interval.",
                },
                "binary_data_output": {
                    "type": _OR_NULL["boolean"],
                    "description": "Whether outputs follow the JSON as bytes.",
                },
            },
            (),
            is_closed=False,
        )
        | {"type": _OR_NULL["object"]},
        "inputs": {"type": "array", "items": _INPUT, "minItems": 1, "maxItems": MAX_INPUTS},
        "outputs": {
            "type": _OR_NULL["array"],
            "items": _object(
                {
                    "name": {"enum": _OUTPUTS},
                    "parameters": {
                        "type": _OR_NULL["object"],
                        "properties": {"binary_data": {"type": _OR_NULL["boolean"]}},
                    },
                },
                ("name",),
                is_closed=False,
            ),
            "description": f"{', '.join(PRICES)} if it is absent.",
        },
    },
    ("inputs",),
    is_closed=False,
)
_ANSWER: Final = _object(
    {
        "model_name": _TEXT,
        "model_version": {"type": "string", "pattern": VERSION_PATTERN},
        "id": _TEXT,
        "parameters": _object(
            {"confidence_level": {"type": "number"}, "outdated": _TEXT},
            ("confidence_level",),
        ),
        "outputs": {
            "type": "array",
            "items": _object(
                {
                    "name": {"enum": _OUTPUTS},
                    "shape": _SHAPE,
                    "datatype": {"enum": [NUMBER, TEXT]},
                    "data": {"type": "array", "items": {"type": ["number", "string"]}},
                    "parameters": _object({"binary_data_size": {"type": "integer"}}),
                },
                ("name", "shape", "datatype"),
            ),
        },
    },
    ("model_name", "model_version", "parameters", "outputs"),
)
_EXAMPLE: Final = {
    "inputs": [{"name": name, "shape": [1], "datatype": NUMBER, "data": [EXAMPLE_HOUSE[name]]} for name in FEATURES]
}
_VERSION: Final = {
    "name": "version",
    "in": "path",
    "required": True,
    "description": "A version in service, or `champion`.",
    "example": CHAMPION,
    "schema": {"type": "string", "pattern": f"^{CHAMPION}$|{VERSION_PATTERN}", "examples": ["v1.0.0", CHAMPION]},
}
_MEANINGS: Final = {
    HTTPStatus.NOT_FOUND: "The model or the version is not in service.",
    HTTPStatus.BAD_REQUEST: "The request is not valid, in a sentence.",
    HTTPStatus.REQUEST_TIMEOUT: "The body did not arrive in time.",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "The body is larger than the service accepts, also when it is decompressed.",
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE: "The content coding is not accepted; Accept-Encoding has those that are.",
    HTTPStatus.INTERNAL_SERVER_ERROR: "The service failed; the failure has been logged.",
    HTTPStatus.SERVICE_UNAVAILABLE: "This worker cannot predict.",
}
_LENGTH: Final = {
    LENGTH_HEADER: {
        "description": "Bytes of the JSON before the binary outputs; absent of an answer without any.",
        "schema": {"type": "integer"},
    }
}
_OF_A_MODEL: Final = (HTTPStatus.NOT_FOUND, HTTPStatus.SERVICE_UNAVAILABLE)
UNPARSED: Final = frozenset({"414", "431", "501"})
"""Refusals of what was no request, and had no path."""


def _reply(description: str, schema: Operation) -> Operation:
    return {"description": description, "content": {JSON_TYPE: {"schema": schema}}}


def _operation(
    name: str, summary: str, answer: Operation, *statuses: HTTPStatus, version: bool = False, tag: str = "service"
) -> Describes:
    found = {"200": _reply("The answer.", answer)}
    for status in (*statuses, HTTPStatus.INTERNAL_SERVER_ERROR):
        schema = _UNREADY if status is HTTPStatus.SERVICE_UNAVAILABLE else _ERROR
        found[str(status.value)] = _reply(_MEANINGS[status], schema)
    operation = {"operationId": name, "summary": summary, "tags": [tag], "responses": found}
    return lambda _batch: operation | ({"parameters": [_VERSION]} if version else {})


def _infer(name: str, summary: str, *, version: bool = False) -> Describes:
    body = {
        "required": True,
        "description": "May be compressed. Binary tensors follow the JSON, whose length is then in the header "
        "Inference-Header-Content-Length; docs/open-inference.md has the protocol.",
        "content": {JSON_TYPE: {"schema": _REQUEST, "examples": {"one house": {"value": _EXAMPLE}}}},
    }
    describes = _operation(
        name,
        summary,
        _ANSWER,
        HTTPStatus.BAD_REQUEST,
        *_OF_A_MODEL,
        HTTPStatus.REQUEST_TIMEOUT,
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
        version=version,
        tag="predictions",
    )

    def described(batch: type[Houses]) -> Operation:
        operation = describes(batch)
        answered = operation["responses"]["200"]
        content = answered["content"] | {BINARY_TYPE: {"schema": {"type": "string", "format": "binary"}}}
        responses = operation["responses"] | {"200": answered | {"content": content, "headers": _LENGTH}}
        return operation | {"requestBody": body, "responses": responses}

    return described


SERVER: Final = _operation(
    "v2_server",
    "The Open Inference Protocol: name, version and extensions of this server",
    _object({"name": _TEXT, "version": _TEXT, "extensions": {"type": "array", "items": _TEXT}}),
)
LIVE: Final = _operation("v2_health_live", "Whether this process answers", _object({"live": {"const": True}}))
READY: Final = _operation(
    "v2_health_ready",
    "Whether this worker can predict",
    _object({"ready": {"const": True}}),
    HTTPStatus.SERVICE_UNAVAILABLE,
)
MODELS: Final = _operation(
    "v2_models", "The models of this service: one", _object({"models": {"type": "array", "items": _TEXT}})
)
MODEL: Final = _operation("v2_model", "Inputs and outputs of the champion", _MODEL, *_OF_A_MODEL)
VERSION: Final = _operation("v2_version", "Inputs and outputs of a version", _MODEL, *_OF_A_MODEL, version=True)
_IS_READY: Final = _object({"name": _TEXT, "ready": {"const": True}})
MODEL_READY: Final = _operation("v2_model_ready", "Whether this worker can predict", _IS_READY, *_OF_A_MODEL)
VERSION_READY: Final = _operation(
    "v2_version_ready", "Whether this worker can predict with a version", _IS_READY, *_OF_A_MODEL, version=True
)
INFER: Final = _infer("v2_infer", "Price houses in the form of tensors")
INFER_VERSION: Final = _infer("v2_infer_version", "Price houses with a version, in the form of tensors", version=True)


def in_protocol(path: str, operation: Operation, model: str) -> Operation:
    """An operation with the errors of its path: those of the protocol below /v2, where `model` is the only model."""
    if not f"{path}/".startswith(f"{PROTOCOL}/"):
        return operation
    responses = {
        status: response if status < "400" or status in UNPARSED else _with_error(status, response)
        for status, response in operation["responses"].items()
    }
    parameters = operation.get("parameters", [])
    if "{name}" in path:
        name = {"name": "name", "in": "path", "required": True, "example": model}
        parameters = [name | {"schema": {"type": "string", "enum": [model]}}, *parameters]
    return operation | {"responses": responses, "parameters": parameters}


def _with_error(status: str, response: Operation) -> Operation:
    (media,) = response["content"].values()
    if "$ref" not in media["schema"]:
        return response
    # What was no HTTP had no path either.
    schema = {"anyOf": [_ERROR, media["schema"]]} if status == "400" else _ERROR
    return response | {"content": {JSON_TYPE: {"schema": schema}}}
