"""The views: each answers one route by Flask. The prediction routes are answered by the middleware if it is on."""

from collections.abc import Callable, Mapping
from functools import cache
from http import HTTPStatus
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, NamedTuple

from flask import Response, render_template, request, send_from_directory
from pydantic import BaseModel
from werkzeug.exceptions import HTTPException

from pricing.artifacts.manifest import Metrics
from service import trace
from service.access.api_keys import Keys
from service.access.error_page import for_people
from service.access.security_headers import report_headers
from service.api.openapi import with_columns
from service.api.page import facts
from service.contract import (
    CHAMPION,
    DEFAULT_LEVEL,
    Choice,
    HeadlineMetrics,
    Health,
    Live,
    ModelInfo,
    ModelList,
    ModelSummary,
    Unready,
)
from service.deployment.loaded_models import LoadedDeployment, ModelRegistry, Selection, ServedModel
from service.errors import NOTHING_HERE, KeysUnknownError, NotReadyError, refusal
from service.observability.exposition import Exposition
from service.open_inference.handler import Inferer
from service.predictions.handler import Answerer, parse_query
from service.predictions.middleware import request_of
from service.reply import JSON_TYPE, Reply, json_reply

SENTENCES: Final[Mapping[int, str]] = {
    HTTPStatus.NOT_FOUND: NOTHING_HERE,
    HTTPStatus.METHOD_NOT_ALLOWED: "This path does not accept this method; /docs lists the endpoints.",
}
STATIC: Final = Path(__file__).parent / "static"


class Views(NamedTuple):
    """The views, with the parts of the service that they answer from."""

    answerer: Answerer
    models: ModelRegistry
    exposition: Exposition
    keys: Keys | None
    openapi: Mapping[str, Any]
    clock: Callable[[], int]
    """Nanoseconds of the Unix time."""
    inferer: Inferer
    """Answers the routes of the Open Inference Protocol (service/api/open_inference.py)."""

    def predict(self) -> Response:
        """Predict, by the same function as the middleware."""
        max_body_bytes = self.answerer.body_bytes[request.path]
        return response_of(self.answerer.answer(request_of(request.environ, request.path, max_body_bytes)))

    def live(self) -> Response:
        """Answer while the process does."""
        return _json(Live(status="live"))

    def ready(self) -> Response:
        """Report whether this worker can predict, and what it has refused."""
        found: dict[str, Any] = {"refused": list(self.models.refused) or None}
        try:
            if self.keys is not None:
                self.keys.look()
                found["keys_unreadable"] = self.keys.unreadable
                self.keys.ring()
            serving = self.models.serving()
        except (NotReadyError, KeysUnknownError) as error:
            return _json(Unready(detail=str(error), **found), HTTPStatus.SERVICE_UNAVAILABLE)
        deployment = serving.deployment
        found["outdated"] = outdated(serving, self.clock()) or None
        return _json(Health(status="ready", version=deployment.champion, generation=deployment.generation, **found))

    def in_service(self) -> Response:
        """List the versions in service."""
        return _json(summarize(self.models.serving()))

    def info(self) -> Response:
        """Describe a version; without a name, the champion."""
        chosen = self._asked()
        return _json(describe(chosen.model, chosen.generation))

    def report(self) -> Response:
        """Send the report of a version; without a name, the champion's."""
        page = self.models.report(self._asked().model.manifest.version)
        trace.of(request.environ).security = report_headers(page)
        return Response(page, mimetype="text/html")

    def _asked(self) -> Selection:
        """The version that the query names; without a name, the champion."""
        asked = parse_query(Choice, request.query_string.decode("latin-1")).model_version
        return self.models.serving().choose(asked or CHAMPION, b"")

    def metrics(self) -> Response:
        """Report the metrics for Prometheus, or a summary as JSON."""
        if request.accept_mimetypes.best_match(["text/plain", JSON_TYPE]) == JSON_TYPE:
            return _json(self.exposition.summary())
        return response_of(self.exposition.text())

    def page(self) -> str:
        """Render the page that prices houses for people."""
        return render_template("page.html", **facts(self.openapi))

    def docs(self) -> str:
        """Render the documentation page."""
        return render_template("docs.html")

    def docs_with_a_slash(self) -> Response:
        """Redirect: the links of the page start at /docs, whatever prefix a proxy adds to it."""
        return Response(status=HTTPStatus.TEMPORARY_REDIRECT, headers={"Location": "../docs"})

    def static_file(self, filename: str) -> Response:
        """Send a file of a page."""
        return send_from_directory(STATIC, filename)

    def swagger_file(self, filename: str) -> Response:
        """Send a file of Swagger UI, from its package, so that the page needs no internet."""
        return send_from_directory(_swagger_ui(), filename)

    def openapi_json(self) -> Response:
        """Send the OpenAPI document, with the columns of the versions in service."""
        try:
            models = self.models.serving().models.values()
        except NotReadyError:
            models = {}.values()
        columns = (column for model in models for column in model.manifest.columns)
        return response_of(json_reply(HTTPStatus.OK, with_columns(self.openapi, columns)))


def outdated(serving: LoadedDeployment, now: int) -> list[dict[str, Any]]:
    """The versions that clients are given and that are older than the limit; `now` is nanoseconds of the Unix time.

    The previous version is left out: it waits for a rollback, and a newer one has taken its place.
    """
    told = (serving.models[version].age.outdated(now) for version in serving.deployment.arms)
    return [found for found in told if found is not None]


def summarize(serving: LoadedDeployment) -> ModelList:
    """The answer of /models."""
    deployment, arms = serving.deployment, serving.deployment.arms
    models = [
        ModelSummary(
            version=version,
            role=deployment.role(version),
            weight=arms.get(version, 0),
            family=model.manifest.family,
            trained_at=model.manifest.created_at,
            metrics=_headline(model.manifest.metrics),
        )
        for version, model in serving.models.items()
    ]
    return ModelList(generation=deployment.generation, models=models)


def describe(model: ServedModel, generation: int) -> ModelInfo:
    """The answer of /model/info for a version."""
    manifest = model.manifest
    return ModelInfo(
        version=manifest.version,
        generation=generation,
        family=manifest.family,
        trained_at=manifest.created_at,
        features=manifest.features,
        columns=manifest.columns,
        metrics=manifest.metrics,
        confidence_levels=manifest.calibration.levels,
        calibration_rows=manifest.calibration.rows,
        data=manifest.data,
        kept_sales=None if manifest.sales is None else manifest.sales.rows,
        recalibrated=manifest.recalibrated,
        parity=manifest.parity,
        parameters=manifest.parameters,
        seed=manifest.seed,
        libraries=manifest.libraries,
        sha256=manifest.graph.sha256,
    )


@cache
def _swagger_ui() -> Path:
    found = find_spec("flask_openapi3_swagger")  # its files are used, its code is not imported
    if found is None or found.origin is None:
        msg = "flask-openapi3-swagger is not installed; install requirements.txt"
        raise RuntimeError(msg)
    return Path(found.origin).parent / "templates" / "swagger"


def _headline(metrics: Metrics) -> HeadlineMetrics:
    coverage = next(found.coverage for found in metrics.intervals if found.level == DEFAULT_LEVEL)
    return HeadlineMetrics(test_rows=metrics.test.rows, mape=metrics.test.mape, r2=metrics.test.r2, coverage=coverage)


def _json(content: BaseModel, status: int = HTTPStatus.OK) -> Response:
    return Response(content.model_dump_json(exclude_defaults=True), status, mimetype=JSON_TYPE)


def response_of(reply: Reply) -> Response:
    """The reply as Flask sends it."""
    return Response(reply.body, reply.status, reply.headers)


def failure(error: Exception) -> Response:
    """Answer an exception of a view."""
    return response_of(for_people(refusal(error, trace.of(request.environ).request_id), request.environ))


def http_error(error: HTTPException) -> Response:
    """Answer what Flask refuses, as JSON or, in a browser, as a page."""
    status = error.code or HTTPStatus.INTERNAL_SERVER_ERROR
    reply = json_reply(status, {"detail": SENTENCES.get(status, HTTPStatus(status).description or error.name)})
    response = response_of(for_people(reply, request.environ))
    if allow := dict(error.get_headers()).get("Allow"):
        response.headers["Allow"] = allow
    return response
