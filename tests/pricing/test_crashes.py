"""Whenever the machine stops, the service starts on the old deployment or on the new one, and never on neither."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from pricing.deployment import Deployment, divided, rolled_back
from pricing.disk import Disk
from pricing.errors import AppraiserError, NotWritableError
from pricing.store import ASIDE, POINTER_FILE, Artifact, Store
from service.errors import NotReadyError
from service.models import NOTHING_DEPLOYED, Models
from tests.crashing_disk import Operation, RecordingDisk, State, after, cut, folder_of, half, killed, restore

Act = Callable[[Store, Artifact], object]
NOTHING = "nothing"


def named(artifact: Artifact, version: str) -> Artifact:
    return artifact._replace(manifest=artifact.manifest.model_copy(update={"version": version}))


def deployed_two(store: Store, published: Artifact) -> None:
    """v1.1.0 is deployed, v1.0.0 is the previous one, v1.2.0 is published."""
    for version in ("v1.0.0", "v1.1.0", "v1.2.0"):
        store.publish(named(published, version))
    for version in ("v1.0.0", "v1.1.0"):
        store.deploy(version)


def deployed_three(store: Store, published: Artifact) -> None:
    """v1.2.0 is deployed, v1.1.0 is the previous one, v1.0.0 is named by nobody any more."""
    deployed_two(store, published)
    store.deploy("v1.2.0")


def publish_and_deploy(store: Store, published: Artifact) -> None:
    store.publish(named(published, "v1.0.0"), {"test_rows.bin": b"rows", "verdict.json": b"{}"})
    store.deploy("v1.0.0")


class Scenario(NamedTuple):
    """What was there, what is done, what is deployed before and after it, and the versions that are there after it."""

    before: Act
    act: Act
    old: str
    new: str
    versions: list[str]

    @property
    def allowed(self) -> set[str]:
        return {self.old, self.new}


THREE = ["v1.0.0", "v1.1.0", "v1.2.0"]
SCENARIOS = {
    "the first version": Scenario(lambda *_: None, publish_and_deploy, NOTHING, "v1.0.0=100", ["v1.0.0"]),
    "publish": Scenario(
        deployed_two,
        lambda store, good: store.publish(named(good, "v1.3.0")),
        "v1.1.0=100",
        "v1.1.0=100",
        [*THREE, "v1.3.0"],
    ),
    "promote": Scenario(deployed_two, lambda store, _: store.deploy("v1.2.0"), "v1.1.0=100", "v1.2.0=100", THREE),
    "rollback": Scenario(deployed_two, lambda store, _: store.point(rolled_back), "v1.1.0=100", "v1.0.0=100", THREE),
    "split": Scenario(
        deployed_two,
        lambda store, _: store.point(lambda current: divided(current, {"v1.1.0": 90, "v1.2.0": 10})),
        "v1.1.0=100",
        "v1.1.0=90 v1.2.0=10",
        THREE,
    ),
    "prune": Scenario(deployed_three, lambda store, _: store.prune(1), "v1.2.0=100", "v1.2.0=100", THREE[1:]),
}


def operations(base: Path, store_type: type[Store], act: Act, published: Artifact) -> list[Operation]:
    """What `act` does to the disk, one after the other."""
    shutil.copytree(base, base.with_name("live"))
    disk = RecordingDisk(base.with_name("live"))
    act(store_type(base.with_name("live") / "artifacts", disk), published)
    assert len(disk.operations) >= 3
    return disk.operations


def states(base: Path, done: list[Operation], *, syncs: bool) -> Iterator[State]:
    """Everything that may be on disk when operations are ended by a kill or a power cut, at any of them."""
    seen: set[int] = set()
    for count in range(len(done) + 1):
        endings = [[], *([part] for part in half(done[count]))] if count < len(done) else [[]]
        for ending in endings:
            model = folder_of(base)
            after(model, [*done[:count], *ending], syncs=syncs)
            for state in (killed(model), *cut(model)):
                content = hash(frozenset(state.items()))
                if content not in seen:
                    seen.add(content)
                    yield state


def deployed(store: Store) -> str:
    """What the service serves when it starts: weights by version, nothing, or why neither."""
    models = Models(store)
    models.load()
    try:
        serving = models.serving()
    except NotReadyError as error:
        return NOTHING if str(error) == NOTHING_DEPLOYED and not models.refused else str(error)
    if models.refused:
        return str(models.refused)
    return " ".join(f"{version}={weight}" for version, weight in serving.deployment.arms.items())


def what_is_wrong(state: State, folder: Path, allowed: set[str], published: Artifact) -> str:
    """Of a disk that was left like this: nothing, or why the service or the next command does not go on."""
    restore(state, folder)
    store = Store(folder / "artifacts")
    found = deployed(store)
    if found not in allowed:
        return found
    try:
        for version in store.versions():
            store.read(version)
        store.publish(named(published, "v2.0.0"))
        store.deploy("v2.0.0")
        store.prune(1)
    except AppraiserError as error:
        return str(error)
    left = [path.name for path in store.root.glob(f"{ASIDE}*")]
    return f"left behind: {left}" if left else ""


def wrong(
    scenario: Scenario, tmp_path: Path, published: Artifact, store_type: type[Store] = Store, *, syncs: bool = True
) -> Iterator[str]:
    """For each state that a crash may leave, what is wrong with it, or nothing."""
    base = tmp_path / "before"
    base.mkdir()
    scenario.before(Store(base / "artifacts"), published)
    done = operations(base, store_type, scenario.act, published)
    for number, state in enumerate(states(base, done, syncs=syncs)):
        yield what_is_wrong(state, tmp_path / str(number), scenario.allowed, published)


@pytest.mark.parametrize("name", SCENARIOS)
def test_after_a_crash_at_any_operation_the_old_or_the_new_is_served(
    name: str, tmp_path: Path, published: Artifact
) -> None:
    found = list(wrong(SCENARIOS[name], tmp_path, published))

    assert list(filter(None, found)) == []
    assert len(found) > 5


@pytest.mark.parametrize("name", ["the first version", "publish", "promote", "rollback", "split", "prune"])
def test_what_a_command_has_done_survives_a_power_cut(name: str, tmp_path: Path, published: Artifact) -> None:
    scenario, base = SCENARIOS[name], tmp_path / "before"
    base.mkdir()
    scenario.before(Store(base / "artifacts"), published)
    model = folder_of(base)
    after(model, operations(base, Store, scenario.act, published))

    for number, state in enumerate(cut(model)):
        restore(state, tmp_path / str(number))
        store = Store(tmp_path / str(number) / "artifacts")
        assert (deployed(store), store.versions()) == (scenario.new, scenario.versions)


@pytest.mark.parametrize("name", ["the first version", "promote", "rollback", "split"])
def test_on_a_disk_that_does_not_sync_it_would_be_neither(name: str, tmp_path: Path, published: Artifact) -> None:
    """The control: what the syncs are for is seen by this test."""
    assert any(wrong(SCENARIOS[name], tmp_path, published, syncs=False))


class WritesInPlace(Store):
    """Replaces the pointer as one would who does not know better."""

    def _replace_pointer(self, deployment: Deployment) -> None:
        path = self.root / POINTER_FILE
        self._disk.remove(path)
        self._disk.write(path, deployment.model_dump_json().encode())
        self._disk.sync(path)
        self._disk.sync(self.root)


def test_a_pointer_that_is_written_in_place_would_be_neither(tmp_path: Path, published: Artifact) -> None:
    assert any(wrong(SCENARIOS["promote"], tmp_path, published, WritesInPlace))


class PublishesInPlace(Store):
    """Writes a version where it will stay."""

    def _aside(self, name: str) -> Path:
        return super()._aside(name) if name == POINTER_FILE else self.root / name


def test_a_version_that_is_written_in_place_would_be_seen_half(tmp_path: Path, published: Artifact) -> None:
    assert any("v1.3.0/" in found for found in wrong(SCENARIOS["publish"], tmp_path, published, PublishesInPlace))


class Fails(Disk):
    """Fails at one operation, as a full disk does."""

    def __init__(self, at: int) -> None:
        self._left = at

    def _count(self) -> None:
        self._left -= 1
        if self._left == -1:
            raise OSError(28, "No space left on device")

    def make_folder(self, path: Path) -> None:
        self._count()
        super().make_folder(path)

    def write(self, path: Path, data: bytes) -> None:
        if self._left == 0:
            super().write(path, data[: len(data) // 2])
        self._count()
        super().write(path, data)

    def sync(self, path: Path) -> None:
        self._count()
        super().sync(path)

    def rename(self, source: Path, target: Path) -> None:
        self._count()
        super().rename(source, target)


@pytest.mark.parametrize("name", ["the first version", "publish", "promote", "split"])
def test_a_disk_that_fails_at_any_operation_is_told_and_the_next_try_works(
    name: str, tmp_path: Path, published: Artifact
) -> None:
    scenario = SCENARIOS[name]
    for at in range(fewest_operations(name)):
        folder = tmp_path / str(at)
        folder.mkdir()
        scenario.before(Store(folder / "artifacts"), published)
        with pytest.raises(NotWritableError, match="No space left on device"):
            scenario.act(Store(folder / "artifacts", Fails(at)), published)
        store = Store(folder / "artifacts")
        assert deployed(store) in scenario.allowed
        store.publish(named(published, "v2.0.0"))
        store.deploy("v2.0.0")
        assert list(store.root.glob(f"{ASIDE}*")) == []


def fewest_operations(name: str) -> int:
    """A publish makes a folder and two files, syncs and renames; a promotion writes, syncs, renames, syncs."""
    return 8 if name in {"the first version", "publish"} else 4
