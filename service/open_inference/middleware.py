"""Inference requests are answered in front of Flask's dispatch, as predictions are, so that they may take breaks."""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Final

from service import trace
from service.open_inference.handler import InferenceRequest, Inferer
from service.predictions.bodies import Steps, whole
from service.predictions.middleware import read_of
from service.reply import Reply
from worker.wsgi import TAKES_STEPS

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

MODELS: Final = "/v2/models/"
ROUTES: Final = frozenset({f"{MODELS}{{name}}/infer", f"{MODELS}{{name}}/versions/{{version}}/infer"})


class InferenceMiddleware:
    """A WSGI application around another: POSTs to the routes of inference end here, the rest goes on."""

    def __init__(self, app: "WSGIApplication", inferer: Inferer) -> None:
        self._app = app
        self._inferer = inferer

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        """Answer an inference request, or pass the request on."""
        if environ["REQUEST_METHOD"] != "POST" or trace.of(environ).route not in ROUTES:
            return self._app(environ, start_response)
        steps = self._inferer.answer(inference_of(environ, self._inferer.max_body_bytes))
        if TAKES_STEPS in environ:
            return _in_steps(steps, start_response)
        return whole(steps).send(start_response)


def _in_steps(steps: Steps[Reply], start_response: "StartResponse") -> Iterator[bytes]:
    """The same, with breaks before the answer begins."""
    reply = yield from steps
    yield from reply.send(start_response)


def inference_of(environ: "WSGIEnvironment", max_body_bytes: int) -> InferenceRequest:
    """Read a request to one of ROUTES; of a body that is too long, only as much as shows that it is."""
    _, _, _, model, *parts = environ["PATH_INFO"].split("/")  # /v2/models/{name}[/versions/{version}]/infer
    return InferenceRequest(
        model,
        parts[1] if len(parts) > 1 else None,
        environ.get("HTTP_INFERENCE_HEADER_CONTENT_LENGTH", "").strip(),
        environ.get("HTTP_CONTENT_ENCODING", ""),
        environ.get("HTTP_X_CLIENT_ID", ""),
        read_of(environ, max_body_bytes),
        trace.of(environ),
    )
