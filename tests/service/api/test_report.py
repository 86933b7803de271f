"""GET /model/report: the page that was published with a version, under a policy that allows its one style element."""

import base64
import hashlib
import re
from pathlib import Path

import pytest
from flask.testing import FlaskClient

from pricing.artifacts.deployment import split_traffic
from pricing.artifacts.store import REPORT_FILE, Artifact, Store
from report.page import report_of
from service.app import create_app
from service.deployment.loaded_models import ModelRegistry
from tests.fake_service import DEFAULTS, resources

NOT_FOUND = {"detail": "A report of v1.1.0 was not found; `appraiser report v1.1.0 --html FILE` writes one to a file."}


@pytest.fixture
def store(published: Artifact, tmp_path: Path) -> Store:
    """v1.0.0 with a report, v1.1.0 without one; both in service."""
    store = Store(tmp_path / "artifacts")
    store.publish(published, {REPORT_FILE: report_of(published.manifest)})
    store.publish(published._replace(manifest=published.manifest.model_copy(update={"version": "v1.1.0"})))
    store.deploy("v1.0.0")
    store.swap_pointer(lambda current: split_traffic(current, {"v1.0.0": 90, "v1.1.0": 10}))
    return store


@pytest.fixture
def client(store: Store) -> FlaskClient:
    models = ModelRegistry(store)
    models.load()
    return create_app(DEFAULTS, resources(models)).test_client()


@pytest.mark.parametrize("query", ["", "?model_version=champion", "?model_version=v1.0.0"])
def test_the_published_page_is_sent_with_a_policy_for_its_style(
    client: FlaskClient, published: Artifact, query: str
) -> None:
    response = client.get(f"/model/report{query}")

    page = report_of(published.manifest)
    (style,) = re.findall(rb"<style>(.*?)</style>", page, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style).digest()).decode()
    assert (response.status_code, response.data) == (200, page)
    assert response.content_type == "text/html; charset=utf-8"
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:; base-uri 'none'; form-action 'none'; "
    assert response.headers.getlist("Content-Security-Policy") == [f"{policy}frame-ancestors 'none'"]
    assert response.headers.getlist("Cache-Control") == ["no-store"]
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert response.headers["X-Frame-Options"] == "DENY"


def test_the_policy_is_that_of_the_page_in_the_folder_whoever_wrote_it(client: FlaskClient, store: Store) -> None:
    (store.root / "v1.0.0" / REPORT_FILE).write_bytes(b"<style>b{}</style><style>i{}</style><script>1</script>")

    policy = client.get("/model/report").headers["Content-Security-Policy"]

    digest = base64.b64encode(hashlib.sha256(b"b{}").digest()).decode()
    assert f"style-src 'sha256-{digest}';" in policy
    assert "script-src" not in policy


def test_a_version_without_a_report_is_a_404_that_names_the_command(client: FlaskClient) -> None:
    response = client.get("/model/report?model_version=v1.1.0")

    assert (response.status_code, response.get_json()) == (404, NOT_FOUND)
    assert response.headers["Content-Security-Policy"] == "default-src 'none'; frame-ancestors 'none'"


def test_a_report_that_cannot_be_read_is_a_404_too(client: FlaskClient, store: Store) -> None:
    (store.root / "v1.1.0" / REPORT_FILE).mkdir()

    assert client.get("/model/report?model_version=v1.1.0").get_json() == NOT_FOUND


@pytest.mark.parametrize(
    ("query", "status"), [("?model_version=v9.9.9", 404), ("?model_version=new", 422), ("?confidence=0.5", 422)]
)
def test_other_queries_are_answered_as_by_model_info(client: FlaskClient, query: str, status: int) -> None:
    response, info = client.get(f"/model/report{query}"), client.get(f"/model/info{query}")

    assert (response.status_code, response.data) == (info.status_code, info.data)
    assert response.status_code == status


def test_model_info_does_not_grow_by_the_evidence(client: FlaskClient) -> None:
    assert "evidence" not in client.get("/model/info").get_json()
