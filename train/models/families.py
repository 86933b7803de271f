"""The estimators: two families for the price, and one for the spread of either. Their sizes are a choice on a frontier.

Every tree costs time in a batch. They were chosen on King County and five splits by another hash than today's. There
60, 80 and 100 boosted trees reached a mean absolute percentage error of 21.93, 21.89 and 21.86 %. A spread of 30 trees
was as narrow as one of 60. A forest reached 21.98 % with at least 5 rows a leaf, and 22.05 % with 3;
learning from four fifths of the sales instead of three, it has 6 to stay below 10 MB. Trees get no
scaler: they do not need one, and float32 trees behind a scaler do not convert faithfully.

With further columns more trees pay: 160, 250 and 300 boosted trees reached 12.2, 12.1 and 12.0 %. A spread of 60 trees
instead of 30 holds the FSD of the easiest houses to within 3 points instead of 6.

Below 3,000 sales boosting takes smaller steps, tries half of the fields at a split, and its price never falls with the
living area. It was chosen on 12 random samples of King County, with 1,200 sales to learn from. Its error is 1.0 % below
that of the forest, which was the better family (standard error 0.15 %). With 16,500 sales nearly the same parameters
raise the error by 2 %. With further columns, three other samples of 1,500 had an error of 15.5 instead of 16.5 %. That
of the five fields alone was 0.7 instead of 4.2 % above that of a version of five.
"""

from collections.abc import Callable, Iterator
from math import ceil
from typing import Any, Final, NamedTuple, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.ensemble import HistGradientBoostingRegressor, RandomForestRegressor
from threadpoolctl import threadpool_limits

from pricing.artifacts.store import MAX_BYTES
from pricing.house import FEATURES, Column, Matrix
from train.errors import ParityError
from train.models.family_names import FamilyName

# As converted: 31 with 300 nodes a tree, 32 with 12,000; two forests of 60,000 sales differed by less than 1 %.
BYTES_OF_A_NODE: Final = 32.5
MAX_FOREST_BYTES: Final = 0.98 * MAX_BYTES  # the rest is for the spread, and for trees that are larger than the first

MANY: Final = 3_000  # sales to learn from; with fewer, boosting is held back
RISES_WITH_SQUARE_FEET: Final = [int(name == "square_feet") for name in FEATURES]

LARGEST: Final = float(np.finfo(np.float32).max)

Fold: TypeAlias = NDArray[np.int64]
Estimator: TypeAlias = HistGradientBoostingRegressor | RandomForestRegressor


def _gradient_boosting(seed: int, columns: int = 0, rows: int = MANY) -> Estimator:
    if rows < MANY:
        return HistGradientBoostingRegressor(
            learning_rate=0.05,
            max_iter=80,
            max_leaf_nodes=31,
            min_samples_leaf=20,
            max_features=0.5,
            monotonic_cst=RISES_WITH_SQUARE_FEET + [0] * columns,
            early_stopping=False,
            random_state=seed,
        )
    return HistGradientBoostingRegressor(
        learning_rate=0.1 if columns else 0.12,
        max_iter=250 if columns else 80,
        max_leaf_nodes=31,
        min_samples_leaf=40,
        early_stopping=False,
        random_state=seed,
    )


def _random_forest(seed: int, columns: int = 0, rows: int = MANY) -> Estimator:
    del columns, rows
    return RandomForestRegressor(n_estimators=100, min_samples_leaf=6, max_features=0.6, n_jobs=1, random_state=seed)


def spread_estimator(seed: int, columns: int = 0) -> Estimator:
    """Learns the size of the out-of-fold log error; smooth, since errors are noisy."""
    return HistGradientBoostingRegressor(
        learning_rate=0.12,
        max_iter=60 if columns else 30,
        max_leaf_nodes=15,
        min_samples_leaf=100,
        early_stopping=False,
        random_state=seed,
    )


class MakesEstimator(Protocol):
    """Makes an estimator that is not fitted yet."""

    def __call__(self, seed: int, columns: int = 0, rows: int = MANY) -> Estimator:
        """For so many sales of houses with so many further columns."""


class Tree(NamedTuple):
    """The nodes of one tree, each of shape (nodes,); children are numbers of nodes."""

    feature: NDArray[np.int64]
    threshold: Column
    left: NDArray[np.int64]
    right: NDArray[np.int64]
    split: NDArray[np.bool_]
    gap_goes_left: NDArray[np.bool_]


class Kind(NamedTuple):
    """All that differs between classes of estimators."""

    fit: Callable[[Any, Matrix, Column, float], Estimator]
    trees: Callable[[Any], Iterator[Tree]]
    """Where a fitted estimator keeps its thresholds."""
    round_thresholds: Callable[[Any], None]
    """Rounds them down to float32, in place, where the conversion does not."""


def _fit_whole(estimator: Estimator, houses: Matrix, target: Column, _most_bytes: float) -> Estimator:
    return estimator.fit(houses, target)


def _boosted_trees(estimator: HistGradientBoostingRegressor) -> Iterator[Tree]:
    for (predictor,) in estimator._predictors:  # noqa: SLF001 -- scikit-learn has no public access to these trees
        n = predictor.nodes
        gap_goes_left = n["missing_go_to_left"] != 0
        yield Tree(n["feature_idx"], n["num_threshold"], n["left"], n["right"], n["is_leaf"] == 0, gap_goes_left)


def _round_boosted_trees(estimator: HistGradientBoostingRegressor) -> None:
    for tree in _boosted_trees(estimator):  # views of the estimator's own memory
        tree.threshold[tree.split] = np.minimum(float32_below(tree.threshold[tree.split]), LARGEST)


def _fit_forest(forest: RandomForestRegressor, houses: Matrix, target: Column, most_bytes: float) -> Estimator:
    """Its trees are independent and may use all cores; its predictions may not."""
    leaf = leaf_that_fits(forest, houses, target, most_bytes)
    return forest.set_params(min_samples_leaf=leaf, n_jobs=-1).fit(houses, target).set_params(n_jobs=1)


def _forest_trees(forest: RandomForestRegressor) -> Iterator[Tree]:
    for member in forest.estimators_:
        t = member.tree_
        gap_goes_left = t.missing_go_to_left != 0
        yield Tree(t.feature, t.threshold, t.children_left, t.children_right, t.children_left >= 0, gap_goes_left)


def _bound_forest(forest: RandomForestRegressor) -> None:
    """Its thresholds are rounded by the conversion, but for infinite ones."""
    for tree in _forest_trees(forest):
        np.minimum(tree.threshold, LARGEST, out=tree.threshold)


FAMILIES: Final[dict[FamilyName, MakesEstimator]] = {
    "gradient-boosting": _gradient_boosting,
    "random-forest": _random_forest,
}
KINDS: Final[dict[type[Estimator], Kind]] = {
    HistGradientBoostingRegressor: Kind(_fit_whole, _boosted_trees, _round_boosted_trees),
    RandomForestRegressor: Kind(_fit_forest, _forest_trees, _bound_forest),
}


def kind_of(estimator: Estimator) -> Kind:
    """The kind of an estimator. Raises ParityError for a class that KINDS does not list."""
    kind = KINDS.get(type(estimator))
    if kind is None:
        msg = f"parity is not certified: KINDS does not state where a {type(estimator).__name__} keeps its thresholds"
        raise ParityError(msg)
    return kind


def round_thresholds(estimator: Estimator) -> None:
    """Round the trees' thresholds down to float32, in place; predictions of float32 rows stay as they were.

    scikit-learn compares in float64, ONNX in float32. For a float32 x, x <= t holds exactly when x <= t rounded down.
    A split between values and gaps has an infinite threshold; no value is above the largest number either.
    """
    kind_of(estimator).round_thresholds(estimator)


def float32_below(values: Column) -> Column:
    """The highest float32 that is not above each value of shape (n,), as float64."""
    nearest = values.astype(np.float32)
    below = np.nextafter(nearest, np.float32(-np.inf))
    return np.where(nearest.astype(np.float64) > values, below, nearest).astype(np.float64)


def fit(estimator: Estimator, houses: Matrix, target: Column, most_bytes: float = MAX_FOREST_BYTES) -> Estimator:
    """Fit float32 of shape (n, 5) to float64 of shape (n,), the same to the last bit on every machine.

    One thread: boosting sums the gradients of all rows in parallel, so the last bit of such a sum may depend on the
    number of cores. (No graph was seen to differ for it, but nothing promises that.) A forest that would have more than
    `most_bytes` as ONNX gets larger leaves.
    """
    with threadpool_limits(1, user_api="openmp"):
        kind = KINDS.get(type(estimator))
        return (kind.fit if kind else _fit_whole)(estimator, houses, target, most_bytes)


def leaf_that_fits(forest: RandomForestRegressor, houses: Matrix, target: Column, most_bytes: float) -> int:
    """Rows a leaf needs, at least as many as the forest is set to, so that all its trees together are small enough.

    All trees of a forest are of about the same size, so one is grown to know it.
    """
    leaf: int = forest.min_samples_leaf
    most_nodes = most_bytes / BYTES_OF_A_NODE / forest.n_estimators
    while 2 * len(target) / leaf > most_nodes:  # no tree has more nodes than that
        tree = clone(forest).set_params(n_estimators=1, min_samples_leaf=leaf).fit(houses, target).estimators_[0]
        nodes = tree.tree_.node_count
        if nodes <= most_nodes:
            break
        leaf = max(leaf + 1, ceil(leaf * nodes / most_nodes))
    return leaf


def out_of_fold(make: Callable[[int], Estimator], seed: int, houses: Matrix, target: Column, fold: Fold) -> Column:
    """Predictions of shape (n,), each by an estimator that has not seen the row's fold."""
    predicted = np.empty(len(target))
    for number in np.unique(fold):
        held_out = fold == number
        estimator = fit(make(seed), houses[~held_out], target[~held_out])
        predicted[held_out] = estimator.predict(houses[held_out])
    return predicted


def parameters(estimator: Estimator) -> dict[str, str | int | float | bool | None]:
    """The estimator's class and parameters, as the manifest keeps them: a list as its text."""
    found = estimator.get_params(deep=False)
    plain = {name: str(value) if isinstance(value, list) else value for name, value in found.items()}
    return {"estimator": type(estimator).__name__, **plain}
