"""`appraiser train`: one training from file to published version, with a line for each step."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, NamedTuple

from rich.console import Console
from rich.table import Table

from pricing.artifacts.manifest import Manifest, Scores, is_version
from pricing.artifacts.store import MANIFEST_FILE, Artifact, Store
from pricing.artifacts.study import Origin
from pricing.errors import Stays, VersionExistsError
from pricing.inference.sandbox import load_in_sandbox
from train.errors import TrainingError
from train.models.training import Plan, train
from train.models.worth import check_worth
from train.promotion.rolling_origin import MONTHS, pooled, with_rolling_origins
from train.promotion.versions import next_version, salt
from train.sales import rows as data
from train.sales import test_rows as seen
from train.sales.columns import ColumnChoice, wanted
from train.sales.rows import AS_IT_IS, Reading, Sales
from train.sales.split import positions, sides
from train.study.report import of_all

if TYPE_CHECKING:
    from train.models.family_names import FamilyName

NOTHING_BESIDE: Final[Mapping[str, bytes]] = MappingProxyType({})


@dataclass(frozen=True)
class TrainOptions:
    """The options of the command; None leaves the choice to the program."""

    data: Path | None
    query: str | None
    family: "FamilyName | None"
    version: str | None
    deploy: bool
    seed: int
    reading: Reading = AS_IT_IS
    columns: ColumnChoice = field(default_factory=dict)
    keep_sales: bool = False


class Trained(NamedTuple):
    """The published version, and whether to deploy it: the first version is deployed, and on request."""

    manifest: Manifest
    deploy: bool


def train_and_publish(store: Store, order: TrainOptions, console: Console | None = None) -> Trained:
    """Train and publish; deploying is left to the caller, which can wait for the workers.

    Raises TrainingError or VersionExistsError with one sentence; then nothing has been written.
    """
    console = console or quiet()
    version = order.version or next_version(store)
    _check_free(store, version)
    store.check_writable()  # these two before minutes of training, not after
    deploy = order.deploy or store.current() is None
    if order.data is None and order.columns:
        msg = "--columns needs --data: the synthetic market has the five fields only"
        raise TrainingError(msg)
    reading = replace(order.reading, others=wanted(order.columns))
    sales = data.synthetic(order.seed) if order.data is None else data.read(order.data, order.query, reading)
    tell_rows(console, sales)
    with console.status("starting") as status:

        def tell(step: str) -> None:
            status.update(step)
            console.print(f"  {step}")

        plan = Plan(version, salt(store), order.seed, order.family, order.columns, order.keep_sales)
        artifact = train(sales, plan, tell)
        artifact = with_rolling_origins(artifact, sales, tell)
    if order.version is None:
        artifact = publish_next(store, artifact, lambda found: publish(store, found, sales, console))
        deploy = order.deploy or (deploy and store.current() is None)  # another training may have been faster
    else:
        publish(store, artifact, sales, console)
    return Trained(artifact.manifest, deploy)


def publish_next(store: Store, artifact: Artifact, put: Callable[[Artifact], None]) -> Artifact:
    """Publish by `put` under the version that it has or, as long as another training is faster, the next free one."""
    while True:
        try:
            put(artifact)
        except VersionExistsError:
            artifact = artifact._replace(manifest=artifact.manifest.model_copy(update={"version": next_version(store)}))
        else:
            return artifact


def publish(  # noqa: PLR0913 -- what is published, where, and how it is told and proved
    store: Store,
    artifact: Artifact,
    sales: Sales,
    console: Console,
    beside: Mapping[str, bytes] = NOTHING_BESIDE,
    *,
    load_in_sandbox: Callable[[Artifact], object] = load_in_sandbox,
) -> None:
    """Publish a version that has been proved, with what it has seen, and print how good it is."""
    load_in_sandbox(artifact)  # what no worker would serve is not worth publishing
    manifest = artifact.manifest
    test = sides(positions(sales.houses, manifest.split), manifest.split).test
    check_worth(artifact, sales)
    rows = seen.to_bytes(seen.hashes(sales.houses[test], sales.prices[test]))
    try:
        folder = store.publish(artifact, {seen.FILE: rows, **beside})
        _tell_result(console, manifest)
        console.print(f"published {manifest.version} in {folder} ({manifest.graph.size:,} bytes of ONNX)")
    except BaseException as error:
        if _is_published(store, manifest):
            error.add_note(Stays(f"{manifest.version} is published"))
        raise


def _is_published(store: Store, manifest: Manifest) -> bool:
    """Whether this very version is: also another training may have published one of that name."""
    is_there = manifest.version in store.versions()
    return is_there and store.read_beside(manifest.version, MANIFEST_FILE) == manifest.to_bytes()


def quiet() -> Console:
    """A console without markup: a file may be named sales[final].csv."""
    return Console(highlight=False, markup=False, emoji=False, soft_wrap=True)


def tell_rows(console: Console, sales: Sales) -> None:
    """Print what was accepted and what was not."""
    console.print(f"{sales.source}: {len(sales.prices):,} rows accepted, {sales.refused:,} refused")
    for refusal in sales.refusals:
        console.print(f"  refused: {refusal}")
    for note in sales.notes:
        console.print(f"  note: {note}")


def _check_free(store: Store, version: str) -> None:
    if not is_version(version):
        msg = f"{version!r} is not a version; versions are written v1.2.3"
        raise TrainingError(msg)
    if version in store.versions():
        msg = f"{version} is published already in {store.root}; versions never change, name another with --version"
        raise VersionExistsError(msg)


def _tell_result(console: Console, manifest: Manifest) -> None:
    synthetic = " on the SYNTHETIC market: these figures do not describe real houses" if manifest.data.synthetic else ""
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
    for found in manifest.metrics.study[:1]:
        console.print(of_all(found))
    if manifest.metrics.rolling_origins:
        console.print(_later_sales(manifest.metrics.rolling_origins))
    if manifest.sales is not None:
        kept = manifest.sales
        console.print(f"{kept.rows:,} of the sales that it learned from are kept ({kept.size:,} bytes)")
    parity = manifest.parity
    console.print(
        f"parity certified: ONNX is within {parity.test_ppm:.2f} ppm of scikit-learn on {parity.test_rows:,} test rows "
        f"and {parity.threshold_ppm:.2f} ppm on {parity.threshold_rows:,} threshold rows (limit {parity.limit_ppm:g})"
    )


def _later_sales(origins: Sequence[Origin]) -> Table:
    table = Table(title=f"later sales, by versions of {len(origins)} past dates", title_justify="left")
    for heading in ("months ahead", "sales", "in 50 %", "in 90 %", "median ratio", "mean abs. % error"):
        table.add_column(heading, justify="right")
    for month in (*range(1, MONTHS + 1), None):
        if found := pooled(origins, month):
            shares = (f"{share:.1%}" for share in found.coverage)
            label = str(month) if month else "all"
            table.add_row(label, f"{found.rows:,}", *shares, f"{found.median_ratio:.3f}", f"{found.mape:.2%}")
    return table


def _add_scores(table: Table, scores: Scores, name: str) -> None:
    table.add_row(f"{name} {scores.rows:,}", f"{scores.r2:.3f}", f"{scores.mape:.2%}", f"{scores.median_error:.2%}")
