"""`appraiser recalibrate`: the champion's graph with the level and the intervals of recent sales.

* Only sales count that the graph has not learned from: those after its last sale, or of test houses without dates.
* The level is moved toward the median log error of the newest MAX_ROWS, as far as that is not chance. The quantiles are
  those of the same sales.
* It is better if bias or coverage of the champion are off for sure on these sales, and are less so out of fold with the
  new calibration.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from rich.console import Console

from pricing.artifacts.manifest import (
    COLUMNS_READABLE_FROM,
    FORMAT,
    Calibration,
    GapCalibration,
    Manifest,
    Recalibration,
    version_key,
)
from pricing.artifacts.store import Artifact, Store
from pricing.house import Column, Matrix
from pricing.inference.predictor import OnnxGraph, predictor_of
from pricing.inference.sandbox import load_in_sandbox
from train.errors import DataError
from train.models.encoding import inputs_of, without
from train.models.evaluate import calibrate
from train.models.families import Fold
from train.promotion.publish import quiet, tell_rows
from train.sales import rows as data
from train.sales import test_rows as seen
from train.sales.rows import Reading, Sales
from train.sales.split import Mask, folds, positions, sides, split_by_house

MIN_ROWS: Final = 200
MAX_ROWS: Final = 1_500
LEVELS: Final = (0.5, 0.9)
MAX_SHIFT: Final = float(np.log(2))  # no market moves so far; prices in another unit do
# Standard errors. Chance exceeds 3.6 in 0.03 % of the cases. But median and mean of log errors differ, so the bias
# of a good version is up to one standard error already, and a false alarm is followed by one that takes it back.
SURE: Final = 3.6
SURE_OF_SHIFT: Final = 3.5
MEDIAN_ERROR: Final = 1.2533 * 1.4826  # standard error of a median, by the median distance from it


@dataclass(frozen=True)
class RecalibrateOptions:
    """The options of the command."""

    data: Path
    query: str | None
    reading: Reading


class Errors(NamedTuple):
    """Log errors of the graph without any shift, price over prediction, and its spread, of shape (n,)."""

    log_error: Column
    spread: Column
    fold: Fold


class Figures(NamedTuple):
    """Bias and coverage on some sales, and how far they are off, in standard errors."""

    bias: float
    coverage: tuple[float, ...]
    off: float


def recalibrate(store: Store, order: RecalibrateOptions, console: Console | None = None) -> Manifest:
    """Publish the champion with a new calibration as the next patch version, and print how it was judged.

    Raises ArtifactError or DataError with one sentence; then nothing has been written.
    """
    console = console or quiet()
    deployment = store.deployment()
    champion = store.read(deployment.champion, deployment.sha256[deployment.champion])
    store.check_writable()
    others = None if champion.manifest.columns else ()
    sales = data.read(order.data, order.query, replace(order.reading, others=others))
    tell_rows(console, sales)
    artifact = recalibrated(champion, sales, _next_patch(store, deployment.champion))
    load_in_sandbox(artifact)
    beside = store.read_beside(deployment.champion, seen.FILE)
    store.publish(artifact, {} if beside is None else {seen.FILE: beside})
    _tell_result(console, artifact.manifest)
    return artifact.manifest


def recalibrated(champion: Artifact, sales: Sales, version: str) -> Artifact:
    """The champion's graph with a calibration of the newest sales that it has not learned from. Raises DataError."""
    manifest = champion.manifest
    recent = _recent(manifest, sales)
    inputs = inputs_of(recent.houses, recent.others, manifest.columns)
    graph = OnnxGraph(champion.graph)
    position = positions(recent.houses, split_by_house(manifest.split.salt))

    def calibration(rows: Matrix, shift: float) -> Calibration:
        log_price, spread = graph.run(rows)
        return calibrate(log_price + shift, spread, recent.prices, position).model_copy(update={"shift": shift})

    log_price, spread = graph.run(inputs)
    errors = Errors(np.log(recent.prices) - log_price, spread, folds(position))
    _check_level(manifest, sales, float(np.median(errors.log_error)))
    before = _figures(*_by_champion(champion, inputs, recent.prices))
    shift = _shift(errors.log_error, manifest.calibration.shift)
    gaps = tuple(
        GapCalibration(given=table.given, quantiles=found.quantiles, fsd=found.fsd or 1.0)
        for table in manifest.gap_calibrations
        for found in [calibration(_known(inputs, manifest, table.given), shift)]
    )
    after = _out_of_fold(errors, manifest.calibration.shift)
    made = Recalibration(
        parent=manifest.version,
        rows=len(recent.prices),
        first_sale=None if recent.sold_on is None else recent.sold_on.min().item(),
        last_sale=None if recent.sold_on is None else recent.sold_on.max().item(),
        bias_before=before.bias,
        bias_after=after.bias,
        levels=LEVELS,
        coverage_before=before.coverage,
        coverage_after=after.coverage,
        against=tuple(_objections(before, after)),
    )
    changed = {
        "version": version,
        "format": FORMAT,
        "readable_from": COLUMNS_READABLE_FROM,  # an earlier release would leave out the shift
        "calibration": calibration(inputs, shift),
        "gap_calibrations": gaps,
        "recalibrated": made,
    }
    return Artifact(manifest.model_copy(update=changed), champion.graph, champion.sales)


def _recent(manifest: Manifest, sales: Sales) -> Sales:
    last = manifest.data.last_sale
    if last is not None and sales.sold_on is not None:
        unseen, which = sales.sold_on > np.datetime64(last), f"after {last}, the last sale that it learned from"
    else:
        unseen = sides(positions(sales.houses, manifest.split), manifest.split).test
        which = "of test houses, since the sales have no dates"
    found = sales.where(unseen)
    if len(found.prices) < MIN_ROWS:
        msg = (
            f"{sales.source}: {len(found.prices):,} sales that {manifest.version} has not learned from ({which}), "
            f"at least {MIN_ROWS} are needed; nothing was published"
        )
        raise DataError(msg)
    if found.sold_on is None:
        return found
    newest = np.zeros(len(found.prices), dtype=np.bool_)
    newest[np.argsort(found.sold_on, kind="stable")[-MAX_ROWS:]] = True
    return found.where(newest)


def _check_level(manifest: Manifest, sales: Sales, off: float) -> None:
    if not abs(off) <= MAX_SHIFT:
        msg = (
            f"{sales.source}: the median price is {np.exp(off):.3g} times the prediction of {manifest.version}, "
            f"expected {np.exp(-MAX_SHIFT):g} to {np.exp(MAX_SHIFT):g} times: check the unit of the prices, or train a "
            "new version; nothing was published"
        )
        raise DataError(msg)


def _known(inputs: Matrix, manifest: Manifest, given: tuple[str, ...]) -> Matrix:
    return without(inputs, np.array([column.name not in given for column in manifest.columns], dtype=np.bool_))


def _by_champion(champion: Artifact, inputs: Matrix, prices: Column) -> tuple[Column, list[Mask]]:
    """Log errors of the champion, and whether each price is within its interval at each level."""
    predictor = predictor_of(OnnxGraph(champion.graph), champion.manifest)
    inside = []
    for level in LEVELS:
        price, lower, upper = predictor.predict(inputs, level).columns()
        inside.append((lower <= prices) & (prices <= upper))
    return np.log(prices / price), inside


def _out_of_fold(errors: Errors, shift: float) -> Figures:
    """The same of new calibrations, each of four fifths of the sales, on the rest."""
    left = np.empty(len(errors.fold))
    inside = [np.zeros(len(left), dtype=np.bool_) for _ in LEVELS]
    for number in np.unique(errors.fold):
        out = errors.fold == number
        moved = _shift(errors.log_error[~out], shift)
        scores = np.abs(errors.log_error[~out] - moved) / errors.spread[~out]
        left[out] = errors.log_error[out] - moved
        for level, mask in zip(LEVELS, inside, strict=True):
            rank = min((len(scores) + 1) * level / len(scores), 1.0)
            mask[out] = np.abs(left[out]) / errors.spread[out] <= np.quantile(scores, rank)
    return _figures(left, inside)


def _shift(log_error: Column, shift: float) -> float:
    """The shift of the champion, moved toward the median log error by as much as chance does not explain.

    The factor is that of James and Stein (1961): 0 at SURE_OF_SHIFT standard errors, near 1 far beyond.
    """
    apart, most_by_chance = float(np.median(log_error)) - shift, SURE_OF_SHIFT * _error(log_error)
    return shift if abs(apart) <= most_by_chance else shift + apart * (1 - (most_by_chance / apart) ** 2)


def _error(log_error: Column) -> float:
    distance = np.median(np.abs(log_error - np.median(log_error)))
    return float(MEDIAN_ERROR * distance / np.sqrt(len(log_error)))


def _figures(log_error: Column, inside: list[Mask]) -> Figures:
    bias, n = float(np.median(log_error)), len(log_error)
    coverage = tuple(float(mask.mean()) for mask in inside)
    off = [abs(share - level) / (level * (1 - level) / n) ** 0.5 for share, level in zip(coverage, LEVELS, strict=True)]
    return Figures(bias, coverage, max(abs(bias) / _error(log_error), *off))


def _objections(before: Figures, after: Figures) -> list[str]:
    if not before.off > SURE:
        return [
            f"bias and coverage of the champion are off by {before.off:.1f} standard errors, expected {SURE} at least"
        ]
    if not after.off < before.off:
        return [f"they are off by {after.off:.1f} standard errors out of fold, by {before.off:.1f} of the champion"]
    return []


def _next_patch(store: Store, version: str) -> str:
    major, minor, _ = version_key(version)
    patches = [version_key(found) for found in store.versions()]
    return f"v{major}.{minor}.{1 + max(key[2] for key in patches if key[:2] == (major, minor))}"


def _tell_result(console: Console, manifest: Manifest) -> None:
    found = manifest.recalibrated
    if found is None:
        return
    console.print(
        f"{manifest.version}: the graph of {found.parent}, calibrated on {found.rows:,} recent sales; prices move by "
        f"{np.expm1(manifest.calibration.shift):+.2%} from what the graph learned"
    )
    console.print(f"  bias (median log error) {found.bias_before:+.4f} before, {found.bias_after:+.4f} out of fold")
    for level, was, now in zip(found.levels, found.coverage_before, found.coverage_after, strict=True):
        console.print(f"  interval at {level:.0%}: contains {was:.1%} before, {now:.1%} out of fold")
    for sentence in found.against:
        console.print(f"  against it: {sentence}")
    console.print(f"verdict: {manifest.version} is {'not better' if found.against else 'better'}")
