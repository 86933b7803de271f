"""What RFC 9112 asks of a request that gunicorn's parser for event loops does not look at."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

# Section 3.2: a name or an address, and a port; or nothing.
HOST: Final = re.compile(r"(?:\[[0-9A-Za-z:.%~_-]+\]|[0-9A-Za-z._~!$&'()*+,;=%-]*)(?::[0-9]*)?")
KNOWN_CODINGS: Final = frozenset({"chunked", "identity"})


class Refusal(NamedTuple):
    """The answer to a request that breaks a rule."""

    status: int
    detail: str


NO_HOST: Final = Refusal(400, "A request of HTTP/1.1 needs one header Host, with a name or an address.")
UNKNOWN_CODING: Final = Refusal(501, "The only transfer coding that is known here is chunked.")


def refusal_of(version: tuple[int, int], headers: Sequence[tuple[bytes, bytes]]) -> Refusal | None:
    """The answer to a request with these headers, of which the names are in lower case; None if it breaks no rule."""
    host: str | None = None
    for name, value in headers:
        if name == b"host":  # the parser has refused two
            host = value.decode("latin-1")
        elif name == b"transfer-encoding" and not _codings(value) <= KNOWN_CODINGS:
            return UNKNOWN_CODING  # below the chunks is another coding, which nobody would decode
    if not is_host(host) and (host is not None or version >= (1, 1)):
        return NO_HOST
    return None


@lru_cache(maxsize=16)  # clients choose them, so the cache is bounded
def is_host(value: str | None) -> bool:
    """Whether a request of HTTP/1.1 may have this header Host; None is none."""
    return value is not None and HOST.fullmatch(value) is not None


def _codings(value: bytes) -> set[str]:
    return {coding.strip(" \t").lower() for coding in value.decode("latin-1").split(",")}
