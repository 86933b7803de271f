"""An ordinary request is read as gunicorn's parser reads it; what is not ordinary is left to that."""

from typing import TYPE_CHECKING, Any, Final

import pytest
from gunicorn.asgi.parser import CallbackRequest, ParseError, PythonProtocol
from gunicorn.asgi.protocol import _RequestHeaderPolicy
from gunicorn.config import Config
from gunicorn.http.errors import InvalidSchemeHeaders
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.corpus import cases, config_of, needs_corpus, with_host
from worker.gunicorn_worker import bounds_of, secure_of
from worker.limits import DEFAULTS
from worker.ordinary import Bounds, ordinary
from worker.wsgi import environ_of, shared_by

if TYPE_CHECKING:
    from wsgiref.types import WSGIEnvironment

SHARED: Final = shared_by({"wsgi.multithread": False}, ("127.0.0.1", 8000), ("127.0.0.1", 50000), "")
BOUNDS: Final = Bounds(head=1_000, fields=20, body=100, secure={})
PEER: Final = ("127.0.0.1", 50000)
# With what a trusted proxy may say.
OF_A_PROXY: Final = BOUNDS._replace(secure={"HTTP_X_FORWARDED_PROTO": "https", "HTTP_X_FORWARDED_SSL": "on"})
PLAIN: Final = b"POST /predict HTTP/1.1\r\nHost: here\r\nContent-Length: 4\r\n\r\nbody"


def read(data: bytes, bounds: Bounds = BOUNDS) -> "WSGIEnvironment | None":
    return ordinary(data, SHARED, bounds)


LIMITS: Final = ("limit_request_line", "limit_request_fields", "limit_request_field_size")


def parsed(data: bytes, bounds: Bounds = BOUNDS, **limits: int) -> "WSGIEnvironment":
    """What gunicorn's parser makes of a whole request.

    Raises ParseError, InvalidSchemeHeaders, or AssertionError for half a request.
    """
    chunks: list[bytes] = []
    parser = PythonProtocol(on_body=chunks.append, **limits)
    parser.feed(data)
    assert parser.is_complete
    assert not parser.remaining()
    found = CallbackRequest.from_parser(parser)
    secure = {key.removeprefix("HTTP_").replace("_", "-"): word for key, word in bounds.secure.items()}
    trust: tuple[dict[str, str], list[str]] = (secure, [])
    _RequestHeaderPolicy(Config(), None, found.scheme, found.version).apply(found, trust)
    return environ_of(found, b"".join(chunks), SHARED)


def comparable(environ: "WSGIEnvironment") -> dict[str, Any]:
    return environ | {"wsgi.input": environ["wsgi.input"].getvalue()}


@pytest.mark.parametrize(
    "data",
    [
        PLAIN,
        b"GET /health/ready HTTP/1.1\r\nHost: here\r\nAccept: */*\r\nConnection: keep-alive\r\n\r\n",
        b"GET /docs?a=1&b=%20?c HTTP/1.1\r\nHost: here\r\n\r\n",
        b"GET /docs? HTTP/1.1\r\nHost: here\r\n\r\n",
        b"DELETE //a HTTP/1.1\r\nhost:here\r\nX-Name: \t caf\xc3\xa9 \t \r\nX-Empty:\r\n\r\n",
        b"POST /predict HTTP/1.1\r\nHost: here\r\nContent-Length: 0\r\nContent-Type: application/json\r\n\r\n",
    ],
)
def test_an_ordinary_request_is_read(data: bytes) -> None:
    found = read(data)
    assert found is not None
    assert comparable(found) == comparable(parsed(data))


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(PLAIN[:-1], id="half a body"),
        pytest.param(PLAIN + b"P", id="another one behind it"),
        pytest.param(PLAIN[:40], id="half a header"),
        pytest.param(b"\r\n" + PLAIN, id="an empty line before it"),
        pytest.param(PLAIN.replace(b"1.1", b"1.0"), id="HTTP/1.0"),
        pytest.param(PLAIN.replace(b"/predict", b"/%70redict"), id="an escaped path"),
        pytest.param(PLAIN.replace(b"/predict", b"http://here/predict"), id="a proxy's path"),
        pytest.param(PLAIN.replace(b"/predict", b"/pr\xc3\xa9dict"), id="a path that is not ASCII"),
        pytest.param(PLAIN.replace(b"POST", b"post"), id="a method in lower case"),
        pytest.param(PLAIN.replace(b"\r\n", b"\n"), id="lines without CR"),
        pytest.param(PLAIN.replace(b"Host:", b"Host :"), id="a space before the colon"),
        pytest.param(PLAIN.replace(b"Host:", b" Host:"), id="a folded line"),
        pytest.param(PLAIN.replace(b"here", b"he\x00re"), id="a control in a value"),
        pytest.param(PLAIN.replace(b"here", b"he\rre"), id="a bare CR in a value"),
        pytest.param(PLAIN.replace(b"Host: here", b"Host: a\r\nHost: b"), id="a repeated header"),
        pytest.param(PLAIN.replace(b"here", b"here\r\nContent-Length: 4"), id="two lengths"),
        pytest.param(PLAIN.replace(b"here", b"here\r\nX_Host: here"), id="an underscore"),
        pytest.param(PLAIN.replace(b"here", b"here\r\nExpect: 100-continue"), id="Expect"),
        pytest.param(PLAIN.replace(b"here", b"here\r\nTransfer-Encoding: chunked"), id="Transfer-Encoding"),
        pytest.param(PLAIN.replace(b"here", b"here\r\nUpgrade: websocket"), id="Upgrade"),
        pytest.param(PLAIN.replace(b"here", b"here\r\nConnection: close"), id="Connection: close"),
        pytest.param(PLAIN.replace(b": 4", b": +4"), id="a length with a sign"),
        pytest.param(PLAIN.replace(b": 4", b": \xb2"), id="a length that only isdigit takes for one"),
        pytest.param(PLAIN.replace(b": 4", b": "), id="an empty length"),
        pytest.param(PLAIN.replace(b": 4", b": " + b"0" * 4_500 + b"4"), id="a length that int() refuses"),
        pytest.param(PLAIN.replace(b": 4", b": 101")[:-4] + b"b" * 101, id="a body that is too large"),
        pytest.param(PLAIN.replace(b"here", b"h" * 1_000), id="a long header"),
        pytest.param(PLAIN.replace(b"Host", b"".join(b"A%d: b\r\n" % n for n in range(20)) + b"Host"), id="fields"),
        pytest.param(PLAIN.replace(b"Host: here\r\n", b""), id="no Host"),
        pytest.param(PLAIN.replace(b"here", b"he re"), id="a Host with a space"),
        pytest.param(PLAIN.replace(b"here", b"h\xc3\xa9re"), id="a Host that is not ASCII"),
        pytest.param(b"", id="nothing"),
    ],
)
def test_everything_else_is_left_to_the_parser(data: bytes) -> None:
    assert read(PLAIN) is not None
    assert read(data) is None


def test_the_bounds_themselves_are_ordinary() -> None:
    head = PLAIN.index(b"body")
    assert read(PLAIN, Bounds(head, 2, 4, {})) is not None
    for less in (
        Bounds(head - 1, 2, 4, {}),
        Bounds(head, 1, 4, {}),
        Bounds(head, 2, 3, {}),
    ):
        assert read(PLAIN, less) is None


@pytest.mark.parametrize(
    ("lines", "scheme"),
    [
        (b"X-Forwarded-Proto: https", "https"),
        (b"X-Forwarded-Proto: http", "http"),
        (b"X-Forwarded-Proto: HTTPS", "http"),
        (b"X-Forwarded-Proto: https\r\nX-Forwarded-Ssl: on", "https"),
        (b"X-Forwarded-For: here", "http"),
    ],
)
def test_what_a_proxy_says_of_its_client_is_ordinary_and_nobody_elses_word_counts(lines: bytes, scheme: str) -> None:
    data = PLAIN.replace(b"here", b"here\r\n" + lines)
    for bounds, expected in ((OF_A_PROXY, scheme), (BOUNDS, "http")):
        found = read(data, bounds)
        assert found is not None
        assert comparable(found) == comparable(parsed(data, bounds))
        assert found["wsgi.url_scheme"] == expected


def test_a_proxy_that_contradicts_itself_is_left_to_the_parser_which_refuses_it() -> None:
    data = PLAIN.replace(b"here", b"here\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Ssl: on")
    assert read(data, OF_A_PROXY) is None
    with pytest.raises(InvalidSchemeHeaders):
        parsed(data, OF_A_PROXY)


def test_what_connections_share_is_not_touched() -> None:
    before = dict(SHARED)
    assert read(PLAIN) is not None
    assert before == SHARED


# Pieces of which requests are made, most of them sound, some on the edge and some wrong.
METHODS: Final = st.sampled_from([b"GET", b"POST", b"PUT", b"M-SEARCH", b"GE", b"get", b"A" * 21, b"CONNECT"])
TARGETS: Final = st.sampled_from(
    [b"/", b"/predict", b"/a?b=c", b"/a?b?c", b"/a%41", b"*", b"//x", b"/a#b", b"http://h/", b"/\xe9", b"/a b", b"h:1"]
)
NAMES: Final = st.sampled_from(
    [
        *(b"Host", b"Accept", b"X-A", b"x_a", b"Connection", b"Content-Type", b"Content-Length", b"Transfer-Encoding"),
        *(b"Expect", b"Upgrade", b"TE", b"X A", b"", b"X-Forwarded-Proto", b"Cookie", b"A!#$%&'*+-.^`|~9"),
        b"X-Forwarded-Ssl",
    ]
)
VALUES: Final = st.sampled_from(
    [
        *(b" a", b"", b"\t b \t", b" keep-alive", b" close", b" 4", b" 0", b" 5", b" 04", b" chunked", b" \xff"),
        *(b" a\x00b", b" a\rb", b" a\nb", b" \x7f", b"4", b" 4, 4", b" https", b" on"),
    ]
)
ENDS: Final = st.sampled_from([b"\r\n", b"\r\n", b"\r\n", b"\r\n", b"\r\n", b"\n", b"\r", b"\r\n\r\n"])


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    lines = [draw(METHODS) + b" " + draw(TARGETS) + draw(st.sampled_from([b" HTTP/1.1", b" HTTP/1.0", b" HTTP/1.1 "]))]
    lines += [name + b":" + value for name, value in draw(st.lists(st.tuples(NAMES, VALUES), max_size=5))]
    return b"".join(line + draw(ENDS) for line in lines) + b"\r\n" + draw(st.sampled_from([b"", b"body", b"bo"]))


INVALID: Final = cases("invalid")
VALID: Final = cases("valid")
CORPUS: Final = st.sampled_from([with_host(case.sent) for case in (*INVALID, *VALID)] or [PLAIN])


@st.composite
def changed(draw: st.DrawFn, requests: st.SearchStrategy[bytes]) -> bytes:
    """A request in which some bytes have given way to others."""
    data = draw(requests)
    start = draw(st.integers(0, len(data)))
    some = draw(st.binary(max_size=8) | st.sampled_from([b"\r\n", b"\n", b"\r", b":", b" ", b"Content-Length: 4\r\n"]))
    return data[:start] + some + data[start + draw(st.integers(0, 8)) :]


def assert_is_read_alike(data: bytes, bounds: Bounds, **limits: int) -> bool:
    """Returns whether it is ordinary."""
    found = read(data, bounds)
    if found is None:
        return False
    try:
        expected = parsed(data, bounds, **limits)
    except (ParseError, InvalidSchemeHeaders) as error:
        pytest.fail(f"gunicorn refuses this: {error!r}")
    assert comparable(found) == comparable(expected)
    return True


@pytest.mark.parametrize("bounds", [BOUNDS, OF_A_PROXY], ids=["anybody's", "a proxy's"])
@settings(max_examples=1_000)  # they take two seconds
@given(data=requests() | st.binary() | changed(st.just(PLAIN)) | changed(CORPUS))
def test_what_is_read_here_gunicorn_reads_alike(bounds: Bounds, data: bytes) -> None:
    assert_is_read_alike(data, bounds)


@needs_corpus
def test_of_gunicorns_corpus_nothing_invalid_is_ordinary_and_what_is_gunicorn_reads_alike() -> None:
    """Under the settings of each, and in every length: what is left out may make a request of half of one."""
    taken = 0
    for case in (*INVALID, *VALID):
        config = config_of(case.settings)
        bounds = bounds_of(config, DEFAULTS)._replace(secure=secure_of(config, PEER))
        limits = {name: config.settings[name].get() for name in LIMITS}
        sent = with_host(case.sent)
        for data in (sent[:end] for end in (*range(min(len(sent), 2_000)), None)):
            taken += assert_is_read_alike(data, bounds, **limits)
        assert case not in INVALID or read(sent, bounds) is None, case.name
    assert taken > 10
