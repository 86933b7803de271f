"""`appraiser models`, `appraiser verify`, `appraiser study` and `appraiser report`."""

from pathlib import Path
from typing import cast

import click

from cli.context import Workspace, version_argument
from cli.sales import DataOptions, data_options, training_libraries
from pricing.artifacts.deployment import Deployment
from pricing.artifacts.store import REPORT_FILE, Store
from pricing.errors import ArtifactError, DamagedArtifactError, NothingDeployedError


@click.command()
@click.pass_obj
def models(place: Workspace) -> None:
    """List what is published and what is deployed."""
    versions = place.store.versions()
    if not versions:
        click.echo(f"no version is published in {place.store.root}; `appraiser train` makes a first version")
    deployment, sentence = _deployed(place.store)
    for version in versions:
        role = _role(deployment, version)
        seal = None if deployment is None else deployment.sha256.get(version)
        click.echo(f"{version:10} {role:15} {_description(place.store, version, seal)}")
    if versions:
        click.echo(sentence + (_served(place.run, deployment.generation) if deployment else ""))


@click.command()
@version_argument
@click.pass_obj
def verify(place: Workspace, version: str) -> None:
    """Check digest, manifest and examples of VERSION, in a child process with limits."""
    from pricing.inference.sandbox import load_in_sandbox

    artifact = place.store.read(version, place.store.seal(version))
    load_in_sandbox(artifact)
    click.echo(f"{version}: digest, manifest and {len(artifact.manifest.examples)} examples are as published")


@click.command()
@version_argument
@data_options(required=True)
@click.option("--by", metavar="COLUMN", help="Also by category of this column of the file.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def study(place: Workspace, version: str, *, data: DataOptions, by: str | None, as_json: bool) -> None:
    """Compare the predictions of VERSION with the prices of a file, by the measures of mass appraisal.

    Errors on sales that the version has learned from are too small: bring sales that it has not seen.
    """
    with training_libraries():
        from train.promotion.studying import StudyOptions, study_file
    path = cast("Path", data.path)  # it is required
    study_file(place.store, StudyOptions(version, path, data.query, data.reading(), by, as_json))


@click.command()
@version_argument
@click.option(
    "--html",
    "path",
    type=click.Path(path_type=Path, dir_okay=False),
    help="File to write; without it, report-VERSION.html.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON, and write a file only with --html.")
@click.pass_obj
def report(place: Workspace, version: str, path: Path | None, *, as_json: bool) -> None:
    """Write the report of VERSION again, from its manifest.

    A version that was published with a report has it in its folder, and the service shows it at /model/report.
    """
    from report.page import figures_as_json, report_of

    manifest = place.store.read(version, place.store.seal(version)).manifest
    if as_json:
        click.echo(figures_as_json(manifest))
        if path is None:
            return
    page, path = report_of(manifest), path or Path(f"report-{version}.html")
    path.write_bytes(page)
    published = place.store.read_beside(version, REPORT_FILE)
    if published is None:
        told = f"{version} was published without a report"
    elif published == page:
        told = "the published report is the same"
    else:
        told = "the published report differs: another release has written it, or it was changed"
    click.echo(f"{path}: the report of {version}; {told}", err=as_json)


def _served(run: Path, generation: int) -> str:
    from service.deployment.worker_slots import RunFolder

    workers = RunFolder(run).workers()
    if not workers:
        return f"; no worker runs in {run}"
    return f"; {sum(worker.generation == generation for worker in workers)} of {len(workers)} workers serve it"


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
