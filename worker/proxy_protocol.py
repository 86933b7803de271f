"""The PROXY protocol of gunicorn's `proxy_protocol` setting, read by gunicorn's own parser.

Only this module uses private names of gunicorn; a test holds them to what is expected of them here.
"""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Any

from gunicorn.asgi.parser import ParseError, PythonProtocol

from worker.http_rules import MalformedError, is_trusted

if TYPE_CHECKING:
    from worker.wsgi import Address


class Preamble:
    """Takes the bytes before the first request of a connection."""

    def __init__(self, mode: str) -> None:
        self._parser = PythonProtocol(proxy_protocol=mode)
        self.is_complete = False
        self.client: Address | None = None
        """The client's address, if the proxy has stated it."""

    @classmethod
    def of(cls, cfg: Any, peer: object) -> Preamble | None:  # noqa: ANN401 -- gunicorn carries no types
        """The preamble of a connection; None where none is configured or the peer is not trusted to send one."""
        trusted = isinstance(peer, tuple) and is_trusted(peer, cfg.proxy_allow_ips, cfg.proxy_allow_networks())
        return cls(cfg.proxy_protocol) if trusted and cfg.proxy_protocol != "off" else None

    def feed(self, data: bytes) -> bytes:
        """Take bytes; return those from behind the preamble. Raises MalformedError."""
        parser = self._parser
        parser._buffer.extend(data)  # noqa: SLF001 -- see the head of this module
        try:
            self.is_complete = parser._parse_proxy_protocol()  # noqa: SLF001
        except ParseError:
            raise MalformedError from None
        if not self.is_complete:
            return b""
        known = parser.proxy_protocol_info or {}
        if known.get("client_addr") is not None and known.get("client_port") is not None:
            self.client = str(ipaddress.ip_address(known["client_addr"])), known["client_port"]
        return bytes(parser._buffer)  # noqa: SLF001
