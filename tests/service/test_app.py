"""How the application is wired: the settings reach what they are about, and WSGI's rules are kept."""

import io
from wsgiref.validate import validator

import pytest
from werkzeug.test import Client

from pricing.artifacts.store import Artifact
from service.predictions.middleware import PredictionMiddleware, request_of
from tests.bodies import GOOD, batch
from tests.fake_service import DEFAULTS, fake_app
from worker.limits import Limits


def test_the_worker_gets_the_limits_of_the_settings(published: Artifact) -> None:
    expected = Limits(
        header_seconds=1.0,
        body_seconds=2.0,
        write_seconds=3.0,
        max_body_bytes=2048,
        larger_bodies={"/predict/batch": 4096, "/predict/batch/": 4096},
        larger_bodies_below={"/v2/models/": 4096},
        max_in_hand=5,
        unlimited=frozenset(
            {
                *("/health", "/health/live", "/health/ready", "/metrics", "/static/"),
                *("/v2/health/live", "/v2/health/ready"),
                *("/v2/models/{name}/ready", "/v2/models/{name}/versions/{version}/ready"),
            }
        ),
    )
    names = ("header_seconds", "body_seconds", "write_seconds", "max_in_hand")
    bodies = {"max_predict_body_bytes": 2048, "max_body_bytes": 4096}
    settings = DEFAULTS.model_copy(update=bodies | {name: getattr(expected, name) for name in names})

    assert fake_app(published.manifest, settings=settings).limits == expected


@pytest.mark.parametrize("middleware", [True, False])
def test_the_middleware_is_there_when_the_setting_says_so(published: Artifact, *, middleware: bool) -> None:
    app = fake_app(published.manifest, settings=DEFAULTS.model_copy(update={"prediction_middleware": middleware}))

    assert isinstance(app.wsgi_app.args[0]._application, PredictionMiddleware) == middleware  # type: ignore[attr-defined]


@pytest.mark.parametrize("middleware", [True, False], ids=["middleware", "view"])
@pytest.mark.parametrize(
    ("bodies", "single", "many"),
    [
        ({"max_predict_body_bytes": 1024, "max_body_bytes": 2048}, 1024, 2048),
        ({"max_predict_body_bytes": 2048, "max_body_bytes": 1024}, 1024, 1024),
        ({}, 16_384, 1_048_576),
    ],
)
def test_the_limits_of_bodies_are_those_of_the_settings(
    published: Artifact, bodies: dict[str, int], single: int, many: int, *, middleware: bool
) -> None:
    settings = DEFAULTS.model_copy(update={"prediction_middleware": middleware} | bodies)
    client = fake_app(published.manifest, settings=settings).test_client()

    for path, body, most in (("/predict", GOOD, single), ("/predict/batch", batch(GOOD), many)):
        assert client.post(path, data=body.ljust(most)).status_code == 200
        refused = client.post(path, data=body.ljust(most + 1))
        assert refused.status_code == 413
        assert refused.get_json() == {"detail": f"The body is too large: at most {most:,} bytes are accepted."}


class OnlyAsMuch(io.BytesIO):
    """A body of which no more may be asked for than `most` bytes: reading on would wait for the client."""

    def __init__(self, data: bytes, most: int) -> None:
        super().__init__(data)
        self._most = most

    def read(self, size: int | None = -1, /) -> bytes:
        assert size is not None
        assert 0 <= size <= self._most
        self._most -= size
        return super().read(size)


@pytest.mark.parametrize(
    ("headers", "most", "expected"),
    [
        ({"CONTENT_LENGTH": "4"}, 4, b"0123"),
        ({"CONTENT_LENGTH": "5", "wsgi.input_terminated": True}, 5, b"01234"),
        ({"CONTENT_LENGTH": "1000000"}, 9, b"012345678"),
        ({"wsgi.input_terminated": True}, 9, b"012345678"),
        ({"wsgi.input_terminated": False}, 0, b""),
        ({}, 0, b""),
        ({"CONTENT_LENGTH": ""}, 0, b""),
        ({"CONTENT_LENGTH": "-1"}, 0, b""),
        ({"CONTENT_LENGTH": "many"}, 0, b""),
    ],
)
def test_of_a_body_no_more_is_read_than_is_there_and_than_shows_that_it_is_too_long(
    headers: dict[str, object], most: int, expected: bytes
) -> None:
    environ = {"wsgi.input": OnlyAsMuch(b"0123456789", most)} | headers

    assert request_of(environ, "/predict", max_body_bytes=8).body == expected


@pytest.mark.parametrize("middleware", [True, False], ids=["middleware", "view"])
def test_the_application_keeps_the_rules_of_wsgi(published: Artifact, *, middleware: bool) -> None:
    app = fake_app(published.manifest, settings=DEFAULTS.model_copy(update={"prediction_middleware": middleware}))
    client = Client(validator(app))
    requests = [
        ("POST", "/predict", GOOD, 200),
        ("POST", "/predict/batch", batch(GOOD, GOOD), 200),
        ("POST", "/predict", b"{", 422),
        ("GET", "/predict", b"", 405),
        ("GET", "/health", b"", 200),
        ("HEAD", "/health", b"", 200),
        ("GET", "/docs/static/docs.js", b"", 200),
        ("GET", "/nothing", b"", 404),
    ]

    for method, path, body, status in requests:
        with client.open(path, method=method, data=body) as response:
            assert (response.status_code, bool(response.data)) == (status, method != "HEAD"), path
