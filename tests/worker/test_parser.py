"""Bytes are read as gunicorn's parser reads them, or refused, whole and in any pieces."""

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import pytest
from gunicorn.asgi.parser import ParseError
from gunicorn.http.errors import ParseException
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.corpus import cases, config_of, needs_corpus, with_host
from tests.parsed import OF_A_PROXY, RULES, SHARED, Parsed, gunicorns, ours
from worker.http_rules import MalformedError, Rules
from worker.wsgi import shared_by

if TYPE_CHECKING:
    from wsgiref.types import WSGIEnvironment

PEER: Final = ("127.0.0.1", 50000)
PLAIN: Final = b"POST /predict HTTP/1.1\r\nHost: here\r\nContent-Length: 4\r\n\r\nbody"


def read(
    *lines: bytes,
    line: bytes = b"POST /predict HTTP/1.1",
    body: bytes = b"body",
    **more: Any,  # noqa: ANN401
) -> "WSGIEnvironment":
    """The environ of a request with these fields."""
    found = ours(b"\r\n".join([line, b"Host: here", *lines, b"", body]), **more)
    assert found is not None
    return found.environ


LENGTH: Final = b"Content-Length: 4"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b"PUT / HTTP/1.1", {"REQUEST_METHOD": "PUT"}),
        (b"GET /a%20b/%C3%A9 HTTP/1.1", {"PATH_INFO": "/a b/\xc3\xa9", "SCRIPT_NAME": ""}),
        (b"GET /%ff HTTP/1.1", {"PATH_INFO": "/\xff"}),
        (b"GET http://host:1/a/b HTTP/1.1", {"PATH_INFO": "/a/b"}),
        (b"GET http://host HTTP/1.1", {"PATH_INFO": "/"}),
        (b"GET /a/http://b HTTP/1.1", {"PATH_INFO": "/a/http://b"}),
        (b"OPTIONS * HTTP/1.1", {"PATH_INFO": "*"}),
        (b"GET /?a=1&b=%20 HTTP/1.1", {"QUERY_STRING": "a=1&b=%20"}),
        (b"GET / HTTP/1.0", {"SERVER_PROTOCOL": "HTTP/1.0"}),
        (b"GET / HTTP/1.1", {"SERVER_PROTOCOL": "HTTP/1.1", "wsgi.url_scheme": "http"}),
        (b"GET / HTTP/1.1", {"SERVER_NAME": "127.0.0.1", "SERVER_PORT": "8000"}),
        (b"GET / HTTP/1.1", {"REMOTE_ADDR": "127.0.0.1", "REMOTE_PORT": "50000"}),
    ],
)
def test_the_request_line_is_as_pep_3333_says(line: bytes, expected: dict[str, str]) -> None:
    found = read(LENGTH, line=line)
    assert {key: found.get(key) for key in expected} == expected


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([b"Content-Type: text/plain", LENGTH], {"CONTENT_TYPE": "text/plain", "CONTENT_LENGTH": "4"}),
        ([b"X-Name: \t caf\xc3\xa9 \t ", LENGTH], {"HTTP_X_NAME": "caf\xc3\xa9"}),
        ([b"Accept: a", b"accept: b", LENGTH], {"HTTP_ACCEPT": "a, b"}),
        ([b"Cookie: a=1", b"Cookie: b=2", LENGTH], {"HTTP_COOKIE": "a=1; b=2"}),
        ([b"X-Empty:", LENGTH], {"HTTP_X_EMPTY": "", "HTTP_CONTENT_LENGTH": None}),
        ([b"X_Dropped: a", b"Upgrade: h2c", LENGTH], {"HTTP_X_DROPPED": None, "HTTP_UPGRADE": None}),
    ],
)
def test_the_fields_are_as_pep_3333_says(lines: list[bytes], expected: dict[str, str | None]) -> None:
    found = read(*lines)
    assert {key: found.get(key) for key in expected} == expected


def test_chunks_are_joined_to_an_ordinary_body() -> None:
    found = read(b"Transfer-Encoding: chunked", body=b"2;a\r\nbo\r\n2\r\ndy\r\n0\r\nX: y\r\n\r\n")
    assert (found["CONTENT_LENGTH"], found.get("HTTP_TRANSFER_ENCODING"), found.get("HTTP_X")) == ("4", None, None)


@pytest.mark.parametrize(
    ("root_path", "path", "script_name", "path_info"),
    [
        ("/api", b"/api/x", "/api", "/x"),
        ("/api/", b"/api", "/api", ""),
        ("/api", b"/apiary", "", "/apiary"),
        ("/\u00e9", b"/%C3%A9/x", "/\xc3\xa9", "/x"),
    ],
)
def test_the_root_path_is_no_part_of_the_paths_below_it(
    root_path: str, path: bytes, script_name: str, path_info: str
) -> None:
    shared = shared_by({}, ("127.0.0.1", 8000), PEER, root_path)
    found = read(LENGTH, line=b"GET " + path + b" HTTP/1.1", shared=shared)
    assert (found["SCRIPT_NAME"], found["PATH_INFO"]) == (script_name, path_info)


def test_requests_share_the_base_and_nothing_else() -> None:
    before = dict(SHARED)
    assert read(LENGTH, b"X: 1")["wsgi.multithread"] is False
    assert before == SHARED


@pytest.mark.parametrize(
    ("lines", "scheme"),
    [
        ([b"X-Forwarded-Proto: https"], "https"),
        ([b"X-Forwarded-Proto: http"], "http"),
        ([b"X-Forwarded-Proto: HTTPS"], "http"),
        ([b"X-Forwarded-Proto: https", b"X-Forwarded-Ssl: on"], "https"),
        ([b"X-Forwarded-For: here"], "http"),
    ],
)
def test_a_trusted_proxy_states_the_scheme_and_nobody_else_does(lines: list[bytes], scheme: str) -> None:
    assert read(LENGTH, *lines, rules=OF_A_PROXY)["wsgi.url_scheme"] == scheme
    assert read(LENGTH, *lines)["wsgi.url_scheme"] == "http"


def test_a_proxy_that_contradicts_itself_is_refused() -> None:
    with pytest.raises(MalformedError):
        read(LENGTH, b"X-Forwarded-Proto: http", b"X-Forwarded-Ssl: on", rules=OF_A_PROXY)


@pytest.mark.parametrize(
    ("header_map", "forwarders", "expected"),
    [("drop", (), None), ("dangerous", (), "a"), ("drop", ("X_NAME",), "a"), ("refuse", ("*",), "a")],
)
def test_a_name_with_an_underscore_is_kept_only_where_it_is_configured(
    header_map: str, forwarders: tuple[str, ...], expected: str | None
) -> None:
    rules = replace(RULES, header_map=header_map, forwarders=forwarders)
    assert read(LENGTH, b"X_Name: a", rules=rules).get("HTTP_X_NAME") == expected
    with pytest.raises(MalformedError):
        read(LENGTH, b"X_Name: a", rules=replace(RULES, header_map="refuse"))


@pytest.mark.parametrize("name", [b"Transfer_Encoding", b"Content_Length", b"Ho_st", b"Connection_"])
def test_a_name_with_an_underscore_frames_nothing(name: bytes) -> None:
    rules = replace(RULES, header_map="dangerous")
    found = ours(PLAIN.replace(b"here", b"here\r\n" + name + b": chunked"), rules=rules)
    assert found is not None
    assert (found.body, found.is_kept_alive) == (b"body", True)


@pytest.mark.parametrize("cut", range(1, len(PLAIN)))
def test_a_request_in_two_pieces_is_the_same_request(cut: int) -> None:
    assert ours(PLAIN + b"NEXT", cut) == ours(PLAIN + b"NEXT")


@pytest.mark.parametrize(
    ("changes", "status"),
    [({"line": 21}, 414), ({"fields": 1}, 431), ({"field_line": 18}, 431)],
)
def test_a_limit_is_exact(changes: dict[str, int], status: int) -> None:
    at_the_limit = {name: number + 1 for name, number in changes.items()}
    assert ours(PLAIN, rules=replace(RULES, **at_the_limit)) is not None  # type: ignore[arg-type]
    for cuts in ((), range(len(PLAIN))):
        with pytest.raises(MalformedError) as caught:
            ours(PLAIN, *cuts, rules=replace(RULES, **changes))  # type: ignore[arg-type]
        assert caught.value.status == status


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


def read_by_gunicorn(data: bytes, rules: Rules) -> Parsed | str | None:
    """What gunicorn's parser makes of it: "refused" if it does not take it."""
    try:
        return gunicorns(data, rules)
    except (ParseError, ParseException, ValueError):
        return "refused"


def assert_is_read_alike(data: bytes, rules: Rules, *cuts: int) -> bool:
    """Whole and in pieces; returns whether it is a request. What gunicorn refuses is not."""
    try:
        found = ours(data, rules=rules)
    except MalformedError:
        with pytest.raises(MalformedError):
            ours(data, *cuts, rules=rules)
        return False
    assert ours(data, *cuts, rules=rules) == found
    if found is not None:
        assert found == read_by_gunicorn(data, rules)
    return found is not None


@pytest.mark.parametrize("rules", [RULES, OF_A_PROXY], ids=["anybody's", "a proxy's"])
@settings(max_examples=1_000)  # they take some seconds
@given(
    data=requests() | st.binary() | changed(st.just(PLAIN)) | changed(CORPUS),
    cuts=st.lists(st.integers(1, 300), max_size=3),
)
def test_what_is_read_here_gunicorn_reads_alike(rules: Rules, data: bytes, cuts: list[int]) -> None:
    assert_is_read_alike(data, rules, *cuts)


@needs_corpus
def test_of_gunicorns_corpus_nothing_invalid_is_read_and_what_is_gunicorn_reads_alike() -> None:
    """Under the settings of each, and in every length: what is left out may make a request of half of one."""
    taken = 0
    for case in (*INVALID, *VALID):
        if ("proxy_protocol", "auto") in case.settings:
            continue
        rules = Rules.of(config_of(case.settings), is_trusted=True)
        sent = with_host(case.sent)
        for data in (sent[:end] for end in (*range(min(len(sent), 2_000)), None)):
            taken += assert_is_read_alike(data, rules, len(data) // 2)
    assert taken > 10
