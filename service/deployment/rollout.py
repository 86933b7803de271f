"""Deploying under the eyes of the workers: point, wait until each one serves it, or take it back."""

import time
from collections.abc import Callable
from typing import Final, NamedTuple

from pricing.artifacts.deployment import Deployment, DeploymentPlan, restored
from pricing.artifacts.store import Artifact, Store
from pricing.errors import AppraiserError, DeploymentError, Stays, Undone
from pricing.inference.sandbox import load_in_sandbox
from service.deployment.worker_slots import RunFolder, WorkerState

WAIT_SECONDS: Final = 10.0  # workers follow within a second; one that is stuck in a large batch takes longer
LOOK_SECONDS: Final = 0.05  # workers are other processes, perhaps in other containers: only a look shows their state


class RolloutError(DeploymentError):
    """Not every worker serves what was deployed. The text states why, a note what stays deployed."""


class Rollout(NamedTuple):
    """A deployment, and how many workers serve it: all that run. If none runs, the deployment is unconfirmed."""

    deployment: Deployment
    workers: int


class _Done(NamedTuple):
    """The end of a deployment that failed, and whether it stays."""

    sentence: str
    stays: bool


def roll_out(
    store: Store,
    run: RunFolder,
    target: Callable[[Deployment | None], DeploymentPlan],
    seconds: float = WAIT_SECONDS,
    load_in_sandbox: Callable[[Artifact], object] = load_in_sandbox,
) -> Rollout:
    """Deploy what `target` makes of the current deployment, and return when every living worker serves it.

    Every version that would answer is proved before. When a worker cannot serve it, within `seconds`, or the waiting
    fails, what was deployed before is deployed again under a new generation, and RolloutError states why. An
    interruption does the same and goes on, with a note. Raises RunFolderError, and what `load_in_sandbox` and
    `Store.swap_pointer` raise, too; then nothing has changed.
    """
    run.workers()  # a command that cannot read their states must not deploy
    before = store.current()
    wanted = target(before)
    for version in {wanted.champion, *wanted.split}:
        load_in_sandbox(store.read(version, store.seal(version)))
    after = 0 if before is None else before.generation
    deployment = None
    try:
        deployment = store.swap_pointer(target, after)
        return Rollout(deployment, _wait(store, run, deployment, seconds))
    except BaseException as error:
        deployment = deployment or _left_by(error, store, wanted, after)
        if deployment is None:
            raise
        done = _take_back(store, before, deployment)
        if not isinstance(error, Exception):  # an interruption goes on
            _note(error, done, store)
            raise
        why = str(error) if isinstance(error, AppraiserError) else f"{type(error).__name__}: {error}"
        failed = RolloutError(f"{why}; {done.sentence}")
        _note(failed, done, store)
        raise failed from error


def told(deployment: Deployment) -> str:
    """A sentence about a deployment."""
    arms = " ".join(f"{version}={weight}" for version, weight in deployment.arms.items())
    return f"{arms if deployment.split else deployment.champion} is deployed as generation {deployment.generation}"


def _left_by(error: BaseException, store: Store, wanted: DeploymentPlan, after: int) -> Deployment | None:
    """The deployment that `Store.swap_pointer` made before it was interrupted; None after an error of its own."""
    if isinstance(error, Exception):
        return None
    now = store.current()
    is_ours = now is not None and now.generation == after + 1
    return now if is_ours and now is not None and (now.champion, now.split) == (wanted.champion, wanted.split) else None


def _note(error: BaseException, done: _Done, store: Store) -> None:
    error.add_note(Undone(done.sentence))
    if done.stays:
        now = store.current()
        error.add_note(Stays("no version is deployed" if now is None else told(now)))


def _wait(store: Store, run: RunFolder, deployment: Deployment, seconds: float) -> int:
    """The number of running workers, once each of them serves the deployment. Raises RolloutError with the reason."""
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


def _take_back(store: Store, before: Deployment | None, failed: Deployment) -> _Done:
    """Deploy again what was deployed before, unless another deployment has come since; returns what was done.

    Whatever goes wrong, a second interruption too, the answer states what is deployed.
    """
    if before is None:
        return _Done("nothing was deployed before, so it stays deployed: promote another version", stays=True)
    again = None
    try:
        again = store.swap_pointer(lambda _: restored(before), after=failed.generation)
    except BaseException as error:  # noqa: BLE001 -- a second interruption: the command still says what is deployed
        again = again or _left_by(error, store, restored(before), failed.generation)
        if again is None:
            why = str(error) if isinstance(error, AppraiserError) else f"taking it back ended by {type(error).__name__}"
            return _Done(f"not taken back, since {why}", stays=True)
    return _Done(f"{again.champion} is deployed again, as generation {again.generation}", stays=False)
