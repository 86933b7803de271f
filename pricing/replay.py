"""A recorded prediction, made once more: what was answered can be proved while journal and version are kept."""

from pydantic import ValidationError

from pricing.errors import DamagedJournalError
from pricing.house import House, to_matrix
from pricing.journal import Record
from pricing.predictor import Predictor


def differences(record: Record, predictor: Predictor) -> list[str]:
    """What the predictor of the recorded version says otherwise than the record, to the last bit; empty: nothing.

    Raises DamagedJournalError for a house that is none.
    """
    try:
        house = House.model_validate(record.house).model_dump()
    except ValidationError as error:
        msg = f"{record.prediction_id}: what was recorded is not a house that this program knows"
        raise DamagedJournalError(msg) from error
    price, lower, upper, level = predictor.predict(to_matrix([house]), record.confidence_level)
    again = {
        "predicted_price": price[0],
        "lower": lower[0],
        "upper": upper[0],
        "confidence_level": level,
    }
    recorded = record.model_dump(include=set(again))
    return [f"{name}: recorded {recorded[name]!r}, now {now!r}" for name, now in again.items() if now != recorded[name]]
