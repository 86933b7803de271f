"""`appraiser study`: the predictions of a version against the prices of any file."""

import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
import orjson
from rich.console import Console

from pricing.artifacts.store import Store
from pricing.house import FEATURES
from pricing.inference.predictor import load
from train.errors import DataError
from train.models.encoding import inputs_of
from train.promotion.publish import plain, tell_rows
from train.sales import rows as data
from train.sales.columns import texts_of
from train.sales.rows import Reading, Sales
from train.study.report import of_all, of_groups
from train.study.studies import Sold, by_category, studies

LEVEL: Final = 0.9
UNKNOWN: Final = "(unknown)"


@dataclass(frozen=True)
class StudyOptions:
    """The options of the command."""

    version: str
    data: Path
    query: str | None
    reading: Reading
    by: str | None
    as_json: bool


def study_file(store: Store, order: StudyOptions, console: Console | None = None) -> None:
    """Print the study of all sales, of each fifth, and of each category of a column.

    Raises ArtifactError or DataError with one sentence.
    """
    artifact = store.read(order.version, store.seal(order.version))
    columns = artifact.manifest.columns
    needs_others = bool(columns) or order.by is not None
    sales = data.read(order.data, order.query, replace(order.reading, others=None if needs_others else ()))
    found = load(artifact).predict(inputs_of(sales.houses, sales.others, columns), LEVEL)
    sold = Sold(np.array(found.price), sales.prices, None if found.fsd is None else np.array(found.fsd))
    every = studies(sold)
    each = list(by_category(sold, _categories(sales, order.by))) if order.by else []
    if order.as_json:
        groups = [
            {"group": item[0], "rows": item[1], "too_small": True} if isinstance(item, tuple) else item.model_dump()
            for item in each
        ]
        answer = {"version": order.version, "rows": len(sales.prices), "study": [item.model_dump() for item in every]}
        sys.stdout.write(orjson.dumps(answer | ({"by": {order.by: groups}} if order.by else {})).decode() + "\n")
        return
    console = console or plain()
    tell_rows(console, sales)
    console.print(of_all(every[0]))
    console.print(of_groups("by fifth of the predicted price", every))
    if order.by:
        console.print(of_groups(f"by {order.by}", each))


def _categories(sales: Sales, name: str) -> dict[str, "np.ndarray[tuple[int], np.dtype[np.bool_]]"]:
    cells = sales.others.values.get(name)
    if name in FEATURES:
        cells = np.array(sales.houses[:, FEATURES.index(name)].tolist(), dtype=np.object_)
    if cells is None:
        msg = f"{sales.source}: missing column {name}; --by names a column of the file"
        raise DataError(msg)
    texts = np.array([UNKNOWN if text is None else text for text in texts_of(cells)])
    return {category: texts == category for category in np.unique(texts).tolist()}
