"""`appraiser train`, `appraiser retrain` and `appraiser recalibrate`."""

import sys
from typing import TYPE_CHECKING, Final, cast

import click

from cli.context import Workspace, exit_unless, roll_out_and_report
from cli.sales import ColumnOptions, DataOptions, column_options, data_options, training_libraries
from pricing.artifacts import deployment as plans
from pricing.errors import JournalError, changed
from train.models.family_names import FAMILY_NAMES, FamilyName

if TYPE_CHECKING:
    from pathlib import Path

    from train.promotion.judge import Verdict

NOT_BETTER: Final = 4  # exit code: the challenger stays published and is not deployed

family_option = click.option(
    "--family", type=click.Choice(FAMILY_NAMES), help="Without it, the better of the two by cross-validation."
)
seed_option = click.option(
    "--seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True, help="Seed of everything that is random."
)
keep_sales_option = click.option(
    "--keep-sales",
    is_flag=True,
    help="Keep the sales that are learned from in the version, for comparables: the service shows them to its clients.",
)
keep_option = click.option(
    "--keep",
    type=click.IntRange(1),
    default=20,
    envvar="APPRAISER_KEEP_VERSIONS",
    show_default=True,
    show_envvar=True,
    help="Versions that `train` and `retrain` keep; none that is deployed, or that the journal names, is removed.",
)


@click.command()
@data_options(without="; without it, the synthetic market")
@column_options("none")
@family_option
@click.option("--version", help="Name of the new version, for example v2.0.0; without it, the next minor one.")
@keep_sales_option
@click.option("--deploy", is_flag=True, help="Deploy it also when another version is deployed.")
@seed_option
@keep_option
@click.pass_obj
def train(  # noqa: PLR0913 -- one for each option
    place: Workspace,
    family: FamilyName | None,
    version: str | None,
    *,
    data: DataOptions,
    columns: ColumnOptions,
    keep_sales: bool,
    deploy: bool,
    seed: int,
    keep: int,
) -> None:
    """Train a version and publish it; the first one is deployed too.

    Exit code 0: done; 1: failed, and nothing has changed; 5: failed or interrupted, and the last line states what
    is published or deployed.
    """
    with training_libraries():
        from train.promotion.publish import TrainOptions, train_and_publish
    chosen = columns.choice() or {}
    options = TrainOptions(data.path, data.query, family, version, deploy, seed, data.reading(), chosen, keep_sales)
    trained = train_and_publish(place.store, options)
    published = trained.manifest.version
    with changed(f"{published} is published"):
        if trained.deploy:
            roll_out_and_report(
                place,
                lambda current: plans.promote(current, published),
                then=lambda: _remove_old(place, keep, published),
            )
        else:
            click.echo(f"not deployed: `appraiser promote {published}` does it")
            _remove_old(place, keep, published)


@click.command()
@data_options(required=True)
@column_options("those of the champion")
@family_option
@keep_sales_option
@seed_option
@keep_option
@click.option("--dry-run", is_flag=True, help="Judge only: publish and deploy nothing.")
@click.pass_obj
def retrain(  # noqa: PLR0913 -- one for each option
    place: Workspace,
    family: FamilyName | None,
    *,
    data: DataOptions,
    columns: ColumnOptions,
    keep_sales: bool,
    seed: int,
    keep: int,
    dry_run: bool,
) -> None:
    """Train a challenger on new data, judge it against the champion, and deploy it only if it is better.

    Exit code 0: better and deployed (or, of a dry run, better); 3: deployed, but no running worker confirmed it; 4: not
    better, so it stays published and is not deployed; 1: failed, and everything is as it was; 5: failed or interrupted,
    and the last line states what is published or deployed.
    """
    with training_libraries():
        from train.promotion.retraining import RetrainOptions, retrain
    path = cast("Path", data.path)  # it is required
    options = RetrainOptions(path, data.query, family, seed, dry_run, data.reading(), columns.choice(), keep_sales)
    verdict = retrain(place.store, options)
    confirmed = True
    if not dry_run:
        with changed(f"{verdict.challenger} is published"):
            confirmed = _judged(place, keep, verdict)
    if not verdict.is_better:
        sys.exit(NOT_BETTER)
    exit_unless(confirmed)


@click.command()
@data_options(required=True)
@click.option("--deploy", is_flag=True, help="Deploy it if it is better.")
@keep_option
@click.pass_obj
def recalibrate(place: Workspace, *, data: DataOptions, deploy: bool, keep: int) -> None:
    """Give the champion the level and the intervals of recent sales, as a patch version with the same graph.

    It needs 200 sales that the graph has not learned from. Exit code 0: better, and deployed if --deploy was given;
    3: deployed, but no running worker confirmed it; 4: not better, so it stays published and is not deployed; 1:
    failed, and nothing has changed; 5: failed or interrupted, and the last line states what is published or deployed.
    """
    with training_libraries():
        from train.promotion.recalibrating import RecalibrateOptions, recalibrate
    path = cast("Path", data.path)  # it is required
    manifest = recalibrate(place.store, RecalibrateOptions(path, data.query, data.reading()))
    found = manifest.recalibrated
    if found is None or found.against:
        sys.exit(NOT_BETTER)
    if not deploy:
        click.echo(f"not deployed: `appraiser promote {manifest.version}` does it")
        return
    with changed(f"{manifest.version} is published"):
        confirmed = roll_out_and_report(
            place,
            lambda current: plans.promote_challenger(current, found.parent, manifest.version),
            then=lambda: _remove_old(place, keep, manifest.version),
        )
    exit_unless(confirmed)


def _judged(place: Workspace, keep: int, verdict: "Verdict") -> bool:
    """Deploy a challenger that is better, and prune; returns whether the deployment, if there is one, is confirmed."""

    def prune() -> None:
        _remove_old(place, keep, verdict.challenger)

    if verdict.is_better:
        return roll_out_and_report(
            place, lambda current: plans.promote_challenger(current, verdict.champion, verdict.challenger), then=prune
        )
    prune()
    return True


def _remove_old(place: Workspace, keep: int, newest: str) -> None:
    """Remove the oldest versions beyond `keep`, but none while it is not known which ones the journal names."""
    from pricing.journal.journal import named_versions

    if len(place.store.versions()) <= keep:
        return
    try:
        named = named_versions(place.journal)
    except JournalError as error:
        told = "--journal or APPRAISER_JOURNAL names its folder"
        click.echo(f"no version is removed, though more than {keep} are published: {error}; {told}", err=True)
        return
    for version in place.store.prune(keep, {newest, *named}):
        click.echo(f"removed {version}: {keep} versions are kept")
