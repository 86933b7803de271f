"""The facts about one request, from its first header to its log line."""

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from pricing.ids import Ids
from service.reply import Headers

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

ENVIRON_KEY: Final = "appraiser.trace"
REQUEST_ID: Final = "X-Request-ID"
REQUEST_ID_PATTERN: Final = re.compile(r"[A-Za-z0-9._:/+=@-]{1,128}")
# https://www.w3.org/TR/trace-context/#traceparent-header; later versions may add fields
TRACEPARENT: Final = re.compile(
    r"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-[0-9a-f]{2}(-.*)?"
)


class Parent(NamedTuple):
    """The caller, in a distributed trace."""

    trace_id: str
    span_id: str


@dataclass(slots=True)
class Trace:
    """One request. The handler that answers it adds its choice."""

    request_id: str
    parent: Parent | None = None
    is_ours: bool = False
    """Whether the id was made here, so that nobody else has it."""
    route: str = ""
    key_id: str | None = None
    """Of the key that came with it, whose secret was right."""
    version: str = ""
    arm: str = ""
    rows: int = 0
    security: Headers | None = None
    """Security headers of the answer; None for those of the route."""


def begin(environ: "WSGIEnvironment", ids: Ids) -> Trace:
    """Take the request's id if it is sane, and else make one; remember it in the environ."""
    given = environ.get("HTTP_X_REQUEST_ID")
    trace = Trace(given) if given and REQUEST_ID_PATTERN.fullmatch(given) else Trace(ids.one(), is_ours=True)
    parent = environ.get("HTTP_TRACEPARENT")
    if parent:
        trace.parent = parent_of(parent)
    environ[ENVIRON_KEY] = trace
    return trace


def of(environ: "WSGIEnvironment") -> Trace:
    """The request that an environ belongs to; without an observer around, an empty one."""
    found: Trace | None = environ.get(ENVIRON_KEY)
    return found or Trace("")


def parent_of(traceparent: str) -> Parent | None:
    """Parse the header `traceparent`; None for what is none."""
    found = TRACEPARENT.fullmatch(traceparent)
    if found is None or (found[1] == "00" and found[4] is not None):
        return None
    return Parent(found[2], found[3])
