"""A reply as everything below HTTP frameworks sees it."""

from collections.abc import Iterable
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

import orjson

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse

JSON_TYPE: Final = "application/json"
REASONS: Final = {status.value: f"{status.value} {status.phrase}" for status in HTTPStatus}

Headers: TypeAlias = tuple[tuple[str, str], ...]


class Reply(NamedTuple):
    """Status, headers as pairs of text, and the whole body."""

    status: int
    headers: Headers
    body: bytes

    def send(self, start_response: "StartResponse") -> Iterable[bytes]:
        """Give it to a WSGI server."""
        start_response(REASONS[self.status], list(self.headers))
        return [self.body]


def json_reply(status: int, content: Any, headers: Headers = ()) -> Reply:  # noqa: ANN401 -- whatever orjson can write
    """Return `content` as JSON, with further headers."""
    body = orjson.dumps(content)
    return Reply(status, (("Content-Type", JSON_TYPE), ("Content-Length", str(len(body))), *headers), body)
