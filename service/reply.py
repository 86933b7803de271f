"""A reply as everything below HTTP frameworks sees it."""

from typing import Any, Final, NamedTuple, TypeAlias

import orjson

JSON_TYPE: Final = "application/json"


Headers: TypeAlias = tuple[tuple[str, str], ...]


class Reply(NamedTuple):
    """Status, headers as pairs of text, and the whole body."""

    status: int
    headers: Headers
    body: bytes


def json_reply(status: int, content: Any, headers: Headers = ()) -> Reply:  # noqa: ANN401 -- whatever orjson can write
    """Return `content` as JSON, with further headers."""
    body = orjson.dumps(content)
    return Reply(status, (("Content-Type", JSON_TYPE), ("Content-Length", str(len(body))), *headers), body)
