"""A bad version is not promoted; deployed by a careless tool, every worker refuses it, says why once, and goes on."""

from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from pricing.artifacts.deployment import promote
from pricing.artifacts.store import Artifact, Store
from pricing.errors import DamagedArtifactError
from pricing.inference.predictor import load
from service.deployment.loaded_models import ModelRegistry
from service.deployment.rollout import roll_out
from service.deployment.worker_slots import RunFolder
from tests.bad_artifacts import BAD, deploy_carelessly, named, publish_bad
from tests.gunicorn_process import ROOT, GunicornProcess, gunicorn
from tests.waiting import wait_until

HOUSE = {"square_feet": 2000, "bedrooms": 3, "bathrooms": 2, "age_years": 10, "distance_to_city": 5}


def ask(server: GunicornProcess, path: str) -> dict[str, Any]:
    """One answer, on a connection of its own: any worker may have it."""
    method, body = ("POST", HOUSE) if path == "/predict" else ("GET", None)
    found: dict[str, Any] = httpx.request(method, server.url + path, json=body, timeout=30).json()
    return found


def is_refused(run: RunFolder, generation: int) -> bool:
    """Whether both workers have refused a generation."""
    found = [[refused.generation for refused in worker.refused] for worker in run.workers()]
    return found == [[generation]] * 2


def test_each_is_refused_by_every_worker_and_the_next_good_one_is_served(tmp_path: Path, published: Artifact) -> None:
    store = Store(tmp_path / "artifacts")
    store.publish(published)
    store.deploy("v1.0.0")
    with gunicorn(None, cwd=ROOT, workers=2, env={"APPRAISER_ARTIFACTS": str(store.root)}) as server:
        run = RunFolder(server.run)
        price = ask(server, "/predict")["predicted_price"]
        for number, (name, bad) in enumerate(BAD.items(), start=1):
            version = f"v1.{number}.0"
            digest = publish_bad(store, bad, named(published, version))
            generation = deploy_carelessly(store, version, digest, champion="v1.0.0").generation
            wait_until(partial(is_refused, run, generation))
            for _ in range(8):
                health = ask(server, "/health/ready")
                assert (health["status"], health["version"], health["generation"]) == ("ready", "v1.0.0", 1), name
                (refused,) = health["refused"]
                assert (refused["version"], refused["generation"]) == (version, generation)
                assert bad.reason in refused["reason"], name
                answer = ask(server, "/predict")
                assert (answer["model_version"], answer["predicted_price"]) == ("v1.0.0", price)
            assert server.log.count(f"generation {generation}: refused {version}: ") == 1, name
            assert str(tmp_path) not in str(health)

        store.publish(named(published, "v2.0.0"))
        store.deploy("v2.0.0")
        wait_until(lambda: [worker.generation for worker in run.workers()] == [len(BAD) + 2] * 2)
        assert {ask(server, "/health/ready")["version"] for _ in range(8)} == {"v2.0.0"}
        assert server.log.count("Booting worker") == 2


@pytest.mark.parametrize("name", BAD)
def test_none_is_promoted(store: Store, published: Artifact, tmp_path: Path, name: str) -> None:
    publish_bad(store, BAD[name], named(published, "v1.1.0"))
    before = (store.root / "deployment.json").read_bytes()

    with pytest.raises(DamagedArtifactError) as refused:
        roll_out(store, RunFolder(tmp_path / "run"), lambda current: promote(current, "v1.1.0"), load_in_sandbox=load)

    assert BAD[name].reason in str(refused.value)
    assert (store.root / "deployment.json").read_bytes() == before


@pytest.mark.parametrize("name", BAD)
def test_a_worker_that_boots_on_it_serves_the_last_good_version(store: Store, published: Artifact, name: str) -> None:
    digest = publish_bad(store, BAD[name], named(published, "v1.1.0"))
    deploy_carelessly(store, "v1.1.0", digest, champion="v1.0.0")
    models = ModelRegistry(store)

    models.load()

    assert models.serving().champion.manifest.version == "v1.0.0"
    assert [refused.version for refused in models.refused] == ["v1.1.0"]
    assert BAD[name].reason in models.refused[0].reason
