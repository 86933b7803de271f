"""gunicorn's own corpus of requests, each under its own settings: the invalid ones are refused, the others answered."""

import json
import socket
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote_to_bytes

import pytest

from tests.corpus import Case, Settings, cases, grouped, needs_corpus, with_host
from tests.gunicorn_process import OUR_WORKER, GunicornProcess, gunicorn
from tests.raw_http import answer, everything, statuses

pytestmark = needs_corpus

APPLICATION: Final = """
import json
from worker.limits import Limits

def app(environ, start_response):  # 200 to all, so that nothing is refused by accident
    seen = [environ[name] for name in ("REQUEST_METHOD", "PATH_INFO", "QUERY_STRING", "SERVER_PROTOCOL")]
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps([*seen, environ["wsgi.input"].read().decode("latin-1")]).encode()]

app.limits = Limits(header_seconds=2, body_seconds=2)
"""
GOOD: Final = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"  # passes under any of the settings
REFUSALS: Final = {400, 408, 413, 414, 431, 501}

FOLDS: Final = "gunicorn's parser for event loops refuses folded lines whatever permit_obsolete_folding says"
CODED: Final = "no other transfer coding than chunked is decoded here, so a body with one is refused"
OTHERWISE: Final[Mapping[str, tuple[list[int], str]]] = {
    "028": (
        [400],
        "gunicorn's parser for event loops refuses a space before a colon whatever strip_header_spaces says",
    ),
    "031compat": (
        [200],
        "gunicorn's parser for event loops leaves the method as it is whatever casefold_http_method says",
    ),
    "099": ([], "the body is shorter than its length; gunicorn's own test takes what there is when the client closes"),
    "025": ([501], CODED),
    "025_line": ([501], CODED),
    "rfc9112_smuggle_gzip_chunked_01": ([501], CODED),
    "compat_obs_fold": ([400], FOLDS),
    "compat_obs_fold_huge": ([400], FOLDS),
}
"""What is valid, but answered otherwise than gunicorn's own test would have it: with which statuses, and why."""

INVALID: Final = grouped(cases("invalid"))
VALID: Final = grouped(cases("valid"))


def test_the_corpus_is_whole() -> None:
    """Of 27.0.1; another version's may be larger."""
    assert sum(map(len, INVALID.values())) >= 80
    assert sum(map(len, VALID.values())) >= 60
    assert set(OTHERWISE) <= {case.name for found in VALID.values() for case in found}


@contextmanager
def serve(folder: Path, settings: Settings) -> Iterator[GunicornProcess]:
    (folder / "application.py").write_text(APPLICATION)
    (folder / "gunicorn.conf.py").write_text("".join(f"{name} = {value!r}\n" for name, value in settings))
    with gunicorn("application:app", cwd=folder, worker_class=OUR_WORKER, workers=1) as server:
        yield server
        assert "Traceback" not in server.log


def assert_is_fine(server: GunicornProcess) -> None:
    with server.connect() as client:
        client.sendall(GOOD)
        assert answer(client)[0] == 200


@pytest.mark.parametrize("settings", INVALID, ids=str)
def test_what_is_invalid_is_refused_and_the_next_one_is_fine(tmp_path: Path, settings: Settings) -> None:
    counted: Counter[int] = Counter()
    with serve(tmp_path, settings) as server:
        for case in INVALID[settings]:
            for half_closing in (False, True):
                found = refused(server, case, half_closing=half_closing)
                assert len(found) <= 1, case.name
                assert set(found) <= REFUSALS, case.name
                counted[found[0] if found else 0] += 1
                assert_is_fine(server)
    told = ", ".join(f"{status or 'no answer'} {count} times" for status, count in sorted(counted.items()))
    print(
        f"\n{dict(settings) or 'defaults'}: {len(INVALID[settings])} invalid requests, each also with its end: {told}"
    )


def refused(server: GunicornProcess, case: Case, *, half_closing: bool) -> list[int]:
    """Statuses of all that is received until the server closes."""
    with server.connect(timeout=10) as client:
        client.sendall(with_host(case.sent))
        if half_closing:
            client.shutdown(socket.SHUT_WR)
        return statuses(everything(client))


@pytest.mark.parametrize("settings", VALID, ids=str)
def test_what_is_valid_is_answered(tmp_path: Path, settings: Settings) -> None:
    with serve(tmp_path, settings) as server:
        for case in VALID[settings]:
            if case.name in OTHERWISE:
                assert refused(server, case, half_closing=True) == OTHERWISE[case.name][0], case.name
            else:
                assert_is_answered(server, case)
            assert_is_fine(server)


def assert_is_answered(server: GunicornProcess, case: Case) -> None:
    expected: list[dict[str, Any]] = case.expected if isinstance(case.expected, list) else [case.expected]
    with server.connect() as client:
        client.sendall(with_host(case.sent))
        client.shutdown(socket.SHUT_WR)
        for request in expected:
            status, body = answer(client, request["method"])
            assert status == 200, case.name
            if request["method"] != "HEAD":
                assert json.loads(body) == seen(request), case.name
        assert everything(client) == b"", case.name


def seen(request: dict[str, Any]) -> list[str]:
    """What the application sees of a request."""
    target, _, query = request["uri"].partition("?")
    path = "/" + target.partition("://")[2].partition("/")[2] if "://" in target else target
    body = request["body"].encode() if isinstance(request["body"], str) else request["body"]
    version = "HTTP/{}.{}".format(*request["version"])
    return [request["method"], unquote_to_bytes(path).decode("latin-1"), query, version, body.decode("latin-1")]
