"""Comparable sales as the answer to a single prediction has them."""

from typing import Any

import numpy as np

from pricing.house import decimal
from pricing.inference.comparables import Comparable
from service.errors import NoSalesError
from service.predictions.recorder import ServedPredictions


def compare(told: ServedPredictions, count: int) -> list[dict[str, Any]]:
    """The `count` sales most like the house of a single prediction, most similar first. Raises NoSalesError.

    It takes about a millisecond, so it has no break inside.
    """
    sales = told.chosen.model.comparables
    if sales is None:
        raise NoSalesError
    _, house, *_ = told.entries[0]
    known = dict(house) | (told.given.recorded[0] if told.given else {})
    return [_rendered(sale, known) for sale in sales.find(told.matrix, count)]


def _rendered(sale: Comparable, known: dict[str, float | str]) -> dict[str, Any]:
    dated = {} if sale.sold_on is None else {"sold_on": sale.sold_on.isoformat()}
    return {
        "price": _cents(sale.price),
        **dated,
        "time_adjusted_price": _cents(sale.time_adjusted_price),
        "adjusted_price": _cents(sale.adjusted_price),
        "similarity": round(sale.similarity, 4),
        "house": sale.house,
        "differences": [
            {"field": name, "house": value, "sale": sold}
            for name, sold in sale.house.items()
            if (value := known.get(name)) is not None and not _are_equal(value, sold)
        ],
    }


def _are_equal(value: float | str, sold: float | str) -> bool:
    """Whether they are the same to the model, which rounds numbers to float32."""
    return value == sold or (isinstance(value, float | int) and decimal(np.float32(value)) == sold)


def _cents(dollars: float) -> float:
    return int(dollars * 100 + 0.5) / 100
