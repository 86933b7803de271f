"""`appraiser ...`: every command of the product; each translates its arguments and delegates.

What a command needs is imported inside it, so that a host without scikit-learn can still promote and serve.
"""

from pathlib import Path

import click

from cli import deployment, journal, keys, serve, training, versions
from cli.context import Workspace
from cli.endings import Commands
from pricing.artifacts.store import Store
from service.access.api_keys import KeyStore


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--artifacts",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("artifacts"),
    envvar="APPRAISER_ARTIFACTS",
    show_default=True,
    show_envvar=True,
    help="Folder of the published versions.",
)
@click.option(
    "--run",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("run"),
    envvar="APPRAISER_RUN",
    show_default=True,
    show_envvar=True,
    help="Folder in which workers say what they serve.",
)
@click.option(
    "--journal",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("journal"),
    envvar="APPRAISER_JOURNAL",
    show_default=True,
    show_envvar=True,
    help="Folder in which every prediction is recorded.",
)
@click.pass_context
def main(ctx: click.Context, artifacts: Path, run: Path, journal: Path) -> None:
    """House prices with an interval that holds at its level."""
    ctx.obj = Workspace(Store(artifacts), KeyStore(artifacts), run, journal)


for command in (
    *(training.train, training.retrain, versions.models, versions.verify, deployment.promote, deployment.rollback),
    *(deployment.split, journal.replay, keys.keys, serve.serve),
):
    main.add_command(command)
