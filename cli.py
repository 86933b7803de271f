"""`appraiser ...`: every command of the product; each translates its arguments and delegates.

What a command needs is imported inside it, so that a host without scikit-learn can still promote and serve.
"""

import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, NamedTuple

import click

from pricing.deployment import Deployment, Target, divided, promoted, rolled_back
from pricing.errors import AppraiserError, ArtifactError, DamagedArtifactError, NothingDeployedError
from pricing.manifest import is_version
from pricing.store import Store
from train.names import FAMILY_NAMES, FamilyName

UNCONFIRMED: Final = 3  # exit code: deployed, but no worker lives that could say that it serves it


class Place(NamedTuple):
    """Where the versions are, and the workers that serve them."""

    store: Store
    run: Path


class _Commands(click.Group):
    """An error of the domain ends its command with one sentence and exit code 1; nothing else is caught."""

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except AppraiserError as error:
            raise click.ClickException(str(error)) from error


def _weights(_ctx: click.Context, _param: click.Parameter, value: tuple[str, ...]) -> dict[str, int]:
    """Parse `v1.0.0=90 v1.1.0=10`."""
    weights: dict[str, int] = {}
    for word in value:
        version, _, percent = word.partition("=")
        if not (is_version(version) and percent.isdecimal()) or version in weights:
            msg = f"expected VERSION=PERCENT, each version once, for example v1.0.0=90 v1.1.0=10; got {word!r}"
            raise click.BadParameter(msg)
        weights[version] = int(percent)
    return weights


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
@click.option(
    "--run",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("run"),
    envvar="APPRAISER_RUN",
    show_default=True,
    show_envvar=True,
    help="Folder in which workers say what they serve.",
)
@click.pass_context
def main(ctx: click.Context, artifacts: Path, run: Path) -> None:
    """House prices with an interval that holds at its level."""
    ctx.obj = Place(Store(artifacts), run)


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
    place: Place, data: Path | None, family: FamilyName | None, version: str | None, *, deploy: bool, seed: int
) -> None:
    """Train a version and publish it; the first one is deployed too."""
    try:
        from train.command import Order, train_and_publish
    except ImportError as error:
        msg = f"training needs {error.name}: install requirements-train.txt, or use the image for training"
        raise click.ClickException(msg) from error
    train_and_publish(place.store, Order(data, family, version, deploy, seed))


@main.command()
@click.pass_obj
def models(place: Place) -> None:
    """List what is published and what is deployed."""
    versions = place.store.versions()
    if not versions:
        click.echo(f"nothing is published in {place.store.root}; `appraiser train` makes a first version")
    deployment, sentence = _deployed(place.store)
    for version in versions:
        role = _role(deployment, version)
        seal = None if deployment is None else deployment.sha256.get(version)
        click.echo(f"{version:10} {role:15} {_description(place.store, version, seal)}")
    if versions:
        click.echo(sentence)


@main.command()
@click.argument("version")
@click.pass_obj
def verify(place: Place, version: str) -> None:
    """Check digest, manifest and examples of VERSION."""
    checked = _check(place.store, version)
    click.echo(f"{version}: digest, manifest and {checked} examples are as published")


@main.command()
@click.argument("version")
@click.pass_obj
def promote(place: Place, version: str) -> None:
    """Deploy VERSION after checking it as `verify` does; ends a split."""
    _roll_out(place, lambda current: promoted(current, version))


@main.command()
@click.pass_obj
def rollback(place: Place) -> None:
    """Deploy the previous champion again."""
    _roll_out(place, rolled_back)


@main.command()
@click.argument("weights", nargs=-1, required=True, metavar="VERSION=PERCENT...", callback=_weights)
@click.pass_obj
def split(place: Place, weights: Mapping[str, int]) -> None:
    """Split clients over the champion and other versions, by whole percent; VERSION=100 ends a split."""
    _roll_out(place, lambda current: divided(current, weights))


@main.command()
@click.pass_obj
def serve(place: Place) -> None:
    """Run the service with gunicorn, as gunicorn.conf.py in this folder says."""
    if not Path("gunicorn.conf.py").is_file():
        msg = f"there is no gunicorn.conf.py in {Path.cwd()}; run this command in the folder that holds it"
        raise click.ClickException(msg)
    os.environ["APPRAISER_ARTIFACTS"] = str(
        place.store.root
    )  # as given by --artifacts; the service reads the environment
    os.environ["APPRAISER_RUN"] = str(place.run)
    os.execv(sys.executable, [sys.executable, "-m", "gunicorn"])  # noqa: S606 -- becomes gunicorn, with no shell


def _roll_out(place: Place, target: Callable[[Deployment | None], Target]) -> None:
    """Check what would answer, deploy it, and say how many workers serve it."""
    from service.rollout import roll_out
    from service.slots import RunFolder

    wanted = target(place.store.current())
    for version in {wanted.champion, *wanted.split}:
        _check(place.store, version)
    deployment, workers = roll_out(place.store, RunFolder(place.run), target)
    arms = " ".join(f"{version}={weight}" for version, weight in deployment.arms.items())
    deployed = f"{arms if deployment.split else deployment.champion} is deployed as generation {deployment.generation}"
    if not workers:
        click.echo(f"{deployed}, unconfirmed: no worker lives in {place.run}; those that start will serve it")
        sys.exit(UNCONFIRMED)
    click.echo(f"{deployed}; {workers} worker{'s serve' if workers > 1 else ' serves'} it")


def _check(store: Store, version: str) -> int:
    """Load a version as a worker does; returns the number of its examples."""
    from pricing.predictor import load

    artifact = store.read(version, store.seal(version))
    load(artifact)
    return len(artifact.manifest.examples)


def _role(deployment: Deployment | None, version: str) -> str:
    if deployment is None or version not in deployment.named():
        return ""
    weight = deployment.arms.get(version)
    return deployment.role(version) + (f" {weight} %" if weight else "")


def _deployed(store: Store) -> tuple[Deployment | None, str]:
    """The deployment, or none, and a sentence about it."""
    try:
        deployment = store.deployment()
    except NothingDeployedError:
        return None, "no version is deployed; `appraiser promote VERSION` deploys one"
    except DamagedArtifactError as error:
        return None, str(error)
    return deployment, f"generation {deployment.generation} is deployed"


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
