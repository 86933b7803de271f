"""Who asks: the table of what a peer and its X-Forwarded-For say, and what a real gunicorn believes of whom."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from ipaddress import ip_network
from pathlib import Path
from typing import Final

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.access.client_address import Clients, client_address, limited_as
from service.settings import UNIX
from tests.gunicorn_process import ROOT, gunicorn
from worker.wsgi import plain

NOBODY: Final = ()
PROXIES: Final = (ip_network("10.0.0.2/32"), ip_network("10.1.0.0/16"), ip_network("fd00::/64"))


def asked(peer: str, told: str | None) -> dict[str, str]:
    return {"REMOTE_ADDR": peer} | ({} if told is None else {"HTTP_X_FORWARDED_FOR": told})


@pytest.mark.parametrize(
    ("peer", "told", "client"),
    [
        pytest.param("203.0.113.9", None, "203.0.113.9", id="a client itself"),
        pytest.param("203.0.113.9", "198.51.100.1", "203.0.113.9", id="a client that says it is another"),
        pytest.param("10.0.0.3", "198.51.100.1", "10.0.0.3", id="a neighbor of the proxy"),
        pytest.param("10.0.0.2", "203.0.113.9", "203.0.113.9", id="behind the proxy"),
        pytest.param("10.1.200.7", "203.0.113.9", "203.0.113.9", id="behind a proxy of a network"),
        pytest.param("10.0.0.2", "198.51.100.1, 203.0.113.9", "203.0.113.9", id="what the client says is on the left"),
        pytest.param("10.0.0.2", "10.0.0.2, 203.0.113.9", "203.0.113.9", id="a client that says it is the proxy"),
        pytest.param("10.0.0.2", "198.51.100.1, 203.0.113.9,10.1.0.1", "203.0.113.9", id="behind two proxies"),
        pytest.param("10.0.0.2", "10.1.0.1", "10.1.0.1", id="a proxy that asks for itself"),
        pytest.param("10.0.0.2", "10.1.0.2, 10.1.0.1", "10.1.0.2", id="one that asks for itself through another"),
        pytest.param("10.0.0.2", None, "10.0.0.2", id="a proxy that says nothing"),
        pytest.param("10.0.0.2", "", "10.0.0.2", id="a proxy that says nothing in words"),
        pytest.param("10.0.0.2", "203.0.113.9, ", "10.0.0.2", id="an empty entry"),
        pytest.param("10.0.0.2", "203.0.113.9, unknown", "10.0.0.2", id="an entry that is no address"),
        pytest.param("10.0.0.2", "unknown, 10.1.0.1", "10.1.0.1", id="one further away"),
        pytest.param("10.0.0.2", "999.1.1.1", "10.0.0.2", id="an address that is none"),
        pytest.param("10.0.0.2", "203.0.113.9:50000", "203.0.113.9", id="a port"),
        pytest.param("10.0.0.2", "2001:db8::9", "2001:db8::9", id="IPv6"),
        pytest.param("10.0.0.2", "2001:0DB8:0::0:9", "2001:db8::9", id="IPv6 written at length"),
        pytest.param("10.0.0.2", "[2001:db8::9]", "2001:db8::9", id="IPv6 in brackets"),
        pytest.param("10.0.0.2", "[2001:db8::9]:443", "2001:db8::9", id="IPv6 with a port"),
        pytest.param("10.0.0.2", "[2001:db8::9", "2001:db8::9", id="half a bracket"),
        pytest.param("fd00::1", "203.0.113.9", "203.0.113.9", id="a proxy of IPv6"),
        pytest.param("fd00:0:0:1::1", "203.0.113.9", "fd00:0:0:1::1", id="its neighbor"),
        pytest.param("::ffff:10.0.0.2", "::ffff:203.0.113.9", "203.0.113.9", id="IPv4 on a socket of IPv6"),
        pytest.param("fe80::1%eth0", "203.0.113.9", "fe80::1", id="an address with a zone"),
        pytest.param("", "203.0.113.9", "", id="a UNIX socket"),
        pytest.param("-", "203.0.113.9", "-", id="a peer without an address"),
    ],
)
def test_the_client_is_the_first_stranger_from_the_right(peer: str, told: str | None, client: str) -> None:
    assert client_address(asked(peer, told), PROXIES) == client
    assert client_address(asked(peer, told), NOBODY) == plain(peer)


@pytest.mark.parametrize(
    ("peer", "told", "client"),
    [
        pytest.param("", "203.0.113.9", "203.0.113.9", id="behind the proxy"),
        pytest.param("", "198.51.100.1, 203.0.113.9", "203.0.113.9", id="what the client says is on the left"),
        pytest.param("", "203.0.113.9, 10.0.0.2", "203.0.113.9", id="behind two proxies"),
        pytest.param("", "::ffff:203.0.113.9", "203.0.113.9", id="IPv4 written as IPv6"),
        pytest.param("", None, "", id="a proxy that says nothing"),
        pytest.param("", "unknown", "", id="an entry that is no address"),
        pytest.param("203.0.113.9", "198.51.100.1", "203.0.113.9", id="a client at another socket"),
        pytest.param("-", "198.51.100.1", "-", id="a peer without an address"),
    ],
)
def test_behind_a_trusted_unix_socket_a_client_is_whom_the_proxy_says(peer: str, told: str | None, client: str) -> None:
    assert client_address(asked(peer, told), (UNIX, *PROXIES)) == client
    if peer:
        assert client_address(asked(peer, told), (UNIX,)) == client


@pytest.mark.parametrize(
    ("address", "prefix", "client"),
    [
        ("203.0.113.9", 64, "203.0.113.9"),
        ("2001:db8::9", 64, "2001:db8::/64"),
        ("2001:db8::ffff:ffff:ffff:ffff", 64, "2001:db8::/64"),
        ("2001:db8:0:1::", 64, "2001:db8:0:1::/64"),
        ("2001:db8:0:1::", 56, "2001:db8::/56"),
        ("2001:db8::9", 128, "2001:db8::9/128"),
        ("fe80::1%eth0", 64, "fe80::/64"),
        ("::1", 64, "::/64"),
        ("::ffff:203.0.113.9", 64, "203.0.113.9"),
        ("64:ff9b::203.0.113.9", 64, "203.0.113.9"),
        ("", 64, ""),
        ("-", 64, "-"),
        ("a:b:c", 64, "a:b:c"),
    ],
)
def test_a_client_of_ipv6_is_a_network_and_one_of_ipv4_an_address(address: str, prefix: int, client: str) -> None:
    assert limited_as(address, prefix) == client
    assert Clients((), prefix).of(asked(address, None)) == client


def test_without_a_word_of_the_peer_there_is_no_address() -> None:
    assert client_address({}, PROXIES) == client_address({}, NOBODY) == ""


PIECES: Final = st.sampled_from(["10.0.0.2", "203.0.113.9", "[", "]", ":", "%", ",", " ", "x"])


@given(st.text() | st.lists(PIECES).map("".join))
def test_garbage_is_never_an_error_and_never_an_address(told: str) -> None:
    found = client_address(asked("10.0.0.2", told), PROXIES)
    assert ip_network(found).num_addresses == 1


# The folder's own configuration, with another application, that says what it sees.
CONFIGURATION: Final = f"""
import runpy
globals().update(runpy.run_path({str(ROOT / "gunicorn.conf.py")!r}))
wsgi_app = "seen:app"
workers = 1
"""
APPLICATION: Final = """
import json
from service.access.client_address import Clients, client_address, limited_as
from service.settings import read_settings

trusted = read_settings().trusted_proxies

def app(environ, start_response):
    start_response("200 OK", [])
    return [json.dumps([environ["wsgi.url_scheme"], client_address(environ, trusted)]).encode()]
"""
SPOOFED: Final = {"X-Forwarded-Proto": "https", "X-Forwarded-For": "198.51.100.1"}
PARSED: Final = {"Expect": "100-continue"}  # what is not ordinary, gunicorn's parser reads


@pytest.fixture(scope="module", params=["own", "gthread"])
def urls(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Of two services; one trusts nobody, as by default, the other this host."""
    folder = tmp_path_factory.mktemp("seen")
    (folder / "gunicorn.conf.py").write_text(CONFIGURATION)
    (folder / "seen.py").write_text(APPLICATION)
    with ExitStack() as stack:

        def serve(trusted: str) -> str:
            # gunicorn's own variable, as it is set on some hosts, changes nothing
            env = {"FORWARDED_ALLOW_IPS": "*", "APPRAISER_TRUSTED_PROXIES": trusted, "APPRAISER_WORKER": request.param}
            return stack.enter_context(gunicorn(None, cwd=folder, env=env)).url

        yield {trusted: serve(trusted) for trusted in ("", "127.0.0.1, fd00::/8")}


def seen(url: str, headers: Mapping[str, str]) -> tuple[str, str]:
    """Scheme and client, as the service sees them."""
    scheme, client = httpx.post(url, headers=headers, content=b"x", timeout=30).json()
    return scheme, client


@pytest.mark.parametrize("more", [{}, PARSED], ids=["ordinary", "parsed"])
def test_by_default_nobody_is_believed_and_a_configured_proxy_is(urls: Mapping[str, str], more: dict[str, str]) -> None:
    nobodys, ours = urls.values()

    assert seen(nobodys, SPOOFED | more) == ("http", "127.0.0.1")
    assert seen(ours, SPOOFED | more) == ("https", "198.51.100.1")
    assert seen(ours, more) == ("http", "127.0.0.1")


@pytest.mark.parametrize("more", [{}, PARSED], ids=["ordinary", "parsed"])
@pytest.mark.parametrize("header", [{"X-Forwarded-Ssl": "on"}, {"X-Forwarded-Protocol": "ssl"}])
def test_a_header_that_our_proxy_does_not_set_says_nothing(
    urls: Mapping[str, str], header: dict[str, str], more: dict[str, str]
) -> None:
    _, ours = urls.values()

    assert seen(ours, header | more) == ("http", "127.0.0.1")
    assert seen(ours, {"X-Forwarded-Proto": "https"} | header | more) == ("https", "127.0.0.1")


@pytest.mark.parametrize("worker", ["own", "gthread"])
@pytest.mark.parametrize(("trusted", "expected"), [("", ("http", "")), ("unix", ("https", "198.51.100.1"))])
def test_a_proxy_at_a_unix_socket_is_believed_where_it_is_configured(
    tmp_path: Path, worker: str, trusted: str, expected: tuple[str, str]
) -> None:
    (tmp_path / "gunicorn.conf.py").write_text(CONFIGURATION)
    (tmp_path / "seen.py").write_text(APPLICATION)
    env = {"APPRAISER_TRUSTED_PROXIES": trusted, "APPRAISER_WORKER": worker}
    with (
        gunicorn(None, "--bind", f"unix:{tmp_path}/socket", cwd=tmp_path, env=env) as server,
        httpx.Client(transport=httpx.HTTPTransport(uds=f"{tmp_path}/socket"), base_url="http://here") as client,
    ):
        for more in ({}, PARSED):
            assert tuple(client.post("/", headers=SPOOFED | more, content=b"x", timeout=30).json()) == expected
        assert seen(server.url, SPOOFED) == ("http", "127.0.0.1")


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("::ffff:10.0.0.2", "10.0.0.2"),
        ("10.0.0.2", "10.0.0.2"),
        ("::1", "::1"),
        ("2001:db8::ffff:1", "2001:db8::ffff:1"),
        ("::ffff:a00:2", "::ffff:a00:2"),
        ("", ""),
    ],
)
def test_an_address_of_ipv4_is_written_as_such(host: str, expected: str) -> None:
    assert plain(host) == expected
