"""The composition root: everything is made and wired here, and nothing happens on import."""

import time
from collections.abc import Callable, Collection, Mapping
from http import HTTPStatus
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from flask import Blueprint, Flask, Response, render_template, request
from pydantic import BaseModel
from werkzeug.exceptions import HTTPException

from pricing.artifacts.manifest import Metrics
from pricing.ids import Ids
from service import trace
from service.access.api_keys import Keys
from service.access.client_address import Clients
from service.access.cors import ANY, VARY, Cors
from service.access.guard import UNLIMITED, Guard
from service.api.openapi import document
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
    batch_of,
)
from service.deployment.loaded_models import LoadedDeployment, ModelRegistry, ServedModel
from service.errors import NOTHING_HERE, KeysUnknownError, NotReadyError, refusal
from service.observability.exposition import Exposition
from service.observability.metrics import WorkerMetrics
from service.observability.observer import Observer, Routes
from service.predictions.cache import Cache
from service.predictions.handler import BATCH, SINGLE, Answerer, parse_query
from service.predictions.middleware import PredictionMiddleware, request_of
from service.reply import JSON_TYPE, Reply, json_reply
from service.resources import Resources
from service.settings import Settings, read_settings
from worker.limits import Limits

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

    from service.access.rate_limit import Limiter

Around = Callable[["WSGIApplication"], "WSGIApplication"]

SENTENCES: Final[Mapping[int, str]] = {
    HTTPStatus.NOT_FOUND: NOTHING_HERE,
    HTTPStatus.METHOD_NOT_ALLOWED: "This path does not take this method; /docs lists what there is.",
}


class Application(Flask):
    """Flask, carrying what the worker asks its application for."""

    limits: Limits
    observer: Observer
    around: Around


def create_app(
    settings: Settings | None = None,
    resources: Resources | None = None,
    clock: Callable[[], int] = time.time_ns,
    ids: Ids | None = None,
) -> Application:
    """Make the WSGI application. Without arguments it reads the environment and loads what is deployed."""
    settings = settings or read_settings()
    resources = resources or Resources.acquire(settings)
    ids = ids or Ids()
    batch = batch_of(settings.max_batch_rows)
    limits = limits_of(settings)
    body_bytes = {path: limits.body_bytes(path) for path in (SINGLE, BATCH)}
    answerer = Answerer(
        resources.models, resources.metrics, resources.books, Cache(settings.cache_size), batch, body_bytes, ids, clock
    )

    app = Application("service", static_folder=None, template_folder="api/templates")
    # Both would be answered in HTML: OPTIONS with an empty page, two slashes in a row with a redirect.
    app.config["PROVIDE_AUTOMATIC_OPTIONS"] = False
    app.url_map.merge_slashes = False
    app.limits = limits
    app.register_blueprint(prediction_views(answerer))
    app.register_blueprint(model_views(resources.models, resources.keys))
    app.register_blueprint(metrics_view(resources.exposition))
    app.register_blueprint(
        documentation_views(document(batch, keys=settings.require_keys, limit=bool(settings.rate_limit)))
    )
    app.register_error_handler(HTTPException, _http_error)
    app.register_error_handler(Exception, _failure)
    if settings.prediction_middleware:
        app.wsgi_app = PredictionMiddleware(app.wsgi_app, answerer)  # type: ignore[method-assign]
    app.wsgi_app = guard_of(settings, resources, app.wsgi_app, clock)  # type: ignore[method-assign]
    wide = (VARY, ("Access-Control-Allow-Origin", ANY)) if ANY in settings.cors_origins else ()
    app.observer = Observer(Routes(app.url_map), resources.metrics, resources.log, ids, wide)
    app.around = around(app.observer, settings.cors_origins)
    app.wsgi_app = app.around(app.wsgi_app)  # type: ignore[method-assign, assignment]
    return app


def around(observer: Observer, origins: Collection[str]) -> Around:
    """What stands around every answer of an application, and around those that the worker gives in its place."""
    if not origins:
        return observer.around
    return lambda application: observer.around(Cors(application, origins))


def limits_of(settings: Settings) -> Limits:
    """What a client may cost the worker. No body but that of a batch may be large."""
    return Limits(
        header_seconds=settings.header_seconds,
        body_seconds=settings.body_seconds,
        write_seconds=settings.write_seconds,
        max_body_bytes=min(settings.max_predict_body_bytes, settings.max_body_bytes),
        larger_bodies=dict.fromkeys((BATCH, BATCH + "/"), settings.max_body_bytes),
        max_in_hand=settings.max_in_hand,
        unlimited=UNLIMITED,
    )


def guard_of(
    settings: Settings, resources: Resources, application: "WSGIApplication", clock: Callable[[], int]
) -> Guard:
    """What stands in front of the application, and lets in who may."""
    limiter = limiter_of(settings, resources.metrics)
    clients = Clients(settings.trusted_proxies, settings.rate_limit_ipv6_prefix)
    return Guard(application, resources.keys, limiter, clients, clock)


def limiter_of(settings: Settings, metrics: WorkerMetrics) -> "Limiter | None":
    """What limits clients, where the operator wants it."""
    if not settings.rate_limit:
        return None
    from service.access.rate_limit import Limiter  # noqa: PLC0415 -- few workers need it

    return Limiter.of(settings.rate_limit, settings.rate_limit_storage, settings.rate_limit_on_failure, metrics)


def prediction_views(answerer: Answerer) -> Blueprint:
    """The prediction routes by way of Flask; the middleware answers them first when it is on."""
    views = Blueprint("predictions", __name__)

    def predict() -> Response:
        return _response(answerer.answer(request_of(request.environ, request.path, answerer.body_bytes[request.path])))

    for path in sorted(answerer.paths):
        views.add_url_rule(path, path.strip("/").replace("/", "_"), predict, methods=["POST"])
    return views


def model_views(models: ModelRegistry, keys: Keys | None) -> Blueprint:
    """What answers, and whether it can."""
    views = Blueprint("models", __name__)

    @views.get("/health/live")
    def live() -> Response:
        return _json(Live(status="live"))

    @views.get("/health")
    @views.get("/health/ready")
    def ready() -> Response:
        found: dict[str, Any] = {"refused": list(models.refused) or None}
        try:
            if keys is not None:
                keys.look()
                found["keys_unreadable"] = keys.unreadable
                keys.ring()
            deployment = models.serving().deployment
        except (NotReadyError, KeysUnknownError) as error:
            return _json(Unready(detail=str(error), **found), HTTPStatus.SERVICE_UNAVAILABLE)
        return _json(Health(status="ready", version=deployment.champion, generation=deployment.generation, **found))

    @views.get("/models")
    def in_service() -> Response:
        return _json(summarize(models.serving()))

    @views.get("/model/info")
    def info() -> Response:
        asked = parse_query(Choice, request.query_string.decode("latin-1")).model_version
        serving = models.serving()
        return _json(describe(serving.choose(asked or CHAMPION, b"").model, serving.deployment.generation))

    return views


def metrics_view(exposition: Exposition) -> Blueprint:
    """What was counted, for Prometheus, or in short for who asks for JSON."""
    views = Blueprint("metrics", __name__)

    @views.get("/metrics")
    def metrics() -> Response:
        if request.accept_mimetypes.best_match(["text/plain", JSON_TYPE]) == JSON_TYPE:
            return _json(exposition.summary())
        return _response(exposition.text())

    return views


def documentation_views(openapi: dict[str, Any]) -> Blueprint:
    """The OpenAPI document, and Swagger UI from its package, so that the page needs no internet."""
    views = Blueprint("documentation", __name__, static_folder="api/static", static_url_path="/docs/static")
    swagger = Blueprint("swagger", __name__, static_folder=_swagger_ui(), static_url_path="/docs/swagger")
    views.register_blueprint(swagger)

    @views.get("/docs")
    def docs() -> str:
        return render_template("docs.html")

    @views.get("/docs/")
    def docs_with_a_slash() -> Response:
        # Not answered directly, as other routes are: the links of the page start at /docs, whatever a proxy adds to it.
        return Response(status=HTTPStatus.TEMPORARY_REDIRECT, headers={"Location": "../docs"})

    @views.get("/openapi.json")
    def openapi_json() -> Response:
        return _response(json_reply(HTTPStatus.OK, openapi))

    return views


def summarize(serving: LoadedDeployment) -> ModelList:
    """What /models says."""
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
    """What /model/info says of a version."""
    manifest = model.manifest
    return ModelInfo(
        version=manifest.version,
        generation=generation,
        family=manifest.family,
        trained_at=manifest.created_at,
        features=manifest.features,
        metrics=manifest.metrics,
        confidence_levels=manifest.calibration.levels,
        calibration_rows=manifest.calibration.rows,
        data=manifest.data,
        parity=manifest.parity,
        parameters=manifest.parameters,
        seed=manifest.seed,
        libraries=manifest.libraries,
        sha256=manifest.graph.sha256,
    )


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


def _response(reply: Reply) -> Response:
    return Response(reply.body, reply.status, reply.headers)


def _failure(error: Exception) -> Response:
    return _response(refusal(error, trace.of(request.environ).request_id))


def _http_error(error: HTTPException) -> Response:
    status = error.code or HTTPStatus.INTERNAL_SERVER_ERROR
    reply = json_reply(status, {"detail": SENTENCES.get(status, HTTPStatus(status).description or error.name)})
    response = _response(reply)
    if allow := dict(error.get_headers()).get("Allow"):
        response.headers["Allow"] = allow
    return response
