"""Who asks, where a proxy stands between: its word is believed, and what anybody else says of himself is not."""

from __future__ import annotations

from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence
    from wsgiref.types import WSGIEnvironment

MAPPED: Final = "::ffff:"

Network = IPv4Network | IPv6Network


def client_address(environ: WSGIEnvironment, trusted: Sequence[Network]) -> str:
    """Return the address of whoever asks: of the peer or, where that is a trusted proxy, of whom it was asked by.

    Each proxy adds the address of its own peer at the right end of X-Forwarded-For. So the client is the right-most
    one there that is no trusted proxy; what stands left of it is what the client said, and anybody can say anything.
    Where an entry is no address, it is the proxy that wrote it. '' for a UNIX socket, which has none.
    """
    peer = plain(environ.get("REMOTE_ADDR", ""))
    address = _address(peer) if trusted else None
    if address is None:
        return peer
    told = environ.get("HTTP_X_FORWARDED_FOR", "").split(",")
    while told and any(address in network for network in trusted):
        before = _address(told.pop())
        if before is None:
            break
        address = before
    return str(address)


def plain(host: str) -> str:
    """Return the address as IPv4 writes it where IPv6 only wraps it, as a socket of both families does."""
    return host[len(MAPPED) :] if host.startswith(MAPPED) and "." in host else host


@lru_cache(maxsize=1024)  # a client asks again; but others choose what is written here, so the cache is bounded
def _address(entry: str) -> IPv4Address | IPv6Address | None:
    """The address in an entry, which may have a port behind it; None where there is none."""
    host = entry.strip()
    if host.startswith("["):
        host = host[1:].partition("]")[0]
    elif host.count(":") == 1:
        host = host.partition(":")[0]
    try:
        address = ip_address(host.partition("%")[0])  # without the zone of a link
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address  # so that one client has one name
