"""A worker follows the deployment: it loads beside what it serves, swaps, or goes on with what it has."""

import gc
import shutil
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pricing.deployment import Deployment, divided, rolled_back
from pricing.store import Artifact, Store
from service.models import Models
from service.resources import Resources
from service.slots import RunFolder, WorkerState
from service.watcher import Watcher
from tests.fake_service import DEFAULTS, HOUSE, fake_app
from tests.waiting import wait_until


def publish(store: Store, published: Artifact, *versions: str) -> None:
    for version in versions:
        store.publish(published._replace(manifest=published.manifest.model_copy(update={"version": version})))


def damage(store: Store, version: str, file: str = "model.onnx") -> None:
    path = store.root / version / file
    path.write_bytes(path.read_bytes()[:-1])


def in_service(models: Models) -> tuple[int, tuple[str, ...]]:
    """The generation, and the versions, champion first."""
    serving = models.serving()
    assert serving.champion is next(iter(serving.models.values()))
    return serving.deployment.generation, tuple(serving.models)


@pytest.fixture
def four(store: Store, published: Artifact) -> Store:
    """v1.0.0 is deployed; v1.1.0 to v1.3.0 are published."""
    publish(store, published, "v1.1.0", "v1.2.0", "v1.3.0")
    return store


@pytest.fixture
def models(four: Store) -> Models:
    """A worker that has booted on v1.0.0."""
    found = Models(four)
    assert found.follow()
    return found


def test_nothing_is_read_again_while_the_pointer_is_the_same(four: Store, models: Models) -> None:
    serving = models.serving()
    shutil.rmtree(four.root / "v1.0.0")

    assert not models.follow()

    assert models.serving() is serving


def test_what_is_deployed_is_served_after_the_next_look(four: Store, models: Models) -> None:
    four.deploy("v1.1.0")
    assert in_service(models) == (1, ("v1.0.0",))

    assert models.follow()

    assert in_service(models) == (2, ("v1.1.0", "v1.0.0"))
    assert (models.generation, models.refused) == (2, ())


def test_every_version_that_the_deployment_names_is_held(four: Store, models: Models) -> None:
    four.deploy("v1.1.0")
    four.point(lambda current: divided(current, {"v1.1.0": 50, "v1.2.0": 30, "v1.3.0": 20}))

    models.follow()

    assert in_service(models) == (3, ("v1.1.0", "v1.0.0", "v1.2.0", "v1.3.0"))


def test_a_version_that_is_held_already_is_not_loaded_again(four: Store, models: Models) -> None:
    champion = models.serving().champion
    four.deploy("v1.1.0")
    models.follow()
    damage(four, "v1.0.0")  # on disk; what is in memory was verified

    assert models.serving().models["v1.0.0"] is champion


def test_a_request_that_took_its_model_keeps_it_over_a_swap(four: Store, models: Models) -> None:
    taken = models.serving().choose(None, b"").model
    four.deploy("v1.1.0")
    models.follow()

    assert taken.manifest.version == "v1.0.0"
    assert models.serving().choose(None, b"").model.manifest.version == "v1.1.0"


def test_what_is_not_named_any_more_leaves_memory(four: Store, models: Models) -> None:
    gone = weakref.ref(models.serving().champion.predictor)
    for version in ("v1.1.0", "v1.2.0"):
        four.deploy(version)
        models.follow()
    gc.collect()

    assert gone() is None


def leave_no_graph(store: Store) -> None:
    (store.root / "v1.1.0" / "model.onnx").unlink()


def leave_nothing(store: Store) -> None:
    shutil.rmtree(store.root / "v1.1.0")


def damage_the_graph(store: Store) -> None:
    damage(store, "v1.1.0")


def damage_the_manifest(store: Store) -> None:
    damage(store, "v1.1.0", "manifest.json")


SPOIL = [leave_no_graph, leave_nothing, damage_the_graph, damage_the_manifest]


@pytest.mark.parametrize("spoil", SPOIL, ids=lambda spoil: spoil.__name__)
def test_a_champion_that_is_refused_leaves_the_old_one_in_service(
    four: Store, models: Models, spoil: Callable[[Store], None]
) -> None:
    serving = models.serving()
    four.deploy("v1.1.0")
    spoil(four)

    models.follow()

    assert models.serving() is serving
    assert models.generation == 1
    assert [(refused.generation, refused.version) for refused in models.refused] == [(2, "v1.1.0")]


def test_an_arm_that_is_refused_leaves_the_old_deployment_in_service(four: Store, models: Models) -> None:
    four.point(lambda current: divided(current, {"v1.0.0": 90, "v1.1.0": 10}))
    damage(four, "v1.1.0")

    models.follow()

    assert in_service(models) == (1, ("v1.0.0",))
    assert [(refused.generation, refused.version) for refused in models.refused] == [(2, "v1.1.0")]


def test_a_previous_version_that_is_refused_is_missed_by_nobody_who_does_not_ask_for_it(
    four: Store, models: Models
) -> None:
    four.deploy("v1.1.0")
    damage(four, "v1.0.0")
    booted = Models(four)

    booted.follow()
    models.follow()

    assert in_service(booted) == (2, ("v1.1.0",))
    assert booted.generation == 2
    assert [refused.version for refused in booted.refused] == ["v1.0.0"]
    assert in_service(models) == (2, ("v1.1.0", "v1.0.0"))  # held since it was good


def test_a_worker_that_boots_on_a_damaged_champion_serves_the_previous_one_but_not_the_generation(
    four: Store,
) -> None:
    four.deploy("v1.1.0")
    damage(four, "v1.1.0")
    booted = Models(four)

    booted.follow()

    assert in_service(booted) == (2, ("v1.0.0",))
    assert booted.generation == 0


def test_a_worker_that_boots_on_a_damaged_arm_gives_everybody_the_champion(four: Store) -> None:
    four.point(lambda current: divided(current, {"v1.0.0": 1, "v1.1.0": 99}))
    damage(four, "v1.1.0")
    booted = Models(four)

    booted.follow()

    chosen = {booted.serving().choose(None, b"%d" % client).model.manifest.version for client in range(100)}
    assert (chosen, booted.generation) == ({"v1.0.0"}, 0)


def test_a_good_deployment_after_a_refused_one_is_served_and_the_refusal_is_history(
    four: Store, models: Models
) -> None:
    four.deploy("v1.1.0")
    damage(four, "v1.1.0")
    models.follow()

    four.deploy("v1.2.0")
    models.follow()

    assert in_service(models)[1][0] == "v1.2.0"
    assert models.generation == 3
    assert "v1.1.0" not in models.serving().models


def test_a_refusal_is_told_until_the_champion_changes(four: Store, models: Models) -> None:
    four.deploy("v1.1.0")
    damage(four, "v1.1.0")
    models.follow()
    refused = models.refused

    four.point(rolled_back)  # v1.0.0, which this worker serves all the time
    models.follow()
    assert [found.generation for found in models.refused] == [3]  # v1.1.0 is the previous one now, and damaged still

    four.deploy("v1.0.0")
    four.deploy("v1.2.0")
    models.follow()
    assert (refused[0].version, models.refused) == ("v1.1.0", ())


@pytest.mark.parametrize("content", [None, b"", b"{}"], ids=["gone", "empty", "no deployment"])
def test_a_pointer_that_is_lost_leaves_everything_as_it_is_and_is_told(
    four: Store, models: Models, content: bytes | None
) -> None:
    serving = models.serving()
    pointer = four.root / "deployment.json"
    pointer.unlink()
    if content is not None:
        pointer.write_bytes(content)

    models.follow()

    assert models.serving() is serving
    assert [(refused.generation, refused.version) for refused in models.refused] == [(None, None)]


def test_a_failure_that_nobody_foresaw_costs_the_version_and_not_the_worker(
    four: Store, models: Models, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(Models):
        def _load(self, version: str, digest: str) -> None:  # type: ignore[override]
            raise ZeroDivisionError(version, digest)

    broken = Broken(four)
    broken._serving = models.serving()
    four.deploy("v1.1.0")

    broken.follow()

    assert in_service(broken) == (1, ("v1.0.0",))
    assert broken.refused[0].reason == "loading it failed as nobody foresaw; the log has the reason"
    assert "ZeroDivisionError" in caplog.text


def test_the_watcher_follows_by_itself_and_says_so_in_its_slot(four: Store, tmp_path: Path) -> None:
    run, models = RunFolder(tmp_path / "run"), Models(four)
    watcher = Watcher(models, run.claim())
    watcher.start()
    assert run.workers() == [WorkerState(generation=1, ready=True)]

    four.deploy("v1.1.0")
    wait_until(lambda: run.workers() == [WorkerState(generation=2, ready=True)])

    watcher.stop()
    assert not watcher._thread.is_alive()
    assert in_service(models) == (2, ("v1.1.0", "v1.0.0"))


@pytest.fixture
def collections() -> Iterator[list[str]]:
    """When cycles were looked for; how often they are, is put back at the end."""
    seen: list[str] = []

    def remember(phase: str, _: dict[str, int]) -> None:
        seen.append(phase)

    thresholds = gc.get_threshold()
    gc.collect()
    gc.callbacks.append(remember)
    yield seen
    gc.callbacks.remove(remember)
    gc.set_threshold(*thresholds)


def test_a_batch_is_answered_without_looking_for_cycles(
    four: Store, collections: list[str], published: Artifact
) -> None:
    Watcher(Models(four), None).start()
    client = fake_app(published.manifest).test_client()
    gc.collect()  # so that what came before does not count
    collections.clear()

    assert client.post("/predict/batch", json={"houses": [HOUSE] * 1_000}).status_code == 200

    assert collections == []


def test_a_worker_without_a_slot_serves_all_the_same(
    four: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "run").write_text("a file where the folder should be")
    places = {"artifacts": four.root, "run": tmp_path / "run", "journal": tmp_path / "journal"}

    found = Resources.acquire(DEFAULTS.model_copy(update=places))

    assert in_service(found.models) == (1, ("v1.0.0",))
    assert "promotions do not wait for this worker, nothing is recorded" in caplog.text
    assert not (tmp_path / "journal").exists()


def test_the_watcher_outlives_whatever_goes_wrong(
    four: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Once(Models):
        failed = False

        def follow(self) -> bool:
            if self.generation == 1 and not self.failed:
                self.failed = True
                raise ZeroDivisionError
            return super().follow()

    models = Once(four)
    watcher = Watcher(models, RunFolder(tmp_path / "run").claim())
    watcher.start()
    four.deploy("v1.1.0")
    wait_until(lambda: in_service(models)[0] == 2)
    watcher.stop()

    assert "following the deployment failed" in caplog.text
    assert "ZeroDivisionError" in caplog.text


def test_what_could_not_be_said_in_the_slot_is_said_when_it_can_be(four: Store, tmp_path: Path) -> None:
    run, models = RunFolder(tmp_path / "run"), Models(four)
    watcher = Watcher(models, run.claim())
    shutil.rmtree(run.root)
    watcher.look()
    assert in_service(models)[0] == 1

    run.root.mkdir()
    watcher.look()

    assert WorkerState.model_validate_json((run.root / "slot-0.json").read_bytes()).generation == 1


def test_deployments_compare_by_what_they_say(four: Store) -> None:
    assert four.deployment() == Deployment.model_validate_json((four.root / "deployment.json").read_bytes())
