"""`appraiser serve`, `predict` and `score`: prices from a version, by the service or without one."""

import os
import sys
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final
from urllib.parse import urlencode

import click
import orjson

from cli.context import Command, Output, Workspace, output_options
from cli.sales import RENAME, UNIT, factors_of, pairs, training_libraries, units_of
from pricing.artifacts.manifest import HIGHEST_LEVEL, LOWEST_LEVEL
from pricing.artifacts.store import Store
from pricing.errors import changed
from pricing.house import FEATURES, House

if TYPE_CHECKING:
    from score.run import Scored

MAX_HOUSES: Final = 10_000
MAX_BYTES: Final = 16 * 1024 * 1024
REASONS_SHOWN: Final = 3


@click.command()
@click.pass_obj
def serve(place: Workspace) -> None:
    """Run the service with gunicorn, configured by gunicorn.conf.py in this folder."""
    if not Path("gunicorn.conf.py").is_file():
        msg = f"gunicorn.conf.py was not found in {Path.cwd()}; run this command in the folder that contains it"
        raise click.ClickException(msg)
    from service.settings import read_hosting, read_settings

    os.environ["WEB_CONCURRENCY"] = str(read_hosting().web_concurrency)  # gunicorn reads it before its configuration
    os.environ["APPRAISER_ARTIFACTS"] = str(
        place.store.root
    )  # as given by --artifacts; the service reads the environment
    os.environ["APPRAISER_RUN"] = str(place.run)
    os.environ["APPRAISER_JOURNAL"] = str(place.journal)
    read_settings()  # a wrong one ends the command here, with a sentence
    # Its script, since an upgrade by USR2 runs the same again, and `python -m gunicorn` cannot be run again like that.
    script = str(Path(sys.executable).with_name("gunicorn"))
    os.execv(sys.executable, [sys.executable, script])  # noqa: S606 -- becomes gunicorn, with no shell


def _fields(command: Command) -> Command:
    """An option for each field of a house."""
    for name, field in reversed(House.model_fields.items()):
        command = click.option(f"--{name.replace('_', '-')}", name, type=float, help=field.description)(command)
    return command


@click.command()
@click.argument("file", type=click.File("rb"), required=False)
@_fields
@click.option(
    "--column",
    "columns",
    multiple=True,
    metavar="NAME=VALUE,...",
    help="Further columns that the version knows, for example zip_code=98103.",
)
@click.option("--version", "model_version", help="Version that answers, of those in service; without it, the champion.")
@click.option(
    "--confidence",
    type=click.FloatRange(LOWEST_LEVEL, HIGHEST_LEVEL),
    help="Level of the interval; without it, 0.9.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON, as the service answers.")
@click.pass_obj
def predict(  # noqa: PLR0913 -- one for each option
    place: Workspace,
    /,
    file: BinaryIO | None,
    columns: tuple[str, ...],
    *,
    model_version: str | None,
    confidence: float | None,
    as_json: bool,
    **fields: float | None,
) -> None:
    """Price a house, or the houses of the JSON file FILE, from the deployed version without a service.

    FILE has the body of /predict or of /predict/batch; `-` is stdin. Nothing is recorded in the journal.
    """
    given = {name: fields[name] for name in FEATURES if fields[name] is not None}
    if (file is None) == (not given and not columns):
        msg = "expected either FILE or the options of one house, for example --square-feet 2000"
        raise click.UsageError(msg)
    asked = {"model_version": model_version or "champion", "confidence": confidence}
    query = urlencode({name: value for name, value in asked.items() if value is not None})
    further = {name: _value(value) for name, value in pairs("--column", columns).items()}
    body = file.read(MAX_BYTES + 1) if file else orjson.dumps(given | further)
    answer = _answer(place.store, query, body)
    for house in answer.get("predictions", [answer]):
        del house["prediction_id"]  # it names a record in the journal
    click.echo(orjson.dumps(answer).decode() if as_json else "\n".join(_lines(answer)))


@click.command()
@click.argument("inputs", metavar="IN...", nargs=-1, required=True)
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    required=True,
    help="File of prices that is written: CSV, Parquet or JSON lines, by its ending.",
)
@RENAME
@UNIT
@click.option("--version", "model_version", help="Version that prices; without it, the champion.")
@click.option(
    "--confidence",
    type=click.FloatRange(LOWEST_LEVEL, HIGHEST_LEVEL),
    default=0.9,
    show_default=True,
    help="Level of the interval.",
)
@click.option("--resume", is_flag=True, help="Continue an interrupted run of the same command.")
@click.option(
    "--rows-per-part",
    type=click.IntRange(min=1),
    default=122_880,
    show_default=True,
    help="Rows that a process prices at once; fewer need less memory.",
)
@output_options
@click.pass_obj
def score(  # noqa: PLR0913 -- one for each option
    place: Workspace,
    /,
    inputs: tuple[str, ...],
    out: Path,
    *,
    rename: tuple[str, ...],
    units: tuple[str, ...],
    model_version: str | None,
    confidence: float,
    resume: bool,
    rows_per_part: int,
    output: Output,
) -> None:
    """Price the houses of whole files IN, names or globs, and write their rows with prices to --out.

    The columns price, lower, upper and model_version are added; rows keep their order. A row that is not a valid house
    is written to OUT.refused.csv instead, with its line and the reason. Exit code 5: failed or interrupted, and
    --resume continues.
    """
    with training_libraries("scoring"):
        from score.plan import ScoreOptions
        from score.progress import progress
        from score.run import in_processes, score, usable_cpus
    options = ScoreOptions(
        inputs,
        out,
        model_version,
        confidence,
        pairs("--rename", rename),
        factors_of(units_of(units)),
        resume,
        rows_per_part,
    )
    found = score(place.store, options, in_processes(usable_cpus()), progress(is_silent=output.is_silent))
    with changed(f"{out} is written"):
        _report(out, found, output)


def _report(out: Path, found: "Scored", output: Output) -> None:
    """Print what was written, and why rows were refused."""
    output.echo(f"{out}: {found.rows:,} rows with prices of {found.version}")
    refused_file = None if found.refused_file is None else str(out.with_name(found.refused_file.name))
    if refused_file is not None:
        reasons = ", ".join(f"{reason} ({count:,})" for reason, count in list(found.reasons.items())[:REASONS_SHOWN])
        rows = "row" if found.refused == 1 else "rows"
        more = ", ..." if len(found.reasons) > REASONS_SHOWN else ""
        output.echo(f"{refused_file}: {found.refused:,} refused {rows}: {reasons}{more}")
    output.end(**found._asdict() | {"out": str(out), "refused_file": refused_file})


def _value(text: str) -> float | str:
    """A number if the text is one in JSON; a category may be either."""
    try:
        found = orjson.loads(text)
    except orjson.JSONDecodeError:
        return text
    return found if type(found) in {int, float} else text


def _answer(store: Store, query: str, body: bytes) -> dict[str, Any]:
    """The answer of the service for a body. Raises click.ClickException with what is wrong with it."""
    from pricing.ids import Ids
    from service.contract import batch_of
    from service.deployment.loaded_models import ModelRegistry
    from service.observability.metrics import WorkerMetrics
    from service.predictions.cache import Cache
    from service.predictions.handler import BATCH, SINGLE, Answerer, Request
    from service.predictions.recorder import NullJournal, PredictionRecorder
    from service.trace import Trace

    models, metrics = ModelRegistry(store), WorkerMetrics()
    models.load()
    if models.refused:
        raise click.ClickException(models.refused[0].reason)
    books = PredictionRecorder(NullJournal(), metrics)
    sizes = dict.fromkeys((SINGLE, BATCH), MAX_BYTES)
    answerer = Answerer(models, metrics, books, Cache(0), batch_of(MAX_HOUSES), sizes, Ids())
    path = BATCH if _is_batch(body) else SINGLE
    reply = answerer.answer(Request(path, query, "", "", body, Trace("")))
    answer: dict[str, Any] = orjson.loads(reply.body)
    if reply.status != HTTPStatus.OK:
        problems = answer["detail"]
        raise click.ClickException(problems if isinstance(problems, str) else "; ".join(map(_problem, problems)))
    return answer


def _is_batch(body: bytes) -> bool:
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError:
        return False  # the answer states why it is not JSON
    return isinstance(found, dict) and "houses" in found


def _problem(problem: dict[str, Any]) -> str:
    return ": ".join([" ".join(map(str, problem["loc"][1:])) or "the input", problem["msg"]])


def _lines(answer: dict[str, Any]) -> Iterator[str]:
    """A table of the answer for people, and what is remarkable about it."""
    houses = answer.get("predictions", [answer])
    level = f"{houses[0]['confidence_level']:.0%}"
    yield f"{'house':>5} {'price':>12} {f'lower at {level}':>14} {f'upper at {level}':>14}"
    for number, house in enumerate(houses, 1):
        bounds = house["confidence_interval"]
        yield f"{number:5} {house['predicted_price']:12,.0f} {bounds['lower']:14,.0f} {bounds['upper']:14,.0f}"
    dated = f", valued as of {houses[0]['valued_as_of']}" if "valued_as_of" in houses[0] else ""
    yield f"US dollars, by {houses[0]['model_version']}{dated}"
    for number, house in enumerate(houses, 1):
        yield from (f"house {number}: {warning['msg']}" for warning in house.get("warnings", ()))
        if "predictions" in answer and (names := house.get("not_given")):
            yield f"house {number}: not given: {', '.join(names)}"
    if names := answer.get("not_given"):
        yield f"not given: {', '.join(names)}"
