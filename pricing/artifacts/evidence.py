"""The figures behind the report of a version that its metrics lack, as the manifest keeps them.

* All are measured on test rows, through the graph that ships. None describes a single sale.
* Numbers have five digits, so that the part stays small: every worker holds it.
* A group of less than MIN_GROUP sales is too small to be judged: it has no figures but its number of sales.
"""

from typing import Final, Literal

from pydantic import ConfigDict, Field, FiniteFloat

from pricing.artifacts.study import Study
from pricing.format import Part

MIN_GROUP: Final = 30
QUANTILES: Final = (0.1, 0.25, 0.5, 0.75, 0.9)
LEVEL: Final = 0.9
"""Of the intervals, where none is named."""


class _Part(Part):
    model_config = ConfigDict(allow_inf_nan=False)


class RefusedRows(_Part):
    """Rows of the file that one rule refused."""

    field: str
    reason: str
    rows: int


class Baseline(_Part):
    """A rule without a model, made from the rows that were learned from."""

    rule: str
    mape: FiniteFloat = Field(description="Mean absolute percentage error as a share.")
    median_error: FiniteFloat


class Judged(_Part):
    """The version beside the champion of its day, on the rows of the verdict."""

    champion: str
    rows: int
    houses: int
    used_before: int = Field(description="Verdicts that had used these rows before.")
    champion_mape: FiniteFloat
    mape: FiniteFloat
    gain: FiniteFloat | None = Field(description="In mean absolute error of the log price, as a share.")
    gain_lower: FiniteFloat | None = Field(description="Lower bound of the one-sided 95 % interval.")
    against: tuple[str, ...] = Field(description="Objections against its deployment.")


class Group(_Part):
    """Sales that are alike in one thing."""

    group: str
    rows: int
    mape: FiniteFloat | None = None
    median_ratio: FiniteFloat | None = Field(default=None, description="Of predicted price to sale price.")
    coverage: FiniteFloat | None = Field(default=None, description="Share of the prices within the interval.")
    median_width: FiniteFloat | None = Field(default=None, description="Of the interval, as a share of the price.")


class PriceBand(Group):
    """Sales of one part of the predicted price."""

    predicted: FiniteFloat = Field(description="Median predicted price, US dollars.")
    sold: tuple[FiniteFloat, ...] = Field(description="Sale prices at each of QUANTILES, US dollars.")


class ColumnGroups(_Part):
    """Sales by the value of one column."""

    name: str
    groups: tuple[Group, ...]


class Cell(_Part):
    """One cell of the map; a cell that is too small is left out."""

    x: int
    y: int
    rows: int
    median_ratio: FiniteFloat
    mape: FiniteFloat


class Place(_Part):
    """Sales by their coordinates, in cells of equal size."""

    x_name: str
    y_name: str
    x_edges: tuple[FiniteFloat, ...]
    y_edges: tuple[FiniteFloat, ...]
    cells: tuple[Cell, ...]
    elsewhere: int = Field(description="Sales in other cells, or without coordinates.")


class Held(_Part):
    """The interval at one level."""

    level: FiniteFloat
    coverage: FiniteFloat
    median_width: FiniteFloat


class Given(_Part):
    """All test rows without some of the version's columns."""

    unknown: tuple[str, ...]
    mape: FiniteFloat
    coverage: FiniteFloat
    coverage_half: FiniteFloat = Field(description="The same at 0.5.")
    median_width: FiniteFloat


class Effect(_Part):
    """The effect of one column: on prices by partial dependence (Friedman 2001), and on the error without it."""

    name: str
    without: Literal["shuffled", "unknown"] = Field(
        description="A field is dealt to other rows (permutation importance, Breiman 2001); a column becomes unknown."
    )
    mape: FiniteFloat = Field(description="Without it.")
    values: tuple[FiniteFloat, ...] = ()
    categories: tuple[str, ...] = ()
    prices: tuple[FiniteFloat, ...] = Field(
        description="Geometric mean of the predicted prices if each row had this value, US dollars."
    )


class Audit(_Part):
    """Ratio studies by a column that the version has not learned from."""

    column: str
    studies: tuple[Study, ...]
    too_small: tuple[Group, ...]


class Evidence(_Part):
    """All of it."""

    refusals: tuple[RefusedRows, ...] = ()
    baselines: tuple[Baseline, ...]
    judged: Judged | None = None
    prices: tuple[PriceBand, ...]
    columns: tuple[ColumnGroups, ...]
    place: Place | None = None
    levels: tuple[Held, ...]
    given: tuple[Given, ...] = ()
    effects: tuple[Effect, ...]
    audits: tuple[Audit, ...] = ()
