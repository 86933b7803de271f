"""`appraiser ...`: every command of the product; each translates its arguments and delegates.

What a command needs is imported inside it, so that a host without scikit-learn can still promote and serve.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import click
from click.shell_completion import get_completion_class

from cli import deployment, journal, keys, serving, training, versions
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


@click.command()
@click.argument("shell", type=click.Choice(("bash", "zsh", "fish")))
def completion(shell: str) -> None:
    """Print the script that completes commands, options and versions in SHELL."""
    kind = get_completion_class(shell)
    if kind is not None:  # click has one for each choice
        click.echo(kind(main, {}, "appraiser", "_APPRAISER_COMPLETE").source())


EXAMPLES: Final = {
    "train": (
        "appraiser train",
        "appraiser train --data sales.csv --columns all --deploy",
        "appraiser train --data sales.csv --rename sqft_living=square_feet --unit distance_to_city=km",
    ),
    "retrain": ("appraiser retrain --data newer.csv", "appraiser retrain --data newer.csv --dry-run"),
    "recalibrate": ("appraiser recalibrate --data newer.csv --deploy",),
    "models": ("appraiser models",),
    "verify": ("appraiser verify v1.0.0",),
    "study": ("appraiser study v1.0.0 --data newer.csv --by zip_code",),
    "report": ("appraiser report v1.0.0 --html report.html", "appraiser report v1.0.0 --json"),
    "promote": ("appraiser promote v1.1.0",),
    "rollback": ("appraiser rollback",),
    "split": ("appraiser split v1.0.0=90 v1.1.0=10", "appraiser split v1.0.0=100"),
    "replay": ("appraiser replay 01a213a0-e734-772e-95a2-173959bf94c9",),
    "predict": (
        "appraiser predict --square-feet 2000 --bedrooms 3 --bathrooms 2 --age-years 10 --distance-to-city 5",
        "appraiser predict house.json --confidence 0.5",
        "curl -s example.com/houses.json | appraiser predict - --json",
    ),
    "score": (
        "appraiser score houses.parquet --out prices.parquet",
        "appraiser score 'houses/*.csv' --out prices.csv --rename sqft_living=square_feet --unit distance_to_city=km",
        "appraiser score houses.parquet --out prices.parquet --resume",
    ),
    "serve": ("appraiser serve",),
    "completion": (
        'eval "$(appraiser completion bash)"    # in ~/.bashrc',
        'eval "$(appraiser completion zsh)"     # in ~/.zshrc',
        "appraiser completion fish | source     # in ~/.config/fish/config.fish",
    ),
}

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
    *(deployment.split, journal.replay, keys.keys, serving.predict, serving.score, serving.serve, completion),
):
    if command.name in EXAMPLES:
        command.epilog = "\n".join(["\b", "Examples:", *(f"  {line}" for line in EXAMPLES[command.name])])
    main.add_command(command)
