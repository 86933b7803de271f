"""The address of a client, also behind proxies: only a trusted proxy is believed."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, IPv6Network
from socket import AF_INET, AF_INET6, inet_ntop, inet_pton
from typing import TYPE_CHECKING, Final, NamedTuple

from service.settings import IPV6_PREFIX, UNIX, Proxy
from worker.wsgi import plain

if TYPE_CHECKING:
    from collections.abc import Sequence
    from wsgiref.types import WSGIEnvironment

TRANSLATED: Final = IPv6Network("64:ff9b::/96")  # RFC 6052: IPv4 clients of a service that has IPv6 only


class Clients(NamedTuple):
    """The rules that distinguish clients."""

    trusted: Sequence[Proxy] = ()
    """Proxies whose word is believed."""
    ipv6_prefix: int = IPV6_PREFIX
    """Bits of an IPv6 address."""

    def of(self, environ: WSGIEnvironment) -> str:
        """Return the name under which a client is limited where it has no key."""
        return limited_as(client_address(environ, self.trusted), self.ipv6_prefix)


def client_address(environ: WSGIEnvironment, trusted: Sequence[Proxy]) -> str:
    """Return the address of the client: of the peer or, if the peer is a trusted proxy, of the client behind it.

    Each proxy adds the address of its own peer at the right end of X-Forwarded-For. So the client is the right-most
    one there that is not a trusted proxy; what stands left of it was sent by the client and can be anything.
    Where an entry is not an address, it is the proxy that wrote it. '' for a UNIX socket, which has none, unless a
    proxy is trusted there and names an address.
    """
    peer = plain(environ.get("REMOTE_ADDR", ""))
    client = _address(peer) if trusted else None
    if client is None and not (peer == "" and UNIX in trusted):
        return peer
    told = environ.get("HTTP_X_FORWARDED_FOR", "").split(",")
    while told and (client is None or _is_trusted(client, trusted)):
        before = _address(told.pop())
        if before is None:
            break
        client = before
    return peer if client is None else str(client)


def limited_as(address: str, ipv6_prefix: int) -> str:
    """Return the client that an address belongs to: of IPv6 a network, since a single client has as many addresses.

    An IPv4 address that is written as IPv6 is the IPv4 address. What is not an address stays as it is.
    """
    if ":" not in address:
        return address
    found = _address(address)
    if isinstance(found, IPv6Address) and found in TRANSLATED:
        return str(IPv4Address(int(found) & 0xFFFF_FFFF))
    if isinstance(found, IPv6Address):
        host_bits = 128 - ipv6_prefix
        network = (int(found) >> host_bits << host_bits).to_bytes(16, "big")
        return f"{inet_ntop(AF_INET6, network)}/{ipv6_prefix}"
    return address if found is None else str(found)


def _is_trusted(address: IPv4Address | IPv6Address, trusted: Sequence[Proxy]) -> bool:
    return any(address in network for network in trusted if network != UNIX)


# No cache: what it kept of a flood of addresses would lie between all that was freed, and hold 20 MB of a worker.
def _address(entry: str) -> IPv4Address | IPv6Address | None:
    """The address in an entry, which may have a port behind it; None where there is none."""
    host = entry.strip()
    if host.startswith("["):
        host = host[1:].partition("]")[0]
    elif host.count(":") == 1:
        host = host.partition(":")[0]
    host = host.partition("%")[0]  # without the zone of a link
    try:
        if ":" not in host:
            return IPv4Address(inet_pton(AF_INET, host))
        address = IPv6Address(inet_pton(AF_INET6, host))
    except (OSError, ValueError):
        return None
    return address.ipv4_mapped or address  # so that one client has one name
