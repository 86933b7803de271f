"""The parts of an answer besides the price, each of which is computed only if a request asks for it.

This is the one place where they are added: an option in the contract, its function in `add_parts`, its name in PARTS if
a batch may have it.
A part is computed before its prediction is recorded, with a break after each millisecond or so.
"""

from typing import Any, Final

import numpy as np
from pydantic_core import PydanticCustomError

from pricing.inference.shapley import CENTS, to_cents
from service.contract import MAX_EXPLAINED, NOT_OF_BATCH, ONE_BY_ONE, Options
from service.errors import NotExplainableError
from service.predictions.bodies import Steps, invalid, refused_in_query
from service.predictions.comparing import compare
from service.predictions.recorder import ServedPredictions

PARTS: Final = ("explain",)
COALITIONS_A_STEP: Final = 200
"""Rows of the graph between two breaks: a millisecond of a version with columns."""


def may_ask_for_parts(query: str, body: bytes) -> bool:
    """Whether a request may ask for a part, by a look that costs next to nothing; it decides on breaks only."""
    return any(name in query or name.encode() in body for name in PARTS)


def check_rows(options: Options, rows: int) -> None:
    """Raise InvalidRequestError if a part is asked for more houses than it may be.

    Its `loc` is ["body", "houses"], or ["query", "comparables"], which are of no batch.
    """
    if options.comparables is not None:
        raise refused_in_query(NOT_OF_BATCH, ONE_BY_ONE, "comparables")
    if options.explain and rows > MAX_EXPLAINED:
        message = f"List should have at most {MAX_EXPLAINED} items if prices are explained, not {rows}"
        raise invalid([{"type": PydanticCustomError("too_long", message), "loc": ("houses",), "input": None}])


def add_parts(told: ServedPredictions, options: Options, answers: list[dict[str, Any]]) -> Steps[None]:
    """Add to each answer what the options ask for. Raises NotExplainableError or NoSalesError."""
    if options.explain:
        for row, answer in enumerate(answers):
            answer["explanation"] = yield from _explain(told, row, answer)
    if options.comparables is not None:
        yield b""
        answers[0]["comparables"] = compare(told, options.comparables)


def _explain(told: ServedPredictions, row: int, answer: dict[str, Any]) -> Steps[dict[str, Any]]:
    """Explain the answer of a row, with breaks. Raises NotExplainableError.

    The base is rounded alone, so that it is the same in all answers at a level. The cents that are missing then go to
    the contributions with the largest remainders.
    """
    model = told.chosen.model
    if model.explainer is None:
        raise NotExplainableError
    house = told.matrix[row : row + 1]
    rows, places = model.explainer.coalitions(house)
    outputs = []
    for start in range(0, len(rows), COALITIONS_A_STEP):
        yield b""
        outputs.append(model.predictor.outputs(rows[start : start + COALITIONS_A_STEP]))
    log_price, spread = map(np.concatenate, zip(*outputs, strict=True))
    found = model.explainer.values(house, told.prediction.confidence_level, places, (log_price, spread))
    interval = answer["confidence_interval"]
    base_price, base_width = (round(base * CENTS) for base in (found.base_price, found.base_width))
    price = to_cents([part.price for part in found.contributions], _cents(answer["predicted_price"]) - base_price)
    total_width = _cents(interval["upper"]) - _cents(interval["lower"])
    width = to_cents([part.width for part in found.contributions], total_width - base_width)
    return {
        "base_price": base_price / CENTS,
        "base_width": base_width / CENTS,
        "contributions": [
            {"group": part.group.name, "fields": part.group.fields, "price": dollars / CENTS, "width": wide / CENTS}
            for part, dollars, wide in zip(found.contributions, price, width, strict=True)
        ],
    }


def _cents(dollars: float) -> int:
    """Of an amount that is rounded already."""
    return round(dollars * CENTS)
