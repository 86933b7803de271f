"""Whatever the artifacts folder holds, the service starts, and says what to run when it cannot predict."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Final

import httpx
import pytest
from flask.testing import FlaskClient

from pricing.artifacts.store import GRAPH_FILE, MANIFEST_FILE, POINTER_FILE, Artifact, Store
from service.app import create_app
from tests.bodies import GOOD
from tests.fake_service import DEFAULTS, HOUSE
from tests.gunicorn_process import ROOT, gunicorn

NOTHING: Final = "No model is deployed: run `appraiser train` or `appraiser promote VERSION`."
UNUSABLE: Final = (
    "The deployed model cannot be used; /health/ready has the reason. "
    "Run `appraiser promote VERSION` with another version."
)
UNREADABLE: Final = (
    "The deployment cannot be read; /health/ready has the reason. "
    "Remove deployment.json from the artifacts and run `appraiser promote VERSION`."
)


def damage(path: Path) -> None:
    """Flip one bit in the middle."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def publish_second(store: Store, published: Artifact) -> None:
    """Deploy the same graph as v1.1.0, so that v1.0.0 is the previous version."""
    store.publish(published._replace(manifest=published.manifest.model_copy(update={"version": "v1.1.0"})))
    store.deploy("v1.1.0")


def remove(store: Store) -> None:
    shutil.rmtree(store.root)


def remove_and_leave_a_file(store: Store) -> None:
    shutil.rmtree(store.root)
    store.root.touch()


def take_the_pointer_away(store: Store) -> None:
    (store.root / POINTER_FILE).unlink()


def empty_the_pointer(store: Store) -> None:
    (store.root / POINTER_FILE).write_bytes(b"")


def point_at_what_was_never_published(store: Store) -> None:
    pointer = store.root / POINTER_FILE
    pointer.write_bytes(pointer.read_bytes().replace(b'"v1.0.0"', b'"v9.9.9"'))


def make_the_pointer_a_folder(store: Store) -> None:
    (store.root / POINTER_FILE).unlink()
    (store.root / POINTER_FILE).mkdir()


def damage_the_graph(store: Store) -> None:
    damage(store.root / "v1.0.0" / GRAPH_FILE)


def damage_the_manifest(store: Store) -> None:
    damage(store.root / "v1.0.0" / MANIFEST_FILE)


def remove_the_graph(store: Store) -> None:
    (store.root / "v1.0.0" / GRAPH_FILE).unlink()


def remove_the_version(store: Store) -> None:
    shutil.rmtree(store.root / "v1.0.0")


# What the client is told, and how the reason begins that /health/ready gives.
STATES: Final[dict[Callable[[Store], None], tuple[str, str]]] = {
    remove: (NOTHING, ""),
    take_the_pointer_away: (NOTHING, ""),
    remove_and_leave_a_file: (UNREADABLE, "deployment.json cannot be read: Not a directory"),
    empty_the_pointer: (UNREADABLE, "deployment.json: whole file: Invalid JSON"),
    point_at_what_was_never_published: (UNUSABLE, "v9.9.9 was not found; published: v1.0.0"),
    make_the_pointer_a_folder: (UNREADABLE, "deployment.json cannot be read: Is a directory"),
    damage_the_graph: (UNUSABLE, "observed sha256 "),
    damage_the_manifest: (UNUSABLE, "observed sha256 "),
    remove_the_graph: (UNUSABLE, "v1.0.0/model.onnx cannot be read: No such file"),
    remove_the_version: (UNUSABLE, "v1.0.0 was not found; published: nothing"),
}


def client_of(store: Store) -> FlaskClient:
    places = {"artifacts": store.root} | {name: store.root.with_name(name) for name in ("run", "journal")}
    return create_app(DEFAULTS.model_copy(update=places)).test_client()


@pytest.mark.parametrize("spoil", STATES, ids=lambda spoil: spoil.__name__)
def test_a_worker_without_a_model_lives_and_says_what_to_run(store: Store, spoil: Callable[[Store], None]) -> None:
    sentence, reason = STATES[spoil]
    spoil(store)
    client = client_of(store)

    for path in ("/health", "/health/ready"):
        response = client.get(path)
        assert (response.status_code, response.get_json()["detail"]) == (503, sentence), path
        refused = response.get_json().get("refused", [])
        assert [found["reason"][: len(reason)] for found in refused] == ([reason] if reason else [])
    for path in ("/model/info", "/models"):
        response = client.get(path)
        assert (response.status_code, response.get_json()) == (503, {"detail": sentence}), path
    for path, body in (("/predict", HOUSE), ("/predict/batch", {"houses": [HOUSE]})):
        response = client.post(path, json=body)
        assert (response.status_code, response.get_json()) == (503, {"detail": sentence}), path


def test_what_the_sentence_says_helps_when_nothing_is_deployed(store: Store) -> None:
    take_the_pointer_away(store)

    store.deploy("v1.0.0")

    assert client_of(store).get("/health").status_code == 200


def test_what_the_sentence_says_helps_when_the_deployment_cannot_be_read(store: Store) -> None:
    empty_the_pointer(store)

    (store.root / POINTER_FILE).unlink()
    store.deploy("v1.0.0")

    assert client_of(store).get("/health").status_code == 200


@pytest.mark.parametrize(
    "spoil", [damage_the_graph, damage_the_manifest, remove_the_version], ids=lambda spoil: spoil.__name__
)
def test_what_the_sentence_says_helps_when_the_deployed_model_is_damaged(
    store: Store, published: Artifact, spoil: Callable[[Store], None]
) -> None:
    spoil(store)

    publish_second(store, published)

    assert client_of(store).get("/health").get_json()["version"] == "v1.1.0"


def test_without_a_model_what_needs_none_is_answered_as_ever(store: Store) -> None:
    take_the_pointer_away(store)
    client = client_of(store)

    assert client.get("/health/live").get_json() == {"status": "live"}
    assert client.post("/predict", json=HOUSE | {"bedrooms": "2"}).status_code == 422
    assert client.post("/predict/batch", json={"houses": []}).status_code == 422
    assert client.post("/predict?confidence=2", json=HOUSE).status_code == 422
    assert client.post("/predict", data=GOOD, content_type="text/plain").status_code == 415
    assert client.get("/docs").status_code == 200
    assert client.get("/openapi.json").status_code == 200


def test_the_log_has_the_reason_once_for_all_workers(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    damage_the_graph(store)

    workers = client_of(store), client_of(store)

    told = [record.getMessage() for record in caplog.records if record.name == "service.deployment.watcher"]
    assert [sentence[:46] for sentence in told] == ["generation 1: refused v1.0.0: observed sha256 "]
    assert all(worker.get("/health").get_json()["refused"][0]["reason"] in told[0] for worker in workers)


@pytest.mark.parametrize("file", [GRAPH_FILE, MANIFEST_FILE])
def test_a_damaged_champion_leaves_its_place_to_the_previous_version(
    store: Store, published: Artifact, file: str
) -> None:
    publish_second(store, published)
    damage(store.root / "v1.1.0" / file)
    client = client_of(store)

    health = client.get("/health").get_json()
    assert (health["status"], health["version"], health["generation"]) == ("ready", "v1.0.0", 2)
    assert [(found["generation"], found["version"]) for found in health["refused"]] == [(2, "v1.1.0")]
    assert client.get("/model/info").get_json()["version"] == "v1.0.0"
    assert client.post("/predict", json=HOUSE).get_json()["model_version"] == "v1.0.0"


def test_with_two_damaged_versions_there_is_no_model(store: Store, published: Artifact) -> None:
    publish_second(store, published)
    damage(store.root / "v1.1.0" / GRAPH_FILE)
    damage_the_graph(store)

    health = client_of(store).get("/health").get_json()
    assert health["detail"] == UNUSABLE
    assert [found["version"] for found in health["refused"]] == ["v1.1.0", "v1.0.0"]


@pytest.mark.parametrize("spoil", [remove, take_the_pointer_away, damage_the_graph], ids=lambda spoil: spoil.__name__)
def test_gunicorn_starts_and_stays_without_a_model(store: Store, spoil: Callable[[Store], None]) -> None:
    spoil(store)

    with gunicorn(None, cwd=ROOT, workers=1, env={"APPRAISER_ARTIFACTS": str(store.root)}) as server:
        for _ in range(2):  # the second time the worker has survived having no model
            ready = httpx.get(f"{server.url}/health/ready")
            assert (ready.status_code, ready.json()["detail"]) == (503, STATES[spoil][0])
            assert httpx.get(f"{server.url}/health/live").json() == {"status": "live"}
            assert httpx.post(f"{server.url}/predict", content=GOOD).status_code == 503
            assert httpx.post(f"{server.url}/predict", content=b"{").status_code == 422
        assert server.log.count("Booting worker") == 1


def test_gunicorn_serves_the_previous_version_when_the_champion_is_damaged(store: Store, published: Artifact) -> None:
    publish_second(store, published)
    damage(store.root / "v1.1.0" / GRAPH_FILE)

    with gunicorn(None, cwd=ROOT, workers=1, env={"APPRAISER_ARTIFACTS": str(store.root)}) as server:
        assert httpx.post(f"{server.url}/predict", content=GOOD).json()["model_version"] == "v1.0.0"
        assert "refused v1.1.0" in server.log


def test_the_service_writes_nothing_into_the_artifacts(store: Store) -> None:
    before = sorted(path.name for path in store.root.rglob("*"))

    client_of(store).post("/predict", json=HOUSE)

    assert sorted(path.name for path in store.root.rglob("*")) == before


def test_a_folder_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    client_of(Store(tmp_path / "nowhere"))

    assert {path.name for path in tmp_path.iterdir()} == {"run", "journal"}
