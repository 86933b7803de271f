"""The OpenAPI 3.1 document, made from the same pydantic models that parse the requests."""

from collections.abc import Callable, Collection, Iterable, Mapping
from http import HTTPStatus
from typing import Any, Final, NamedTuple, TypeAlias

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from pricing.artifacts.columns import MAX_TEXT, OptionalColumn
from service.access.guard import Access
from service.api.openapi_v2 import in_protocol
from service.contract import (
    EXAMPLE_HOUSE,
    Choice,
    Health,
    Houses,
    Live,
    ModelInfo,
    ModelList,
    OneHouse,
    Options,
    Prediction,
    Predictions,
    Problem,
    Summary,
    Unready,
    ValidationProblems,
)
from service.reply import JSON_TYPE
from service.trace import REQUEST_ID, REQUEST_ID_PATTERN

Operation: TypeAlias = dict[str, Any]
REFERENCE: Final = "#/components/schemas/{model}"

_EXAMPLE_ANSWER: Final = {
    "predicted_price": 425000.5,
    "confidence_interval": {"lower": 382500.45, "upper": 467500.55},
    "model_version": "v1.0.0",
    "predicted_at": "2024-01-01T12:00:00.000+00:00",
    "confidence_level": 0.9,
    "prediction_id": "018cc4d1-5e00-7b3a-9f1c-4a7be93d0c55",
}
_EXAMPLE_PROBLEMS: Final = {
    "detail": [{"type": "greater_than", "loc": ["body", "square_feet"], "msg": "Input should be greater than 0"}]
}


class Documented(NamedTuple):
    """A route that the document describes."""

    path: str
    method: str
    access: Access
    operation: Callable[[type[Houses]], Operation]
    """Its description, by the batch model."""


def document(
    routes: Iterable[Documented], batch: type[Houses], model: str, *, keys: bool = False, limit: bool = False
) -> dict[str, Any]:
    """Return the whole document of these routes; `batch` is the batch model with the limit of this service.

    `model` is the name of the model in the Open Inference Protocol, `keys` whether clients need one, `limit` whether
    there is one to what they may ask.
    """
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Appraiser",
            "version": "1.0.0",
            "description": "House prices with an interval that holds at its level, and the version that predicted it.",
        },
        "servers": [{"url": "."}],  # relative to this document, so that it holds behind a path prefix too
        "paths": {
            route.path: {
                route.method.lower(): in_protocol(
                    route.path,
                    _as_all(_guarded(route.operation(batch), route.access, keys=keys, limit=limit)),
                    model,
                )
            }
            for route in routes
        },
        "components": {
            "schemas": _schemas(batch),
            "headers": {REQUEST_ID: _NAME},
            **({"securitySchemes": _SCHEMES} if keys else {}),
        },
    }


def with_columns(document: Mapping[str, Any], columns: Iterable[OptionalColumn]) -> Mapping[str, Any]:
    """The document with the further columns of the versions in service as optional properties of a house."""
    kinds: dict[str, list[OptionalColumn]] = {}
    for column in columns:
        kinds.setdefault(column.name, []).append(column)
    if not kinds:
        return document
    found = {name: _column(same) for name, same in kinds.items()}
    schemas = document["components"]["schemas"]
    houses = {name: schemas[name] | {"properties": schemas[name]["properties"] | found} for name in _HOUSES}
    return {**document, "components": {**document["components"], "schemas": schemas | houses}}


def _column(same: list[OptionalColumn]) -> dict[str, Any]:
    """A property for a column of one name, which several versions may know as different kinds."""
    types = [kind for column in same for kind in _types(column)]
    described = ", in ".join(filter(None, (same[0].description, same[0].unit)))
    about = f"{described or 'A column of a version in service'}. Optional; /model/info describes it."
    return {"anyOf": [*({str(kind): kind for kind in types}.values()), {"type": "null"}], "description": about}


def _types(column: OptionalColumn) -> list[dict[str, Any]]:
    if column.kind == "category":
        return [{"type": "string", "maxLength": MAX_TEXT}, {"type": "number"}]
    bounds = {"minimum": column.minimum, "maximum": column.maximum}
    return [{"type": "number"} | {name: bound for name, bound in bounds.items() if bound is not None}]


_OF_ONE_HOUSE: Final = ("comparables",)
_HOUSES: Final = ("OneHouse", "HouseOfBatch")
_SCHEMES: Final = {
    "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
    "bearer": {"type": "http", "scheme": "bearer"},
}
_ONE: Final = ({"one house": EXAMPLE_HOUSE}, _EXAMPLE_ANSWER, "model_version")
_MANY: Final = (
    {"two houses": {"houses": [EXAMPLE_HOUSE, EXAMPLE_HOUSE | {"square_feet": 2500}]}},
    {"predictions": [_EXAMPLE_ANSWER, _EXAMPLE_ANSWER | {"predicted_price": 489000.0}], "count": 2},
    "predictions/0/model_version",
)
_UNREADY: Final = (HTTPStatus.INTERNAL_SERVER_ERROR, HTTPStatus.SERVICE_UNAVAILABLE)
_REFUSALS: Final = (
    HTTPStatus.NOT_FOUND,
    HTTPStatus.REQUEST_TIMEOUT,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    HTTPStatus.INTERNAL_SERVER_ERROR,
)
_BODY: Final = (
    "May be compressed, with the header Content-Encoding: gzip or deflate. What is not known in it is ignored."
)
_NOT_FOUND: Final = (
    "The version that was asked for is not in service, or does not have the explanation or the comparables that were "
    "asked for."
)
_BUSY: Final = "This worker has no model to answer with, or too many requests in hand."
_MEANINGS: Final[Mapping[HTTPStatus, str]] = {
    HTTPStatus.UNAUTHORIZED: "The key is missing, unknown, expired or revoked.",
    HTTPStatus.FORBIDDEN: "The key lacks the scope.",
    HTTPStatus.TOO_MANY_REQUESTS: "The rate limit is exceeded; Retry-After gives the seconds to wait.",
    HTTPStatus.NOT_FOUND: "The version that was asked for is not in service.",
    HTTPStatus.REQUEST_TIMEOUT: "The body did not arrive in time.",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "The body is larger than the service accepts.",
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE: "The content type is not JSON, or the content coding is not accepted.",
    HTTPStatus.INTERNAL_SERVER_ERROR: "The service failed; the failure has been logged.",
    HTTPStatus.SERVICE_UNAVAILABLE: "This worker has no model to answer with.",
}


def predict(_batch: type[Houses]) -> Operation:
    """The operation of `POST /predict`."""
    return _prediction("predict", "Price one house", OneHouse, Prediction, _ONE)


def predict_batch(batch: type[Houses]) -> Operation:
    """The operation of `POST /predict/batch`."""
    return _prediction("predict_batch", "Price many houses", batch, Predictions, _MANY)


def health(name: str, summary: str) -> Callable[[type[Houses]], Operation]:
    """The operation of a route that states whether this worker can predict."""
    return lambda _batch: _read(name, summary, Health, _UNHEALTHY)


def live(_batch: type[Houses]) -> Operation:
    """The operation of `GET /health/live`."""
    return _read("health_live", "Whether this process answers", Live, {})


def _prediction(
    name: str, summary: str, body: type[BaseModel], answer: type[BaseModel], examples: tuple[Any, Any, str]
) -> dict[str, Any]:
    requests, reply, version = examples
    named = {title: {"value": value} for title, value in requests.items()}
    content = {JSON_TYPE: {"schema": _reference(body), "examples": named}}
    answered = _reply("The answer.", answer, reply) | {"links": {"model": _link("model_info", version)}}
    return {
        "operationId": name,
        "summary": summary,
        "tags": ["predictions"],
        "parameters": [*_query_parameters(Options, () if answer is Prediction else _OF_ONE_HOUSE), _CLIENT_ID],
        "requestBody": {"required": True, "description": _BODY, "content": content},
        "responses": {
            "200": answered | ({"headers": _CACHED} if answer is Prediction else {}),
            **_INVALID,
            **_problems(_REFUSALS),
            "404": _reply(_NOT_FOUND, Problem),
            "503": _reply(_BUSY, Problem) | {"headers": _RETRY_AFTER},
        },
    }


def _read(name: str, summary: str, answer: type[BaseModel], problems: dict[str, Any]) -> dict[str, Any]:
    return {
        "operationId": name,
        "summary": summary,
        "tags": ["service"],
        "responses": {"200": _reply("The answer.", answer), **problems},
    }


def models(_batch: type[Houses]) -> Operation:
    """The operation of `GET /models`."""
    operation = _read("models", "The versions in service", ModelList, _problems(_UNREADY))
    asking = ("model_info", "predict", "predict_batch")
    operation["responses"]["200"]["links"] = {name: _link(name, "models/0/version") for name in asking}
    return operation


def info(_batch: type[Houses]) -> Operation:
    """The operation of `GET /model/info`."""
    problems = _problems((HTTPStatus.NOT_FOUND, *_UNREADY)) | _INVALID
    operation = _read("model_info", "How a version was made; without a name, the champion", ModelInfo, problems)
    return operation | {"parameters": _query_parameters(Choice)}


def report(_batch: type[Houses]) -> Operation:
    """The operation of `GET /model/report`."""
    problems = _problems((HTTPStatus.NOT_FOUND, *_UNREADY)) | _INVALID
    problems["404"] = _reply("The version that was asked for is not in service, or was published without one.", Problem)
    content = {"text/html": {"schema": {"type": "string"}}}
    return {
        "operationId": "model_report",
        "summary": "The report of a version as a page; without a name, the champion's",
        "tags": ["service"],
        "parameters": _query_parameters(Choice),
        "responses": {"200": {"description": "One HTML file.", "content": content}, **problems},
    }


def metrics(_batch: type[Houses]) -> Operation:
    """The operation of `GET /metrics`."""
    operation = _read(
        "metrics", "What all workers have counted", Summary, _problems((HTTPStatus.INTERNAL_SERVER_ERROR,))
    )
    answer = _reply("For Prometheus; in short, with `Accept: application/json`.", Summary)
    answer["content"] |= {"text/plain": {"schema": {"type": "string"}}}
    return operation | {"responses": operation["responses"] | {"200": answer}}


def _guarded(operation: dict[str, Any], access: Access, *, keys: bool, limit: bool) -> dict[str, Any]:
    """An operation, and what the guard in front of it may answer."""
    statuses: tuple[HTTPStatus, ...] = ()
    if keys and access.scope is not None:
        operation |= {"security": [{scheme: [access.scope]} for scheme in _SCHEMES]}
        statuses += (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.SERVICE_UNAVAILABLE)
    if limit and (access.limited or (keys and access.scope is not None)):  # what is refused is always limited
        statuses += (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE)
    return operation | {"responses": _problems(statuses) | operation["responses"]}


def _as_all(operation: dict[str, Any]) -> dict[str, Any]:
    """An operation, and what is true of all: requests have names, and some are refused before they are one."""
    responses = operation["responses"] | _UNREAD
    return operation | {
        "parameters": [*operation.get("parameters", []), *_TRACE],
        "responses": {
            status: response | {"headers": response.get("headers", {}) | _NAMED}
            for status, response in responses.items()
        },
    }


def _link(operation: str, version: str) -> dict[str, Any]:
    """A link to an operation, with the version that an answer names somewhere in its body."""
    return {"operationId": operation, "parameters": {"model_version": f"$response.body#/{version}"}}


def _query_parameters(options: type[Choice], without: Collection[str] = ()) -> list[dict[str, Any]]:
    properties = options.model_json_schema()["properties"]
    return [_query_parameter(name, schema) for name, schema in properties.items() if name not in without]


def _query_parameter(name: str, schema: dict[str, Any]) -> dict[str, Any]:
    value, *_null = schema.pop("anyOf", [{}])  # a query has no null: a parameter is present or not
    schema = {key: fact for key, fact in (schema | value).items() if fact is not None}
    return {"name": name, "in": "query", "required": False, "description": schema.pop("description"), "schema": schema}


def _header(name: str, description: str) -> dict[str, Any]:
    return {"name": name, "in": "header", "required": False, "description": description, "schema": {"type": "string"}}


def _problems(statuses: tuple[HTTPStatus, ...]) -> dict[str, Any]:
    return {str(status.value): _reply(_MEANINGS[status], Problem) for status in statuses}


def _reply(description: str, model: type[BaseModel], example: object = None) -> dict[str, Any]:
    media: dict[str, Any] = {"schema": _reference(model)}
    if example is not None:
        media["example"] = example
    return {"description": description, "content": {JSON_TYPE: media}}


def _reference(model: type[BaseModel]) -> dict[str, str]:
    return {"$ref": REFERENCE.format(model=model.__name__)}


_CLIENT_ID: Final = _header(
    "X-Client-Id", "An identifier of the client, of your choice: a split keeps the same client on the same arm."
)
_TRACE: Final = (
    _header(REQUEST_ID, f"An identifier of this request, `{REQUEST_ID_PATTERN.pattern}`; generated if absent."),
    _header("traceparent", "The distributed trace that this request is part of, in the form of W3C's Trace Context."),
)
_NAME: Final = {
    "description": "The name of the request, which is in the log too.",
    "required": True,
    "schema": {"type": "string", "pattern": f"^{REQUEST_ID_PATTERN.pattern}$"},
}
_NAMED: Final = {REQUEST_ID: {"$ref": f"#/components/headers/{REQUEST_ID}"}}
_UNREAD: Final = {
    status: _reply(description, Problem)
    for status, description in {
        "400": "The request is not valid HTTP, or the body does not match its Content-Encoding header.",
        "414": "The URL is too long.",
        "431": "A header is too long, or there are too many.",
        "501": "The transfer coding is not known.",
    }.items()
}
_CACHED: Final = {
    "X-Cache": {
        "description": "Whether the price came from the cache; absent if the cache is off.",
        "schema": {"type": "string", "enum": ["hit", "miss"]},
    }
}
_RETRY_AFTER: Final = {
    "Retry-After": {"description": "Seconds; absent if the worker has no model.", "schema": {"type": "integer"}}
}
_INVALID: Final = {"422": _reply("The body or the query is not valid.", ValidationProblems, _EXAMPLE_PROBLEMS)}
_UNHEALTHY: Final = {
    **_problems((HTTPStatus.INTERNAL_SERVER_ERROR,)),
    "503": _reply(_MEANINGS[HTTPStatus.SERVICE_UNAVAILABLE], Unready),
}


def _schemas(batch: type[Houses]) -> dict[str, Any]:
    requests: list[type[BaseModel]] = [OneHouse, batch]
    answers: list[type[BaseModel]] = [
        Prediction,
        Predictions,
        Problem,
        ValidationProblems,
        Live,
        Health,
        Unready,
        ModelInfo,
        ModelList,
        Summary,
    ]
    _, definitions = models_json_schema(
        [(model, "validation") for model in requests] + [(model, "serialization") for model in answers],
        ref_template=REFERENCE,
    )
    schemas: dict[str, Any] = definitions["$defs"]
    return schemas
