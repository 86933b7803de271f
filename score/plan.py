"""The plan of a run: made once, kept beside the file of prices, and never changed."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Final, NamedTuple

from pricing.artifacts.manifest import Manifest
from pricing.artifacts.store import MANIFEST_FILE, Artifact, Store
from pricing.errors import AppraiserError
from pricing.format import Part, Stored
from pricing.house import FEATURES
from score.sources import FilePart, Kind, NamedColumn, Source, find, inspect, kind_of, look, same_columns
from train.errors import DataError
from train.sales.tables import shortened

PLAN: Final = "plan.json"
ADDED: Final = ("price", "lower", "upper", "model_version")
ROWS_A_PART: Final = 122_880  # DuckDB's own group of rows in a Parquet file


class ScoreError(AppraiserError):
    """The file of prices cannot be written like that."""


class ScoreOptions(NamedTuple):
    """A file of prices, as it is asked for."""

    inputs: tuple[str, ...]
    out: Path
    version: str | None = None
    """None is the champion or, of a run that is continued, the version that it began with."""
    confidence: float = 0.9
    rename: Mapping[str, str] = {}
    units: Mapping[str, float] = {}
    resume: bool = False
    rows_a_part: int = ROWS_A_PART


class Order(Part):
    """Everything that decides the bytes of the result, but for the content of the files."""

    sources: tuple[Source, ...]
    out: str
    version: str
    sha256: str
    """Of the manifest of the version."""
    confidence: float
    rename: dict[str, str]
    units: dict[str, float]


class Plan(Stored):
    """The order, and the parts in which it is carried out."""

    NEWEST: ClassVar[int] = 1

    format: int = NEWEST
    order: Order
    kind: Kind
    encodings: tuple[str, ...]
    """Of each file."""
    columns: tuple[NamedColumn, ...]
    """Those of the files, under the names that they have there."""
    parts: tuple[FilePart, ...]

    @property
    def rows(self) -> int:
        """About how many rows the files have."""
        return sum(part.rows for part in self.parts)

    def new_name(self, name: str) -> str:
        """The name of a column in the file of prices."""
        return self.order.rename.get(name, name)


def order_of(store: Store, options: ScoreOptions, version: str) -> Order:
    """Raises DataError for files that cannot be read, and ArtifactError for the version."""
    kind_of(options.out)
    paths = find(options.inputs)
    return Order(
        sources=tuple(map(look, paths)),
        out=options.out.name,
        version=version,
        sha256=digest(store, version),
        confidence=options.confidence,
        rename=dict(options.rename),
        units=dict(options.units),
    )


def digest(store: Store, version: str) -> str:
    """The sha256 of the manifest of a version, which seals all of it. Raises ArtifactError."""
    store.read(version, store.seal(version))  # a version that is not whole is refused here
    return hashlib.sha256((store.root / version / MANIFEST_FILE).read_bytes()).hexdigest()


def artifact_of(store: Store, order: Order) -> Artifact:
    """The version of an order, verified. Raises ArtifactError."""
    return store.read(order.version, order.sha256)


def make(order: Order, manifest: Manifest, rows_a_part: int) -> Plan:
    """Read the files once, to divide them. Raises DataError."""
    paths = [Path(source.path) for source in order.sources]
    if kinds := {kind_of(path) for path in paths} - {kind_of(paths[0])}:
        msg = f"expected files of one kind, found {kind_of(paths[0])} and {', '.join(sorted(kinds))}"
        raise DataError(msg)
    contents = [inspect(path, number, rows_a_part) for number, path in enumerate(paths)]
    plan = Plan(
        order=order,
        kind=kind_of(paths[0]),
        encodings=tuple(found.encoding for found in contents),
        columns=same_columns(contents, paths),
        parts=tuple(part for found in contents for part in found.parts),
    )
    _check(plan, paths[0], manifest)
    return plan


def _check(plan: Plan, path: Path, manifest: Manifest) -> None:
    """Raise DataError unless the columns have the names that are needed, each once."""
    there = [column.name for column in plan.columns]
    if unknown := [name for name in plan.order.rename if name not in there]:
        msg = f"{path}: --rename names the column {unknown[0]}, which was not found; found {shortened(there)}"
        raise DataError(msg)
    names = [plan.new_name(name) for name in there]
    if repeated := [name for name in names if names.count(name) > 1]:
        msg = f"{path}: --rename gives the name {repeated[0]} to a second column; choose another name"
        raise DataError(msg)
    if taken := [name for name in names if name in ADDED]:
        msg = (
            f"{path}: the column {taken[0]} has the name of a column that is added; "
            f"`--rename {taken[0]}=NAME` gives it another name"
        )
        raise DataError(msg)
    if missing := [name for name in (*FEATURES, *plan.order.units) if name not in names]:
        msg = (
            f"{path}: missing column {', '.join(missing)}; expected {', '.join(FEATURES)}; found {shortened(names)}; "
            f"`--rename NAME={missing[0]}` renames a column"
        )
        raise DataError(msg)
    numbers = {*FEATURES, *(column.name for column in manifest.columns if column.kind == "number")}
    if others := [name for name in plan.order.units if name not in numbers]:
        msg = f"--unit {others[0]}: the version reads no number of this name; it reads {', '.join(sorted(numbers))}"
        raise DataError(msg)
    if not plan.parts:
        msg = f"{path}: no rows"
        raise DataError(msg)


def check_same(plan: Plan, order: Order) -> None:
    """Raise ScoreError unless a plan is that of an order, with the first thing that is another."""
    names = {
        "sources": "the files have changed, or are other files",
        "out": "the name of the file of prices",
        "version": f"--version: it began with {plan.order.version}",
        "sha256": f"the version {plan.order.version} is another one of that name",
        "confidence": f"--confidence: it began with {plan.order.confidence:g}",
        "rename": "--rename",
        "units": "--unit",
    }
    for name, what in names.items():
        if getattr(plan.order, name) != getattr(order, name):
            msg = (
                f"the interrupted run was given something else: {what}; continue it with what it began with, or remove "
                f"its folder to start anew"
            )
            raise ScoreError(msg)
