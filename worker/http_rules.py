"""Rules for a request beyond those of llhttp, which is more lenient than gunicorn's parser and RFC 9112 in places.

* Request line: a method of 3 to 20 token characters without lower case, one space, a target of printable ASCII, one
  space, HTTP/1.0 or HTTP/1.1. Before it, at most one empty line.
* Target: a path, `*` only for OPTIONS, an authority only for CONNECT, or an absolute URI.
* Sizes: of the request line, of each field line with its CRLF, and the number of fields, as gunicorn's settings limit
  them; trailer fields count as fields.
* Fields: one Host in HTTP/1.1, with a name or an address; at most one Host, Content-Type and Content-Length. A name
  with `_` is taken, dropped or refused by `header_map` and `forwarder_headers`.
* Framing: a Transfer-Encoding ends with the only `chunked`, stands in HTTP/1.1, and without a Content-Length.
* Trailer fields change neither routing, framing nor authentication.
* Scheme: only a trusted peer declares it, and its headers agree.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping
    from wsgiref.types import WSGIEnvironment

TOKEN: Final = rb"!$%&'*+\-.^_`|~0-9A-Z"
REQUEST_LINE: Final = re.compile(rb"([%s]{3,20}) ([!-~]+) HTTP/1\.([01])\r\n" % TOKEN)
FREE_LINE: Final = re.compile(rb"([%sa-z#]+) ([!-~]+) HTTP/1\.([01])\r\n" % TOKEN)
"""With `permit_unconventional_http_method`."""
QUOTED: Final = rb'"(?:[\t !#-\[\]-~\x80-\xff]|\\[\t -~\x80-\xff])*"'
NAME: Final = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
EXTENSION: Final = rb"[ \t]*;[ \t]*%s(?:[ \t]*=[ \t]*(?:%s|%s))?" % (NAME, NAME, QUOTED)
CHUNK_LINE: Final = re.compile(rb"([0-9A-Fa-f]+)(?:%s)*\r\n" % EXTENSION)
"""RFC 9112, section 7.1.1: a chunk's size with its extensions."""
# Section 3.2: a name or an address, and a port; or nothing.
HOST: Final = re.compile(r"(?:\[[0-9A-Za-z:.%~_-]+\]|[0-9A-Za-z._~!$&'()*+,;=%-]*)(?::[0-9]*)?")
CODINGS: Final = frozenset({"chunked", "identity", "gzip", "compress", "deflate"})
DECODED: Final = frozenset({"chunked", "identity"})
SINGLE: Final = frozenset({"HTTP_HOST", "CONTENT_TYPE", "CONTENT_LENGTH"})
FRAMING: Final = frozenset({"HTTP_HOST", "HTTP_CONNECTION", "HTTP_EXPECT", "HTTP_TRANSFER_ENCODING", "HTTP_UPGRADE"})
"""Keys that only a name without `_` may have."""
FORBIDDEN_IN_TRAILERS: Final = frozenset(
    {b"host", b"content-length", b"transfer-encoding", b"trailer", b"authorization", b"te"}
)
MAX_LINE: Final = 1 << 20
MAX_FIELDS: Final = 32_768
MAX_FIELD_LINE: Final = 8_190


class MalformedError(Exception):
    """The bytes are not a valid request. `status` is 400, 413, 414, 431 or 501."""

    def __init__(self, status: int = 400) -> None:
        super().__init__(status)
        self.status = status


class Refusal(NamedTuple):
    """The answer to a request that is readable and breaks a rule."""

    status: int
    detail: str


NO_HOST: Final = Refusal(400, "A request of HTTP/1.1 needs one header Host, with a name or an address.")
UNKNOWN_CODING: Final = Refusal(501, "The only transfer coding that is known here is chunked.")


@dataclass(frozen=True, slots=True)
class Rules:
    """Limits and trust, by gunicorn's settings, for the requests of one peer."""

    line: int = 4_094
    """Bytes of a request line, without its CRLF."""
    fields: int = 100
    field_line: int = MAX_FIELD_LINE
    """Bytes of a field line, with its CRLF."""
    header_map: str = "drop"
    request_line: re.Pattern[bytes] = REQUEST_LINE
    secure: Mapping[str, str] = field(default_factory=dict)
    """Keys of the environ by which the peer declares that its client came by https, each with the word for it."""
    forwarders: Collection[str] = ()
    """Names in upper case, with `_`, that the peer may send; `*` stands for all."""

    @property
    def max_head(self) -> int:
        """Bytes of a whole header."""
        return self.line + 2 + self.fields * self.field_line + 2

    @classmethod
    def of(cls, cfg: Any, *, is_trusted: bool) -> Rules:  # noqa: ANN401 -- gunicorn carries no types
        """The rules of gunicorn's configuration, where 0 stands for no limit, for a peer that is trusted or not."""
        return cls(
            line=cfg.limit_request_line or MAX_LINE,
            fields=cfg.limit_request_fields or MAX_FIELDS,
            field_line=cfg.limit_request_field_size or MAX_FIELD_LINE,
            header_map=cfg.header_map,
            request_line=FREE_LINE if cfg.permit_unconventional_http_method else REQUEST_LINE,
            secure={environ_key(name.encode()): word for name, word in cfg.secure_scheme_headers.items()}
            if is_trusted
            else {},
            forwarders=frozenset(cfg.forwarder_headers) if is_trusted else (),
        )

    @staticmethod
    def trusts(cfg: Any, peer: object) -> bool:  # noqa: ANN401 -- the same
        """Whether a peer, an address or a path, may speak for its clients."""
        return is_trusted(peer, cfg.forwarded_allow_ips, cfg.forwarded_allow_networks())

    def keeps(self, name: bytes) -> bool:
        """Whether a field with `_` in its name is kept. Raises MalformedError if it is refused."""
        if self.header_map == "dangerous" or "*" in self.forwarders or name.decode().upper() in self.forwarders:
            return True
        if self.header_map == "drop":
            return False
        raise MalformedError


def check_target(method: bytes, target: bytes) -> None:
    """Raise MalformedError unless the target has a form that fits the method."""
    if target.startswith(b"/"):
        return
    is_valid = method == b"OPTIONS" if target == b"*" else method == b"CONNECT" or b"://" in target
    if not is_valid:
        raise MalformedError
    try:
        urlsplit(target.decode("ascii"))
    except ValueError:  # brackets that do not match
        raise MalformedError from None


def codings_of(value: str) -> list[str]:
    """The transfer codings of a header's value, in lower case."""
    return [coding.strip(" \t").lower() for coding in value.split(",")]


def check_framing(environ: WSGIEnvironment) -> None:
    """Raise MalformedError unless the length of the body is stated once, in one way."""
    value = environ.get("HTTP_TRANSFER_ENCODING")
    if value is None:
        length = environ.get("CONTENT_LENGTH")
        if length is not None and not (length.isascii() and length.isdecimal()):
            raise MalformedError
        return
    codings = codings_of(value)
    if not CODINGS.issuperset(codings):
        raise MalformedError(501)
    if codings.count("chunked") != 1 or codings[-1] != "chunked":
        raise MalformedError
    if environ["SERVER_PROTOCOL"] == "HTTP/1.0" or "CONTENT_LENGTH" in environ:
        raise MalformedError


def refusal_of(environ: WSGIEnvironment) -> Refusal | None:
    """The answer to a request with a coding that is not decoded, or without a valid Host; None if it has neither."""
    codings = environ.get("HTTP_TRANSFER_ENCODING")
    if codings is not None and not DECODED.issuperset(codings_of(codings)):
        return UNKNOWN_CODING
    host = environ.get("HTTP_HOST")
    if not is_host(host) and (host is not None or environ["SERVER_PROTOCOL"] != "HTTP/1.0"):
        return NO_HOST
    return None


@lru_cache(maxsize=16)  # clients choose them, so the cache is bounded
def is_host(value: str | None) -> bool:
    """Whether a request of HTTP/1.1 may have this header Host; None stands for no header."""
    return value is not None and HOST.fullmatch(value) is not None


def is_kept_alive(environ: WSGIEnvironment, fields: Iterable[tuple[bytes, bytes]]) -> bool:
    """Whether another request may follow on the connection."""
    if environ["REQUEST_METHOD"] == "CONNECT":  # what follows is a tunnel's
        return False
    connection = environ.get("HTTP_CONNECTION", "").lower()
    if "close" in connection or not DECODED.issuperset(codings_of(environ.get("HTTP_TRANSFER_ENCODING") or "chunked")):
        return False
    if environ["SERVER_PROTOCOL"] == "HTTP/1.1":
        return True
    first = next((value for name, value in fields if name.lower() == b"connection"), b"")
    return first.strip(b" \t").lower() == b"keep-alive"


@lru_cache(maxsize=256)  # clients choose the names, so the cache is bounded
def environ_key(name: bytes) -> str:
    """Return the key of PEP 3333 for a header of this name."""
    key = name.decode("latin-1").upper()
    return ("" if key in {"CONTENT-TYPE", "CONTENT-LENGTH"} else "HTTP_") + key.replace("-", "_")


def is_trusted(peer: object, addresses: Collection[str], networks: Collection[Any]) -> bool:
    """Whether gunicorn's configuration trusts this peer; the path of a UNIX socket always."""
    if not isinstance(peer, tuple) or "*" in addresses:  # a UNIX socket
        return True
    try:
        address = ipaddress.ip_address(peer[0])
    except ValueError:
        return False
    return any(address in network for network in networks)
