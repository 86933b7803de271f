"""A recorded prediction, made once more: what was answered can be proved while journal and version are kept.

The graph gives the same bits on every processor; `exp`, which makes dollars of its outputs, does not: its last bit may
differ. So prices and bounds are compared to within 2 units in the last place (ulp). Of the price this is as strict as a
comparison of the graph's log price to the last bit: above 3,000 dollars, the next log price gives a price that is at
least 8 ulp away. The confidence level is compared exactly.
"""

import math
from collections.abc import Iterable
from typing import Final, NamedTuple

import numpy as np
from pydantic import ValidationError

from pricing.artifacts.columns import OptionalColumn, RowReader, ValueProblemError
from pricing.errors import DamagedJournalError
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
