"""A recorded prediction, made once more: what was answered can be proved while journal and version are kept.

The graph gives the same bits on every processor; `exp`, which makes dollars of its outputs, does not: its last bit may
differ. So prices and bounds are compared to within 2 units in the last place (ulp). Of the price this is as strict as a
comparison of the graph's log price to the last bit: above 3,000 dollars, the next log price gives a price that is at
least 8 ulp away. The confidence level is compared exactly.
"""

import hashlib
import heapq
import math
from collections.abc import Callable, Iterable, Iterator
from typing import Final, NamedTuple

import numpy as np
from pydantic import ValidationError

from pricing.artifacts.columns import OptionalColumn, RowReader, ValueProblemError
from pricing.artifacts.store import Artifact
from pricing.errors import AppraiserError, DamagedJournalError
from pricing.house import House, to_matrix
from pricing.inference.predictor import Predictor
from pricing.journal.journal import Record

MAX_ULPS: Final = 2.0  # `exp` of either processor is wrong by less than one


class Replay(NamedTuple):
    """A record beside what its version predicts now."""

    differences: list[str]
    """What is not the same, in sentences; empty: nothing."""
    ulps: float
    """The largest difference of price and bounds, in units in the last place; 0: they are the same to the last bit."""


def replayed(record: Record, predictor: Predictor, columns: Iterable[OptionalColumn] = ()) -> Replay:
    """Price a record again with the predictor and the columns of its version.

    Raises DamagedJournalError for a house that is not valid.
    """
    try:
        house = House.model_validate(record.house).model_dump()
    except ValidationError as error:
        msg = f"{record.prediction_id}: the recorded house lacks fields that this program needs"
        raise DamagedJournalError(msg) from error
    try:
        further = RowReader(columns).read(record.columns).numbers
    except ValueProblemError as error:
        msg = f"{record.prediction_id}: the recorded columns are not valid: {error}"
        raise DamagedJournalError(msg) from error
    inputs = np.concatenate([to_matrix([house]), np.array([further], dtype=np.float32)], axis=1)
    price, lower, upper, level = predictor.predict(inputs, record.confidence_level)[:4]
    pairs = {
        "predicted_price": (record.predicted_price, price[0]),
        "lower": (record.lower, lower[0]),
        "upper": (record.upper, upper[0]),
    }
    ulps = {name: abs(now - was) / math.ulp(was) for name, (was, now) in pairs.items()}
    differences = [
        f"{name}: recorded {was!r}, now {now!r}, {ulps[name]:.0f} ulp apart; {MAX_ULPS:.0f} are allowed"
        for name, (was, now) in pairs.items()
        if not ulps[name] <= MAX_ULPS
    ]
    if level != record.confidence_level:
        differences.append(f"confidence_level: recorded {record.confidence_level!r}, now {level!r}")
    return Replay(differences, max(ulps.values()))


class Draw(NamedTuple):
    """Records that were drawn, and how many there were."""

    records: list[Record]
    recorded: int


def draw(records: Iterable[Record], count: int, seed: int) -> Draw:
    """Draw `count` records at random, or all if they are fewer, by a hash of the seed and their ids.

    The same journal and seed give the same records in the same order, whatever files they are in.
    """
    recorded = 0

    def counted() -> Iterator[Record]:
        nonlocal recorded
        for record in records:
            recorded += 1
            yield record

    def place(record: Record) -> bytes:
        return hashlib.blake2b(f"{seed} {record.prediction_id}".encode(), digest_size=16).digest()

    drawn = heapq.nsmallest(count, counted(), key=place)
    return Draw(drawn, recorded)


class Replayer:
    """Replays records of several versions, each of which is read once."""

    def __init__(self, read: Callable[[str, str], Artifact], load: Callable[[Artifact], Predictor]) -> None:
        """`read` gets a version and the digest of its manifest."""
        self._read = read
        self._load = load
        self._known: dict[str, tuple[Predictor, tuple[OptionalColumn, ...]] | str] = {}

    def replay(self, record: Record) -> Replay:
        """Price a record again; a version that cannot be read is a difference."""
        if record.sha256 not in self._known:
            self._known[record.sha256] = self._open(record)
        known = self._known[record.sha256]
        if isinstance(known, str):
            return Replay([known], math.inf)
        try:
            return replayed(record, *known)
        except DamagedJournalError as error:
            return Replay([str(error)], math.inf)

    def _open(self, record: Record) -> tuple[Predictor, tuple[OptionalColumn, ...]] | str:
        try:
            artifact = self._read(record.model_version, record.sha256)
            return self._load(artifact), artifact.manifest.columns
        except AppraiserError as error:
            return str(error)
