"""Whenever the machine stops, the service starts on the old deployment or on the new one, and never on neither."""

import errno
import os
import shutil
from collections.abc import Callable, Iterator
from hashlib import sha256
from itertools import count
from pathlib import Path
from typing import NamedTuple

import pytest

from pricing.artifacts.deployment import Deployment, roll_back, split_traffic
from pricing.artifacts.manifest import SealedSales
from pricing.artifacts.store import POINTER_FILE, Artifact, Store
from pricing.errors import AppraiserError, NotWritableError
from pricing.files.filesystem import FileSystem
from pricing.files.locked_folder import ASIDE
from service.deployment.loaded_models import NOTHING_DEPLOYED, ModelRegistry
from service.errors import NotReadyError
from tests.crashing_disk import Operation, RecordingDisk, State, after, cut, folder_of, killed, restore, states

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


def with_sales(artifact: Artifact) -> Artifact:
    """The store looks at the digest only."""
    sealed = SealedSales(sha256=sha256(b"the sales").hexdigest(), size=9, rows=1)
    return Artifact(artifact.manifest.model_copy(update={"sales": sealed}), artifact.graph, b"the sales")


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
    "publish with sales": Scenario(
        deployed_two,
        lambda store, good: store.publish(with_sales(named(good, "v1.3.0"))),
        "v1.1.0=100",
        "v1.1.0=100",
        [*THREE, "v1.3.0"],
    ),
    "promote": Scenario(deployed_two, lambda store, _: store.deploy("v1.2.0"), "v1.1.0=100", "v1.2.0=100", THREE),
    "rollback": Scenario(
        deployed_two, lambda store, _: store.swap_pointer(roll_back), "v1.1.0=100", "v1.0.0=100", THREE
    ),
    "split": Scenario(
        deployed_two,
        lambda store, _: store.swap_pointer(lambda current: split_traffic(current, {"v1.1.0": 90, "v1.2.0": 10})),
        "v1.1.0=100",
        "v1.1.0=90 v1.2.0=10",
        THREE,
    ),
    "prune": Scenario(deployed_three, lambda store, _: store.prune(1), "v1.2.0=100", "v1.2.0=100", THREE[1:]),
}


def operations(
    base: Path,
    store_type: type[Store],
    act: Act,
    published: Artifact,
    disk_type: type[RecordingDisk] = RecordingDisk,
) -> list[Operation]:
    """What `act` does to the disk, one after the other."""
    shutil.copytree(base, base.with_name("live"))
    disk = disk_type(base.with_name("live"))
    act(store_type(base.with_name("live") / "artifacts", disk), published)
    assert len(disk.operations) >= 3
    return disk.operations


def deployed(store: Store) -> str:
    """What the service serves when it starts: weights by version, nothing, or why neither."""
    models = ModelRegistry(store)
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


def wrong(  # noqa: PLR0913 -- the scenario, and what a control does otherwise
    scenario: Scenario,
    tmp_path: Path,
    published: Artifact,
    store_type: type[Store] = Store,
    *,
    disk_type: type[RecordingDisk] = RecordingDisk,
    syncs: bool = True,
) -> Iterator[str]:
    """For each state that a crash may leave, what is wrong with it, or nothing."""
    base = tmp_path / "before"
    base.mkdir()
    scenario.before(Store(base / "artifacts"), published)
    done = operations(base, store_type, scenario.act, published, disk_type)
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

    def _temporary_path(self, name: str) -> Path:
        return super()._temporary_path(name) if name == POINTER_FILE else self.root / name


def test_a_version_that_is_written_in_place_would_be_seen_half(tmp_path: Path, published: Artifact) -> None:
    assert any("v1.3.0/" in found for found in wrong(SCENARIOS["publish"], tmp_path, published, PublishesInPlace))


class RenamesByCopying(RecordingDisk):
    """Replaces a file as `shutil.copy` would, which is not one step."""

    def rename(self, source: Path, target: Path) -> None:
        data = source.read_bytes()
        self.remove(target)
        self.write(target, data)
        self.remove(source)


def test_on_a_disk_whose_rename_is_a_copy_it_would_be_neither(tmp_path: Path, published: Artifact) -> None:
    found = set(wrong(SCENARIOS["promote"], tmp_path, published, disk_type=RenamesByCopying))

    assert NOTHING in found  # the pointer was gone for a moment
    assert any("cannot be read" in sentence for sentence in found)  # or half


def test_a_version_that_a_killed_prune_took_away_never_comes_back_half_removed(
    tmp_path: Path, published: Artifact
) -> None:
    """The next command finds what was killed, none of it durable, and removes the rest; then the power is cut."""
    scenario, base = SCENARIOS["prune"], tmp_path / "before"
    base.mkdir()
    scenario.before(Store(base / "artifacts"), published)
    renamed = operations(base, Store, scenario.act, published)[:1]
    at_kill = folder_of(base)
    after(at_kill, renamed)
    left = tmp_path / "killed"
    left.mkdir()
    restore(killed(at_kill), left)
    disk = RecordingDisk(left)
    Store(left / "artifacts", disk).deploy("v1.2.0")  # again

    for at in range(len(disk.operations) + 1):
        model = folder_of(base)
        after(model, [*renamed, *disk.operations[:at]])
        for number, state in enumerate(cut(model)):
            assert what_is_wrong(state, tmp_path / f"{at} {number}", scenario.allowed, published) == ""


class Fails(FileSystem):
    """Fails at one operation, or at every one from there on, as a disk does that is full or dying."""

    def __init__(self, code: int, at: int, *, for_good: bool) -> None:
        self._code = code
        self._left = at
        self._for_good = for_good

    def _count(self) -> None:
        self._left -= 1
        if self._left == -1 or (self._for_good and self._left < 0):
            raise OSError(self._code, os.strerror(self._code))

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

    def remove(self, path: Path) -> None:
        self._count()
        super().remove(path)


FAILING = {
    "publish the first version": SCENARIOS["the first version"]._replace(
        act=lambda store, good: store.publish(named(good, "v1.0.0")), new=NOTHING
    ),
    "deploy the first version": SCENARIOS["the first version"]._replace(
        before=lambda store, good: store.publish(named(good, "v1.0.0")), act=lambda store, _: store.deploy("v1.0.0")
    ),
    **{name: SCENARIOS[name] for name in ("publish", "publish with sales", "promote", "rollback", "split", "prune")},
}


def failures(
    scenario: Scenario, folder: Path, published: Artifact, code: int, *, for_good: bool
) -> Iterator[tuple[Store, list[str]]]:
    """The store after each operation of `act` has failed in turn, with the versions that were there before."""
    for at in count():
        store = Store(folder / str(at) / "artifacts")
        store.root.parent.mkdir(parents=True)
        scenario.before(store, published)
        before = store.versions()
        try:
            scenario.act(Store(store.root, Fails(code, at, for_good=for_good)), published)
        except NotWritableError as error:
            assert str(error) == f"{store.root} cannot be written: {os.strerror(code)}"  # noqa: PT017 -- until none is raised
            yield store, before
        else:
            assert at >= 3
            return


@pytest.mark.parametrize("name", FAILING)
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_what_fails_at_any_operation_has_changed_nothing_and_can_be_done_again(
    name: str, code: int, tmp_path: Path, published: Artifact
) -> None:
    scenario = FAILING[name]
    for store, before in failures(scenario, tmp_path, published, code, for_good=False):
        assert deployed(store) == scenario.old
        assert store.versions() in ([before, scenario.versions] if name == "prune" else [before])
        scenario.act(store, published)
        assert (deployed(store), store.versions()) == (scenario.new, scenario.versions)


@pytest.mark.parametrize("name", FAILING)
def test_a_disk_that_fails_for_good_leaves_the_old_or_the_new(name: str, tmp_path: Path, published: Artifact) -> None:
    scenario = FAILING[name]
    for store, _ in failures(scenario, tmp_path, published, errno.EIO, for_good=True):
        assert deployed(store) in scenario.allowed
        store.publish(named(published, "v2.0.0"))
        store.deploy("v2.0.0")
        assert list(store.root.glob(f"{ASIDE}*")) == []


def test_a_deployment_that_is_taken_back_has_a_generation_of_its_own(tmp_path: Path, published: Artifact) -> None:
    """Some worker may serve the one that is taken back: generations only grow."""
    *_, (store, _) = failures(SCENARIOS["split"], tmp_path, published, errno.EIO, for_good=False)

    assert store.deployment().generation == 4  # 2 before, 3 failed when it was there already


class FailsToSyncOnce(RecordingDisk):
    """Cannot make the first rename durable."""

    failed = False

    def sync(self, path: Path) -> None:
        if not self.failed and self.operations[-1][0] == "rename":
            self.failed = True
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        super().sync(path)


@pytest.mark.parametrize("name", ["deploy the first version", "publish", "promote", "rollback", "split"])
def test_what_was_taken_back_does_not_return_after_a_power_cut(name: str, tmp_path: Path, published: Artifact) -> None:
    scenario, base = FAILING[name], tmp_path / "before"
    base.mkdir()
    scenario.before(Store(base / "artifacts"), published)
    shutil.copytree(base, tmp_path / "live")
    disk = FailsToSyncOnce(tmp_path / "live")
    with pytest.raises(NotWritableError):
        scenario.act(Store(tmp_path / "live" / "artifacts", disk), published)
    model = folder_of(base)
    after(model, disk.operations)

    for number, state in enumerate(cut(model)):
        restore(state, tmp_path / str(number))
        store = Store(tmp_path / str(number) / "artifacts")
        assert (deployed(store), store.versions()) == (scenario.old, Store(base / "artifacts").versions())
