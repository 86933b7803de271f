"""One socket for IPv4 and IPv6: a peer of IPv4 is named and trusted as such, whichever parser reads its request."""

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.gunicorn_process import ROOT, GunicornProcess, gunicorn
from tests.raw_http import answer, request

CONFIGURATION: Final = f"""
import runpy
globals().update(runpy.run_path({str(ROOT / "gunicorn.conf.py")!r}))
wsgi_app = "application:app"
workers = 1
"""
APPLICATION: Final = """
import json
from service.access.client_address import client_address
from service.settings import read_settings

trusted = read_settings().trusted_proxies

def app(environ, start_response):
    names = ("REMOTE_ADDR", "SERVER_NAME", "wsgi.url_scheme")
    content = json.dumps([*(environ[name] for name in names), client_address(environ, trusted)]).encode()
    start_response("200 OK", [("Content-Length", str(len(content)))])
    return [content]
"""
TOLD: Final = ("X-Forwarded-Proto: https", "X-Forwarded-For: 203.0.113.9")


def has_ipv6() -> bool:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


pytestmark = pytest.mark.skipif(not has_ipv6(), reason="needs IPv6")


@pytest.fixture(scope="module", params=["own", "gthread"])
def both(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GunicornProcess]:
    """A gunicorn on both families, which trusts 127.0.0.1."""
    folder: Path = tmp_path_factory.mktemp("both")
    (folder / "gunicorn.conf.py").write_text(CONFIGURATION)
    (folder / "application.py").write_text(APPLICATION)
    environment = {"APPRAISER_TRUSTED_PROXIES": "127.0.0.1", "APPRAISER_WORKER": request.param}
    with gunicorn(None, "--bind", "[::]:0", cwd=folder, env=environment) as server:
        yield server


def seen(server: GunicornProcess, host: str, *headers: str, source: str | None = None) -> list[str]:
    """What the application says that it sees."""
    with socket.create_connection((host, server.port), 30, (source, 0) if source else None) as client:
        client.sendall(request("/", *headers))
        found: list[str] = json.loads(answer(client)[1])
    return found


# A header that comes twice makes a request that gunicorn's parser reads.
@pytest.mark.parametrize("parsed", [(), ("X-Twice: 1", "X-Twice: 2")], ids=["ordinary", "parsed"])
class TestBothFamilies:
    """What is seen of a peer."""

    def test_a_trusted_peer_of_ipv4_is_believed(self, both: GunicornProcess, parsed: tuple[str, ...]) -> None:
        address, _, scheme, client = seen(both, "127.0.0.1", *TOLD, *parsed)

        assert address in {"127.0.0.1", "::ffff:127.0.0.1"}  # the latter from a stock worker
        assert (scheme, client) == ("https", "203.0.113.9")

    def test_another_peer_of_ipv4_is_not(self, both: GunicornProcess, parsed: tuple[str, ...]) -> None:
        _, _, scheme, client = seen(both, "127.0.0.1", *TOLD, *parsed, source="127.0.0.2")

        assert (scheme, client) == ("http", "127.0.0.2")

    def test_a_peer_of_ipv6_is_served_too(self, both: GunicornProcess, parsed: tuple[str, ...]) -> None:
        address, _, scheme, client = seen(both, "::1", *TOLD, *parsed)

        assert (address, scheme, client) == ("::1", "http", "::1")


@pytest.mark.parametrize("parsed", [(), ("X-Twice: 1", "X-Twice: 2")], ids=["ordinary", "parsed"])
def test_our_worker_names_addresses_of_ipv4_as_such(tmp_path: Path, parsed: tuple[str, ...]) -> None:
    (tmp_path / "gunicorn.conf.py").write_text(CONFIGURATION)
    (tmp_path / "application.py").write_text(APPLICATION)
    with gunicorn(None, "--bind", "[::]:0", cwd=tmp_path) as server:
        assert seen(server, "127.0.0.1", *parsed) == ["127.0.0.1", "127.0.0.1", "http", "127.0.0.1"]
