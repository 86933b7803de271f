"""The parity certificate: ONNX answers what scikit-learn answers, also where they would differ first."""

from collections.abc import Iterator
from typing import Final, NamedTuple

import numpy as np

from pricing.artifacts.manifest import Parity
from pricing.house import FEATURES, Matrix
from pricing.inference.predictor import Runs
from train.errors import ParityError
from train.models.convert import Fitted
from train.models.encoding import without
from train.models.families import LARGEST, Estimator, Tree, float32_below, kind_of

LIMIT_PPM: Final = 5.0
NODES_CHECKED: Final = 10_000


def certify(fitted: Fitted, graph: Runs, test: Matrix, base: Matrix, seed: int) -> Parity:
    """Compare scikit-learn and ONNX on test rows and on rows at the trees' thresholds.

    `test` and `base` are float32 of shape (n, 5); from `base` the threshold rows are made. Raises ParityError above
    LIMIT_PPM.
    """
    test_ppm = _within_limit(worst_ppm(fitted, graph, test), "test")
    gaps = gap_rows(test, seed)
    rows = np.concatenate([threshold_rows(estimator, base, seed) for estimator in (fitted.price, fitted.spread)])
    return Parity(
        limit_ppm=LIMIT_PPM,
        test_rows=len(test),
        test_ppm=test_ppm,
        threshold_rows=len(rows),
        threshold_ppm=_within_limit(worst_ppm(fitted, graph, rows), "threshold"),
        gap_rows=len(gaps),
        gap_ppm=_within_limit(worst_ppm(fitted, graph, gaps), "gap"),
    )


def gap_rows(houses: Matrix, seed: int) -> Matrix:
    """Rows of shape (n, 5 + k) without their further columns, and with half of them at random; none of five fields."""
    unknown = np.random.default_rng(seed).random((len(houses), houses.shape[1] - len(FEATURES))) < 0.5  # noqa: PLR2004
    if not unknown.shape[1]:
        return houses[:0]
    return np.concatenate([without(houses, np.ones_like(unknown)), without(houses, unknown)])


def worst_ppm(fitted: Fitted, graph: Runs, houses: Matrix) -> float:
    """The largest relative difference of price or spread over float32 of shape (n, 5), in parts per million."""
    if not len(houses):
        return 0.0
    log_price, spread = graph.run(houses)
    price_apart = np.abs(np.expm1(log_price - fitted.log_price(houses)))
    spread_apart = np.abs(spread / fitted.expected_error(houses) - 1)
    return float(np.maximum(price_apart, spread_apart).max() * 1e6)


def threshold_rows(estimator: Estimator, base: Matrix, seed: int) -> Matrix:
    """Rows that reach a node of a tree one float32 step below, at and above its threshold, of shape (m, 5).

    Each node is reached from a row of `base` by moving it to the right side of every split on the way. At most
    NODES_CHECKED nodes of an estimator, drawn by `seed`, since a forest has hundreds of thousands.
    """
    rng = np.random.default_rng(seed)
    reached = [
        item for tree in kind_of(estimator).trees(estimator) for item in _walk(tree, base[rng.integers(len(base))])
    ]
    if not reached:  # trees without a split, as from a constant price
        return base[:0]
    chosen = rng.permutation(len(reached))[:NODES_CHECKED]
    rows = np.repeat(np.array([reached[i].row for i in chosen], dtype=np.float32), 3, axis=0)
    features = np.repeat([reached[i].feature for i in chosen], 3)
    at = np.array([reached[i].threshold for i in chosen], dtype=np.float32)
    around = np.column_stack([np.nextafter(at, np.float32(-np.inf)), at, _above(at)])
    rows[np.arange(len(rows)), features] = around.ravel()
    return rows


def _within_limit(worst: float, rows: str) -> float:
    if not worst <= LIMIT_PPM:  # NaN is not a certificate either
        msg = (
            f"parity is not certified: on {rows} rows ONNX differs from scikit-learn by up to {worst:,.1f} parts per "
            f"million, at most {LIMIT_PPM:g} are allowed; nothing was published"
        )
        raise ParityError(msg)
    return worst


def _above(threshold: Matrix) -> Matrix:
    """The next number; of the largest, which stands for a split of gaps alone, the number itself."""
    return np.nextafter(threshold, np.float32(LARGEST))


class _Reached(NamedTuple):
    row: Matrix
    feature: int
    threshold: np.float32


def _walk(tree: Tree, start: Matrix) -> Iterator[_Reached]:
    lowered = float32_below(tree.threshold).astype(np.float32)
    waiting = [(0, start)]
    while waiting:
        node, row = waiting.pop()
        if not tree.split[node]:
            continue
        feature, threshold = int(tree.feature[node]), lowered[node]
        if np.isnan(row[feature]):  # a gap has a side of its own; the other is reached with a value
            row = np.where(np.arange(len(row)) == feature, threshold, row)
        yield _Reached(row, feature, threshold)
        left, right = row.copy(), row.copy()
        left[feature] = min(row[feature], threshold)
        right[feature] = max(row[feature], _above(threshold))
        waiting += [(int(tree.left[node]), left), (int(tree.right[node]), right)]
