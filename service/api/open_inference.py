"""The routes of the Open Inference Protocol: the description and the health of the server and of its model."""

from http import HTTPStatus
from typing import Any, Final

from flask import Response, request

from pricing.artifacts.columns import OptionalColumn
from pricing.house import FEATURES
from service.api.views import Views, response_of
from service.contract import CHAMPION
from service.deployment.loaded_models import ServedModel
from service.errors import KeysUnknownError, NotReadyError
from service.open_inference.handler import NUMBER, PRICES
from service.open_inference.middleware import inference_of
from service.open_inference.tensors import TEXT
from service.predictions.bodies import whole
from service.reply import json_reply

NAME: Final = "appraiser"
RELEASE: Final = "1.0.0"
EXTENSIONS: Final = ("binary_tensor_data",)
PLATFORM: Final = "onnx_onnxv1"
ANY_ROWS: Final = [-1]


def server(_views: Views) -> Response:
    """Describe the server."""
    return _json({"name": NAME, "version": RELEASE, "extensions": EXTENSIONS})


def live(_views: Views) -> Response:
    """Answer while the process does."""
    return _json({"live": True})


def ready(views: Views) -> Response:
    """Report whether this worker can predict."""
    try:
        if views.keys is not None:
            views.keys.look()
            views.keys.ring()
        views.models.serving()
    except (NotReadyError, KeysUnknownError) as error:
        return _unready(error)
    return _json({"ready": True})


def models(views: Views) -> Response:
    """List the models: the one of this service."""
    return _json({"models": [views.inferer.name]})


def model(views: Views, name: str, version: str = CHAMPION) -> Response:
    """Describe the model in a version; without a version, the champion."""
    views.inferer.check_model(name)
    serving = views.models.serving()
    chosen = serving.choose(version, b"").model
    return _json(
        {
            "name": name,
            "versions": list(serving.models),
            "platform": PLATFORM,
            "inputs": _inputs(chosen),
            "outputs": [_tensor(output, NUMBER) for output in PRICES],
        }
    )


def model_ready(views: Views, name: str, version: str = CHAMPION) -> Response:
    """Report whether this worker can predict with a version; without a version, with the champion."""
    views.inferer.check_model(name)
    try:
        views.models.serving().choose(version, b"")
    except NotReadyError as error:
        return _unready(error)
    return _json({"name": name, "ready": True})


def infer(views: Views, name: str, version: str | None = None) -> Response:
    """Predict, by the same function as the middleware."""
    del name, version  # which are read from the path
    found = inference_of(request.environ, views.inferer.max_body_bytes)
    return response_of(whole(views.inferer.answer(found)))


def _inputs(chosen: ServedModel) -> list[dict[str, Any]]:
    return [*(_tensor(field, NUMBER) for field in FEATURES), *(_column(found) for found in chosen.manifest.columns)]


def _column(column: OptionalColumn) -> dict[str, Any]:
    kind = TEXT if column.kind == "category" else NUMBER
    return _tensor(column.name, kind) | {"parameters": {"optional": True}}


def _tensor(name: str, datatype: str) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": ANY_ROWS}


def _unready(error: Exception) -> Response:
    reply = json_reply(HTTPStatus.SERVICE_UNAVAILABLE, {"error": str(error), "ready": False})
    return response_of(reply)


def _json(content: dict[str, Any]) -> Response:
    return response_of(json_reply(HTTPStatus.OK, content))
