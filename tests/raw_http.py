"""HTTP as bytes on a socket, for what no client library would send or notice."""

import re
import socket

from tests.gunicorn_process import GunicornProcess

STATUS = re.compile(rb"HTTP/1\.[01] (\d{3}) ")  # also behind a body, which need not end in a line


def request(path: str, *headers: str, method: str = "GET") -> bytes:
    """A request without its body."""
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: test", *headers, "", ""]).encode()


def answer(client: socket.socket, method: str = "GET") -> tuple[int, bytes]:
    """Read one answer, and not a byte of the next: status and body."""
    with client.makefile("rb", buffering=0) as raw:
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += _received(raw.readline())
        found = re.search(rb"(?i)^content-length: (\d+)", head, re.MULTILINE)
        length = int(found[1]) if found and method != "HEAD" else 0
        content = bytearray()
        while len(content) < length:
            content += _received(raw.read(length - len(content)))
    return int(head.split(b" ", 2)[1]), bytes(content)


def _received(piece: bytes | None) -> bytes:
    assert piece, "the server closed before the end of its answer"
    return piece


def ask(server: GunicornProcess, sent: bytes) -> tuple[int, bytes]:
    """Send one request on a connection of its own: status and body of its answer."""
    with server.connect() as client:
        client.sendall(sent)
        return answer(client)


def everything(client: socket.socket) -> bytes:
    """What the server sends until it closes. Raises TimeoutError when it does not."""
    received = bytearray()
    try:
        while piece := client.recv(65536):
            received += piece
    except ConnectionError:  # it closed while we were still sending
        pass
    return bytes(received)


def statuses(received: bytes) -> list[int]:
    """Of all the answers in what was received."""
    return [int(status) for status in STATUS.findall(received)]
