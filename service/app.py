"""The composition root: everything is made and wired here, and nothing happens on import."""

import time
from collections.abc import Callable, Collection
from functools import partial
from typing import TYPE_CHECKING

from flask import Flask
from werkzeug.exceptions import HTTPException

from pricing.ids import Ids
from service.access.client_address import Clients
from service.access.cors import ANY, VARY, Cors
from service.access.error_page import ErrorsOfProtocol
from service.access.guard import Guard
from service.api.openapi import document
from service.api.routes import ACCESS, DOCUMENTED, ROUTES, UNLIMITED
from service.api.views import Views, failure, http_error
from service.contract import batch_of
from service.observability.metrics import WorkerMetrics
from service.observability.observer import Observer, Routes
from service.open_inference.handler import Inferer
from service.open_inference.middleware import MODELS, InferenceMiddleware
from service.predictions.cache import Cache
from service.predictions.handler import BATCH, SINGLE, Answerer
from service.predictions.middleware import PredictionMiddleware
from service.resources import Resources
from service.settings import Settings, read_settings
from worker.limits import Limits

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

    from service.access.rate_limit import Limiter

Around = Callable[["WSGIApplication"], "WSGIApplication"]


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
    openapi = document(
        DOCUMENTED, batch, settings.inference_model_name, keys=settings.require_keys, limit=bool(settings.rate_limit)
    )
    inferer = Inferer(
        answerer,
        resources.models,
        settings.inference_model_name,
        settings.max_inference_rows,
        settings.max_body_bytes,
    )
    views = Views(answerer, resources.models, resources.exposition, resources.keys, openapi, clock, inferer)
    for route in ROUTES:
        app.add_url_rule(route.path, route.path, partial(route.view, views), methods=[route.method])
    app.register_error_handler(HTTPException, http_error)
    app.register_error_handler(Exception, failure)
    if settings.prediction_middleware:
        app.wsgi_app = InferenceMiddleware(app.wsgi_app, inferer)  # type: ignore[method-assign]
        app.wsgi_app = PredictionMiddleware(app.wsgi_app, answerer)  # type: ignore[method-assign]
    app.wsgi_app = guard_of(settings, resources, app.wsgi_app, clock)  # type: ignore[method-assign]
    wide = (VARY, ("Access-Control-Allow-Origin", ANY)) if ANY in settings.cors_origins else ()
    app.observer = Observer(Routes(app.url_map), resources.metrics, resources.log, ids, wide)
    observed = around(app.observer, settings.cors_origins)
    app.around = lambda application: observed(ErrorsOfProtocol(application))
    app.wsgi_app = observed(app.wsgi_app)  # type: ignore[method-assign, assignment]
    return app


def around(observer: Observer, origins: Collection[str]) -> Around:
    """Wrap every answer of an application, and those that the worker gives in its place."""
    if not origins:
        return observer.around
    return lambda application: observer.around(Cors(application, origins))


def limits_of(settings: Settings) -> Limits:
    """Limits of what a client costs the worker. Only the body of a batch may be large."""
    return Limits(
        header_seconds=settings.header_seconds,
        body_seconds=settings.body_seconds,
        write_seconds=settings.write_seconds,
        max_body_bytes=min(settings.max_predict_body_bytes, settings.max_body_bytes),
        larger_bodies=dict.fromkeys((BATCH, BATCH + "/"), settings.max_body_bytes),
        larger_bodies_below={MODELS: settings.max_body_bytes},
        max_in_hand=settings.max_in_hand,
        unlimited=UNLIMITED,
    )


def guard_of(
    settings: Settings, resources: Resources, application: "WSGIApplication", clock: Callable[[], int]
) -> Guard:
    """Middleware that passes on only authorized requests."""
    limiter = limiter_of(settings, resources.metrics)
    clients = Clients(settings.trusted_proxies, settings.rate_limit_ipv6_prefix)
    return Guard(application, ACCESS, resources.keys, limiter, clients, clock)


def limiter_of(settings: Settings, metrics: WorkerMetrics) -> "Limiter | None":
    """The limiter of clients; None if the operator sets no limit."""
    if not settings.rate_limit:
        return None
    from service.access.rate_limit import Limiter  # noqa: PLC0415 -- few workers need it

    return Limiter.of(settings.rate_limit, settings.rate_limit_storage, settings.rate_limit_on_failure, metrics)
