"""The manifest of a published version: how it was made, what it promises, and how to check that it is whole.

FORMAT is the number of this layout. A release that adds, renames or removes a field raises it by one, by the rule
of pricing/format.py, and states in `Manifest.parse` how manifests of the old number are read. The deployment seals the
bytes of a manifest, so fields that this release ignores are sealed too.
"""

import re
from bisect import bisect_left
from datetime import date
from itertools import pairwise
from typing import Annotated, ClassVar, Final, Self

import orjson
from pydantic import AwareDatetime, ConfigDict, Field, FiniteFloat, ValidationError, model_validator

from pricing.artifacts.columns import MAX_COLUMNS, OptionalColumn
from pricing.artifacts.study import Origin, Study
from pricing.errors import DamagedArtifactError
from pricing.format import Part, Stored, reason_of
from pricing.house import FEATURES

FORMAT: Final = 3
READABLE_FROM: Final = 1
COLUMNS_READABLE_FROM: Final = 2  # earlier releases know neither columns nor the shift of a calibration
LOWEST_LEVEL: Final = 0.5
HIGHEST_LEVEL: Final = 0.99
MIN_CALIBRATION_ROWS: Final = 200
MAX_BACKGROUND: Final = 64  # houses; each costs the service a run of up to 256 rows for an explanation
VERSION_PATTERN: Final = r"^v(0|[1-9][0-9]{0,5})\.(0|[1-9][0-9]{0,5})\.(0|[1-9][0-9]{0,5})$"

Version = Annotated[str, Field(pattern=VERSION_PATTERN, examples=["v1.0.0"])]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]
MarketLevel = Annotated[float, Field(ge=-5, le=5)]
Parameters = dict[str, str | int | float | bool | None]


class _Part(Part):
    # /model/info answers with parts: an answer has no further fields, and its schema states so
    model_config = ConfigDict(allow_inf_nan=False, json_schema_extra={"additionalProperties": False})


class Calibration(_Part):
    """The table of conformal prediction: for each level, the quantile of |log error| / spread that holds it."""

    rows: int = Field(ge=MIN_CALIBRATION_ROWS, description="Calibration rows behind the table.")
    levels: tuple[Share, ...] = Field(description="Rising, from 0.5 to 0.99.")
    quantiles: tuple[Positive, ...] = Field(description="One for each level, never falling.")
    fsd: Positive | None = Field(
        default=None,
        description="FSD of a spread of 1: the relative error that 68.3 % of the calibration rows keep below.",
    )
    shift: FiniteFloat = Field(default=0.0, description="Added to the log price, in log dollars: a later level.")

    @model_validator(mode="after")
    def _is_a_table(self) -> Self:
        if len(self.levels) != len(self.quantiles):
            msg = f"{len(self.levels)} levels, but {len(self.quantiles)} quantiles"
            raise ValueError(msg)
        if not self.levels or (self.levels[0], self.levels[-1]) != (LOWEST_LEVEL, HIGHEST_LEVEL):
            msg = f"levels must run from {LOWEST_LEVEL} to {HIGHEST_LEVEL}"
            raise ValueError(msg)
        if any(a >= b for a, b in pairwise(self.levels)) or any(a > b for a, b in pairwise(self.quantiles)):
            msg = "levels must rise, and quantiles must not fall"
            raise ValueError(msg)
        return self

    def at(self, level: float) -> tuple[float, float]:
        """Return the level that is held, which is `level` or the next higher of the table, and its quantile.

        `level` is from 0.5 to 0.99; anything else is a ValueError.
        """
        if not LOWEST_LEVEL <= level <= HIGHEST_LEVEL:
            msg = f"the level must be from {LOWEST_LEVEL} to {HIGHEST_LEVEL}, got {level}"
            raise ValueError(msg)
        index = bisect_left(self.levels, level)
        return self.levels[index], self.quantiles[index]


class GapCalibration(_Part):
    """The table for houses of which only some of the version's columns are known."""

    given: tuple[str, ...] = Field(description="The columns that are known.")
    quantiles: tuple[Positive, ...] = Field(description="One for each level of the calibration, never falling.")
    fsd: Positive

    @model_validator(mode="after")
    def _never_falls(self) -> Self:
        if any(a > b for a, b in pairwise(self.quantiles)):
            msg = "quantiles must not fall"
            raise ValueError(msg)
        return self


class Recalibration(_Part):
    """The evidence for a new level and new quantiles of the parent's graph; `before` is of the parent itself."""

    parent: Version
    rows: int = Field(description="Recent sales that the graph has not learned from.")
    first_sale: date | None = None
    last_sale: date | None = None
    bias_before: FiniteFloat = Field(description="Median log error.")
    bias_after: FiniteFloat = Field(description="The same out of fold, as the next two.")
    levels: tuple[Share, ...]
    coverage_before: tuple[Share, ...]
    coverage_after: tuple[Share, ...]
    against: tuple[str, ...] = Field(description="Objections against its deployment.")


class Parity(_Part):
    """The distance of ONNX from scikit-learn at the worst row, in parts per million of the price and of the spread."""

    limit_ppm: Positive
    test_rows: int
    test_ppm: float
    threshold_rows: int = Field(description="Rows placed one float32 step below, at and above the trees' thresholds.")
    threshold_ppm: float
    gap_rows: int = Field(default=0, description="Test rows without some of the version's columns.")
    gap_ppm: float = 0.0


class Interval(_Part):
    """The interval at one level on the test rows."""

    level: Share
    coverage: Share
    median_width: float = Field(description="(upper - lower) / price, median over the rows.")


class Fifth(_Part):
    """Test rows of one fifth of the predicted price."""

    rows: int
    lowest_price: Positive = Field(description="US dollars, predicted.")
    highest_price: Positive = Field(description="US dollars, predicted.")
    mape: float = Field(description="Mean absolute percentage error as a share: 0.22 is 22 %.")
    intervals: tuple[Interval, ...]


class Scores(_Part):
    """Errors of the predicted prices for one set of rows."""

    rows: int
    r2: float = Field(description="Coefficient of determination in dollars.")
    mape: float = Field(description="Mean absolute percentage error as a share: 0.22 is 22 %.")
    median_error: float = Field(description="Median absolute percentage error as a share.")


class Metrics(_Part):
    """Measured through the ONNX graph that ships. The interval is measured on test rows only."""

    train: Scores
    test: Scores
    intervals: tuple[Interval, ...]
    fifths: tuple[Fifth, ...] = Field(description="Test rows by fifth of the predicted price, cheapest first.")
    study: tuple[Study, ...] = Field(
        default=(), description="Ratio studies of the test rows: of all, and of each fifth of the predicted price."
    )
    rolling_origins: tuple[Origin, ...] = Field(
        default=(), description="How such versions of past dates would have done on later sales."
    )


class Feature(_Part):
    """One input column of the graph, and what training saw in it."""

    name: str
    unit: str
    above: float | None = Field(description="Exclusive lower bound of the contract.")
    minimum: float | None = Field(description="Inclusive lower bound of the contract.")
    maximum: float | None = Field(description="Inclusive upper bound of the contract.")
    trained_from: float
    trained_to: float
    bins: tuple[float, ...] = Field(description="Rising quantiles of the fit rows, for drift.")

    @model_validator(mode="after")
    def _is_a_range(self) -> Self:
        lowest = self.above if self.minimum is None else self.minimum
        known = [self.trained_from, self.trained_to]
        bounds = [*([] if lowest is None else [lowest]), *known, *([] if self.maximum is None else [self.maximum])]
        if any(a > b for a, b in pairwise(bounds)):
            msg = f"trained_from {known[0]:g} to trained_to {known[1]:g} is not a range within the bounds"
            raise ValueError(msg)
        if any(a >= b for a, b in pairwise(self.bins)):
            msg = "bins must rise"
            raise ValueError(msg)
        return self


class Split(_Part):
    """The rule that deals rows to fit, calibrate and test: by a hash of the salt and of what identifies a house."""

    salt: str
    calibrate: Share
    test: Share
    identified_by: tuple[str, ...] = Field(
        default=FEATURES, min_length=1, description="Features that are hashed; where it is absent, all of them."
    )

    @model_validator(mode="after")
    def _names_our_features(self) -> Self:
        unknown = [name for name in self.identified_by if name not in FEATURES]
        if unknown:
            msg = f"identified_by names {', '.join(unknown)}; this program serves {', '.join(FEATURES)}"
            raise ValueError(msg)
        return self


class Data(_Part):
    """The rows that the version was made from."""

    source: str = Field(description="File name, or what the rows are.")
    synthetic: bool
    sha256: Sha256 = Field(description="Digest of the accepted rows: features as float32, prices as float64.")
    rows: int
    refused: int
    fit: int
    calibrate: int = Field(description="Rows kept for calibration alone; 0 if out-of-fold errors calibrate.")
    test: int
    first_sale: date | None = Field(default=None, description="Of the rows that were learned from.")
    last_sale: date | None = Field(default=None, description="Of the rows that were learned from.")


class Graph(_Part):
    """The ONNX file."""

    sha256: Sha256
    size: int = Field(gt=0, description="Bytes.")
    opset: int
    opset_ml: int


class SealedSales(_Part):
    """The sales that the version learned from, in sales.bin; only if training was asked to keep them."""

    sha256: Sha256
    size: int = Field(gt=0, description="Bytes.")
    rows: int = Field(gt=0, description="Sales; of more, the newest are kept.")
    market: tuple[MarketLevel, ...] = Field(
        default=(),
        description="Level of the market in each period of 30 days, counted back from the last sale, newest first, in "
        "log dollars; 0 is the level of the graph. Empty if the sales have no dates.",
    )


class Example(_Part):
    """One row and the exact outputs of the graph for it, so that a host can check that it computes the same."""

    features: tuple[FiniteFloat | None, ...] = Field(description="A row of the graph's input; null is unknown.")
    log_price: float = Field(description="Natural logarithm of US dollars.")
    spread: Positive = Field(description="Size of the log error to expect.")


class Manifest(Stored):
    """Everything about one version beside the graph itself."""

    NEWEST: ClassVar[int] = FORMAT
    model_config = ConfigDict(allow_inf_nan=False)

    format: int = FORMAT
    version: Version
    created_at: AwareDatetime
    family: str
    parameters: dict[str, Parameters] = Field(description="Of the estimators of the price and of the spread.")
    seed: int
    features: tuple[Feature, ...]
    columns: tuple[OptionalColumn, ...] = Field(default=(), max_length=MAX_COLUMNS)
    split: Split
    data: Data
    metrics: Metrics
    calibration: Calibration
    gap_calibrations: tuple[GapCalibration, ...] = ()
    recalibrated: Recalibration | None = None
    parity: Parity
    examples: tuple[Example, ...] = Field(min_length=1)
    background: tuple[tuple[FiniteFloat | None, ...], ...] = Field(
        default=(),
        max_length=MAX_BACKGROUND,
        description="Houses that prices are explained against, without prices: rows of the graph's input; null is "
        "unknown.",
    )
    graph: Graph
    sales: SealedSales | None = None
    libraries: dict[str, str]

    @model_validator(mode="after")
    def _has_our_features(self) -> Self:
        names = tuple(feature.name for feature in self.features)
        if names != FEATURES:
            msg = f"features are {', '.join(names)}; this program serves {', '.join(FEATURES)}"
            raise ValueError(msg)
        known = [column.name for column in self.columns]
        if len({*known, *FEATURES}) < len(known) + len(FEATURES):
            msg = "a column has the name of another, or of a field of the contract"
            raise ValueError(msg)
        if any(len(example.features) != len(FEATURES) + len(known) for example in self.examples):
            msg = f"every example needs {len(FEATURES) + len(known)} features"
            raise ValueError(msg)
        if any(len(row) != len(FEATURES) + len(known) for row in self.background):
            msg = f"every house of the background needs {len(FEATURES) + len(known)} values"
            raise ValueError(msg)
        for table in self.gap_calibrations:
            if not set(table.given) <= set(known) or len(table.quantiles) != len(self.calibration.levels):
                msg = "a gap calibration has a quantile for each level, and names columns of this version"
                raise ValueError(msg)
        return self

    @property
    def valued_as_of(self) -> date | None:
        """Last day of a sale that decided the level of the prices."""
        return self.data.last_sale if self.recalibrated is None else self.recalibrated.last_sale

    def to_bytes(self) -> bytes:
        """Indented JSON, since people read it too."""
        return orjson.dumps(self.model_dump(mode="json"), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Return the manifest, or raise DamagedArtifactError that names what is wrong and where.

        One of format 1 has no columns, and one of format 2 no background: each lacks only fields that have a default.
        """
        try:
            found = orjson.loads(data)
        except orjson.JSONDecodeError as error:
            msg = f"manifest.json is not JSON: {error}"
            raise DamagedArtifactError(msg) from error
        if not isinstance(found, dict) or found.get("format") is None:  # every manifest has had one
            msg = f"manifest.json has format None, this program reads {FORMAT}"
            raise DamagedArtifactError(msg)
        try:
            return cls.model_validate(found)
        except ValidationError as error:
            msg = f"manifest.json: {reason_of(error, 'manifest')}"
            raise DamagedArtifactError(msg) from error


def is_version(name: str) -> bool:
    """Whether a version may have this name: v1.2.3, without leading zeros."""
    return re.fullmatch(VERSION_PATTERN, name) is not None


def version_key(version: str) -> tuple[int, ...]:
    """Sort key of a version: v1.10.0 comes after v1.9.0."""
    return tuple(int(part) for part in version.removeprefix("v").split("."))
