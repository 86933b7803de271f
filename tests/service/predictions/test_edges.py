"""The service at each of its limits and one beyond, as docs/settings.md lists them: the exact status."""

import re
from collections.abc import Callable
from typing import Final, NamedTuple

import pytest

from service.predictions.bodies import BYTES_A_BRACKET
from service.settings import Settings
from tests.bodies import GOOD, MARKER, MAX_BATCH_BYTES, MAX_BYTES, MAX_ROWS, batch, house, without
from tests.gunicorn_process import ROOT, GunicornProcess
from tests.raw_http import answer, request

MAX_LINE_BYTES: Final = 4_094
MAX_FIELDS: Final = 64
MAX_FIELD_BYTES: Final = 8_190
DEEPEST: Final = 200


def line_of(size: int) -> bytes:
    """A request whose first line has so many bytes, without its end."""
    empty = request("/health?").partition(b"\r\n")[0]
    return request("/health?" + "x" * (size - len(empty)))


def fields_of(count: int) -> bytes:
    return request("/health", *(f"X-{number}: x" for number in range(count - 1)))  # and Host


def field_of(size: int) -> bytes:
    """A request with a field of so many bytes, with its end."""
    return request("/health", "X: " + "x" * (size - len("X: \r\n")))


def sized(body: bytes, path: str = "/predict") -> bytes:
    return request(path, f"Content-Length: {len(body)}", method="POST") + body


def in_one_chunk(size: int) -> bytes:
    body = GOOD.ljust(size)
    return request("/predict", "Transfer-Encoding: chunked", method="POST") + b"%x\r\n%b\r\n0\r\n\r\n" % (size, body)


def in_chunks(size: int) -> bytes:
    body = GOOD.ljust(size)
    pieces = (body[start : start + 1_000] for start in range(0, size, 1_000))
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
    return request("/predict", "Transfer-Encoding: chunked", method="POST") + chunks + b"0\r\n\r\n"


def rows(count: int) -> bytes:
    return sized(batch(*[without(MARKER)] * count), "/predict/batch")


def nested(depth: int) -> bytes:
    return sized(house(MARKER, "[" * depth + "]" * depth))


def unread(size: int) -> bytes:
    return request("/health", f"Content-Length: {size}") + b" " * size


def brackets(count: int) -> bytes:
    return sized(house(MARKER, "[" + "{}," * (count - 3) + "{}]"))


def brackets_of_a_batch(count: int) -> bytes:
    return sized(batch(house(MARKER, "[" + "[]," * (count - 5) + "{}]")), "/predict/batch")


class Edge(NamedTuple):
    most: int
    beyond: int
    """Status of one more."""
    of: Callable[[int], bytes]


EDGES: Final = {
    "bytes of the request line": Edge(MAX_LINE_BYTES, 414, line_of),
    "header fields": Edge(MAX_FIELDS, 431, fields_of),
    "bytes of a header field": Edge(MAX_FIELD_BYTES, 431, field_of),
    "bytes of a body with its length": Edge(MAX_BYTES, 413, lambda size: sized(GOOD.ljust(size))),
    "bytes of a body in one chunk": Edge(MAX_BYTES, 413, in_one_chunk),
    "bytes of a body in many chunks": Edge(MAX_BYTES, 413, in_chunks),
    "bytes of a batch": Edge(MAX_BATCH_BYTES, 413, lambda size: sized(batch(GOOD).ljust(size), "/predict/batch")),
    "bytes of a body that nobody reads": Edge(MAX_BYTES, 413, unread),
    "opening brackets": Edge(MAX_BYTES // BYTES_A_BRACKET, 422, brackets),
    "opening brackets of a batch": Edge(MAX_BATCH_BYTES // BYTES_A_BRACKET, 422, brackets_of_a_batch),
    "rows of a batch": Edge(MAX_ROWS, 422, rows),
    "JSON depth": Edge(DEEPEST, 422, nested),
}


@pytest.mark.parametrize("cut", [0, 1, -1], ids=["whole", "without its first byte", "without its last byte"])
@pytest.mark.parametrize("name", EDGES)
def test_an_edge_is_exact(server: GunicornProcess, name: str, cut: int) -> None:
    """Cut in two, a request is read by gunicorn's parser, and not by ours."""
    edge = EDGES[name]
    for size, status in ((edge.most - 1, 200), (edge.most, 200), (edge.most + 1, edge.beyond)):
        sent = edge.of(size)
        with server.connect() as client:
            client.sendall(sent[:cut])
            client.sendall(sent[cut:])
            assert answer(client)[0] == status, size


def test_a_batch_has_at_least_one_row(server: GunicornProcess) -> None:
    for count, status in ((0, 422), (1, 200)):
        with server.connect() as client:
            client.sendall(rows(count))
            assert answer(client)[0] == status


def test_the_page_of_settings_lists_these_limits() -> None:
    page = (ROOT / "docs" / "settings.md").read_text("utf-8")
    table = re.search(r"^\| limit \|.*?\n\n", page + "\n", re.MULTILINE | re.DOTALL)
    assert table is not None
    defaults = Settings.model_construct()
    for figure in (
        *(MAX_LINE_BYTES, MAX_FIELDS, MAX_FIELD_BYTES, MAX_BYTES, MAX_BATCH_BYTES, MAX_ROWS, DEEPEST),
        BYTES_A_BRACKET,
        *(defaults.header_seconds, defaults.body_seconds, defaults.write_seconds, defaults.max_in_hand),
    ):
        assert re.search(rf"\b{figure:,.0f}\b", table[0]), figure
