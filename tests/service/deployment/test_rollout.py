"""Deploying under the eyes of the workers: it ends when all of them serve it, or as it was before."""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from inspect import signature
from pathlib import Path

import pytest

from pricing.artifacts.deployment import Deployment, DeploymentPlan, promote, roll_back, split_traffic
from pricing.artifacts.store import Artifact, Store
from pricing.errors import DamagedArtifactError, DeploymentChangedError, NoPreviousError
from pricing.inference.predictor import load
from pricing.inference.sandbox import load_in_sandbox
from service.contract import Refused
from service.deployment import rollout
from service.deployment.rollout import Rollout, RolloutError
from service.deployment.worker_slots import RunFolder, RunFolderError, Slot, WorkerState

Says = Callable[[int], WorkerState]

# What would answer is loaded in a child process before; here it is the waiting for workers that is looked at.
roll_out = partial(rollout.roll_out, load_in_sandbox=load)


@pytest.fixture
def two(store: Store, published: Artifact) -> Store:
    """v1.0.0 is deployed, v1.1.0 is published."""
    store.publish(published._replace(manifest=published.manifest.model_copy(update={"version": "v1.1.0"})))
    return store


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path / "run")


@contextmanager
def worker(store: Store, run: RunFolder, says: Says) -> Iterator[None]:
    """A worker that looks all the time, and says of each generation what the test wants."""
    stopping = threading.Event()
    slot = run.claim()

    def watch(slot: Slot) -> None:
        while not stopping.is_set():
            slot.write(says(store.deployment().generation))

    thread = threading.Thread(target=watch, args=(slot,))
    thread.start()
    try:
        yield
    finally:
        stopping.set()
        thread.join()
        os.close(slot._lock)


def serves(generation: int) -> WorkerState:
    return WorkerState(generation=generation)


def refuses_2(generation: int) -> WorkerState:
    refused = Refused(generation=2, version="v1.1.0", reason="it is damaged")
    return WorkerState(generation=1, refused=(refused,)) if generation == 2 else WorkerState(generation=generation)


def is_stuck(_generation: int) -> WorkerState:
    return WorkerState(generation=1)


def test_it_returns_when_every_worker_serves_the_new_generation(two: Store, run: RunFolder) -> None:
    with ExitStack() as workers:
        for _ in range(3):
            workers.enter_context(worker(two, run, serves))
        assert roll_out(two, run, lambda current: promote(current, "v1.1.0")) == Rollout(two.deployment(), 3)
    assert (two.deployment().champion, two.deployment().generation) == ("v1.1.0", 2)


def test_without_a_worker_nobody_confirms_it(two: Store, run: RunFolder) -> None:
    rollout = roll_out(two, run, lambda current: promote(current, "v1.1.0"))

    assert rollout == Rollout(two.deployment(), 0)
    assert two.deployment().champion == "v1.1.0"


def test_what_one_worker_refuses_is_taken_back_under_a_new_generation(two: Store, run: RunFolder) -> None:
    with worker(two, run, serves), worker(two, run, refuses_2), pytest.raises(RolloutError) as failed:
        roll_out(two, run, lambda current: promote(current, "v1.1.0"))

    assert str(failed.value) == ("a worker refused v1.1.0: it is damaged; v1.0.0 is deployed again, as generation 3")
    deployment = two.deployment()
    assert (deployment.generation, deployment.champion, deployment.previous) == (3, "v1.0.0", None)


def test_a_split_is_taken_back_to_the_split_before(two: Store, published: Artifact, run: RunFolder) -> None:
    two.publish(published._replace(manifest=published.manifest.model_copy(update={"version": "v1.2.0"})))
    two.swap_pointer(lambda current: split_traffic(current, {"v1.0.0": 90, "v1.1.0": 10}))
    before = two.deployment()

    with worker(two, run, is_stuck), pytest.raises(RolloutError):
        roll_out(two, run, lambda current: split_traffic(current, {"v1.0.0": 50, "v1.2.0": 50}), seconds=0)

    after = two.deployment()
    assert after.generation == 4
    assert after == before.model_copy(update={"generation": 4})


def test_a_worker_that_does_not_follow_in_time_is_told_and_it_is_taken_back(two: Store, run: RunFolder) -> None:
    with worker(two, run, serves), worker(two, run, is_stuck), pytest.raises(RolloutError) as failed:
        roll_out(two, run, lambda current: promote(current, "v1.1.0"), seconds=1)

    assert str(failed.value) == (
        "1 of 2 workers did not serve it within 1 s; v1.0.0 is deployed again, as generation 3"
    )


def test_a_first_deployment_that_is_refused_stays_since_there_is_nothing_to_go_back_to(
    published: Artifact, tmp_path: Path, run: RunFolder
) -> None:
    store = Store(tmp_path / "new")
    store.publish(published)

    slot = run.claim()
    slot.write(WorkerState(refused=(Refused(generation=1, version="v1.0.0", reason="no"),)))

    with pytest.raises(RolloutError) as failed:
        roll_out(store, run, lambda current: promote(current, "v1.0.0"))
    os.close(slot._lock)

    assert str(failed.value) == (
        "a worker refused v1.0.0: no; nothing was deployed before, so it stays deployed: promote another version"
    )
    assert store.deployment().generation == 1


def test_what_somebody_else_has_deployed_meanwhile_is_left_alone(two: Store, run: RunFolder) -> None:
    def somebody_else_is_faster(generation: int) -> WorkerState:
        if generation == 2:
            two.deploy("v1.0.0")
        return WorkerState(generation=1)

    with worker(two, run, somebody_else_is_faster), pytest.raises(RolloutError) as failed:
        roll_out(two, run, lambda current: promote(current, "v1.1.0"))

    assert str(failed.value) == (
        "generation 2 was replaced before every worker served it; not taken back, since "
        "generation 3 was deployed meanwhile, expected 2; nothing was changed, look again"
    )
    assert two.deployment().generation == 3


def test_of_two_that_saw_the_same_deployment_the_second_is_refused(two: Store, run: RunFolder) -> None:
    class Overtaken(Store):
        overtaken = False

        def current(self) -> Deployment | None:
            seen = super().current()
            if not self.overtaken:
                self.overtaken = True
                two.deploy("v1.0.0")
            return seen

    with pytest.raises(DeploymentChangedError) as refused:
        roll_out(Overtaken(two.root), run, lambda current: promote(current, "v1.1.0"))

    assert str(refused.value) == "generation 2 was deployed meanwhile, expected 1; nothing was changed, look again"
    assert two.deployment().champion == "v1.0.0"


def test_a_rollback_without_a_previous_version_changes_nothing(two: Store, run: RunFolder) -> None:
    before = two.deployment()

    with pytest.raises(NoPreviousError):
        roll_out(two, run, roll_back)

    assert two.deployment() == before


def test_who_cannot_look_at_the_workers_deploys_nothing(two: Store, run: RunFolder) -> None:
    run.root.touch()
    before = two.deployment()

    with pytest.raises(RunFolderError):
        roll_out(two, run, lambda current: promote(current, "v1.1.0"))

    assert two.deployment() == before


class Proofs:
    """Remembers who was proved, and refuses one of them."""

    def __init__(self, refused: str | None = None) -> None:
        self.versions: list[str] = []
        self._refused = refused

    def __call__(self, artifact: Artifact) -> None:
        self.versions.append(artifact.manifest.version)
        if artifact.manifest.version == self._refused:
            msg = f"{self._refused} did not load within 20 s of CPU"
            raise DamagedArtifactError(msg)


Change = Callable[[Deployment | None], DeploymentPlan]


@pytest.mark.parametrize(
    ("change", "version"),
    [
        pytest.param(lambda current: promote(current, "v1.1.0"), "v1.1.0", id="promote"),
        pytest.param(roll_back, "v1.0.0", id="rollback"),
        pytest.param(lambda current: split_traffic(current, {"v1.1.0": 90, "v1.0.0": 10}), "v1.0.0", id="split"),
        pytest.param(
            lambda current: split_traffic(current, {"v1.1.0": 90, "v1.0.0": 10}), "v1.1.0", id="split, champion"
        ),
    ],
)
def test_what_does_not_load_by_itself_is_never_pointed_at(
    two: Store, run: RunFolder, change: Change, version: str
) -> None:
    two.deploy("v1.1.0")
    before = (two.root / "deployment.json").read_bytes()

    with pytest.raises(DamagedArtifactError, match=f"^{version} did not load within 20 s of CPU$"):
        roll_out(two, run, change, load_in_sandbox=Proofs(refused=version))

    assert (two.root / "deployment.json").read_bytes() == before


def test_each_version_that_would_answer_is_proved_once_and_no_other(two: Store, run: RunFolder) -> None:
    proofs = Proofs()

    roll_out(two, run, lambda current: split_traffic(current, {"v1.0.0": 90, "v1.1.0": 10}), load_in_sandbox=proofs)
    roll_out(two, run, lambda current: promote(current, "v1.1.0"), load_in_sandbox=proofs)

    assert sorted(proofs.versions[:2]) == ["v1.0.0", "v1.1.0"]
    assert proofs.versions[2:] == ["v1.1.0"]


def test_who_asks_for_nothing_else_has_it_proved_in_a_child_process() -> None:
    assert signature(rollout.roll_out).parameters["load_in_sandbox"].default is load_in_sandbox
