"""Shared by several commands: the folders they work in, and the rollout of a deployment."""

import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar

import click
import orjson

from pricing.artifacts.deployment import Deployment, DeploymentPlan
from pricing.artifacts.store import Store
from pricing.errors import changed
from service.access.api_keys import KeyStore

Command = TypeVar("Command", bound=Callable[..., Any])

# Exit code beside 0, 2 (a wrong command line) and those of cli/endings.py
UNCONFIRMED: Final = 3  # deployed, but no running worker can confirm that it serves it


class Output(NamedTuple):
    """The amount of output of a long command: each step, only what has changed, or one JSON object."""

    is_quiet: bool
    as_json: bool

    @property
    def is_silent(self) -> bool:
        """Whether steps and figures are left out."""
        return self.is_quiet or self.as_json

    def echo(self, sentence: str) -> None:
        """Print what has changed."""
        if not self.as_json:
            click.echo(sentence)

    def end(self, **found: object) -> None:
        """Print the JSON object if it is asked for."""
        if self.as_json:
            click.echo(orjson.dumps(found).decode())


EVERYTHING: Final = Output(is_quiet=False, as_json=False)


def output_options(command: Command) -> Command:
    """Decorate a command, which gets `output` of type Output."""

    @click.option("--quiet", "-q", is_flag=True, help="Print only what is published and deployed, and errors.")
    @click.option("--json", "as_json", is_flag=True, help="Print one JSON object, and errors.")
    @wraps(command)
    def with_output(*arguments: object, quiet: bool, as_json: bool, **others: object) -> object:
        return command(*arguments, output=Output(quiet, as_json), **others)

    return with_output  # type: ignore[return-value]  # the same command with other parameters


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
    place: Workspace,
    target: Callable[[Deployment | None], DeploymentPlan],
    then: Callable[[], object] | None = None,
    output: Output = EVERYTHING,
) -> bool:
    """Deploy, report how many workers serve it, and do what is due then; returns whether any has confirmed it."""
    from service.deployment.rollout import roll_out, told
    from service.deployment.worker_slots import RunFolder

    deployment, workers = roll_out(place.store, RunFolder(place.run), target)
    deployed = told(deployment)
    with changed(deployed):
        if not workers:
            output.echo(f"{deployed}, unconfirmed: no worker runs in {place.run}; those that start will serve it")
        else:
            output.echo(f"{deployed}; {workers} worker{'s serve' if workers > 1 else ' serves'} it")
        if then is not None:
            then()
    return workers > 0
