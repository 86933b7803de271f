"""`appraiser train`, `appraiser retrain` and `appraiser recalibrate`."""

import sys
from typing import TYPE_CHECKING, Final, cast

import click

from cli.context import Output, Workspace, exit_unless, output_options, roll_out_and_report
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
outliers_option = click.option(
    "--exclude-outliers", is_flag=True, help="Learn nothing from sales that look like no market sales; it lists them."
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
@outliers_option
@family_option
@click.option("--version", help="Name of the new version, for example v2.0.0; without it, the next minor one.")
@keep_sales_option
@click.option("--deploy", is_flag=True, help="Deploy it also when another version is deployed.")
@seed_option
@keep_option
@output_options
@click.pass_obj
def train(  # noqa: PLR0913 -- one for each option
    place: Workspace,
    family: FamilyName | None,
    version: str | None,
    *,
    data: DataOptions,
    columns: ColumnOptions,
    exclude_outliers: bool,
    keep_sales: bool,
    deploy: bool,
    seed: int,
    keep: int,
    output: Output,
) -> None:
    """Train a version and publish it; the first one is deployed too.

    Exit code 0: done; 1: failed, and nothing has changed; 5: failed or interrupted, and the last line states what
    is published or deployed.
    """
    with training_libraries():
        from train.promotion.publish import TrainOptions, plain, train_and_publish
    options = TrainOptions(
        data=data.path,
        query=data.query,
        family=family,
        version=version,
        deploy=deploy,
        seed=seed,
        reading=data.reading(),
        columns=columns.choice() or {},
        exclude_outliers=exclude_outliers,
        keep_sales=keep_sales,
        audit=columns.audit,
    )
    trained = train_and_publish(place.store, options, plain(is_silent=output.is_silent))
    published, confirmed = trained.manifest.version, False
    with changed(f"{published} is published"):
        if trained.deploy:
            confirmed = roll_out_and_report(
                place,
                lambda current: plans.promote(current, published),
                lambda: _remove_old(place, keep, published, output),
                output,
            )
        else:
            output.echo(f"not deployed: `appraiser promote {published}` does it")
            _remove_old(place, keep, published, output)
        metrics = trained.manifest.metrics.model_dump(mode="json", include={"test", "intervals"})
        output.end(version=published, deployed=trained.deploy, confirmed=confirmed, metrics=metrics)


@click.command()
@data_options(required=True)
@column_options("those of the champion")
@outliers_option
@family_option
@keep_sales_option
@seed_option
@keep_option
@output_options
@click.option("--dry-run", is_flag=True, help="Judge only: publish and deploy nothing.")
@click.pass_obj
def retrain(  # noqa: PLR0913 -- one for each option
    place: Workspace,
    family: FamilyName | None,
    *,
    data: DataOptions,
    columns: ColumnOptions,
    exclude_outliers: bool,
    keep_sales: bool,
    seed: int,
    keep: int,
    output: Output,
    dry_run: bool,
) -> None:
    """Train a challenger on new data, judge it against the champion, and deploy it only if it is better.

    Exit code 0: better and deployed (or, of a dry run, better); 3: deployed, but no running worker confirmed it; 4: not
    better, so it stays published and is not deployed; 1: failed, and everything is as it was; 5: failed or interrupted,
    and the last line states what is published or deployed.
    """
    with training_libraries():
        from train.promotion.publish import plain
        from train.promotion.retraining import RetrainOptions, retrain
    path = cast("Path", data.path)  # it is required
    options = RetrainOptions(
        data=path,
        query=data.query,
        family=family,
        seed=seed,
        dry_run=dry_run,
        reading=data.reading(),
        columns=columns.choice(),
        exclude_outliers=exclude_outliers,
        keep_sales=keep_sales,
        audit=columns.audit,
    )
    verdict = retrain(place.store, options, plain(is_silent=output.is_silent))
    confirmed = True
    if not dry_run:
        with changed(f"{verdict.challenger} is published"):
            confirmed = _judged(place, keep, verdict, output)
    deployed = verdict.is_better and not dry_run
    output.end(**verdict.model_dump(mode="json"), deployed=deployed, confirmed=deployed and confirmed)
    if not verdict.is_better:
        sys.exit(NOT_BETTER)
    exit_unless(confirmed)


@click.command()
@data_options(required=True)
@click.option("--deploy", is_flag=True, help="Deploy it if it is better.")
@keep_option
@output_options
@click.pass_obj
def recalibrate(place: Workspace, *, data: DataOptions, deploy: bool, keep: int, output: Output) -> None:
    """Give the champion the level and the intervals of recent sales, as a patch version with the same graph.

    It needs 200 sales that the graph has not learned from. Exit code 0: better, and deployed if --deploy was given;
    3: deployed, but no running worker confirmed it; 4: not better, so it stays published and is not deployed; 1:
    failed, and nothing has changed; 5: failed or interrupted, and the last line states what is published or deployed.
    """
    with training_libraries():
        from train.promotion.publish import plain
        from train.promotion.recalibrating import RecalibrateOptions, recalibrate
    path = cast("Path", data.path)  # it is required
    reading = RecalibrateOptions(path, data.query, data.reading())
    manifest = recalibrate(place.store, reading, plain(is_silent=output.is_silent))
    found = manifest.recalibrated
    is_better, confirmed = found is not None and not found.against, False
    with changed(f"{manifest.version} is published"):
        if found is not None and is_better and deploy:
            confirmed = roll_out_and_report(
                place,
                lambda current: plans.promote_challenger(current, found.parent, manifest.version),
                lambda: _remove_old(place, keep, manifest.version, output),
                output,
            )
        elif is_better:
            output.echo(f"not deployed: `appraiser promote {manifest.version}` does it")
        deployed = is_better and deploy
        recalibrated = None if found is None else found.model_dump(mode="json")
        output.end(version=manifest.version, deployed=deployed, confirmed=confirmed, recalibrated=recalibrated)
    if not is_better:
        sys.exit(NOT_BETTER)
    exit_unless(confirmed or not deploy)


def _judged(place: Workspace, keep: int, verdict: "Verdict", output: Output) -> bool:
    """Deploy a challenger that is better, and prune; returns whether the deployment, if there is one, is confirmed."""

    def prune() -> None:
        _remove_old(place, keep, verdict.challenger, output)

    if verdict.is_better:
        return roll_out_and_report(
            place,
            lambda current: plans.promote_challenger(current, verdict.champion, verdict.challenger),
            prune,
            output,
        )
    prune()
    return True


def _remove_old(place: Workspace, keep: int, newest: str, output: Output) -> None:
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
        output.echo(f"removed {version}: {keep} versions are kept")
