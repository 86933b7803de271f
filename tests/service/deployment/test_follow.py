"""A worker follows the deployment: it loads beside what it serves, swaps, or goes on with what it has."""

import gc
import shutil
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pricing.artifacts.deployment import Deployment, restored, roll_back, split_traffic
from pricing.artifacts.store import Artifact, Store
from pricing.errors import UnreadableArtifactError
from service.deployment.loaded_models import ModelRegistry, ServedModel, Uncounted
from service.deployment.watcher import Watcher
from service.deployment.worker_slots import RunFolder, WorkerState
from service.errors import NotReadyError
from service.resources import Resources
from tests.fake_service import DEFAULTS, HOUSE, fake_app
from tests.waiting import wait_until


def publish(store: Store, published: Artifact, *versions: str) -> None:
    for version in versions:
        store.publish(published._replace(manifest=published.manifest.model_copy(update={"version": version})))


def damage(store: Store, version: str, file: str = "model.onnx") -> None:
    path = store.root / version / file
    path.write_bytes(path.read_bytes()[:-1])


def in_service(models: ModelRegistry) -> tuple[int, tuple[str, ...]]:
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
def models(four: Store) -> ModelRegistry:
    """A worker that has booted on v1.0.0."""
    found = ModelRegistry(four)
    assert found.follow()
    return found


def test_nothing_is_read_again_while_the_pointer_is_the_same(four: Store, models: ModelRegistry) -> None:
    serving = models.serving()
    shutil.rmtree(four.root / "v1.0.0")

    assert not models.follow()

    assert models.serving() is serving


def test_what_is_deployed_is_served_after_the_next_look(four: Store, models: ModelRegistry) -> None:
    four.deploy("v1.1.0")
    assert in_service(models) == (1, ("v1.0.0",))

    assert models.follow()

    assert in_service(models) == (2, ("v1.1.0", "v1.0.0"))
    assert (models.generation, models.refused) == (2, ())


def test_every_version_that_the_deployment_names_is_held(four: Store, models: ModelRegistry) -> None:
    four.deploy("v1.1.0")
    four.swap_pointer(lambda current: split_traffic(current, {"v1.1.0": 50, "v1.2.0": 30, "v1.3.0": 20}))

    models.follow()

    assert in_service(models) == (3, ("v1.1.0", "v1.0.0", "v1.2.0", "v1.3.0"))


def test_a_version_that_is_held_already_is_not_loaded_again(four: Store, models: ModelRegistry) -> None:
    champion = models.serving().champion
    four.deploy("v1.1.0")
    models.follow()
    damage(four, "v1.0.0")  # on disk; what is in memory was verified

    assert models.serving().models["v1.0.0"] is champion


def test_a_request_that_took_its_model_keeps_it_over_a_swap(four: Store, models: ModelRegistry) -> None:
    taken = models.serving().choose(None, b"").model
    four.deploy("v1.1.0")
    models.follow()

    assert taken.manifest.version == "v1.0.0"
    assert models.serving().choose(None, b"").model.manifest.version == "v1.1.0"


def test_what_is_not_named_any_more_leaves_memory(four: Store, models: ModelRegistry) -> None:
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
    four: Store, models: ModelRegistry, spoil: Callable[[Store], None]
) -> None:
    serving = models.serving()
    four.deploy("v1.1.0")
    spoil(four)

    models.follow()

    assert models.serving() is serving
    assert models.generation == 1
    assert [(refused.generation, refused.version) for refused in models.refused] == [(2, "v1.1.0")]


def test_an_arm_that_is_refused_leaves_the_old_deployment_in_service(four: Store, models: ModelRegistry) -> None:
    four.swap_pointer(lambda current: split_traffic(current, {"v1.0.0": 90, "v1.1.0": 10}))
    damage(four, "v1.1.0")

    models.follow()

    assert in_service(models) == (1, ("v1.0.0",))
    assert [(refused.generation, refused.version) for refused in models.refused] == [(2, "v1.1.0")]


def test_a_previous_version_that_is_refused_is_missed_by_nobody_who_does_not_ask_for_it(
    four: Store, models: ModelRegistry
) -> None:
    four.deploy("v1.1.0")
    damage(four, "v1.0.0")
    booted = ModelRegistry(four)

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
    booted = ModelRegistry(four)

    booted.follow()

    assert in_service(booted) == (2, ("v1.0.0",))
    assert booted.generation == 0


def test_a_worker_that_boots_on_a_damaged_arm_gives_everybody_the_champion(four: Store) -> None:
    four.swap_pointer(lambda current: split_traffic(current, {"v1.0.0": 1, "v1.1.0": 99}))
    damage(four, "v1.1.0")
    booted = ModelRegistry(four)

    booted.follow()

    chosen = {booted.serving().choose(None, b"%d" % client).model.manifest.version for client in range(100)}
    assert (chosen, booted.generation) == ({"v1.0.0"}, 0)


def test_a_good_deployment_after_a_refused_one_is_served_and_the_refusal_is_history(
    four: Store, models: ModelRegistry
) -> None:
    four.deploy("v1.1.0")
    damage(four, "v1.1.0")
    models.follow()

    four.deploy("v1.2.0")
    models.follow()

    assert in_service(models)[1][0] == "v1.2.0"
    assert models.generation == 3
    assert "v1.1.0" not in models.serving().models


def test_a_refusal_is_told_as_long_as_the_deployment_names_the_version(four: Store, models: ModelRegistry) -> None:
    four.deploy("v1.1.0")
    damage(four, "v1.1.0")
    models.follow()
    refused = models.refused

    four.swap_pointer(roll_back)  # v1.0.0, which this worker serves all the time
    models.follow()
    assert [found.generation for found in models.refused] == [3]  # v1.1.0 is the previous one now, and damaged still

    four.deploy("v1.0.0")
    four.deploy("v1.2.0")
    models.follow()
    assert (refused[0].version, models.refused) == ("v1.1.0", ())


@pytest.mark.parametrize("content", [None, b"", b"{}"], ids=["gone", "empty", "no deployment"])
def test_a_pointer_that_is_lost_leaves_everything_as_it_is_and_is_told(
    four: Store, models: ModelRegistry, content: bytes | None
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
    four: Store, models: ModelRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(ModelRegistry):
        def _load(self, version: str, digest: str) -> None:  # type: ignore[override]
            raise ZeroDivisionError(version, digest)

    broken = Broken(four)
    broken._serving = models.serving()
    four.deploy("v1.1.0")

    broken.follow()

    assert in_service(broken) == (1, ("v1.0.0",))
    assert broken.refused[0].reason == "loading it failed for an unexpected reason; the log has it"
    assert "ZeroDivisionError" in caplog.text


def refusals(models: ModelRegistry) -> list[tuple[int | None, str | None]]:
    return [(refused.generation, refused.version) for refused in models.refused]


def looks(models: ModelRegistry, count: int = 3) -> list[bool]:
    """What so many looks say: whether anything is new."""
    return [models.follow() for _ in range(count)]


def test_the_artifacts_that_were_away_for_a_moment_leave_no_refusal(four: Store, models: ModelRegistry) -> None:
    away = four.root.with_name("away")
    four.root.rename(away)
    assert looks(models) == [True, False, False]
    assert refusals(models) == [(None, None)]

    away.rename(four.root)  # the same files, so the same stamp
    assert looks(models) == [True, False, False]

    assert (in_service(models), models.generation, models.refused) == ((1, ("v1.0.0",)), 1, ())


@pytest.mark.parametrize("content", [None, b"", b"{}"], ids=["gone", "empty", "no deployment"])
@pytest.mark.parametrize("again", ["the same", "the next", "a backup"])
def test_a_pointer_that_was_lost_for_a_moment_leaves_no_refusal(four: Store, content: bytes | None, again: str) -> None:
    backup = (four.root / "deployment.json").read_bytes()
    four.deploy("v1.1.0")
    models = ModelRegistry(four)
    models.follow()
    pointer = four.root / "deployment.json"
    held = pointer.read_bytes()
    pointer.unlink()
    if content is not None:
        pointer.write_bytes(content)
    models.follow()
    assert refusals(models) == [(None, None)]

    pointer.write_bytes(backup if again == "a backup" else held)
    if again == "the next":
        four.deploy("v1.1.0")
    models.follow()

    generation = {"the same": 2, "the next": 3, "a backup": 1}[again]
    assert (in_service(models)[0], models.generation, models.refused) == (generation, generation, ())


def test_a_pointer_that_cannot_be_read_for_a_moment_is_read_when_it_can_be(four: Store, models: ModelRegistry) -> None:
    pointer, aside = four.root / "deployment.json", four.root / "aside.json"
    four.deploy("v1.1.0")
    pointer.rename(aside)
    pointer.symlink_to(pointer.name)  # it can neither be looked at nor read, by root either
    assert looks(models) == [True, False, False]
    (refused,) = models.refused
    assert refused.reason == (
        "deployment.json cannot be read: Too many levels of symbolic links; "
        "check the disk, the permissions and the number of open files"
    )
    assert in_service(models) == (1, ("v1.0.0",))

    aside.replace(pointer)
    assert looks(models) == [True, False, False]
    assert (in_service(models), models.refused) == ((2, ("v1.1.0", "v1.0.0")), ())


def test_a_worker_that_starts_while_nothing_can_be_read_serves_as_soon_as_it_can(four: Store) -> None:
    class Unreadable(Store):
        fails = True

        def deployment(self) -> Deployment:
            if self.fails:
                msg = "deployment.json cannot be read: Too many open files"
                raise UnreadableArtifactError(msg)
            return super().deployment()

    store = Unreadable(four.root)
    models = ModelRegistry(store)
    assert looks(models) == [True, False, False]
    with pytest.raises(NotReadyError, match=r"cannot be read at the moment; .* It is read again every half second\.$"):
        models.serving()

    store.fails = False
    assert looks(models) == [True, False, False]
    assert (in_service(models), models.generation, models.refused) == ((1, ("v1.0.0",)), 1, ())


@pytest.mark.parametrize("spoil", SPOIL, ids=lambda spoil: spoil.__name__)
@pytest.mark.parametrize("boots", [True, False], ids=["at the start", "while it serves"])
def test_a_version_whose_files_are_in_order_again_is_served_and_not_refused(
    four: Store, models: ModelRegistry, spoil: Callable[[Store], None], *, boots: bool
) -> None:
    kept = four.root.with_name("kept")
    shutil.copytree(four.root / "v1.1.0", kept)
    four.deploy("v1.1.0")
    spoil(four)
    models = ModelRegistry(four) if boots else models
    assert looks(models) == [True, False, False]
    assert refusals(models) == [(2, "v1.1.0")]

    shutil.copytree(kept, four.root / "v1.1.0", dirs_exist_ok=True)

    assert looks(models) == [True, False, False]
    assert (in_service(models), models.generation, models.refused) == ((2, ("v1.1.0", "v1.0.0")), 2, ())


def test_an_arm_and_a_previous_version_are_refused_while_their_cause_lasts(four: Store, models: ModelRegistry) -> None:
    four.deploy("v1.1.0")
    four.swap_pointer(lambda current: split_traffic(current, {"v1.1.0": 50, "v1.2.0": 50}))
    kept = {version: (four.root / version / "model.onnx").read_bytes() for version in ("v1.0.0", "v1.2.0")}
    models = ModelRegistry(four)
    for version in kept:
        damage(four, version)
    models.follow()
    assert refusals(models) == [(3, "v1.0.0"), (3, "v1.2.0")]

    (four.root / "v1.2.0" / "model.onnx").write_bytes(kept["v1.2.0"])
    assert looks(models) == [True, False, False]
    assert (models.generation, refusals(models)) == (3, [(3, "v1.0.0")])
    (four.root / "v1.0.0" / "model.onnx").write_bytes(kept["v1.0.0"])
    assert looks(models) == [True, False, False]
    assert (models.generation, refusals(models)) == (3, [])


class Counted(Store):
    """A store that knows what was read, and that cannot read some versions."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.reads: list[str] = []
        self.unreadable: set[str] = set()

    def read(self, version: str, expected: str | None = None) -> Artifact:
        self.reads.append(version)
        if version in self.unreadable:
            msg = f"{version}/model.onnx cannot be read: Input/output error"
            raise UnreadableArtifactError(msg)
        return super().read(version, expected)


def test_only_what_could_not_be_read_is_tried_again(four: Store) -> None:
    """Loading a damaged graph twice a second, or a good one that may not be served yet, would take a CPU."""
    four.deploy("v1.1.0")
    four.swap_pointer(lambda current: split_traffic(current, {"v1.1.0": 40, "v1.2.0": 30, "v1.3.0": 30}))
    damage(four, "v1.2.0")
    store = Counted(four.root)
    store.unreadable = {"v1.3.0"}
    models = ModelRegistry(store)
    models.follow()
    store.reads.clear()

    assert looks(models) == [False] * 3
    assert store.reads == ["v1.3.0"] * 3

    store.unreadable.clear()
    assert looks(models) == [True, False, False]
    assert store.reads == ["v1.3.0"] * 4
    assert refusals(models) == [(3, "v1.2.0")]


def test_a_refusal_is_counted_once_for_each_reason(four: Store) -> None:
    class Counts(Uncounted):
        def __init__(self) -> None:
            self.refusals: list[tuple[str, str]] = []

        def refused(self, version: str, reason: str) -> None:
            self.refusals.append((version, reason))

    counts, store = Counts(), Counted(four.root)
    store.unreadable = {"v1.0.0"}
    models = ModelRegistry(store, counts)
    looks(models)
    damage(four, "v1.0.0")
    store.unreadable.clear()
    looks(models)

    assert counts.refusals == [("v1.0.0", "unreadable"), ("v1.0.0", "damaged")]


def test_what_failed_for_an_unforeseen_reason_is_tried_again_a_minute_later(four: Store) -> None:
    class OutOfMemory(ModelRegistry):
        fails = True

        def _load(self, version: str, digest: str) -> ServedModel:
            if self.fails:
                raise MemoryError
            return super()._load(version, digest)

    moments = [0.0]
    models = OutOfMemory(four, clock=lambda: moments[0])
    assert looks(models) == [True, False, False]

    models.fails = False
    moments[0] = 59.0
    assert looks(models) == [False] * 3
    moments[0] = 60.0
    assert looks(models) == [True, False, False]
    assert (in_service(models), models.refused) == ((1, ("v1.0.0",)), ())


def test_a_refusal_of_what_is_not_deployed_any_more_ends(four: Store, models: ModelRegistry) -> None:
    """As after a promotion that was taken back."""
    before = four.deployment()
    four.deploy("v1.1.0")
    damage(four, "v1.1.0")
    models.follow()
    assert refusals(models) == [(2, "v1.1.0")]

    four.swap_pointer(lambda _: restored(before))
    models.follow()

    assert (in_service(models), models.refused) == ((3, ("v1.0.0",)), ())


def test_a_refusal_that_comes_again_is_logged_again(
    four: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run, away = RunFolder(tmp_path / "run"), four.root.with_name("away")
    watchers = [Watcher(ModelRegistry(four), run.claim()) for _ in range(2)]
    for _ in range(3):
        for watcher in watchers:
            watcher.look()
        four.root.rename(away)
        for watcher in watchers:
            watcher.look()
        assert [len(worker.refused) for worker in run.workers()] == [1, 1]
        away.rename(four.root)
    for watcher in watchers:
        watcher.look()

    assert [worker.refused for worker in run.workers()] == [(), ()]
    told = [record.getMessage() for record in caplog.records if "refused" in record.getMessage()]
    assert told == ["refused the deployment: no version is deployed"] * 3


def test_the_watcher_follows_by_itself_and_says_so_in_its_slot(four: Store, tmp_path: Path) -> None:
    run, models = RunFolder(tmp_path / "run"), ModelRegistry(four)
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
    Watcher(ModelRegistry(four), None).start()
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
    class Once(ModelRegistry):
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
    run, models = RunFolder(tmp_path / "run"), ModelRegistry(four)
    watcher = Watcher(models, run.claim())
    shutil.rmtree(run.root)
    watcher.look()
    assert in_service(models)[0] == 1

    run.root.mkdir()
    watcher.look()

    assert WorkerState.model_validate_json((run.root / "slot-0.json").read_bytes()).generation == 1


def test_deployments_compare_by_what_they_say(four: Store) -> None:
    assert four.deployment() == Deployment.model_validate_json((four.root / "deployment.json").read_bytes())
