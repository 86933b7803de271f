"""From a matrix of houses to prices and intervals: the only code that runs onnxruntime.

Training, evaluation and serving all come through here, so the same house has the same price everywhere.
"""

import os
import textwrap
import threading
from collections.abc import Callable, Collection, Sequence
from itertools import product
from math import exp
from operator import mul, truediv
from typing import Final, NamedTuple, Protocol

import numpy as np

from pricing.artifacts.manifest import HIGHEST_LEVEL, LOWEST_LEVEL, Calibration, Example, Manifest
from pricing.artifacts.store import Artifact
from pricing.errors import DamagedArtifactError, ModelError
from pricing.house import FEATURES, Column, Matrix
from pricing.inference.onnx_check import INPUT, OUTPUTS, check_graph

# Read by onnxruntime when it is imported: without it, a device id is written below the home folder.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import onnxruntime  # only after the line above

FLOAT32: Final = np.dtype(np.float32)
FIELDS: Final = len(FEATURES)
TRIED_LEVELS: Final = (LOWEST_LEVEL, 0.9, HIGHEST_LEVEL)
MAX_MASKS: Final = 4_096  # that are remembered, of the many that clients may send
WIDEST: Final = 1e6  # times the price: an interval of a dollar to a trillion is useless, and exp is far from its end


class Prediction(NamedTuple):
    """Prices and bounds in US dollars, not rounded, one for each house, and the level that they hold.

    Plain floats: numpy would take twice as long for one house, and books and answers want them so in any case.
    """

    price: list[float]
    lower: list[float]
    upper: list[float]
    confidence_level: float
    fsd: list[float] | None = None
    """Forecast standard deviation as a share of the price; None of a version that does not know it."""

    def columns(self) -> tuple[Column, Column, Column]:
        """Price, lower and upper bound as float64 of shape (n,), for statistics."""
        return np.array(self.price), np.array(self.lower), np.array(self.upper)


class Runs(Protocol):
    """Whatever answers houses with log prices and spreads: a graph, or a fake in a test."""

    def run(self, houses: Matrix) -> tuple[Column, Column]:
        """Return log price (log dollars) and spread for float32 of shape (n, 5), each float64 of shape (n,)."""


class OnnxGraph:
    """The graph of one version in an onnxruntime session of its own. A house is a row of its input, NaN is unknown."""

    def __init__(self, graph: bytes) -> None:
        """Build the session from the bytes, since a path would follow links to external data. Raises ModelError."""
        try:
            self._session = _session(graph)
            self.width: Final[int] = self._session.get_inputs()[0].shape[1]
            self._one_house = (1, self.width)
            self._one = _One(self._session, self._one_house)
        except Exception as error:
            msg = f"the graph cannot be loaded: {_told(error)}"
            raise ModelError(msg) from error

    def run(self, houses: Matrix) -> tuple[Column, Column]:
        """Return log price (log dollars) and spread for float32 of shape (n, 5), each float64 of shape (n,)."""
        try:
            if houses.shape == self._one_house and houses.dtype is FLOAT32:  # else it would be made to fit, in silence
                return self._one.run(houses)
            log_price, spread = self._session.run(OUTPUTS, {INPUT: houses})
        except Exception as error:
            msg = f"the graph cannot be run on {houses.dtype} of shape {houses.shape}: {_told(error)}"
            raise ModelError(msg) from error
        return log_price, spread


class _One:
    """One house at a time, in memory that stays: 3 µs less than `run`, which makes and checks all of it anew."""

    def __init__(self, session: onnxruntime.InferenceSession, shape: tuple[int, int]) -> None:
        self._session = session
        self._house = np.zeros(shape, dtype=np.float32)
        self._answers = tuple(np.zeros(1) for _ in OUTPUTS)
        self._lock = threading.Lock()  # stock workers may run several threads
        self._binding = session.io_binding()
        self._bind(self._binding.bind_input, INPUT, self._house)
        for name, answer in zip(OUTPUTS, self._answers, strict=True):
            self._bind(self._binding.bind_output, name, answer)

    def run(self, house: Matrix) -> tuple[Column, Column]:
        """As `OnnxGraph.run`."""
        with self._lock:
            self._house[:] = house
            self._session.run_with_iobinding(self._binding)
            log_price, spread = self._answers
            return log_price.copy(), spread.copy()

    @staticmethod
    def _bind(bind: Callable[..., None], name: str, memory: Matrix | Column) -> None:
        bind(name, "cpu", 0, memory.dtype, memory.shape, memory.ctypes.data)


class Table(NamedTuple):
    """The calibration for one set of known columns."""

    quantiles: dict[float, float]
    """By level."""
    fsd: float


class GapTables:
    """The calibrations of a version with columns, by the columns that are known.

    Conformal prediction holds its level for the gaps that calibration has seen (Zaffran, Dieuleveut, Josse and Romano
    2023, "Conformal prediction with missing values"). A set of columns without a table of its own has that of the
    largest set within it: the interval is then that of a house of which less is known.
    """

    def __init__(self, manifest: Manifest) -> None:
        self._names = [column.name for column in manifest.columns]
        levels, whole = manifest.calibration.levels, manifest.calibration
        self._tables: dict[bytes, Table] = {
            self._key(table.given): Table(dict(zip(levels, table.quantiles, strict=True)), table.fsd)
            for table in manifest.gap_calibrations
        }
        self._tables[self._key(self._names)] = Table(dict(zip(levels, whole.quantiles, strict=True)), whole.fsd or 1.0)
        self._nearest: dict[bytes, Table] = dict(self._tables)

    def _key(self, given: Collection[str]) -> bytes:
        """A byte for each column, 1 if it is unknown: as numpy writes a mask."""
        return bytes(name not in given for name in self._names)

    def table(self, unknown: bytes) -> Table:
        """The table for a mask of unknown columns."""
        found = self._nearest.get(unknown)
        if found is None:
            within = [key for key in self._tables if all(a >= b for a, b in zip(key, unknown, strict=True))]
            found = self._tables[min(within, key=lambda key: (sum(key), key))] if within else self._widest()
            if len(self._nearest) < MAX_MASKS:
                self._nearest[unknown] = found
        return found

    def _widest(self) -> Table:
        return max(self._tables.values(), key=lambda table: max(table.quantiles.values()))

    def predict(self, houses: Matrix, level: float, log_price: Column, spread: Column) -> Prediction:
        """As `Predictor.predict`, for a level that the tables hold and what the graph answers."""
        unknown = np.isnan(houses[:, FIELDS:])
        if len(houses) == 1:
            table, width = self.table(unknown.tobytes()), spread.item()
            one, times = exp(log_price.item()), exp(table.quantiles[level] * width)
            return Prediction([one], [one / times], [one * times], level, [table.fsd * width])
        tables = [self.table(row.tobytes()) for row in unknown]
        quantile = np.array([table.quantiles[level] for table in tables])
        price = list(map(exp, log_price.tolist()))
        ratio = list(map(exp, (quantile * spread).tolist()))
        fsd = (np.array([table.fsd for table in tables]) * spread).tolist()
        return Prediction(price, list(map(truediv, price, ratio)), list(map(mul, price, ratio)), level, fsd)


class Predictor:
    """A graph and its calibration, ready to answer."""

    def __init__(self, graph: Runs, calibration: Calibration, gaps: GapTables | None = None) -> None:
        self._run = graph.run
        self._calibration = calibration
        self._gaps = gaps

    def outputs(self, houses: Matrix) -> tuple[Column, Column]:
        """Log price (log dollars, of the version's level) and spread of float32 of shape (n, 5), each of shape (n,)."""
        log_price, spread = self._run(houses)
        return log_price + self._calibration.shift, spread

    def quantile(self, house: Matrix, level: float) -> float:
        """The k of `predict` for one house, float32 of shape (1, 5), at a level from 0.5 to 0.99."""
        held, quantile = self._calibration.at(level)
        if self._gaps is None:
            return quantile
        return self._gaps.table(np.isnan(house[:, FIELDS:]).tobytes()).quantiles[held]

    def predict(self, houses: Matrix, level: float) -> Prediction:
        """Price float32 of shape (n, 5), columns in the order of FEATURES, with an interval at `level` (0.5 to 0.99).

        The interval is price * exp(±k * spread), with k from conformal calibration (Lei et al. 2018,
        "Distribution-free predictive inference for regression", section 5.2: locally weighted).
        """
        held, quantile = self._calibration.at(level)
        log_price, spread = self._run(houses)
        if self._calibration.shift:
            log_price = log_price + self._calibration.shift
        scale = self._calibration.fsd
        if self._gaps is not None:
            return self._gaps.predict(houses, held, log_price, spread)
        if len(houses) == 1:  # the same numbers, without what only pays for many: 1 µs less
            width = spread.item()
            one, times = exp(log_price.item()), exp(quantile * width)
            return Prediction([one], [one / times], [one * times], held, None if scale is None else [scale * width])
        price = list(map(exp, log_price.tolist()))
        ratio = list(map(exp, (quantile * spread).tolist()))
        fsd = None if scale is None else (scale * spread).tolist()
        return Prediction(price, list(map(truediv, price, ratio)), list(map(mul, price, ratio)), held, fsd)


def load(artifact: Artifact) -> Predictor:
    """Return the predictor of a verified artifact that gives its manifest's examples, to the last bit.

    Raises DamagedArtifactError, with what was observed and expected, when it does not.
    """
    try:
        manifest = artifact.manifest
        check_graph(artifact.graph, FIELDS + len(manifest.columns))
        graph = OnnxGraph(artifact.graph)
        check_examples(graph, manifest.examples)
        check_corners(graph, manifest)
        predictor = predictor_of(graph, manifest)
        check_predictions(predictor, manifest)
    except ModelError as error:
        msg = f"{artifact.manifest.version}: {error}"
        raise DamagedArtifactError(msg) from error
    return predictor


def predictor_of(graph: Runs, manifest: Manifest) -> Predictor:
    """The predictor of a graph with the calibrations of its manifest."""
    return Predictor(graph, manifest.calibration, GapTables(manifest) if manifest.columns else None)


def check_examples(graph: Runs, examples: Sequence[Example]) -> None:
    """Raise ModelError for the first example that the graph answers otherwise.

    The graph's outputs are compared, not the price: exp differs by one bit between processors.
    """
    log_price, spread = _answers(graph, np.array([example.features for example in examples], dtype=np.float32))
    for number, (example, *observed) in enumerate(zip(examples, log_price.tolist(), spread.tolist(), strict=True)):
        if observed != [example.log_price, example.spread]:
            msg = f"example {number}: observed {observed}, expected {[example.log_price, example.spread]}"
            raise ModelError(msg)


def check_corners(graph: Runs, manifest: Manifest) -> None:
    """Raise ModelError unless every corner of the contract, and of what was trained on, gets a price and a spread.

    Examples are houses of the middle; a tree that is broken at its edges answers them as ever.
    """
    houses = _corners(manifest)
    log_price, spread = _answers(graph, houses)
    with np.errstate(over="ignore"):
        price = np.exp(log_price)
    good = np.isfinite(price) & (price > 0) & np.isfinite(spread) & (spread > 0)
    if not good.all():
        bad = int(np.argmin(good))
        told = _described(houses[bad])
        msg = f"observed price {price[bad]} and spread {spread[bad]} for {told}, expected finite numbers above 0"
        raise ModelError(msg)


def check_predictions(predictor: Predictor, manifest: Manifest) -> None:
    """Raise ModelError unless examples and corners get prices and bounds as an answer holds them, at every level.

    The levels are those of the table's ends and the default. The interval may not be wider than no interval at all.
    """
    examples = np.array([example.features for example in manifest.examples], dtype=np.float32)
    houses = np.concatenate([examples, _corners(manifest)])
    for level in TRIED_LEVELS:
        try:
            price, lower, upper = predictor.predict(houses, level).columns()
        except (OverflowError, ZeroDivisionError) as error:
            msg = f"the interval at {level} cannot be computed: {error}"
            raise ModelError(msg) from error
        good = (lower > 0) & (lower <= price) & (price <= upper) & (upper <= price * WIDEST)
        if not good.all():
            bad = int(np.argmin(good))
            msg = (
                f"observed {lower[bad]:g} to {upper[bad]:g} around {price[bad]:g} at {level} for "
                f"{_described(houses[bad])}, expected bounds at most {WIDEST:,.0f} times off the price"
            )
            raise ModelError(msg)


def _corners(manifest: Manifest) -> Matrix:
    """Corners of the contract and of training; with columns, those are unknown, at their lowest, and highest."""
    features, columns = manifest.features, manifest.columns
    bounds = [(feature.above if feature.minimum is None else feature.minimum, feature.maximum) for feature in features]
    trained = [(feature.trained_from, feature.trained_to) for feature in features]
    houses = np.array([*product(*bounds), *product(*trained)], dtype=np.float32)
    if not columns:
        return houses
    ends = [[np.nan] * len(columns), [c.trained_from for c in columns], [c.trained_to for c in columns]]
    further = np.repeat(np.array(ends, dtype=np.float32), len(houses), axis=0)
    return np.column_stack([np.tile(houses, (len(ends), 1)), further])


def _described(house: Matrix) -> str:
    return ", ".join(f"{name} {value:.9g}" for name, value in zip(FEATURES, house, strict=False))


def _told(error: Exception) -> str:
    """The message of onnxruntime, which may be pages of C++."""
    return textwrap.shorten(str(error), 300, placeholder=" ...")


def _answers(graph: Runs, houses: Matrix) -> tuple[Column, Column]:
    log_price, spread = graph.run(houses)
    if not log_price.shape == spread.shape == (len(houses),):
        msg = f"observed outputs of shape {log_price.shape} and {spread.shape}, expected two of ({len(houses)},)"
        raise ModelError(msg)
    return log_price, spread


def _session(graph: bytes) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    # A worker is one core's share of the machine; more threads only fight over it.
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4  # what is wrong is raised, not printed
    # Without the fallback, which would try the same once more and print that.
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"], enable_fallback=0)
