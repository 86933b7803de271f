"""deploy/nginx.conf, in a real nginx: what an instance sees, what a client gets, and what becomes of slow ones."""

import json
import re
import runpy
import select
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from service.access.security_headers import DATA_HEADERS
from service.settings import Settings
from tests.gunicorn_process import HOST, ROOT, GunicornProcess, gunicorn
from tests.nginx_process import DEPLOY, NginxProcess, command, free_port, needs_nginx, nginx
from tests.waiting import wait_until

pytestmark = needs_nginx

CLIENT: Final = "127.0.0.2"  # not the address that nginx has for an instance
CONFIGURATION: Final = f"""
import runpy
import select
globals().update(runpy.run_path({str(ROOT / "gunicorn.conf.py")!r}))
wsgi_app = "application:app"
workers = 1
"""
# Says what it sees; of the size that is asked for, where one is.
APPLICATION: Final = """
import json
from service.access.client_address import client_address
from service.settings import read_settings

trusted = read_settings().trusted_proxies

def app(environ, start_response):
    start_response("200 OK", [("X-Request-Id", "of-the-service")])
    size = environ["QUERY_STRING"]
    seen = {key: value for key, value in environ.items() if isinstance(value, str)}
    seen["client"], seen["body"] = client_address(environ, trusted), environ["wsgi.input"].read().decode()
    return [b"x" * int(size) if size else json.dumps(seen).encode()]
"""


@pytest.fixture(scope="module")
def instance(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GunicornProcess]:
    """An instance that says what it sees, and that trusts nginx."""
    folder: Path = tmp_path_factory.mktemp("seen")
    (folder / "gunicorn.conf.py").write_text(CONFIGURATION)
    (folder / "application.py").write_text(APPLICATION)
    with gunicorn(None, cwd=folder, env={"APPRAISER_TRUSTED_PROXIES": HOST}) as server:
        yield server


@pytest.fixture(scope="module")
def proxy(instance: GunicornProcess) -> Iterator[NginxProcess]:
    with nginx(instance.port) as server:
        yield server


@contextmanager
def client_of(url: str, **options: Any) -> Iterator[httpx.Client]:  # noqa: ANN401 -- httpx's
    transport = httpx.HTTPTransport(local_address=CLIENT, **options)
    with httpx.Client(base_url=url, transport=transport, timeout=30) as client:
        yield client


def seen_through(url: str, headers: dict[str, str], **options: Any) -> dict[str, str]:  # noqa: ANN401 -- httpx's
    """What the instance says that it sees of a request."""
    with client_of(url, **options) as client:
        seen: dict[str, str] = client.post("/predict?", headers=headers, content=b"a house").json()
    return seen


def test_nginx_finds_nothing_wrong_with_what_is_shipped(tmp_path: Path) -> None:
    shutil.copytree(DEPLOY, tmp_path / "deploy")
    found = subprocess.run([*command(tmp_path), "-t"], capture_output=True, text=True, check=False)

    assert found.returncode == 0
    assert found.stderr.splitlines() == [
        f"nginx: the configuration file {tmp_path}/deploy/nginx.conf syntax is ok",
        f"nginx: configuration file {tmp_path}/deploy/nginx.conf test is successful",
    ]


def test_an_instance_sees_the_client_and_nothing_that_it_says_of_itself(proxy: NginxProcess) -> None:
    spoofed = {
        "X-Forwarded-For": "198.51.100.1",
        "X-Forwarded-Proto": "https",
        "X-Forwarded-Ssl": "on",
        "X_Forwarded_For": "198.51.100.1",
        "Connection": "keep-alive, X-Extra",
    }
    seen = seen_through(proxy.url, spoofed)

    assert (seen["client"], seen["REMOTE_ADDR"], seen["wsgi.url_scheme"]) == (CLIENT, HOST, "http")
    assert (seen["HTTP_X_FORWARDED_FOR"], seen["HTTP_X_FORWARDED_PROTO"]) == (CLIENT, "http")
    assert (seen["HTTP_HOST"], seen["body"], seen["SERVER_PROTOCOL"]) == (HOST, "a house", "HTTP/1.1")
    assert "HTTP_CONNECTION" not in seen


def test_the_log_says_who_asked_and_who_answered_and_nothing_that_the_client_sent(proxy: NginxProcess) -> None:
    with client_of(proxy.url) as client:
        answer = client.post("/predict?11", headers={"X-Secret": "planted-secret"}, content=b"planted-secret")
    assert answer.content == b"x" * 11

    wait_until(lambda: '"request_id":"of-the-service"' in proxy.log)
    line = json.loads(proxy.log.splitlines()[-1])
    assert (line["event"], line["status"], line["client"], line["statuses"]) == ("proxied", 200, CLIENT, "200")
    assert line["instances"].startswith(f"{HOST}:")
    assert "planted-secret" not in proxy.log


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl")
def test_tls_needs_a_certificate_and_the_lines_that_are_there(instance: GunicornProcess, tmp_path: Path) -> None:
    shipped = (DEPLOY / "nginx" / "listen.conf").read_text()
    lines = "\n".join(re.findall(r"^# (\w+ .+;)$", shipped, re.MULTILINE))
    lines = lines.replace(" 8443 ", " {} ").replace(" tls/", f" {tmp_path}/")
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
            *("-subj", "/CN=localhost", "-keyout", tmp_path / "privkey.pem", "-out", tmp_path / "fullchain.pem"),
        ],
        check=True,
        capture_output=True,
    )
    with nginx(instance.port, listen=lines) as proxy:
        url = proxy.url.replace("http:", "https:")
        seen = seen_through(url, {"X-Forwarded-Proto": "http"}, verify=False)
        assert (seen["client"], seen["wsgi.url_scheme"]) == (CLIENT, "https")
        with client_of(url, verify=False) as client:
            assert client.get("/").headers["Strict-Transport-Security"] == "max-age=31536000"


def test_the_limit_of_a_body_and_its_refusal_are_the_services(proxy: NginxProcess) -> None:
    most = Settings().max_body_bytes
    with client_of(proxy.url) as client:
        assert client.post("/predict?1", content=b"x" * most).status_code == 200
        refused = client.post("/predict?1", content=b"x" * (most + 1))
        chunked = client.post("/predict?1", content=iter([b"x" * most, b"x"]))
    for answer in (refused, chunked):
        assert (answer.status_code, answer.headers["Content-Type"]) == (413, "application/json")
        assert answer.json() == {"detail": f"The body is too large: at most {most:,} bytes are accepted."}


def test_where_no_instance_answers_nginx_says_so_as_the_service_would() -> None:
    with nginx(free_port(), free_port()) as proxy, client_of(proxy.url) as client:
        for answer in (client.get("/docs?planted-secret"), client.post("/predict", content=b"{}")):
            assert (answer.status_code, answer.headers["Content-Type"]) == (503, "application/json")
            assert answer.json() == {"detail": "No instance answers."}
            assert (answer.headers["Retry-After"], answer.headers["Server"]) == ("1", "nginx")
            assert answer.headers.items() >= {name.lower(): value for name, value in DATA_HEADERS}.items()
        assert "planted-secret" not in proxy.log


def test_metrics_are_not_for_the_internet(proxy: NginxProcess) -> None:
    with client_of(proxy.url) as client:
        for path in (
            "/metrics",
            "/metrics?",
            "//metrics",
            "/%6detrics",
            "/./metrics",
            "/metrics/",
            "/metrics%2F",
            "//metrics//",
        ):
            answer = client.get(proxy.url + path)
            assert (answer.status_code, answer.json()) == (
                404,
                {"detail": "This path does not exist; /docs lists the endpoints."},
            )
        assert client.get("/health").status_code == 200


def test_an_instance_that_refuses_is_passed_over(instance: GunicornProcess) -> None:
    with nginx(free_port(), instance.port) as proxy:
        for _ in range(10):  # on connections of their own, so that each process of nginx is asked
            assert seen_through(proxy.url, {})["body"] == "a house"
        assert '"statuses":"502, 200"' in proxy.log


@contextmanager
def counting() -> Iterator[socket.socket]:
    """A listening socket, so that one sees who connects."""
    with socket.create_server((HOST, 0)) as listener:
        listener.settimeout(30)
        yield listener


HEAD: Final = b"POST /predict HTTP/1.1\r\nHost: here\r\nContent-Length: 8\r\n\r\n"
ANSWER: Final = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def test_an_instance_hears_of_a_request_when_it_is_whole() -> None:
    with (
        counting() as listener,
        nginx(listener.getsockname()[1]) as proxy,
        socket.create_connection((HOST, proxy.port)) as slow,
        socket.create_connection((HOST, proxy.port)) as fast,
    ):
        slow.sendall(HEAD + b"half")
        fast.sendall(HEAD.replace(b"predict", b"fast") + b"anything")
        first, _ = listener.accept()
        assert first.recv(65536).startswith(b"POST /fast HTTP/1.1\r\n")
        slow.sendall(b"-and")
        second, _ = listener.accept()
        asked = second.recv(65536)
        assert asked.startswith(b"POST /predict HTTP/1.1\r\n")
        assert asked.endswith(b"\r\n\r\nhalf-and")  # in one piece, which the service reads without a parser
        for connection, client in ((first, fast), (second, slow)):
            connection.sendall(ANSWER)
            assert client.recv(65536).endswith(b"ok")
            connection.close()


@pytest.mark.parametrize(
    ("path", "is_repeated"),
    [
        ("/predict", True),
        ("/predict/batch", True),
        ("/v2/models/appraiser/infer", True),
        ("/v2/models/appraiser/versions/v1.0.0/infer", True),
        ("/v2/models/appraiser", False),
        ("/other", False),
    ],
)
def test_a_prediction_that_an_instance_drops_is_asked_of_another_and_no_other_post_is(
    path: str, *, is_repeated: bool
) -> None:
    with counting() as listener, counting() as other:
        ports = listener.getsockname()[1], other.getsockname()[1]
        with nginx(*ports) as proxy, socket.create_connection((HOST, proxy.port)) as client:
            client.sendall(HEAD.replace(b"/predict", path.encode()) + b"anything")
            connection = first_of(listener, other)
            assert connection.recv(65536)
            connection.close()
            if is_repeated:
                again = first_of(listener, other)
                assert again.recv(65536).startswith(f"POST {path} ".encode())
                again.sendall(ANSWER)
                again.close()
            assert client.recv(65536).startswith(b"HTTP/1.1 200 " if is_repeated else b"HTTP/1.1 503 ")
            assert select.select([listener, other], [], [], 0)[0] == []  # nor has anybody else been asked


@pytest.mark.parametrize(("path", "name"), [("/predict", "detail"), ("/v2", "error"), ("/v2/models", "error")])
def test_what_nginx_refuses_has_the_form_of_the_path(path: str, name: str) -> None:
    with socket.create_server((HOST, 0)) as closed:
        port = closed.getsockname()[1]
    with nginx(port) as proxy, client_of(proxy.url) as client:
        response = client.get(path)

    assert (response.status_code, list(response.json())) == (503, [name])


def first_of(*listeners: socket.socket) -> socket.socket:
    """The first connection to any of them."""
    ready, _, _ = select.select(listeners, [], [], 30)
    connection: socket.socket = ready[0].accept()[0]
    return connection


def test_nginx_gives_an_idle_connection_up_before_the_service_does() -> None:
    (seconds,) = re.findall(r"^ +keepalive_timeout (\d+)s;", (DEPLOY / "nginx.conf").read_text(), re.MULTILINE)

    assert int(seconds) < runpy.run_path(str(ROOT / "gunicorn.conf.py"))["keepalive"] - 1


ENDED: Final = b"\r\nHost: a\r\nConnection: close\r\n"
REFUSED: Final = {
    "no HTTP": (b"planted-secret\r\n\r\n", 400),
    "no host": (b"GET / HTTP/1.1\r\n\r\n", 400),
    "a wrong host": (b"GET / HTTP/1.1\r\nHost: a b\r\nConnection: close\r\n\r\n", 400),
    "a wrong path": (b"GET /%zz HTTP/1.1" + ENDED + b"\r\n", 400),
    "two lengths": (
        b"POST / HTTP/1.1" + ENDED + b"Content-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        400,
    ),
    "a wrong chunk": (b"POST / HTTP/1.1" + ENDED + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
    "another method": (b"TRACE / HTTP/1.1" + ENDED + b"\r\n", 405),
    "too large": (b"POST / HTTP/1.1" + ENDED + b"Content-Length: 9999999\r\n\r\n", 413),
    "a long line": (b"GET /" + b"x" * 40_000 + b" HTTP/1.1" + ENDED + b"\r\n", 414),
    "a long field": (b"GET / HTTP/1.1" + ENDED + b"X: " + b"x" * 40_000 + b"\r\n\r\n", 431),
    "an unknown coding": (b"POST / HTTP/1.1" + ENDED + b"Transfer-Encoding: gzip\r\n\r\n", 501),
    "another HTTP": (b"GET / HTTP/3.0" + ENDED + b"\r\n", 505),
    "metrics": (b"GET /metrics HTTP/1.1" + ENDED + b"\r\n", 404),
    "its own path": (b"GET /.refused HTTP/1.1" + ENDED + b"\r\n", 404),
}


@pytest.mark.parametrize(("sent", "status"), REFUSED.values(), ids=REFUSED)
def test_what_nginx_refuses_itself_it_refuses_as_the_service_does(
    proxy: NginxProcess, sent: bytes, status: int
) -> None:
    with socket.create_connection((HOST, proxy.port), 30) as client:
        client.sendall(sent)
        with client.makefile("rb") as answer:
            assert answer.readline().split()[1] == str(status).encode()
            headers = dict(line.decode().rstrip().split(": ", 1) for line in iter(answer.readline, b"\r\n"))
            body = json.loads(answer.read(int(headers["Content-Length"])))

    assert (headers["Content-Type"], list(body)) == ("application/json", ["detail"])
    assert "cannot pass" not in body["detail"]
    assert headers.items() >= dict(DATA_HEADERS).items()
    assert re.fullmatch("[0-9a-f]{32}", headers["X-Request-ID"])
    assert "Retry-After" not in headers
    wait_until(lambda: f'"request_id":"{headers["X-Request-ID"]}"' in proxy.log)
    assert "planted-secret" not in proxy.log


def test_every_status_that_nginx_may_say_itself_is_json() -> None:
    """Those that no request of a test can make it say; the numbers are of its source, ngx_http_special_response.c."""
    shipped = (DEPLOY / "nginx.conf").read_text()
    told = {
        int(number)
        for line in re.findall(r"error_page ([^;/]+)", shipped)
        for number in line.split()
        if "=" not in number
    }

    assert told >= {*range(400, 407), *range(408, 417), 421, 429, *range(494, 498), *range(500, 506), 507} - {407}


def test_what_the_service_says_of_itself_nginx_does_not_say_again() -> None:
    with nginx_before_headers() as (server, expected), client_of(server.url) as client:
        answer = client.get("/")

    assert [(name, value) for name, value in answer.headers.multi_items() if name in expected] == list(expected.items())


@contextmanager
def nginx_before_headers() -> Iterator[tuple[NginxProcess, dict[str, str]]]:
    """nginx in front of a service that sends headers of its own, one answer long."""
    expected = {name.lower(): "of-the-service" for name, _ in (*DATA_HEADERS, ("X-Request-ID", ""))}
    with counting() as listener, nginx(listener.getsockname()[1]) as server:

        def answer() -> None:
            connection, _ = listener.accept()
            connection.recv(65536)
            lines = "".join(f"{name}: {value}\r\n" for name, value in expected.items())
            connection.sendall(f"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n{lines}\r\n".encode())
            connection.close()

        answering = threading.Thread(target=answer)
        answering.start()
        yield server, expected
        answering.join()
