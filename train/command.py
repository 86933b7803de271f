"""`appraiser train`: one training from file to published version, told to a person while it happens."""

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from rich.console import Console
from rich.table import Table

from pricing.errors import ArtifactError, NothingDeployedError, VersionExistsError
from pricing.manifest import Manifest, Scores, is_version, version_key
from pricing.store import Store
from train import data
from train.data import Sales
from train.errors import TrainingError
from train.split import FIRST_SALT
from train.training import Plan, train

if TYPE_CHECKING:
    from train.names import FamilyName

FIRST_VERSION: Final = "v1.0.0"


@dataclass(frozen=True)
class Order:
    """What the person asked for; None leaves the choice to the program."""

    data: Path | None
    family: "FamilyName | None"
    version: str | None
    deploy: bool
    seed: int


def train_and_publish(store: Store, order: Order, console: Console | None = None) -> Manifest:
    """Train, publish, and deploy when nothing is deployed yet or when asked to; returns the manifest.

    Raises TrainingError or VersionExistsError with one sentence; then nothing has been written.
    """
    # no markup: a file may be named sales[final].csv
    console = console or Console(highlight=False, markup=False, emoji=False, soft_wrap=True)
    version = order.version or next_version(store.versions())
    _check_free(store, version)
    store.check_writable()  # these two before minutes of training, not after
    deploy = order.deploy or not _is_deployed(store)
    sales = data.synthetic(order.seed) if order.data is None else data.read(order.data)
    _tell_rows(console, sales)
    with console.status("starting") as status:

        def tell(step: str) -> None:
            status.update(step)
            console.print(f"  {step}")

        artifact = train(sales, Plan(version, salt(store), order.seed, order.family), tell)
    folder = store.publish(artifact)
    _tell_result(console, artifact.manifest)
    console.print(f"published {version} in {folder} ({artifact.manifest.graph.size:,} bytes of ONNX)")
    if deploy:
        console.print(f"deployed {version} as generation {store.deploy(version).generation}")
    else:
        console.print(f"not deployed: `appraiser promote {version}` does it")
    return artifact.manifest


def next_version(published: list[str]) -> str:
    """v1.0.0 first, then the next minor of the highest."""
    if not published:
        return FIRST_VERSION
    major, minor, _ = version_key(max(published, key=version_key))
    return f"v{major}.{minor + 1}.0"


def salt(store: Store) -> str:
    """The salt of the newest version that is whole, so that no later model has seen the test rows of an earlier one."""
    for version in reversed(store.versions()):
        with suppress(ArtifactError):  # a damaged version must not keep anybody from training its replacement
            return store.read(version).manifest.split.salt
    return FIRST_SALT


def _check_free(store: Store, version: str) -> None:
    if not is_version(version):
        msg = f"{version!r} is not a version; versions are written v1.2.3"
        raise TrainingError(msg)
    if version in store.versions():
        msg = f"{version} is published already in {store.root}; versions never change, name another with --version"
        raise VersionExistsError(msg)


def _is_deployed(store: Store) -> bool:
    try:
        store.deployment()
    except NothingDeployedError:
        return False
    return True


def _tell_rows(console: Console, sales: Sales) -> None:
    console.print(f"{sales.source}: {len(sales.prices):,} rows accepted, {sales.refused:,} refused")
    for refusal in sales.refusals:
        console.print(f"  refused: {refusal}")


def _tell_result(console: Console, manifest: Manifest) -> None:
    synthetic = (
        " on the SYNTHETIC market: these figures say nothing about real houses" if manifest.data.synthetic else ""
    )
    table = Table(title=f"{manifest.version}, {manifest.family}{synthetic}", title_justify="left")
    for heading in ("rows", "R²", "mean abs. % error", "median abs. % error"):
        table.add_column(heading, justify="right")
    _add_scores(table, manifest.metrics.train, "train")
    _add_scores(table, manifest.metrics.test, "test")
    console.print(table)
    for interval in manifest.metrics.intervals:
        console.print(
            f"interval at {interval.level:.0%}: contains {interval.coverage:.1%} of the test prices, "
            f"median width {interval.median_width:.0%} of the price"
        )
    parity = manifest.parity
    console.print(
        f"parity certified: ONNX is within {parity.test_ppm:.2f} ppm of scikit-learn on {parity.test_rows:,} test rows "
        f"and {parity.threshold_ppm:.2f} ppm on {parity.threshold_rows:,} threshold rows (limit {parity.limit_ppm:g})"
    )


def _add_scores(table: Table, scores: Scores, name: str) -> None:
    table.add_row(f"{name} {scores.rows:,}", f"{scores.r2:.3f}", f"{scores.mape:.2%}", f"{scores.median_error:.2%}")
