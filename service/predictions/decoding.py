"""Bodies with a content coding (RFC 9110, section 8.4), decoded within a limit of bytes and of work."""

import zlib
from typing import Final

from service.errors import BodyTooLargeError, NotDecodableError, UnknownCodingError

IDENTITY: Final = "identity"
GZIP: Final = "gzip"
CODINGS: Final = {GZIP: GZIP, "x-gzip": GZIP, "deflate": "deflate"}
# zlib's words for what is around the compressed data.
AS_GZIP, AS_ZLIB, AS_NOTHING = 16 + zlib.MAX_WBITS, zlib.MAX_WBITS, -zlib.MAX_WBITS
MAX_MEMBERS: Final = 100
"""Of a gzip body: each costs a copy of what is behind it, and a member can be as small as 20 bytes."""


def decoded(body: bytes, content_encoding: str, most: int) -> bytes:
    """The body as it was before it was coded, of at most so many bytes.

    Raises UnknownCodingError, NotDecodableError, or BodyTooLargeError as soon as the body is too large.
    """
    names = [name for part in content_encoding.split(",") if (name := part.strip().lower()) not in {"", IDENTITY}]
    if not names:
        return body
    if len(names) > 1 or names[0] not in CODINGS:  # each coding more could take as long as the one before it
        raise UnknownCodingError
    coding = CODINGS[names[0]]
    if coding == GZIP:
        return _gunzipped(body, most)
    plain, rest = _inflated(body, _around(body), coding, most, most)
    if rest:
        raise NotDecodableError(coding, "more data follows its end")
    return plain


def _gunzipped(body: bytes, most: int) -> bytes:
    """All members of a gzip file, one behind the other (RFC 1952, section 2.2)."""
    plain, rest = _inflated(body, AS_GZIP, GZIP, most, most)
    for _ in range(MAX_MEMBERS - 1):
        if not rest:
            return plain
        more, rest = _inflated(rest, AS_GZIP, GZIP, most - len(plain), most)
        plain += more
    if rest:
        raise NotDecodableError(GZIP, f"it has more than {MAX_MEMBERS} members")
    return plain


def _inflated(data: bytes, around: int, coding: str, room: int, most: int) -> tuple[bytes, bytes]:
    """One stream without its coding, and what is behind it; `room` is what is left of `most`."""
    decoder = zlib.decompressobj(around)
    try:
        plain = decoder.decompress(data, room + 1)
    except zlib.error:
        raise NotDecodableError(coding, "the data is damaged, or has another format") from None
    if len(plain) > room:
        message = f"The body is too large: at most {most:,} bytes are accepted, also when it is decompressed."
        raise BodyTooLargeError(message)
    if not decoder.eof:
        raise NotDecodableError(coding, "the end of the data is missing")
    return plain, decoder.unused_data


def _around(body: bytes) -> int:
    """Decodes `deflate`: zlib's format (RFC 1950) by the standard, and bare deflate (RFC 1951) from some clients.

    The first byte of zlib's holds 8, the method; bare deflate begins so only with a padding that no encoder writes.
    """
    is_zlib = len(body) > 1 and body[0] & 15 == zlib.DEFLATED and int.from_bytes(body[:2]) % 31 == 0
    return AS_ZLIB if is_zlib else AS_NOTHING
