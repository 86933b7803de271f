"""From bytes to one request: llhttp reads the fields and the chunks, `http_rules` adds what gunicorn is stricter about.

llhttp never gets a byte from behind the end of the request: a header is cut at its empty line, a body at its length,
and chunks are fed a line or a chunk at a time. So the rest stays with the connection, however much is pipelined.
"""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING, Final

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser

from worker.http_rules import (
    CHUNK_LINE,
    CODINGS,
    FORBIDDEN_IN_TRAILERS,
    FRAMING,
    SINGLE,
    MalformedError,
    check_framing,
    check_target,
    codings_of,
    environ_key,
    is_kept_alive,
)
from worker.wsgi import path_of

if TYPE_CHECKING:
    from wsgiref.types import WSGIEnvironment

    from worker.http_rules import Rules

# For llhttp, instead of the request line, which the rules have read: it knows fewer methods, and more versions.
ANY_LINE: Final = b"POST / HTTP/1.1\r\n"
METHOD: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]{0,64}(?: .*)?", re.DOTALL)
CODING_LINE: Final = re.compile(rb"(?i)\ntransfer-encoding:([\t -~\x80-\xff]*)(?=\r\n(?![ \t]))")
TRAILING_SPACE: Final = re.compile(rb"(?<![\n \t])[ \t]+\r\n")  # not a line of its own, which would be a fold
OVERFLOWS: Final = frozenset({"Content-Length overflow", "Chunk size overflow"})
END: Final = b"\r\n\r\n"


class RequestParser:
    """Parses one request; a connection makes one for each."""

    environ: WSGIEnvironment | None = None
    """Once the header is whole."""
    target = ""
    length = 0
    """Bytes of the body, as the header states it."""
    is_chunked = False
    is_kept_alive = False
    is_complete = False
    rest = b""
    """Bytes from behind the request, once it is complete."""

    _head: bytearray | None = None  # of a header that has come in part
    _has_begun = False  # whether an empty line may no longer be skipped
    _is_head_complete = False
    _field_count = 0  # without trailers
    _line = b""  # of a chunk's size, or of a trailer
    _chunk_left = 0  # bytes, with the CRLF behind it
    _is_in_trailers = False

    def __init__(self, rules: Rules, shared: WSGIEnvironment) -> None:
        """`shared` is the part of the environ that all requests of a connection have."""
        self._rules = rules
        self._shared = shared
        self._llhttp: HttpRequestParser | None = HttpRequestParser(self)
        self._fields: list[tuple[bytes, bytes]] = []
        self.body = bytearray()

    @property
    def headers(self) -> list[tuple[str, str]]:
        """Names in upper case and values, for gunicorn's access log and hooks."""
        return [(name.decode("latin-1").upper(), value.decode("latin-1").strip(" \t")) for name, value in self._fields]

    @property
    def head_size(self) -> int:
        """Bytes that wait for the rest of the header."""
        return len(self._head or b"")

    def feed_head(self, data: bytes) -> bytes:
        """Take bytes of the header; return those from behind it. Raises MalformedError."""
        if self._head is None:
            data = data if self._has_begun else self._without_empty_line(data)
            end = data.find(END)
            if end >= 0:
                self._read_head(data[: end + 4])
                return data[end + 4 :]
            self._head = bytearray()
        return self._feed_part(self._head, data)

    def _without_empty_line(self, data: bytes) -> bytes:
        """RFC 9112, section 2.2: one empty line before the request is skipped."""
        if data == b"\r":
            return data
        self._has_begun = True
        return data[2:] if data.startswith(b"\r\n") else data

    def _feed_part(self, head: bytearray, data: bytes) -> bytes:
        seen = max(len(head) - 3, 0)
        head += data
        if not self._has_begun:
            head[:] = self._without_empty_line(bytes(head))
        end = head.find(END, seen)
        if end < 0:
            self._check_part(head, seen)
            return b""
        whole, rest = bytes(head[: end + 4]), bytes(head[end + 4 :])
        head.clear()
        self._read_head(whole)
        return rest

    def _check_part(self, head: bytearray, seen: int) -> None:
        """Raise MalformedError for lines that are too long or end otherwise, and for a request line that is not valid.

        The rest is read with the end of the header.
        """
        rules = self._rules
        has_line = b"\n" in head
        if head.count(b"\n", seen + 1) != head.count(b"\r\n", seen):
            raise MalformedError
        if has_line:
            start = max(head.rfind(b"\n", 0, seen + 1) + 1, self._match_line(head).end())
            self._check_lines(bytes(head[start:]))
            if len(head) > rules.max_head:
                raise MalformedError(431)
        elif len(head) > rules.line + 1:
            raise MalformedError(414)
        elif not METHOD.fullmatch(head) and head != b"\r":
            raise MalformedError

    def _match_line(self, head: bytes | bytearray) -> re.Match[bytes]:
        line = self._rules.request_line.match(head)
        size = line.end() - 2 if line else head.find(b"\r\n")
        if size > self._rules.line:
            raise MalformedError(414)
        if line is None:
            raise MalformedError
        return line

    def _check_lines(self, fields: bytes) -> None:
        limit = self._rules.field_line
        if len(fields) > limit and max(map(len, fields.split(b"\n"))) + 1 > limit:
            raise MalformedError(431)

    def _feed_fields(self, fields: bytes) -> None:
        """Feed the fields with the empty line behind them to llhttp."""
        self._check_lines(fields)
        if fields.startswith((b" ", b"\t")):  # it would continue the line before it
            raise MalformedError
        if b" \r\n" in fields or b"\t\r\n" in fields:
            fields = TRAILING_SPACE.sub(b"\r\n", fields)  # optional, and llhttp does not strip it
        try:
            self._feed(ANY_LINE + fields)
        except MalformedError as error:
            codings = [found.decode("latin-1") for found in CODING_LINE.findall(b"\n" + fields)]
            is_unknown = bool(codings) and not CODINGS.issuperset(codings_of(",".join(codings)))
            raise MalformedError(501 if is_unknown else error.status) from None
        if len(self._fields) > self._rules.fields:
            raise MalformedError(431)

    def _read_head(self, head: bytes) -> None:
        line = self._match_line(head)
        method, target, minor = line.groups()
        check_target(method, target)
        self._feed_fields(head[line.end() :])
        if not self._is_head_complete:
            raise MalformedError
        environ = self._shared.copy()
        path, _, query = target.partition(b"?")
        environ["SCRIPT_NAME"], environ["PATH_INFO"] = path_of(path, environ["SCRIPT_NAME"])
        environ["REQUEST_METHOD"] = method.decode("ascii")
        environ["QUERY_STRING"] = query.decode("ascii")
        self.target = target.decode("ascii")
        environ["SERVER_PROTOCOL"] = "HTTP/1.1" if minor == b"1" else "HTTP/1.0"
        environ["wsgi.url_scheme"] = self._add_fields(environ)
        check_framing(environ)
        self.is_kept_alive = is_kept_alive(environ, self._fields)
        self.is_chunked = "HTTP_TRANSFER_ENCODING" in environ
        self.length = int(environ.get("CONTENT_LENGTH", 0))
        self._field_count = len(self._fields)
        self.environ = environ
        if not self.is_chunked:
            self.close()

    def _add_fields(self, environ: WSGIEnvironment) -> str:
        """Returns the scheme, which only a trusted peer states."""
        secure, declared = self._rules.secure, set[bool]()
        for name, value in self._fields:
            key, text = environ_key(name), value.decode("latin-1").rstrip(" \t")
            if b"_" in name and (not self._rules.keeps(name) or key in FRAMING):
                continue
            if key in secure:
                declared.add(text == secure[key])
            if key in environ:
                if key in SINGLE:
                    raise MalformedError
                text = environ[key] + ("; " if key == "HTTP_COOKIE" else ", ") + text
            environ[key] = text
        if len(declared) > 1:
            raise MalformedError
        return "https" if True in declared else "http"

    def feed_body(self, data: bytes) -> None:
        """Take bytes from behind the header. Raises MalformedError."""
        if self.is_chunked:
            self._feed_chunks(data)
            return
        left = self.length - len(self.body)
        self.body += data[:left]
        if len(data) >= left:
            self.is_complete, self.rest = True, data[left:]

    def _feed_chunks(self, data: bytes) -> None:
        start = 0
        while start < len(data) and not self.is_complete:
            end = start + self._chunk_left
            if self._chunk_left:
                self._chunk_left = max(end - len(data), 0)
                self._feed(data[start:end])
            else:
                end = data.find(b"\n", start) + 1 or len(data)
                self._feed_line(data[start:end])
            start = end
        self.rest = data[start:]
        if self.is_complete:
            self.close()

    def request(self) -> WSGIEnvironment:
        """The environ of a complete request, or of one that is refused; to be called once."""
        environ = self.environ
        if environ is None:
            raise MalformedError
        environ["wsgi.input"] = io.BytesIO(self.body)
        environ.pop("HTTP_UPGRADE", None)  # nothing is upgraded here; Flask would refuse the request for it
        if self.is_chunked:
            del environ["HTTP_TRANSFER_ENCODING"]
            environ["CONTENT_LENGTH"] = str(len(self.body))  # to the application, an ordinary body
        return environ

    def close(self) -> None:
        """Let llhttp go, which refers back to this parser: together they would wait for the garbage collector."""
        self._llhttp = None

    def _feed_line(self, part: bytes) -> None:
        """Feed a chunk's size, or a trailer, once its line is whole."""
        self._line += part
        if len(self._line) > self._rules.field_line:
            raise MalformedError(431 if self._is_in_trailers else 400)
        if not part.endswith(b"\n"):
            return
        line, self._line = self._line, b""
        if self._is_in_trailers:
            self._feed(line)
            self._check_trailers()
            return
        size = CHUNK_LINE.fullmatch(line)
        if size is None:
            raise MalformedError
        self._feed(size[1] + b"\r\n")  # without extensions, before which llhttp takes no space
        length = int(size[1], 16)
        self._is_in_trailers = length == 0
        self._chunk_left = length + 2 if length else 0

    def _check_trailers(self) -> None:
        trailers = self._fields[self._field_count :]
        if len(trailers) > self._rules.fields:
            raise MalformedError(431)
        if any(name.lower() in FORBIDDEN_IN_TRAILERS for name, _ in trailers[-1:]):
            raise MalformedError

    def _feed(self, data: bytes) -> None:
        try:
            if self._llhttp is not None:
                self._llhttp.feed_data(data)
        except HttpParserUpgrade:  # the request is whole, and nothing is upgraded here
            return
        except HttpParserError as error:
            raise MalformedError(413 if str(error) in OVERFLOWS else 400) from None

    # --- llhttp calls these

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a field, or a trailer."""
        self._fields.append((name, value))

    def on_headers_complete(self) -> None:
        """Note the end of the header."""
        self._is_head_complete = True

    def on_body(self, part: bytes) -> None:
        """Take a part of a chunk."""
        self.body += part

    def on_message_complete(self) -> None:
        """Note the end of a chunked request."""
        self.is_complete = self.is_chunked
