"""The documentation page needs nothing but this service, as its files say and as a real browser shows."""

import json
import re
import shutil
import subprocess
import threading
from html.parser import HTMLParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import urljoin

import httpx
import pytest

from service.access.security_headers import PAGE_HEADERS
from tests.gunicorn_process import GunicornProcess
from tests.nginx_process import needs_nginx, nginx

CHROMIUM: Final = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
BROWSER_SECONDS: Final = 120  # for what takes three on an idle machine
NAMESPACE: Final = "http://www.w3.org/"


class References(HTMLParser):
    """What a page loads or links to."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        del tag
        self.found += [value for name, value in attrs if name in {"src", "href"} and value]


@pytest.fixture(scope="module")
def assets(http: httpx.Client) -> dict[str, httpx.Response]:
    """Each reference of the page, and what it leads to."""
    page = http.get("/docs")
    assert (page.status_code, page.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    return {reference: http.get(urljoin("/docs", reference)) for reference in References(page.text).found}


def test_everything_that_the_page_names_is_there(assets: dict[str, httpx.Response]) -> None:
    assert {name: asset.status_code for name, asset in assets.items()} == dict.fromkeys(assets, 200)
    types = {Path(name).suffix: asset.headers["Content-Type"].partition(";")[0] for name, asset in assets.items()}
    assert types == {
        "": "text/html",
        ".svg": "image/svg+xml",
        ".css": "text/css",
        ".json": "application/json",
        ".js": "text/javascript",
    }


def test_nothing_that_the_page_names_is_elsewhere(assets: dict[str, httpx.Response], http: httpx.Client) -> None:
    assert not [name for name in assets if "//" in name]
    # the library's own script is full of addresses that it does not ask; what it asks, the browser below sees
    written = [http.get("/docs").text, *(asset.text for name, asset in assets.items() if "bundle" not in name)]
    foreign = [found for text in written for found in re.findall(r"https?://[^\s\"']*", text)]
    assert [address for address in foreign if not address.startswith(NAMESPACE)] == []


class Shown(NamedTuple):
    """What a browser made of a page."""

    document: str
    """As its scripts have left it."""
    asked: list[str]
    """Every address that the page asked for."""
    refused: list[str]
    """What the console says of the content security policy: each breach of it is reported there."""


def chromium(url: str, profile: Path) -> Shown:
    """Load `url`, with the network cut but for this machine."""
    profile.mkdir(exist_ok=True)
    log = profile / "net.json"
    command = [
        str(CHROMIUM),
        "--headless",
        "--no-sandbox",  # in a container nobody else's pages are open
        "--disable-gpu",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        f"--user-data-dir={profile}",
        "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
        f"--log-net-log={log}",
        "--virtual-time-budget=10000",  # milliseconds of the page's own clock
        "--enable-logging=stderr",  # and with it what the page's console says
        "--dump-dom",
        url,
    ]
    found = subprocess.run(command, capture_output=True, text=True, timeout=BROWSER_SECONDS, check=True)
    refused = [line for line in found.stderr.splitlines() if "Content Security Policy" in line]
    return Shown(found.stdout, asked_by_the_page(json.loads(log.read_bytes()), url), refused)


def asked_by_the_page(log: dict[str, Any], url: str) -> list[str]:
    """The browser asks for things of its own; those have another initiator than the page's origin."""
    started = log["constants"]["logEventTypes"]["URL_REQUEST_START_JOB"]
    origin = url[: url.index("/", len("http://"))]
    requests = [event.get("params", {}) for event in log["events"] if event["type"] == started]
    return [request["url"] for request in requests if request.get("initiator") == origin]


@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium, which is not installed")
def test_a_browser_shows_every_operation_and_asks_no_other_host(server: GunicornProcess, tmp_path: Path) -> None:
    shown, asked, refused = chromium(f"{server.url}/docs#/predictions/predict", tmp_path)

    document = httpx.get(f"{server.url}/openapi.json").json()
    for path, item in document["paths"].items():
        for operation in item.values():
            assert f'id="operations-{operation["tags"][0]}-{operation["operationId"]}"' in shown, path
            assert operation["summary"] in shown
    assert f"{server.url}/openapi.json" in asked
    assert [address for address in asked if not address.startswith(f"{server.url}/")] == []
    assert refused == []


# Below a prefix, and beside the documentation a page that shows it as it is and clicks "Execute".
PREFIXED: Final = """
listen {};
location /appraiser/ {{ proxy_pass http://appraiser/; }}
location = /appraiser/click {{
    default_type text/html;
    add_header X-Policy none; # none of the server's, which forbid a script
    return 200 '<!doctype html><link rel="icon" href="docs/swagger/images/swagger.svg"><div id="swagger-ui"></div>
<script src="docs/swagger/js/swagger-ui-bundle.js"></script>
<script>
SwaggerUIBundle({{ url: "openapi.json", dom_id: "#swagger-ui", docExpansion: "full", tryItOutEnabled: true }});
const looking = setInterval(() => {{
  const operation = document.querySelector("#operations-predictions-predict");
  if (operation?.querySelector(".request-url")) clearInterval(looking);
  else operation?.querySelector(".execute")?.click(); // again, until its body is there
}}, 100);
</script>';
}}
"""


@needs_nginx
@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium, which is not installed")
def test_behind_a_path_prefix_the_page_works_and_asks_below_it(server: GunicornProcess, tmp_path: Path) -> None:
    with nginx(server.port, listen=PREFIXED) as proxy:
        shown, asked, refused = chromium(f"{proxy.url}/appraiser/docs", tmp_path / "docs")
        _, tried, _ = chromium(f"{proxy.url}/appraiser/click", tmp_path / "click")

    assert 'id="operations-predictions-predict"' in shown
    assert refused == []
    assert f"{proxy.url}/appraiser/predict" in {address.partition("?")[0] for address in tried}
    assert [address for address in (*asked, *tried) if not address.startswith(f"{proxy.url}/appraiser/")] == []


PAGE: Final = b"""<!doctype html><title>bad</title><p style="color: red">styled</p>
<script>document.title = "written by a script"</script><script src="http://127.0.0.2/foreign.js"></script>"""


class BadPage(BaseHTTPRequestHandler):
    """Does all that the policy forbids, under the policy of the documentation."""

    def do_GET(self) -> None:
        self.send_response(200)
        for name, value in (*PAGE_HEADERS, ("Content-Type", "text/html"), ("Content-Length", str(len(PAGE)))):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(PAGE)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium, which is not installed")
def test_a_page_that_breaks_the_policy_would_be_seen(tmp_path: Path) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), BadPage) as bad:
        serving = threading.Thread(target=bad.serve_forever)
        serving.start()
        shown, asked, refused = chromium(f"http://127.0.0.1:{bad.server_address[1]}/docs", tmp_path)
        bad.shutdown()
        serving.join()

    assert "<title>bad</title>" in shown
    assert "http://127.0.0.2/foreign.js" not in asked
    assert sorted(found for found in ("style-src", "script-src") for line in refused if found in line) == [
        "script-src",
        "script-src",
        "style-src",
    ]
