"""`appraiser replay`."""

from typing import Final

import click

from cli.context import Workspace

SHOWN: Final = 20


@click.command()
@click.argument("prediction_id", required=False)
@click.option("--sample", type=click.IntRange(1), help="Replay so many recorded predictions, drawn at random.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Seed of the draw.")
@click.pass_obj
def replay(place: Workspace, prediction_id: str | None, sample: int | None, seed: int) -> None:
    """Price a recorded house again with its version. Price and bounds may differ by 2 ulp, as exp does.

    With --sample, predictions are drawn from the whole journal: the same journal and seed give the same ones. The exit
    code is 1 if any answers otherwise than it did, or cannot be priced again.
    """
    if (prediction_id is None) == (sample is None):
        msg = "expected either PREDICTION_ID or --sample NUMBER"
        raise click.UsageError(msg)
    if sample is not None:
        _replay_sample(place, sample, seed)
    elif prediction_id is not None:
        _replay_one(place, prediction_id)


def _replay_one(place: Workspace, prediction_id: str) -> None:
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


def _replay_sample(place: Workspace, sample: int, seed: int) -> None:
    from pricing.inference.predictor import load
    from pricing.journal.journal import read
    from pricing.journal.replay import Replayer, draw

    drawn = draw(read(place.journal), sample, seed)
    if not drawn.records:
        msg = f"{place.journal} holds no predictions"
        raise click.ClickException(msg)
    replayer = Replayer(place.store.read, load)
    failures, exact = [], 0
    for record in drawn.records:
        found = replayer.replay(record)
        exact += not found.differences and not found.ulps
        failures += [f"{record.prediction_id}: {difference}" for difference in found.differences[:1]]
    count = f"{len(drawn.records):,} of {drawn.recorded:,} recorded predictions, drawn by seed {seed}"
    if failures:
        more = [f"and {len(failures) - SHOWN:,} more"] if len(failures) > SHOWN else []
        lines = [f"{count}: {len(failures):,} do not answer as they did", *failures[:SHOWN], *more]
        raise click.ClickException("\n".join(lines))
    click.echo(f"{count}: all answer as they did, {exact:,} to the last bit")
