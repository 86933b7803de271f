"""Shared by several commands: the folders they work in, and the rollout of a deployment."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

import click

from pricing.artifacts.deployment import Deployment, DeploymentPlan
from pricing.artifacts.store import Store
from pricing.errors import changed
from service.access.api_keys import KeyStore

# Exit code beside 0, 2 (a wrong command line) and those of cli/endings.py
UNCONFIRMED: Final = 3  # deployed, but no running worker can confirm that it serves it


class Workspace(NamedTuple):
    """Where the versions are, the workers that serve them, and what these have answered."""

    store: Store
    keys: KeyStore
    run: Path
    journal: Path


def _complete_version(ctx: click.Context, _param: click.Parameter, beginning: str) -> list[str]:
    """The published versions, for the completion of a shell, which runs no command and so makes no Workspace."""
    root = ctx.find_root().params["artifacts"]
    return [version for version in Store(root).versions() if version.startswith(beginning)]


version_argument = click.argument("version", shell_complete=_complete_version)


def exit_unless(confirmed: bool) -> None:  # noqa: FBT001 -- its only argument
    """Exit with UNCONFIRMED if no worker has confirmed a deployment."""
    if not confirmed:
        sys.exit(UNCONFIRMED)


def roll_out_and_report(
    place: Workspace, target: Callable[[Deployment | None], DeploymentPlan], then: Callable[[], object] | None = None
) -> bool:
    """Deploy, report how many workers serve it, and do what is due then; returns whether any has confirmed it."""
    from service.deployment.rollout import roll_out, told
    from service.deployment.worker_slots import RunFolder

    deployment, workers = roll_out(place.store, RunFolder(place.run), target)
    deployed = told(deployment)
    with changed(deployed):
        if not workers:
            click.echo(f"{deployed}, unconfirmed: no worker runs in {place.run}; those that start will serve it")
        else:
            click.echo(f"{deployed}; {workers} worker{'s serve' if workers > 1 else ' serves'} it")
        if then is not None:
            then()
    return workers > 0
