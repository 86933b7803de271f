"""`appraiser promote`, `rollback` and `split`."""

from collections.abc import Mapping

import click

from cli.context import Workspace, exit_unless, roll_out_and_report, version_argument
from pricing.artifacts import deployment as plans
from pricing.artifacts.manifest import is_version


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


@click.command()
@version_argument
@click.pass_obj
def promote(place: Workspace, version: str) -> None:
    """Deploy VERSION after checking it as `verify` does; ends a split."""
    exit_unless(roll_out_and_report(place, lambda current: plans.promote(current, version)))


@click.command()
@click.pass_obj
def rollback(place: Workspace) -> None:
    """Deploy the previous champion again."""
    exit_unless(roll_out_and_report(place, plans.roll_back))


@click.command()
@click.argument("weights", nargs=-1, required=True, metavar="VERSION=PERCENT...", callback=_weights)
@click.pass_obj
def split(place: Workspace, weights: Mapping[str, int]) -> None:
    """Split clients over the champion and other versions, by whole percent; VERSION=100 ends a split."""
    exit_unless(roll_out_and_report(place, lambda current: plans.split_traffic(current, weights)))
