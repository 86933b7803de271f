"""`appraiser replay`."""

import click

from cli.context import Workspace


@click.command()
@click.argument("prediction_id")
@click.pass_obj
def replay(place: Workspace, prediction_id: str) -> None:
    """Price a recorded house again with its version. Price and bounds may differ by 2 ulp, as exp does."""
    from pricing.inference.predictor import load
    from pricing.journal.journal import find
    from pricing.journal.replay import replayed

    record = find(place.journal, prediction_id)
    artifact = place.store.read(record.model_version, record.sha256)
    found = replayed(record, load(artifact), artifact.manifest.columns)
    if found.differences:
        raise click.ClickException(
            "\n".join([f"{record.model_version} answers otherwise than it did", *found.differences])
        )
    extent = f"within {found.ulps:.0f} ulp, since exp differs between processors" if found.ulps else "to the last bit"
    told = f"{record.predicted_price!r} dollars, {record.lower!r} to {record.upper!r} at {record.confidence_level:.0%}"
    click.echo(f"{record.model_version} answers as at {record.predicted_at:%Y-%m-%d %H:%M:%S} UTC, {extent}:")
    house = [f"{name}={value:g}" for name, value in record.house.items()]
    click.echo(f"{told}, for {' '.join([*house, *(f'{name}={value}' for name, value in record.columns.items())])}")
