"""Deploying under the eyes of the workers: point, wait until each one serves it, or take it back."""

import time
from collections.abc import Callable
from typing import Final, NamedTuple

from pricing.deployment import Deployment, Target, restored
from pricing.errors import DeploymentError
from pricing.probation import prove
from pricing.store import Artifact, Store
from service.slots import RunFolder, WorkerState

WAIT_SECONDS: Final = 10.0  # workers follow within a second; one that is stuck in a large batch takes longer
LOOK_SECONDS: Final = 0.05  # workers are other processes, perhaps in other containers: nothing tells us but a look


class RolloutError(DeploymentError):
    """Not every worker serves what was deployed; the text says why, and what is deployed now."""


class Rollout(NamedTuple):
    """What was deployed, and how many workers serve it: all that live, and if none does, nobody has confirmed it."""

    deployment: Deployment
    workers: int


def roll_out(
    store: Store,
    run: RunFolder,
    target: Callable[[Deployment | None], Target],
    seconds: float = WAIT_SECONDS,
    prove: Callable[[Artifact], object] = prove,
) -> Rollout:
    """Deploy what `target` makes of the current deployment, and return when every living worker serves it.

    Every version that would answer is proved before. When a worker cannot serve it, within `seconds`, what was deployed
    before is deployed again under a new generation, and RolloutError says why. Raises RunFolderError, and what `prove`
    and `Store.point` raise, too; then nothing has changed.
    """
    run.workers()  # who cannot look at them must not deploy either
    before = store.current()
    wanted = target(before)
    for version in {wanted.champion, *wanted.split}:
        prove(store.read(version, store.seal(version)))
    deployment = store.point(target, after=0 if before is None else before.generation)
    try:
        return Rollout(deployment, _wait(store, run, deployment, seconds))
    except RolloutError as error:
        msg = f"{error}; {_take_back(store, before, deployment)}"
        raise RolloutError(msg) from error


def _wait(store: Store, run: RunFolder, deployment: Deployment, seconds: float) -> int:
    """How many workers live, once each of them serves the deployment. Raises RolloutError with the reason."""
    deadline = time.monotonic() + seconds
    while True:
        workers = run.workers()
        behind = [worker for worker in workers if worker.generation != deployment.generation]
        if not behind:
            return len(workers)
        _check_refusals(behind, deployment.generation)
        if store.current() != deployment:
            msg = f"generation {deployment.generation} was replaced before every worker served it"
            raise RolloutError(msg)
        if time.monotonic() > deadline:
            msg = f"{len(behind)} of {len(workers)} workers did not serve it within {seconds:g} s"
            raise RolloutError(msg)
        time.sleep(LOOK_SECONDS)


def _check_refusals(behind: list[WorkerState], generation: int) -> None:
    for worker in behind:
        for refused in worker.refused:
            if refused.generation == generation:
                msg = f"a worker refused {refused.version}: {refused.reason}"
                raise RolloutError(msg)


def _take_back(store: Store, before: Deployment | None, failed: Deployment) -> str:
    """Deploy again what was deployed before, unless somebody else has deployed since; returns what was done."""
    if before is None:
        return "nothing was deployed before, so it stays deployed: promote another version"
    try:
        again = store.point(lambda _: restored(before), after=failed.generation)
    except DeploymentError as error:
        return f"not taken back, since {error}"
    return f"{again.champion} is deployed again, as generation {again.generation}"
