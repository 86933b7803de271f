"""Training as one straight line: rows -> fit / test -> ONNX -> calibration, parity, metrics."""

import hashlib
import platform
from datetime import UTC, date, datetime
from importlib import metadata
from math import isnan
from typing import Final, NamedTuple

import numpy as np

from pricing.artifacts.manifest import (
    COLUMNS_READABLE_FROM,
    FORMAT,
    MIN_CALIBRATION_ROWS,
    READABLE_FROM,
    Data,
    Example,
    Feature,
    Graph,
    Manifest,
    Metrics,
)
from pricing.artifacts.store import Artifact
from pricing.house import BOUNDS, FEATURES, UNITS, Column, Matrix, decimal
from pricing.inference.predictor import OnnxGraph, Predictor, Runs, predictor_of
from train.errors import DataError
from train.models.convert import OPSET, OPSET_ML, to_onnx
from train.models.encoding import describe, encoded
from train.models.evaluate import fifths, intervals, score
from train.models.families import parameters
from train.models.family_names import FamilyName
from train.models.learning import Learned, Rows, Tell, choose, cross_calibrate, learn, rows_of, useful
from train.models.parity import certify
from train.models.worth import check_variation
from train.sales import columns
from train.sales.columns import NO_WISHES, ColumnChoice, Values
from train.sales.rows import Sales
from train.sales.split import IDENTITY, Mask, SplitMasks, hold_back, positions, sides, split_by_house, weights
from train.study.background import background_of
from train.study.kept_sales import FitRows, keep_sales
from train.study.studies import Sold, studies

BINS: Final = 10
# Of so many, the hash hardly ever leaves fewer than MIN_CALIBRATION_ROWS for testing; 240 on average.
MIN_HOUSES: Final = 1_200
EXAMPLES: Final = 5
DEFAULT_LEVEL: Final = 0.9
NOT_MEASURED: Final = Metrics.model_construct()  # until the version can be measured
LIBRARIES: Final = ("numpy", "onnx", "onnxruntime", "scikit-learn", "skl2onnx")


class Plan(NamedTuple):
    """The version to make: `family` None is the better one by cross-validation, `salt` decides the split."""

    version: str
    salt: str
    seed: int
    family: FamilyName | None
    columns: ColumnChoice = NO_WISHES
    """Further columns to learn from."""
    keep_sales: bool = False
    """Whether the version keeps the sales that it learned from, for comparables."""


def train(sales: Sales, plan: Plan, tell: Tell, held_back: Mask | None = None) -> Artifact:
    """Return a certified, calibrated version, not yet published.

    `tell` gets a sentence for each step. Nothing is learned from the rows of `held_back`, shape (n,): they are test
    rows, whatever the split decides. Raises DataError when there are too few rows, or none to learn from, ParityError
    when ONNX differs.
    """
    split = split_by_house(plan.salt)
    position = positions(sales.houses, split)
    side = sides(position, split)
    if held_back is not None:
        side = hold_back(side, held_back)
    _check_rows(sales, position, side)
    chosen = choose_columns(sales, plan.columns, tell)
    fit_rows = rows_of(sales, position, chosen, side.fit)
    learned, fit_rows = _learn(fit_rows, plan, tell)

    tell("converting to ONNX")
    graph = to_onnx(learned.fitted)
    shipped = OnnxGraph(graph)
    calibration, gaps = cross_calibrate(fit_rows, learned, plan.seed)
    described = describe(fit_rows.columns, learned.tables)
    names = {column.name for column in described}
    kept = [column for column in chosen if column.name in names]
    test_rows = rows_of(sales, position, kept, side.test)
    test, known = (encoded(rows.houses, rows.columns, learned.tables) for rows in (test_rows, fit_rows))
    tell("certifying parity of ONNX with scikit-learn")
    parity = certify(learned.fitted, shipped, test, known, plan.seed)
    manifest = Manifest(
        format=FORMAT,
        readable_from=COLUMNS_READABLE_FROM if described else READABLE_FROM,
        version=plan.version,
        created_at=datetime.now(UTC),
        family=learned.best.family,
        parameters={"price": parameters(learned.fitted.price), "spread": parameters(learned.fitted.spread)},
        seed=plan.seed,
        features=describe_features(fit_rows.houses),
        columns=described,
        split=split,
        data=describe_data(sales, side),
        metrics=NOT_MEASURED,
        calibration=calibration,
        gap_calibrations=gaps,
        parity=parity,
        examples=examples(shipped, test),
        graph=Graph(sha256=hashlib.sha256(graph).hexdigest(), size=len(graph), opset=OPSET, opset_ml=OPSET_ML),
        libraries={"python": platform.python_version()} | {name: metadata.version(name) for name in LIBRARIES},
    )
    tell("measuring on the test rows")
    measured = Measured(known, fit_rows.prices), Measured(test, test_rows.prices)
    predictor = predictor_of(shipped, manifest)
    metrics = measure(predictor, *measured, weights(test_rows.position))
    background = background_of(predictor, known, plan.seed)
    manifest = manifest.model_copy(update={"metrics": metrics, "background": background})
    if not plan.keep_sales:
        return Artifact(manifest, graph)
    log_error = fit_rows.target - learned.best.deviation
    rows = FitRows(known, fit_rows.prices, log_error, fit_rows.sold_on, fit_rows.columns)
    content, sealed = keep_sales(graph, rows, described, plan.seed)
    return Artifact(manifest.model_copy(update={"sales": sealed}), graph, content)


def _learn(rows: Rows, plan: Plan, tell: Tell) -> tuple[Learned, Rows]:
    """The estimators, and the rows that they have learned from with the columns that were useful."""
    best = choose(rows, plan.family, plan.seed, tell)
    kept = useful(rows, best, tell)
    if len(kept) < len(rows.columns):
        rows = rows._replace(columns=kept)
        best = choose(rows, best.family if kept else plan.family, plan.seed, tell)
    tell(f"fitting {best.family} on {len(rows.prices):,} rows")
    return learn(rows, best, plan.seed), rows


def choose_columns(sales: Sales, wishes: ColumnChoice, tell: Tell) -> tuple[Values, ...]:
    """The further columns to learn from; each that is left out is reported. Raises DataError."""
    chosen = columns.choose(sales, wishes)
    for sentence in chosen.left_out:
        tell(f"left out: {sentence}")
    return chosen.columns


class Measured(NamedTuple):
    """Rows of the graph's input, and their prices in US dollars of shape (n,)."""

    matrix: Matrix
    prices: Column


def measure(predictor: Predictor, fit_rows: Measured, test_rows: Measured, vote: Column) -> Metrics:
    """Metrics of the version; the interval on test rows only, since the others shaped it, with a vote a house."""
    found = predictor.predict(test_rows.matrix, DEFAULT_LEVEL)
    sold = Sold(np.array(found.price), test_rows.prices, None if found.fsd is None else np.array(found.fsd))
    return Metrics(
        train=score(predictor, *fit_rows),
        test=score(predictor, *test_rows),
        intervals=intervals(predictor, *test_rows, vote),
        fifths=fifths(predictor, *test_rows, vote),
        study=studies(sold),
    )


def describe_features(houses: Matrix) -> tuple[Feature, ...]:
    """Bounds of the contract, and ranges and deciles of the fit rows, float32 of shape (n, 5)."""
    return tuple(
        Feature(
            name=name,
            unit=UNITS[name],
            above=BOUNDS[name].above,
            minimum=BOUNDS[name].minimum,
            maximum=BOUNDS[name].maximum,
            trained_from=decimal(column.min()),
            trained_to=decimal(column.max()),
            bins=tuple(map(decimal, np.unique(np.quantile(column, np.linspace(0, 1, BINS + 1), method="nearest")))),
        )
        for name, column in zip(FEATURES, houses.T, strict=True)
    )


def describe_data(sales: Sales, side: SplitMasks) -> Data:
    """Where the rows came from and how many went where."""
    return Data(
        source=sales.source,
        synthetic=sales.synthetic,
        sha256=sales.sha256,
        rows=len(sales.prices),
        refused=sales.refused,
        fit=int(side.fit.sum()),
        calibrate=0,
        test=int(side.test.sum()),
        **_period(sales, side.fit),
    )


def _period(sales: Sales, mask: Mask) -> dict[str, date]:
    if sales.sold_on is None:
        return {}
    return {"first_sale": sales.sold_on[mask].min().item(), "last_sale": sales.sold_on[mask].max().item()}


def examples(graph: Runs, houses: Matrix) -> tuple[Example, ...]:
    """The first test rows with the exact outputs of the graph."""
    chosen = houses[:EXAMPLES]
    log_price, spread = graph.run(chosen)
    return tuple(
        Example(features=tuple(None if isnan(value) else value for value in row), log_price=price, spread=width)
        for row, price, width in zip(chosen.tolist(), log_price.tolist(), spread.tolist(), strict=True)
    )


def _check_rows(sales: Sales, position: Column, side: SplitMasks) -> None:
    accepted = f"{sales.source}: {len(sales.prices):,} accepted rows"
    # Sales of a house share a side and a fold: of a few houses sold again and again, some of those would stay empty.
    different = len(np.unique(position))
    if different < min(MIN_CALIBRATION_ROWS, len(sales.prices)):
        msg = (
            f"{accepted} are only {different} different houses (by {', '.join(IDENTITY)}), "
            f"at least {MIN_CALIBRATION_ROWS} are needed"
        )
        raise DataError(msg)
    found = len(np.unique(position[side.test]))
    if found < MIN_CALIBRATION_ROWS:
        msg = (
            f"{accepted} leave {found} houses for testing, at least {MIN_CALIBRATION_ROWS} are needed: "
            f"bring sales of {MIN_HOUSES:,} houses"
        )
        raise DataError(msg)
    check_variation(sales)
