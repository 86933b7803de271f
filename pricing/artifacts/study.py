"""A ratio study as the manifest keeps it: predicted prices against sale prices, by the measures of mass appraisal."""

from datetime import date
from typing import Final

from pydantic import ConfigDict, Field, FiniteFloat

from pricing.format import Part

STANDARD: Final = {
    "median_ratio": (0.9, 1.1),
    "cod": (5.0, 15.0),
    "prd": (0.98, 1.03),
    "prb": (-0.05, 0.05),
    "mki": (0.95, 1.05),
    "vei": (-10.0, 10.0),
}
"""The ranges of the IAAO's Standard on Ratio Studies; `cod` is that of one family."""


class _Part(Part):
    model_config = ConfigDict(allow_inf_nan=False, json_schema_extra={"additionalProperties": False})


class Measure(_Part):
    """A measure with the bounds of its 95 % interval; null if the sales do not define it."""

    value: FiniteFloat | None
    lower: FiniteFloat | None = None
    upper: FiniteFloat | None = None


class Study(_Part):
    """The measures of one group of sales; ratio = predicted price / sale price."""

    group: str
    rows: int
    median_ratio: Measure
    cod: Measure = Field(description="Coefficient of dispersion: mean distance of ratios from their median, percent.")
    prd: Measure = Field(description="Price-related differential: mean ratio / weighted mean ratio.")
    prb: Measure = Field(description="Price-related bias: relative change of the ratio if the value doubles.")
    mki: Measure = Field(description="Gini of the predictions in order of price / Gini of the prices.")
    vei: Measure = Field(description="Vertical equity indicator: dearest group less cheapest, percent.")
    ppe10: float = Field(description="Share of predictions within 10 % of the price.")
    ppe20: float = Field(description="Share of predictions within 20 % of the price.")
    mape: float = Field(description="Mean absolute percentage error as a share.")
    mdape: float = Field(description="Median absolute percentage error as a share.")
    fsd: float | None = Field(default=None, description="Median forecast standard deviation.")
    fsd_coverage: float | None = Field(default=None, description="Share of the prices within prediction ± fsd.")


class LaterSales(_Part):
    """Sales of one month after an origin, by a version that knew only the sales until then."""

    month: int = Field(description="Months ahead, from 1.")
    rows: int
    levels: tuple[float, ...]
    coverage: tuple[float, ...] = Field(description="Share of the prices within the interval at each level.")
    median_ratio: float
    mape: float = Field(description="Mean absolute percentage error as a share.")


class Origin(_Part):
    """A past date, and how a version of that day would have done on the sales that followed."""

    last_sale: date
    rows: int = Field(description="Sales until then.")
    months: tuple[LaterSales, ...]
