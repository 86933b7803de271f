"""`appraiser ...`: every command of the product; each translates its arguments and delegates.

What a command needs is imported inside it, so that a host without scikit-learn can still promote and serve.
"""

import os
import sys
from pathlib import Path

import click

from pricing.errors import AppraiserError, ArtifactError, DamagedArtifactError, NothingDeployedError
from pricing.store import Store
from train.names import FAMILY_NAMES, FamilyName


class _Commands(click.Group):
    """An error of the domain ends its command with one sentence and exit code 1; nothing else is caught."""

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except AppraiserError as error:
            raise click.ClickException(str(error)) from error


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--artifacts",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("artifacts"),
    envvar="APPRAISER_ARTIFACTS",
    show_default=True,
    show_envvar=True,
    help="Folder of the published versions.",
)
@click.pass_context
def main(ctx: click.Context, artifacts: Path) -> None:
    """House prices with an interval that holds at its level."""
    ctx.obj = Store(artifacts)


@main.command()
@click.option("--data", type=click.Path(path_type=Path), help="CSV or Parquet; without it, the synthetic market.")
@click.option(
    "--family",
    type=click.Choice(FAMILY_NAMES),
    help="Without it, the better of the two by cross-validation.",
)
@click.option("--version", help="Name of the new version, for example v2.0.0; without it, the next minor one.")
@click.option("--deploy", is_flag=True, help="Deploy it also when another version is deployed.")
@click.option(
    "--seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True, help="Seed of everything that is random."
)
@click.pass_obj
def train(  # noqa: PLR0913 -- one for each option
    store: Store, data: Path | None, family: FamilyName | None, version: str | None, *, deploy: bool, seed: int
) -> None:
    """Train a version and publish it; the first one is deployed too."""
    try:
        from train.command import Order, train_and_publish
    except ImportError as error:
        msg = f"training needs {error.name}: install requirements-train.txt, or use the image for training"
        raise click.ClickException(msg) from error
    train_and_publish(store, Order(data, family, version, deploy, seed))


@main.command()
@click.pass_obj
def models(store: Store) -> None:
    """List what is published and what is deployed."""
    versions = store.versions()
    if not versions:
        click.echo(f"nothing is published in {store.root}; `appraiser train` makes a first version")
    champion, seals, sentence = _deployed(store)
    for version in versions:
        mark = "*" if version == champion else " "
        click.echo(f"{mark} {version:10} {_description(store, version, seals.get(version))}")
    if versions and champion is None:
        click.echo(sentence)


@main.command()
@click.argument("version")
@click.pass_obj
def verify(store: Store, version: str) -> None:
    """Check digest, manifest and examples of VERSION."""
    from pricing.predictor import load

    artifact = store.read(version, store.seal(version))
    load(artifact)
    click.echo(f"{version}: digest, manifest and {len(artifact.manifest.examples)} examples are as published")


@main.command()
@click.argument("version")
@click.pass_obj
def promote(store: Store, version: str) -> None:
    """Deploy VERSION after checking it as `verify` does."""
    from pricing.predictor import load

    load(store.read(version, store.seal(version)))
    deployment = store.deploy(version)
    click.echo(f"{version} is deployed as generation {deployment.generation}; running workers serve it once restarted")


@main.command()
@click.pass_obj
def serve(store: Store) -> None:
    """Run the service with gunicorn, as gunicorn.conf.py in this folder says."""
    if not Path("gunicorn.conf.py").is_file():
        msg = f"there is no gunicorn.conf.py in {Path.cwd()}; run this command in the folder that holds it"
        raise click.ClickException(msg)
    os.environ["APPRAISER_ARTIFACTS"] = str(store.root)  # as given by --artifacts; the service reads the environment
    os.execv(sys.executable, [sys.executable, "-m", "gunicorn"])  # noqa: S606 -- becomes gunicorn, with no shell


def _deployed(store: Store) -> tuple[str | None, dict[str, str], str]:
    """The champion and the seals of the deployment, or no champion and a sentence that says why."""
    try:
        deployment = store.deployment()
    except NothingDeployedError:
        return None, {}, "no version is deployed; `appraiser promote VERSION` deploys one"
    except DamagedArtifactError as error:
        return None, {}, str(error)
    return deployment.champion, deployment.sha256, ""


def _description(store: Store, version: str, seal: str | None) -> str:
    try:
        manifest = store.read(version, seal).manifest
    except ArtifactError as error:
        return f"damaged: {error}"
    test = manifest.metrics.test
    return (
        f"{manifest.family:17} {manifest.created_at:%Y-%m-%d %H:%M} UTC  test MAPE {test.mape:.1%}  R² {test.r2:.3f}  "
        f"{manifest.data.source}"
    )
