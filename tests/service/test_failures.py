"""A failure that nobody foresaw is answered 500 without a word of what happened, and logged with all of it."""

import pytest
from flask.testing import FlaskClient

from pricing.artifacts.store import Artifact
from pricing.house import Column, Matrix
from service.app import create_app
from tests.fake_service import DEFAULTS, HOUSE, INSIDE, Broken, fake_app, resources
from tests.fakes import ThousandDollarsASquareFoot

FAILED = b'{"detail":"The service failed to answer; the failure has been logged."}'


class BreaksOnce(ThousandDollarsASquareFoot):
    """A graph that raises at its first run, and answers ever after."""

    def __init__(self) -> None:
        self._broken = True

    def run(self, houses: Matrix) -> tuple[Column, Column]:
        if self._broken:
            self._broken = False
            raise RuntimeError(INSIDE)
        return super().run(houses)


def assert_failed_and_logged(client: FlaskClient, path: str, body: object, caplog: pytest.LogCaptureFixture) -> None:
    response = client.post(path, json=body) if body else client.get(path)

    assert (response.status_code, response.content_type, response.data) == (500, "application/json", FAILED)
    (record,) = (record for record in caplog.records if record.levelname == "ERROR")
    assert record.exc_info is not None
    assert str(record.exc_info[1]) == INSIDE
    assert record.exc_info[2] is not None  # the traceback


@pytest.mark.parametrize("middleware", [True, False], ids=["middleware", "view"])
@pytest.mark.parametrize(("path", "body"), [("/predict", HOUSE), ("/predict/batch", {"houses": [HOUSE]})])
def test_a_failing_prediction_is_a_500_and_the_next_one_is_fine(
    published: Artifact, caplog: pytest.LogCaptureFixture, path: str, body: object, *, middleware: bool
) -> None:
    settings = DEFAULTS.model_copy(update={"prediction_middleware": middleware})
    client = fake_app(published.manifest, BreaksOnce(), settings).test_client()

    assert_failed_and_logged(client, path, body, caplog)

    assert client.post(path, json=body).status_code == 200


@pytest.mark.parametrize("path", ["/health", "/health/ready", "/model/info"])
def test_a_failing_view_is_a_500(caplog: pytest.LogCaptureFixture, path: str) -> None:
    client = create_app(DEFAULTS, resources(Broken())).test_client()

    assert_failed_and_logged(client, path, None, caplog)

    assert client.get("/health/live").status_code == 200
