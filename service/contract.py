"""What goes over the wire, declared once: requests are parsed by these models, the OpenAPI document is made of them.

Answers of the prediction routes are written by hand for speed; the tests hold them against these models.
"""

from typing import Annotated, Any, Final, Literal, cast
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, TypeAdapter, create_model, with_config
from typing_extensions import TypedDict

from pricing.deployment import Role
from pricing.house import House
from pricing.manifest import (
    HIGHEST_LEVEL,
    LOWEST_LEVEL,
    VERSION_PATTERN,
    Data,
    Feature,
    Metrics,
    Parameters,
    Parity,
    Sha256,
    Version,
)

DEFAULT_LEVEL = 0.9
CHAMPION: Final = "champion"

Dollars = Annotated[float, Field(ge=0, description="US dollars, rounded to cents.")]
Level = Annotated[float, Field(ge=LOWEST_LEVEL, le=HIGHEST_LEVEL)]

Asked = Annotated[str, Field(pattern=f"^champion$|{VERSION_PATTERN}", examples=["v1.0.0", CHAMPION])]

EXAMPLE_HOUSE = {name: field.examples[0] for name, field in House.model_fields.items() if field.examples}
_LARGER_HOUSE = EXAMPLE_HOUSE | {"square_feet": 2500, "bedrooms": 4, "bathrooms": 3}


class Choice(BaseModel):
    """The query of what can be asked of one version; a parameter that is not known is ignored."""

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)

    model_version: Asked | None = Field(
        default=None, description="Version that shall answer, or `champion`; else the split decides."
    )


class Options(Choice):
    """The query of both prediction routes."""

    confidence: Level = Field(
        default=DEFAULT_LEVEL,
        description="Level of the interval: the share of such houses whose price it should contain.",
    )


class Houses(BaseModel):
    """The body of a batch."""

    model_config = ConfigDict(
        strict=True, frozen=True, json_schema_extra={"examples": [{"houses": [EXAMPLE_HOUSE, _LARGER_HOUSE]}]}
    )

    houses: list[House] = Field(min_length=1)


def batch_of(max_rows: int) -> type[Houses]:
    """Houses with at most `max_rows` of them."""
    rows = Field(min_length=1, max_length=max_rows, description=f"1 to {max_rows:,} houses.")
    return cast(
        "type[Houses]", create_model("Houses", __base__=Houses, __doc__=Houses.__doc__, houses=(list[House], rows))
    )


def frame_of(batch: type[Houses]) -> TypeAdapter[Any]:
    """Parses the body of a batch by the same rules, into a plain dictionary; its rows may be anything."""
    rows = Annotated[list[Any], batch.model_fields["houses"]]
    return TypeAdapter(with_config(batch.model_config)(TypedDict("Houses", {"houses": rows})))  # type: ignore[operator]


class _Answer(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ConfidenceInterval(_Answer):
    """Bounds that contain the price of such houses at the level of the answer."""

    lower: Dollars
    upper: Dollars


class OutOfRange(_Answer):
    """A value outside of what the model was trained on: the price is an extrapolation."""

    field: str
    value: float
    trained_from: float
    trained_to: float
    msg: str


class Prediction(_Answer):
    """The answer for one house."""

    predicted_price: Dollars
    confidence_interval: ConfidenceInterval
    model_version: Version
    predicted_at: AwareDatetime = Field(description="UTC, ISO 8601.")
    confidence_level: Level = Field(description="The level that the interval holds: the one asked for or just above.")
    prediction_id: UUID = Field(description="Its name in the journal; ids rise with time.")
    warnings: list[OutOfRange] | None = Field(default=None, description="Only there when a value is out of range.")


class Predictions(_Answer):
    """The answer for a batch."""

    predictions: list[Prediction] = Field(description="One for each house, in order.")
    count: int


class Problem(_Answer):
    """Why there is no other answer."""

    detail: str = Field(description="One sentence.")


class ValidationProblem(_Answer):
    """One thing that is wrong with the body or the query."""

    type: str
    loc: list[str | int] = Field(examples=[["body", "square_feet"]])
    msg: str


class ValidationProblems(_Answer):
    """Everything that is wrong with the body or the query, at most 20 entries."""

    detail: list[ValidationProblem]


class Live(_Answer):
    """The process answers."""

    status: Literal["live"]


class Refused(_Answer):
    """Why this worker does not serve what is deployed."""

    generation: int | None = Field(default=None, description="Of the deployment; null when it cannot be read.")
    version: Version | None = None
    reason: str


class Health(_Answer):
    """The worker can predict."""

    status: Literal["ready"]
    version: Version = Field(description="The champion.")
    generation: int = Field(description="Number of the deployment that is served; it only grows.")
    refused: list[Refused] | None = Field(default=None, description="Only there when a version was refused.")


class Unready(_Answer):
    """The worker cannot predict."""

    detail: str = Field(description="One sentence.")
    refused: list[Refused] | None = Field(default=None, description="Only there when a version was refused.")


class HeadlineMetrics(_Answer):
    """Of the test rows, through the ONNX graph."""

    test_rows: int
    mape: float = Field(description="Mean absolute percentage error as a share: 0.22 is 22 %.")
    r2: float
    coverage: float = Field(description="Share of the test prices within their interval at level 0.9.")


class ModelSummary(_Answer):
    """One version in service."""

    version: Version
    role: Role
    weight: int = Field(description="Percent of the clients who ask for no version.")
    family: str
    trained_at: AwareDatetime
    metrics: HeadlineMetrics


class ModelList(_Answer):
    """The versions in service, champion first."""

    generation: int
    models: list[ModelSummary]


class Latency(_Answer):
    """Milliseconds, from the buckets of a histogram."""

    p50: float
    p95: float
    p99: float


class _Answered(_Answer):
    requests: int
    refused: int = Field(description="Answered 4xx.")
    failed: int = Field(description="Answered 5xx.")
    error_rate: float = Field(description="Share of those that failed.")
    milliseconds: Latency | None = Field(description="From the whole request to the whole answer.")


class RouteSummary(_Answered):
    """What became of the requests to one route."""


class VersionSummary(_Answered):
    """What one version was asked."""

    predictions: int = Field(description="Houses priced.")
    cache_hits: int
    inference_milliseconds: Latency | None = Field(description="One run of the model, of any number of houses.")


class Summary(_Answered):
    """Of all workers, since the service was started."""

    routes: dict[str, RouteSummary]
    versions: dict[str, VersionSummary]
    journal_records: int
    journal_dropped: int = Field(description="Predictions that were answered, but are not in the journal.")


class ModelInfo(_Answer):
    """How a version was made, and what it promises."""

    version: Version
    generation: int
    family: str
    trained_at: AwareDatetime
    features: tuple[Feature, ...]
    metrics: Metrics
    confidence_levels: tuple[float, ...] = Field(description="Levels that the interval can hold.")
    calibration_rows: int
    data: Data
    parity: Parity
    parameters: dict[str, Parameters]
    seed: int
    libraries: dict[str, str]
    sha256: Sha256 = Field(description="Of the ONNX graph.")
