"""Why a request is not answered with a prediction, as one tree, and the one table of what the client gets.

RequestError
├── InvalidRequestError    422  the body or a query parameter is not what the contract says
├── NotInServiceError      404  the version that was asked for is not loaded
├── BodyTooLargeError      413
├── NotJsonError           415
└── NotReadyError          503  this worker has no model
"""

import logging
from collections.abc import Mapping
from typing import Any, Final

from pydantic import ValidationError

from service.reply import Reply, json_reply

MOST_PROBLEMS: Final = 20
FAILED: Final = "The service failed to answer; the failure has been logged."

logger = logging.getLogger(__name__)


class RequestError(Exception):
    """Base of all errors that a client is told about; its text is one sentence without any of the input."""


class InvalidRequestError(RequestError):
    """The body or a query parameter is not what the contract says; `problems` has FastAPI's shape."""

    def __init__(self, where: str, error: ValidationError) -> None:
        super().__init__(f"invalid {where}")
        found = error.errors(include_url=False, include_context=False, include_input=False)
        self.problems: list[Mapping[str, Any]] = [
            {"type": problem["type"], "loc": [where, *problem["loc"]], "msg": problem["msg"]}
            for problem in found[:MOST_PROBLEMS]
        ]


class NotInServiceError(RequestError):
    """The version that was asked for is not loaded; the text lists those that are."""


class BodyTooLargeError(RequestError):
    """The body is larger than the setting allows."""


class NotJsonError(RequestError):
    """The content type says that the body is something else than JSON."""


class NotReadyError(RequestError):
    """The worker has no model that it could answer with; the text says what to do."""


STATUS: Final[Mapping[type[RequestError], int]] = {
    NotInServiceError: 404,
    BodyTooLargeError: 413,
    NotJsonError: 415,
    NotReadyError: 503,
}


def refusal(error: Exception, request_id: str) -> Reply:
    """The reply for whatever was raised while answering; what nobody foresaw is logged and answered 500."""
    if isinstance(error, InvalidRequestError):
        return json_reply(422, {"detail": error.problems})
    if isinstance(error, RequestError):
        return json_reply(STATUS[type(error)], {"detail": str(error)})
    logger.error("a request failed", exc_info=error, extra={"request_id": request_id})
    return json_reply(500, {"detail": FAILED})
