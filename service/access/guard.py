"""Authentication, authorization and rate limiting, applied before any handler.

A route without Access is answered 404, so a new route stays closed until its scope is declared.
"""

import time
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Final, NamedTuple

from service import trace
from service.access.api_keys import Keys, Scope
from service.access.client_address import Clients
from service.access.error_page import for_people
from service.errors import ForbiddenError, NothingHereError, RequestError, UnauthorizedError, refusal
from service.reply import Reply
from service.trace import Trace

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

    from service.access.rate_limit import Limiter

ADMIN: Final[Scope] = "admin"
NO_KEY: Final = "An API key is required. Send it in the X-API-Key header or as `Authorization: Bearer <key>`."
NOT_VALID: Final = "This key is not valid."
REVOKED: Final = "This key has been revoked."
EXPIRED: Final = "This key has expired."
BEARER: Final = "bearer"
EMPTY: Final = " \t,"  # no key has any of them


class Access(NamedTuple):
    """The requirements of a route."""

    scope: Scope | None
    """None where nobody needs a key."""
    limited: bool = True
    """Whether requests that may pass are counted; those that are refused always are."""


# Health checks of load balancers ask the server itself, HAProxy's by default: it answers all of them.
SERVER: Final = frozenset({"/", "*"})
IT_ANSWERS: Final = Reply(204, (("Allow", "GET, HEAD, OPTIONS, POST"),), b"")


class Guard:
    """WSGI middleware that passes on only authorized requests.

    A request that is refused here counts against the address, and one with a valid key only against the key: so wrong
    keys are limited, and cannot use up what a client with a good key at the same address may ask.
    """

    def __init__(  # noqa: PLR0913, PLR0917 -- what it asks for each request
        self,
        application: "WSGIApplication",
        access: Mapping[str, Access],
        keys: Keys | None,
        limiter: "Limiter | None",
        clients: Clients,
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        """`access` is by route. Without keys none is required, and without a limiter nothing is limited."""
        self._application = application
        self._access = access
        self._keys = keys
        self._limiter = limiter
        self._clients = clients
        self._clock = clock

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        """Pass the request on, or refuse it with the reason."""
        asked = trace.of(environ)
        access = self._access.get(asked.route)
        if environ["REQUEST_METHOD"] == "OPTIONS" and environ["PATH_INFO"] in SERVER:
            return IT_ANSWERS.send(start_response)
        try:
            self._admit(access, environ, asked)
        except RequestError as error:
            return for_people(refusal(error, asked.request_id), environ).send(start_response)
        return self._application(environ, start_response)

    def _admit(self, access: Access | None, environ: "WSGIEnvironment", asked: Trace) -> None:
        try:
            if access is None:
                raise NothingHereError
            if self._keys is not None and access.scope is not None:
                self._check_key(self._keys, access.scope, environ, asked)
        except RequestError:
            self._count_address(environ)
            raise
        if self._limiter is None or not access.limited:
            return
        if asked.key_id is None:
            self._count_address(environ)
        else:
            self._limiter.admit_key(asked.key_id)

    def _count_address(self, environ: "WSGIEnvironment") -> None:
        if self._limiter is not None:
            self._limiter.admit_address(self._clients.of(environ))

    def _check_key(self, keys: Keys, scope: Scope, environ: "WSGIEnvironment", asked: Trace) -> None:
        presented = api_key_from(environ)
        if presented is None:
            raise UnauthorizedError(NO_KEY, presented=False)
        held = keys.authenticate(presented)
        if held is None:
            raise UnauthorizedError(NOT_VALID, presented=True)
        asked.key_id = held.key_id  # the reason is stated only if the secret is right
        if held.is_revoked:
            raise UnauthorizedError(REVOKED, presented=True)
        if held.expires_at * 1e9 <= self._clock():
            raise UnauthorizedError(EXPIRED, presented=True)
        if scope not in held.scopes and ADMIN not in held.scopes:
            raise ForbiddenError(scope)


def api_key_from(environ: "WSGIEnvironment") -> str | None:
    """The key that comes with a request; None without one. An empty header is as good as none."""
    # A header that comes more than once is joined by commas; empty ones of them leave a comma at an end.
    found: str = environ.get("HTTP_X_API_KEY", "").strip(EMPTY)
    if found:
        return found
    scheme, _, credentials = environ.get("HTTP_AUTHORIZATION", "").strip(EMPTY).partition(" ")
    return credentials.strip(EMPTY) or None if scheme.lower() == BEARER else None
