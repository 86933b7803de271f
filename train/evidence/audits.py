"""Ratio studies by columns that a version must not learn from, as `--audit` names them."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from pricing.artifacts.evidence import MIN_GROUP, Audit, Group
from train.errors import DataError
from train.evidence.groups import by_category, by_number, named
from train.sales.columns import ColumnChoice, Wish, checked, values_of
from train.sales.rows import OtherColumns, Sales
from train.study.studies import Sold, study

RESAMPLES: Final = 200
MAX_GROUPS: Final = 20


def check_audit(names: Sequence[str], columns: ColumnChoice) -> None:
    """Raise DataError if a version could learn from a column that is audited."""
    checked(dict.fromkeys(names, Wish()), "--audit")
    if not isinstance(columns, str) and (both := [name for name in names if name in columns]):
        msg = f"--audit and --columns both name {both[0]}: a version never learns from a column that is audited"
        raise DataError(msg)


def without_audited(sales: Sales, names: Sequence[str]) -> Sales:
    """The same sales without these columns. Raises DataError if the file lacks one."""
    if missing := [name for name in names if name not in sales.others.values]:
        msg = f"{sales.source}: missing column {', '.join(missing)}; name columns of the file with --audit"
        raise DataError(msg)
    kept = {name: cells for name, cells in sales.others.values.items() if name not in names}
    return replace(sales, others=sales.others._replace(values=kept))


def audits(sold: Sold, cells: OtherColumns, names: Sequence[str]) -> Iterator[Audit]:
    """The studies of the test sales by each of the columns: fifths of a number, the largest categories."""
    for name in names:
        column = values_of(cells, name, Wish())
        if column.kind == "number":
            groups = list(named(by_number(column.values)))
        else:
            texts = [None if np.isnan(place) else column.names[int(place)] for place in column.values]
            groups = list(named(by_category(texts, MAX_GROUPS)))
        large = [(label, rows) for label, rows in groups if rows.sum() >= MIN_GROUP]
        yield Audit(
            column=name,
            studies=tuple(study(label, sold.where(rows), RESAMPLES) for label, rows in large),
            too_small=tuple(
                Group(group=label, rows=int(rows.sum())) for label, rows in groups if rows.sum() < MIN_GROUP
            ),
        )
