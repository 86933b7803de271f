"""The one table of routes: access control, Flask's rules, the OpenAPI document and the tests' lists derive from it."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from service.access.guard import Access
from service.api import open_inference, openapi, openapi_v2
from service.api.openapi import Documented, Operation
from service.api.views import Views
from service.contract import Houses
from service.observability.observer import name_of


class Route(NamedTuple):
    """One route."""

    method: str
    path: str
    access: Access
    view: Callable[..., Any]
    operation: Callable[[type[Houses]], Operation] | None = None
    """Its description in the OpenAPI document; None for a page."""

    @property
    def name(self) -> str:
        """The name of the route in metrics, logs and access control."""
        return name_of(self.path)


PREDICT: Final = Access("predict")
READ: Final = Access("read")
PUBLIC: Final = Access(None)
WATCH: Final = Access(None, limited=False)
FILES: Final = Access(None, limited=False)  # a page without one of its files does not work
METRICS: Final = Access("metrics", limited=False)  # a monitor must see most when most is asked
READY: Final = openapi.health("health_ready", "Whether this worker can predict")

ROUTES: Final = (
    Route("POST", "/predict", PREDICT, Views.predict, openapi.predict),
    Route("POST", "/predict/batch", PREDICT, Views.predict, openapi.predict_batch),
    Route("GET", "/models", READ, Views.in_service, openapi.models),
    Route("GET", "/model/info", READ, Views.info, openapi.info),
    Route("GET", "/model/report", READ, Views.report, openapi.report),
    Route("GET", "/metrics", METRICS, Views.metrics, openapi.metrics),
    Route("GET", "/health", WATCH, Views.ready, openapi.health("health", "The same as /health/ready")),
    Route("GET", "/health/ready", WATCH, Views.ready, READY),
    Route("GET", "/health/live", WATCH, Views.live, openapi.live),
    Route("GET", "/v2", PUBLIC, open_inference.server, openapi_v2.SERVER),
    Route("GET", "/v2/", PUBLIC, open_inference.server),
    Route("GET", "/v2/health/live", WATCH, open_inference.live, openapi_v2.LIVE),
    Route("GET", "/v2/health/ready", WATCH, open_inference.ready, openapi_v2.READY),
    Route("GET", "/v2/models", READ, open_inference.models, openapi_v2.MODELS),
    Route("GET", "/v2/models/<name>", READ, open_inference.model, openapi_v2.MODEL),
    Route("GET", "/v2/models/<name>/versions/<version>", READ, open_inference.model, openapi_v2.VERSION),
    Route("GET", "/v2/models/<name>/ready", WATCH, open_inference.model_ready, openapi_v2.MODEL_READY),
    Route(
        "GET", "/v2/models/<name>/versions/<version>/ready", WATCH, open_inference.model_ready, openapi_v2.VERSION_READY
    ),
    Route("POST", "/v2/models/<name>/infer", PREDICT, open_inference.infer, openapi_v2.INFER),
    Route(
        "POST", "/v2/models/<name>/versions/<version>/infer", PREDICT, open_inference.infer, openapi_v2.INFER_VERSION
    ),
    Route("GET", "/", PUBLIC, Views.page),
    Route("GET", "/static/<path:filename>", FILES, Views.static_file),
    Route("GET", "/docs", PUBLIC, Views.docs),
    Route("GET", "/docs/", PUBLIC, Views.docs_with_a_slash),
    Route("GET", "/docs/static/<path:filename>", PUBLIC, Views.static_file),
    Route("GET", "/docs/swagger/<path:filename>", PUBLIC, Views.swagger_file),
    Route("GET", "/openapi.json", PUBLIC, Views.openapi_json),
)
ACCESS: Final[Mapping[str, Access]] = MappingProxyType({route.name: route.access for route in ROUTES})
DOCUMENTED: Final = tuple(
    Documented(route.name, route.method, route.access, route.operation) for route in ROUTES if route.operation
)
UNLIMITED: Final = frozenset(path for path, access in ACCESS.items() if not access.limited)
