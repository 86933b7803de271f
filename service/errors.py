"""Reasons why a request is not answered with a prediction, as one tree, and the one table of their replies.

RequestError
├── UnauthorizedError      401  the key is missing, unknown, expired or revoked
├── ForbiddenError         403  the key is valid, but not for this
├── NothingHereError       404  the path was not found
├── TooManyRequestsError   429  the client has used up what it may ask in a while
├── LimitUnknownError      503  what the client has used up cannot be looked up
├── KeysUnknownError       503  the keys have never been read, so no key can be checked
├── InvalidRequestError    422  the body or a query parameter breaks the contract
├── InvalidInferenceError  400  the body breaks the Open Inference Protocol, or the contract in its form
├── UnknownModelError      404  the Open Inference Protocol asks for a model of another name
├── NotInServiceError      404  the version that was asked for is not loaded
├── NotExplainableError    404  the version was published without what explains its prices
├── ReportNotFoundError    404  the version was published without a report, or it cannot be read
├── NoSalesError           404  the version keeps no sales to compare with
├── BodyTooLargeError      413
├── NotJsonError           415
├── UnknownCodingError     415  the body has a content coding that is not accepted
├── NotDecodableError      400  the body does not match its content coding
└── NotReadyError          503  this worker has no model
"""

import logging
from collections.abc import Mapping
from typing import Any, Final

from pydantic import ValidationError

from service.reply import Headers, Reply, json_reply
from worker.wsgi import FAILED

MAX_PROBLEMS: Final = 20
REALM: Final = 'Bearer realm="Appraiser"'
NOTHING_HERE: Final = "This path does not exist; /docs lists the endpoints."

logger = logging.getLogger(__name__)


class RequestError(Exception):
    """Base of all errors that a client gets; its text is one sentence without any of the input."""

    headers: Headers = ()
    """What the answer says besides."""


class UnauthorizedError(RequestError):
    """The key is missing, unknown, expired or revoked. RFC 6750, section 3, defines the header."""

    def __init__(self, sentence: str, *, presented: bool) -> None:
        super().__init__(sentence)
        error = ', error="invalid_token"' if presented else ""
        self.headers = (("WWW-Authenticate", f"{REALM}{error}"),)


class ForbiddenError(RequestError):
    """The key is valid, but lacks a scope."""

    def __init__(self, scope: str) -> None:
        super().__init__(f"This key lacks the scope {scope}.")
        self.headers = (("WWW-Authenticate", f'{REALM}, error="insufficient_scope", scope="{scope}"'),)


class NothingHereError(RequestError):
    """The path was not found."""

    def __init__(self) -> None:
        super().__init__(NOTHING_HERE)


class TooManyRequestsError(RequestError):
    """The client has used up what it may ask in a while."""

    def __init__(self, limit: str, seconds: int) -> None:
        super().__init__(
            f"Too many requests: at most {limit} are answered; the Retry-After header gives the seconds to wait."
        )
        self.headers = (("Retry-After", str(seconds)),)


class LimitUnknownError(RequestError):
    """The use of the client cannot be looked up, and by the setting no request passes then."""

    headers = (("Retry-After", "1"),)

    def __init__(self) -> None:
        super().__init__("The limit of requests cannot be checked at the moment.")


class KeysUnknownError(RequestError):
    """The keys have not been read since the start, so a key is neither valid nor not valid."""

    headers = (("Retry-After", "1"),)

    def __init__(self) -> None:
        super().__init__("The keys cannot be read, so no key can be checked; /health/ready has the reason.")


class InvalidRequestError(RequestError):
    """The body or a query parameter breaks the contract; `problems` has FastAPI's shape."""

    def __init__(self, where: str, error: ValidationError) -> None:
        super().__init__(f"invalid {where}")
        found = error.errors(include_url=False, include_context=False, include_input=False)
        self.problems: list[Mapping[str, Any]] = [
            {"type": problem["type"], "loc": [where, *problem["loc"]], "msg": problem["msg"]}
            for problem in found[:MAX_PROBLEMS]
        ]


class InvalidInferenceError(RequestError):
    """The body is not a request of the Open Inference Protocol that this model can answer."""


class UnknownModelError(RequestError):
    """The Open Inference Protocol asks for a model of another name; the text has the name of the one that is served."""


class NotInServiceError(RequestError):
    """The version that was asked for is not loaded; the text lists those that are."""


class NotExplainableError(RequestError):
    """The version was published without a background, so its prices cannot be explained."""

    def __init__(self) -> None:
        super().__init__("This version cannot explain its prices: an earlier release made it. Train another version.")


class ReportNotFoundError(RequestError):
    """The version was published without a report, or the file cannot be read."""

    def __init__(self, version: str) -> None:
        super().__init__(
            f"A report of {version} was not found; `appraiser report {version} --html FILE` writes one to a file."
        )


class NoSalesError(RequestError):
    """The version keeps no sales, so comparables cannot be found."""

    def __init__(self) -> None:
        super().__init__(
            "This version keeps no sales to compare with: train one with --keep-sales, or ask without comparables."
        )


class BodyTooLargeError(RequestError):
    """The body is larger than the setting allows."""


class NotJsonError(RequestError):
    """The content type declares another body than JSON."""


class UnknownCodingError(RequestError):
    """The body has a content coding that is not accepted. RFC 9110, section 12.5.3, defines the header."""

    headers = (("Accept-Encoding", "gzip, deflate, identity"),)

    def __init__(self) -> None:
        super().__init__("The Content-Encoding is not supported: one of gzip, deflate and identity is accepted.")


class NotDecodableError(RequestError):
    """The body does not match its content coding."""

    def __init__(self, coding: str, reason: str) -> None:
        super().__init__(f"Content-Encoding is {coding}, but the body is not valid {coding}: {reason}.")


class NotReadyError(RequestError):
    """The worker has no model that it could answer with; the text states what to do."""


STATUS: Final[Mapping[type[RequestError], int]] = {
    UnauthorizedError: 401,
    ForbiddenError: 403,
    NothingHereError: 404,
    TooManyRequestsError: 429,
    LimitUnknownError: 503,
    KeysUnknownError: 503,
    InvalidInferenceError: 400,
    UnknownModelError: 404,
    NotInServiceError: 404,
    NotExplainableError: 404,
    ReportNotFoundError: 404,
    NoSalesError: 404,
    BodyTooLargeError: 413,
    NotJsonError: 415,
    UnknownCodingError: 415,
    NotDecodableError: 400,
    NotReadyError: 503,
}


def refusal(error: Exception, request_id: str) -> Reply:
    """The reply for an exception; an unforeseen one is logged and answered 500."""
    if isinstance(error, InvalidRequestError):
        return json_reply(422, {"detail": error.problems})
    if isinstance(error, RequestError):
        return json_reply(STATUS[type(error)], {"detail": str(error)}, error.headers)
    logger.error("a request failed", exc_info=error, extra={"request_id": request_id})
    return json_reply(500, {"detail": FAILED})
