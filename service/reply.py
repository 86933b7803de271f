"""A reply as everything below HTTP frameworks sees it."""

from typing import Any, Final, NamedTuple

import orjson

JSON_TYPE: Final = "application/json"


class Reply(NamedTuple):
    """Status, headers as pairs of text, and the whole body."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes


def json_reply(status: int, content: Any) -> Reply:  # noqa: ANN401 -- whatever orjson can write
    """Return `content` as JSON."""
    body = orjson.dumps(content)
    return Reply(status, (("Content-Type", JSON_TYPE), ("Content-Length", str(len(body)))), body)
