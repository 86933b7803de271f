"""`appraiser ...`: every command of the product; each translates its arguments and delegates.

What a command needs is imported inside it, so that a host without scikit-learn can still promote and serve.
"""

import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import click

from cli.endings import Commands, uninterrupted
from pricing.artifacts import deployment as plans
from pricing.artifacts.deployment import Deployment, DeploymentPlan
from pricing.artifacts.manifest import is_version
from pricing.artifacts.store import Store
from pricing.errors import ArtifactError, DamagedArtifactError, JournalError, NothingDeployedError, changed
from service.access.api_keys import LONGEST_NOTE, SCOPES, Key, KeyStore, Scope
from train.models.family_names import FAMILY_NAMES, FamilyName

if TYPE_CHECKING:
    from train.promotion.judge import Verdict

# Exit codes beside 0, 2 (a wrong command line) and those of cli/endings.py
UNCONFIRMED: Final = 3  # deployed, but no worker lives that could say that it serves it
NOT_BETTER: Final = 4  # the challenger stays published and is not deployed


class Workspace(NamedTuple):
    """Where the versions are, the workers that serve them, and what these have answered."""

    store: Store
    keys: KeyStore
    run: Path
    journal: Path


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


def _name(_ctx: click.Context, _param: click.Parameter, value: str) -> str:
    """It is shown in a list, a line each."""
    if not (value.isprintable() and 0 < len(value) <= LONGEST_NOTE):
        msg = f"expected 1 to {LONGEST_NOTE} printable characters, got {value!r}"
        raise click.BadParameter(msg)
    return value


class _Lifetime(click.ParamType[timedelta | None]):
    """Parses `90d`, or `never`, which is None."""

    name = "duration"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> timedelta | None:
        if value == "never":
            return None
        found = re.fullmatch(r"([1-9][0-9]{0,4})([mhd])", str(value))
        if found is None:
            self.fail(f"expected minutes, hours or days, as in 30m, 12h or 90d, or never; got {value!r}", param, ctx)
        return int(found[1]) * UNITS[found[2]]


UNITS: Final = {"m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1)}
LIFETIME: Final = _Lifetime()


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
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
@click.option(
    "--journal",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("journal"),
    envvar="APPRAISER_JOURNAL",
    show_default=True,
    show_envvar=True,
    help="Folder in which every prediction is recorded.",
)
@click.pass_context
def main(ctx: click.Context, artifacts: Path, run: Path, journal: Path) -> None:
    """House prices with an interval that holds at its level."""
    ctx.obj = Workspace(Store(artifacts), KeyStore(artifacts), run, journal)


data_option = partial(click.option, "--data", type=click.Path(path_type=Path))
query_option = click.option("--query", help="Of a .duckdb file: the name of a table, or a select.")
family_option = click.option(
    "--family", type=click.Choice(FAMILY_NAMES), help="Without it, the better of the two by cross-validation."
)
seed_option = click.option(
    "--seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True, help="Seed of everything that is random."
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


@main.command()
@data_option(help="CSV, Parquet, JSON lines or DuckDB; without it, the synthetic market.")
@query_option
@family_option
@click.option("--version", help="Name of the new version, for example v2.0.0; without it, the next minor one.")
@click.option("--deploy", is_flag=True, help="Deploy it also when another version is deployed.")
@seed_option
@keep_option
@click.pass_obj
def train(  # noqa: PLR0913 -- one for each option
    place: Workspace,
    data: Path | None,
    query: str | None,
    family: FamilyName | None,
    version: str | None,
    *,
    deploy: bool,
    seed: int,
    keep: int,
) -> None:
    """Train a version and publish it; the first one is deployed too.

    Exit code 0: done; 1: failed, and nothing has changed; 5: failed or interrupted, and the last line says what is
    published or deployed.
    """
    if query is not None and data is None:
        msg = "--query needs --data with a .duckdb file"
        raise click.UsageError(msg)
    with _training():
        from train.promotion.publish import TrainOptions, train_and_publish
    trained = train_and_publish(place.store, TrainOptions(data, query, family, version, deploy, seed))
    published = trained.manifest.version
    with changed(f"{published} is published"):
        if trained.deploy:
            _roll_out(
                place, lambda current: plans.promote(current, published), then=lambda: _prune(place, keep, published)
            )
        else:
            click.echo(f"not deployed: `appraiser promote {published}` does it")
            _prune(place, keep, published)


@main.command()
@data_option(help="CSV, Parquet, JSON lines or DuckDB.", required=True)
@query_option
@family_option
@seed_option
@keep_option
@click.option("--dry-run", is_flag=True, help="Judge only: publish and deploy nothing.")
@click.pass_obj
def retrain(  # noqa: PLR0913 -- one for each option
    place: Workspace, data: Path, query: str | None, family: FamilyName | None, *, seed: int, keep: int, dry_run: bool
) -> None:
    """Train a challenger on new data, judge it against the champion, and deploy it only if it is better.

    Exit code 0: better and deployed (or, of a dry run, better); 3: deployed, but no worker lives to confirm it; 4: not
    better, so it stays published and is not deployed; 1: failed, and everything is as it was; 5: failed or interrupted,
    and the last line says what is published or deployed.
    """
    with _training():
        from train.promotion.retraining import RetrainOptions, retrain
    verdict = retrain(place.store, RetrainOptions(data, query, family, seed, dry_run))
    confirmed = True
    if not dry_run:
        with changed(f"{verdict.challenger} is published"):
            confirmed = _judged(place, keep, verdict)
    if not verdict.is_better:
        sys.exit(NOT_BETTER)
    _exit_unless(confirmed)


def _judged(place: Workspace, keep: int, verdict: "Verdict") -> bool:
    """Deploy a challenger that is better, and prune; returns whether the deployment, if there is one, is confirmed."""

    def prune() -> None:
        _prune(place, keep, verdict.challenger)

    if verdict.is_better:
        return _roll_out(
            place, lambda current: plans.promote_challenger(current, verdict.champion, verdict.challenger), then=prune
        )
    prune()
    return True


@main.command()
@click.pass_obj
def models(place: Workspace) -> None:
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
        click.echo(sentence + (_served(place.run, deployment.generation) if deployment else ""))


@main.command()
@click.argument("version")
@click.pass_obj
def verify(place: Workspace, version: str) -> None:
    """Check digest, manifest and examples of VERSION, in a child process with limits."""
    from pricing.inference.sandbox import load_in_sandbox

    artifact = place.store.read(version, place.store.seal(version))
    load_in_sandbox(artifact)
    click.echo(f"{version}: digest, manifest and {len(artifact.manifest.examples)} examples are as published")


@main.command()
@click.argument("version")
@click.pass_obj
def promote(place: Workspace, version: str) -> None:
    """Deploy VERSION after checking it as `verify` does; ends a split."""
    _exit_unless(_roll_out(place, lambda current: plans.promote(current, version)))


@main.command()
@click.pass_obj
def rollback(place: Workspace) -> None:
    """Deploy the previous champion again."""
    _exit_unless(_roll_out(place, plans.roll_back))


@main.command()
@click.argument("weights", nargs=-1, required=True, metavar="VERSION=PERCENT...", callback=_weights)
@click.pass_obj
def split(place: Workspace, weights: Mapping[str, int]) -> None:
    """Split clients over the champion and other versions, by whole percent; VERSION=100 ends a split."""
    _exit_unless(_roll_out(place, lambda current: plans.split_traffic(current, weights)))


@main.command()
@click.argument("prediction_id")
@click.pass_obj
def replay(place: Workspace, prediction_id: str) -> None:
    """Price a recorded house again with its version. Price and bounds may differ by 2 ulp, as exp does."""
    from pricing.inference.predictor import load
    from pricing.journal.journal import find
    from pricing.journal.replay import replayed

    record = find(place.journal, prediction_id)
    found = replayed(record, load(place.store.read(record.model_version, record.sha256)))
    if found.differences:
        raise click.ClickException(
            "\n".join([f"{record.model_version} answers otherwise than it did", *found.differences])
        )
    extent = f"within {found.ulps:.0f} ulp, since exp differs between processors" if found.ulps else "to the last bit"
    told = f"{record.predicted_price!r} dollars, {record.lower!r} to {record.upper!r} at {record.confidence_level:.0%}"
    click.echo(f"{record.model_version} answers as at {record.predicted_at:%Y-%m-%d %H:%M:%S} UTC, {extent}:")
    click.echo(f"{told}, for {' '.join(f'{name}={value:g}' for name, value in record.house.items())}")


@main.group()
def keys() -> None:
    """Keys of clients, which the service asks for when APPRAISER_REQUIRE_KEYS is true."""


@keys.command("create")
@click.argument("note", metavar="NAME", callback=_name)
@click.option("--scope", "scopes", multiple=True, required=True, type=click.Choice(SCOPES), help="Once for each.")
@click.option("--expires", type=LIFETIME, default="365d", show_default=True, help="30m, 12h, 90d, or never.")
@click.pass_obj
def create_key(place: Workspace, note: str, scopes: tuple[Scope, ...], expires: timedelta | None) -> None:
    """Make a key for NAME and print it: once, since only its digest is kept."""
    _tell_key(lambda: place.keys.create(note, scopes, expires))


@keys.command("list")
@click.pass_obj
def list_keys(place: Workspace) -> None:
    """Print every key: its id, what it is worth, its end, its scopes, and whose it is."""
    now = datetime.now(UTC)
    for key in place.keys.stored():
        end = f"{key.expires_at:%Y-%m-%d %H:%M} UTC" if key.expires_at else "never"
        click.echo(f"{key.id}  {key.state(now):7}  {end:20}  {','.join(key.scopes):20}  {key.note}")


@keys.command("revoke")
@click.argument("key_id", metavar="ID")
@click.pass_obj
def revoke_key(place: Workspace, key_id: str) -> None:
    """End a key now: within a second and a half, every worker refuses it."""
    with uninterrupted():
        sentence = f"{key_id} of {place.keys.revoke(key_id).note} is revoked"
        with changed(sentence):
            click.echo(sentence)


@keys.command("rotate")
@click.argument("key_id", metavar="ID")
@click.option("--overlap", type=LIFETIME, default="1d", show_default=True, help="How long the old one is good for.")
@click.pass_obj
def rotate_key(place: Workspace, key_id: str, overlap: timedelta | None) -> None:
    """Make the successor of a key, with its name, scopes and lifetime, and print it."""
    _tell_key(lambda: place.keys.rotate(key_id, overlap))


@main.command()
@click.pass_obj
def serve(place: Workspace) -> None:
    """Run the service with gunicorn, as gunicorn.conf.py in this folder says."""
    if not Path("gunicorn.conf.py").is_file():
        msg = f"there is no gunicorn.conf.py in {Path.cwd()}; run this command in the folder that holds it"
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


@contextmanager
def _training() -> Iterator[None]:
    """Say what to install when what is imported inside is not there."""
    try:
        yield
    except ImportError as error:
        msg = f"training needs {error.name}: install requirements-train.txt, or use the image for training"
        raise click.ClickException(msg) from error


def _prune(place: Workspace, keep: int, newest: str) -> None:
    """Remove the oldest versions beyond `keep`, but none while it is not known which ones the journal names."""
    from pricing.journal.journal import named_versions

    if len(place.store.versions()) <= keep:
        return
    try:
        named = named_versions(place.journal)
    except JournalError as error:
        told = "--journal or APPRAISER_JOURNAL says where the service keeps it"
        click.echo(f"no version is removed, though more than {keep} are published: {error}; {told}", err=True)
        return
    for version in place.store.prune(keep, {newest, *named}):
        click.echo(f"removed {version}: {keep} versions are kept")


def _exit_unless(confirmed: bool) -> None:  # noqa: FBT001 -- its only argument
    if not confirmed:
        sys.exit(UNCONFIRMED)


def _roll_out(
    place: Workspace, target: Callable[[Deployment | None], DeploymentPlan], then: Callable[[], object] | None = None
) -> bool:
    """Deploy, say how many workers serve it, and do what is due then; returns whether any worker has confirmed it."""
    from service.deployment.rollout import roll_out, told
    from service.deployment.worker_slots import RunFolder

    deployment, workers = roll_out(place.store, RunFolder(place.run), target)
    deployed = told(deployment)
    with changed(deployed):
        if not workers:
            click.echo(f"{deployed}, unconfirmed: no worker lives in {place.run}; those that start will serve it")
        else:
            click.echo(f"{deployed}; {workers} worker{'s serve' if workers > 1 else ' serves'} it")
        if then is not None:
            then()
    return workers > 0


def _tell_key(make: Callable[[], tuple[Key, str]]) -> None:
    """Make a key and print it. The key alone is on stdout, for a pipe to where it is kept."""
    if sys.stdout is None:
        msg = "standard output is closed, so the key cannot be printed; nothing has changed"
        raise click.ClickException(msg)
    with uninterrupted():
        key, text = make()
        end = f"until {key.expires_at:%Y-%m-%d %H:%M} UTC" if key.expires_at else "for good"
        told = f"{key.id} of {key.note}: {', '.join(key.scopes)}, {end}; this is shown only now:"
        with changed(f"the key {key.id} is made, but lost: `appraiser keys revoke {key.id}` ends it"):
            click.echo(told, err=True)
            click.echo(text)


def _served(run: Path, generation: int) -> str:
    from service.deployment.worker_slots import RunFolder

    workers = RunFolder(run).workers()
    if not workers:
        return f"; no worker lives in {run}"
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
