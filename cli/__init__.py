"""`appraiser ...`: every command of the product; each translates its arguments and delegates.

What a command needs is imported inside it, so that a host without scikit-learn can still promote and serve.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from cli import deployment, journal, keys, serve, training, versions
from cli.context import Workspace
from cli.endings import Commands
from pricing.artifacts.store import Store
from service.access.api_keys import KeyStore
from service.settings import PREFIX, Settings

Decorated = TypeVar("Decorated", bound=Callable[..., Any])


def folder(name: str) -> Callable[[Decorated], Decorated]:
    """An option for a folder that is also a setting of the service: declared there, with default and description."""
    field = Settings.model_fields[name]
    return click.option(
        f"--{name}",
        type=click.Path(path_type=Path, file_okay=False),
        default=field.default,
        envvar=f"{PREFIX}{name.upper()}",
        show_default=True,
        show_envvar=True,
        help=field.description,
    )


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@folder("artifacts")
@folder("run")
@folder("journal")
@click.pass_context
def main(ctx: click.Context, artifacts: Path, run: Path, journal: Path) -> None:
    """House prices with an interval that holds at its level."""
    ctx.obj = Workspace(Store(artifacts), KeyStore(artifacts), run, journal)


for command in (
    *(
        training.train,
        training.retrain,
        training.recalibrate,
        versions.models,
        versions.verify,
        versions.study,
        versions.report,
        deployment.promote,
        deployment.rollback,
    ),
    *(deployment.split, journal.replay, keys.keys, serve.serve),
):
    main.add_command(command)
