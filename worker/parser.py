"""From bytes to one request: llhttp reads the fields and the chunks, `http_rules` adds what gunicorn is stricter about.

llhttp never gets a byte from behind the end of the request: a header is cut at its empty line, a body at its length,
and chunks are fed a line or a chunk at a time. So the rest stays with the connection, however much is pipelined.
"""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING, Final, NamedTuple

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
BLANK: Final = (b" ", b"\t")
CONNECTION: Final = frozenset({"HTTP_CONNECTION", "HTTP_TRANSFER_ENCODING", "HTTP_EXPECT", "HTTP_UPGRADE"})
TRAILING_SPACE: Final = re.compile(rb"(?<![\n \t])[ \t]+\r\n")  # not a line of its own, which would be a fold
OVERFLOWS: Final = frozenset({"Content-Length overflow", "Chunk size overflow"})
END: Final = b"\r\n\r\n"
MAX_KNOWN_BYTES: Final = 2_048
MAX_KNOWN_HEADS: Final = 256
MAX_SEEN_HEADS: Final = 4_096


class KnownHead(NamedTuple):
    """The result of parsing a header, of a request that is framed by its length and leaves the connection open."""

    environ: WSGIEnvironment
    """Without what all requests of a connection share."""
    length: int
    target: bytes
    fields: list[tuple[bytes, bytes]]


class KnownHeads(NamedTuple):
    """The headers that are known by the same rules."""

    heads: dict[bytes, KnownHead]
    seen: set[int]
    """Hashes of those that have come once."""

    @classmethod
    def none(cls) -> KnownHeads:
        """None yet."""
        return cls({}, set())


class RequestParser:
    """Parses the requests of a connection, one after the other; `reset` begins the next one.

    Clients repeat their headers, byte for byte but for the length of a body. So a header that is known is not parsed
    again: what it stands for depends on its bytes and on the rules alone.
    """

    target = b""
    length = 0
    """Bytes of the body, as the header states it."""
    _field_count = 0  # without trailers

    def __init__(self, rules: Rules, shared: WSGIEnvironment, known: KnownHeads) -> None:
        """`shared` is the part of the environ that all requests of a connection have; `known`, headers by its rules."""
        self._rules = rules
        self._shared = shared
        self._llhttp: HttpRequestParser | None = None
        self._fields: list[tuple[bytes, bytes]] = []
        self._known = known
        self._whole_head = b""
        self.reset()

    def reset(self) -> None:
        """Begin the next request."""
        self.environ: WSGIEnvironment | None = None
        """Once the header is whole."""
        self.body: bytes | bytearray = b""
        self.rest = b""
        """Bytes from behind the request, once it is complete."""
        self.is_complete = self.is_known = self.is_chunked = False
        self.is_kept_alive = True
        self._head: bytearray | None = None  # of a header that has come in part
        self._has_begun = False  # whether an empty line may no longer be skipped
        self._line = b""  # of a chunk's size, or of a trailer
        self._chunk_left = 0  # bytes, with the CRLF behind it
        self._is_in_trailers = False

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
                head = data[: end + 4]
                known = self._known.heads.get(head)
                if known is None:
                    self._read_head(head)
                else:
                    environ, self.length, self.target, self._fields = known
                    self.environ, self.is_known = self._shared | environ, True
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
        if len(fields) > self._rules.field_line:
            self._check_lines(fields)
        if fields[:1] in BLANK:  # it would continue the line before it
            raise MalformedError
        if b" \r\n" in fields or b"\t\r\n" in fields:
            fields = TRAILING_SPACE.sub(b"\r\n", fields)  # optional, and llhttp does not strip it
        self._llhttp = HttpRequestParser(self)
        try:
            self._llhttp.feed_data(ANY_LINE + fields)
        except HttpParserUpgrade:  # the request is whole, and nothing is upgraded here
            pass
        except HttpParserError as error:
            raise _malformed(error, fields) from None
        if len(self._fields) > self._rules.fields:
            raise MalformedError(431)

    def _read_head(self, head: bytes) -> None:
        self._fields = []
        line = self._match_line(head)
        method, target, minor = line.groups()
        self._feed_fields(head[line.end() :])
        environ = self._shared.copy()
        path, _, query = target.partition(b"?")
        if path[:1] != b"/" or b"%" in path or environ["SCRIPT_NAME"]:
            check_target(method, target)
            environ["SCRIPT_NAME"], environ["PATH_INFO"] = path_of(path, environ["SCRIPT_NAME"])
        else:
            environ["PATH_INFO"] = path.decode("ascii")
        environ["REQUEST_METHOD"] = method.decode("ascii")
        environ["QUERY_STRING"] = query.decode("ascii")
        environ["SERVER_PROTOCOL"] = "HTTP/1.1" if minor == b"1" else "HTTP/1.0"
        environ["wsgi.url_scheme"] = "http"
        self.target = target
        is_plain = self._add_fields(environ) and minor == b"1" and method != b"CONNECT"
        if not is_plain:
            check_framing(environ)
            self.is_kept_alive = is_kept_alive(environ, self._fields)
            self.is_chunked = "HTTP_TRANSFER_ENCODING" in environ
        self.length = int(environ.get("CONTENT_LENGTH", 0))
        self.environ = environ
        if self.is_chunked:
            self._field_count = len(self._fields)
            return
        self.close()
        self._whole_head = head

    def remember(self) -> None:
        """Let the header be known if it comes again; not for one that is refused, which would then be taken.

        Headers with an id of their own never come again. So the first time, only a hash is kept.
        """
        head, environ, shared, known = self._whole_head, self.environ, self._shared, self._known
        if environ is None or self.is_chunked or not self.is_kept_alive or len(head) > MAX_KNOWN_BYTES:
            return
        number = hash(head)
        if number not in known.seen:
            if len(known.seen) >= MAX_SEEN_HEADS:
                known.seen.clear()
            known.seen.add(number)
            return
        if len(known.heads) >= MAX_KNOWN_HEADS:
            known.heads.clear()
        own = {key: value for key, value in environ.items() if shared.get(key) is not value}
        known.heads[head] = KnownHead(own, self.length, self.target, self._fields)

    def _add_fields(self, environ: WSGIEnvironment) -> bool:
        """Returns whether no field concerns the connection, the framing or the scheme."""
        secure, declared, is_plain = self._rules.secure, [], True
        for name, value in self._fields:
            key, text = environ_key(name), value.decode("latin-1")
            if b"_" in name and (not self._rules.keeps(name) or key in FRAMING):
                continue
            if key in secure:
                declared.append(text == secure[key])
            elif key in CONNECTION:
                is_plain = False
            if key in environ:
                if key in SINGLE:
                    raise MalformedError
                text = environ[key] + ("; " if key == "HTTP_COOKIE" else ", ") + text
            environ[key] = text
        if declared:
            if len(set(declared)) > 1:
                raise MalformedError
            environ["wsgi.url_scheme"] = "https" if declared[0] else "http"
        return is_plain

    def feed_body(self, data: bytes) -> None:
        """Take bytes from behind the header. Raises MalformedError."""
        if self.is_chunked:
            self._feed_chunks(data)
            return
        left = self.length - len(self.body)
        is_complete = self.is_complete = len(data) >= left
        if is_complete and not self.body:
            self.body = data[:left]
        else:
            self.body = bytearray(self.body) if isinstance(self.body, bytes) else self.body
            self.body += data[:left]
        if is_complete:
            self.rest = data[left:]

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
        if "HTTP_UPGRADE" in environ:  # nothing is upgraded here; Flask would refuse the request for it
            del environ["HTTP_UPGRADE"]
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
        if self._llhttp is None:
            return
        try:
            self._llhttp.feed_data(data)
        except HttpParserUpgrade:
            return
        except HttpParserError as error:
            raise _malformed(error, b"") from None

    # --- llhttp calls these

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a field, or a trailer."""
        self._fields.append((name, value))

    def on_body(self, part: bytes) -> None:
        """Take a part of a chunk."""
        if isinstance(self.body, bytes):
            self.body = bytearray()
        self.body += part

    def on_message_complete(self) -> None:
        """Note the end of a chunked request."""
        self.is_complete = self.is_chunked


def _malformed(error: HttpParserError, fields: bytes) -> MalformedError:
    """The error for what llhttp refuses in these fields."""
    codings = [found.decode("latin-1") for found in CODING_LINE.findall(b"\n" + fields)]
    if codings and not CODINGS.issuperset(codings_of(",".join(codings))):
        return MalformedError(501)
    return MalformedError(413 if str(error) in OVERFLOWS else 400)
