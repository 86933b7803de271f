"""Requests and answers, declared once: these models parse requests and describe both in the OpenAPI document.

Answers of the prediction routes are written by hand for speed; the tests compare them with these models.
"""

from collections.abc import Mapping
from datetime import date
from re import fullmatch
from typing import Annotated, Any, Final, Literal, NoReturn, NotRequired, cast
from uuid import UUID

from annotated_types import MaxLen
from pydantic import (
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    Strict,
    StrictBool,
    TypeAdapter,
    create_model,
    with_config,
)
from pydantic_core import PydanticCustomError, PydanticOmit
from typing_extensions import TypedDict

from pricing.artifacts.columns import OptionalColumn
from pricing.artifacts.deployment import Role
from pricing.artifacts.manifest import (
    HIGHEST_LEVEL,
    LOWEST_LEVEL,
    VERSION_PATTERN,
    Data,
    Feature,
    Metrics,
    Parameters,
    Parity,
    Recalibration,
    Sha256,
    Version,
)
from pricing.house import House

DEFAULT_LEVEL = 0.9
MAX_COMPARABLES: Final = 20
CHAMPION: Final = "champion"
MAX_EXPLAINED: Final = 20
"""Houses of one batch. Each takes up to 25 ms, as much as 5,000 houses without an explanation."""

Dollars = Annotated[float, Field(ge=0, description="US dollars, rounded to cents.")]
Level = Annotated[float, Field(ge=LOWEST_LEVEL, le=HIGHEST_LEVEL)]

_WRITTEN: Final = {"true": True, "false": False}
Switch = Annotated[
    StrictBool, BeforeValidator(lambda text: _WRITTEN.get(text.lower(), text) if isinstance(text, str) else text)
]
"""Of a query: `true` or `false`, in any case, since clients of Python write True."""
Count = Annotated[int, Field(ge=1, le=MAX_COMPARABLES), Strict()]
CountInQuery = Annotated[
    Count,
    BeforeValidator(lambda found: int(found) if isinstance(found, str) and fullmatch("[0-9]{1,9}", found) else found),
]
CountInBody = Annotated[
    Count, BeforeValidator(lambda found: int(found) if type(found) is float and found.is_integer() else found)
]
"""In JSON, 5.0 is a whole number too."""
Asked = Annotated[str, Field(pattern=f"^champion$|{VERSION_PATTERN}", examples=["v1.0.0", CHAMPION])]

EXAMPLE_HOUSE = {name: field.examples[0] for name, field in House.model_fields.items() if field.examples}
_LARGER_HOUSE = EXAMPLE_HOUSE | {"square_feet": 2500, "bedrooms": 4, "bathrooms": 3}


class Choice(BaseModel):
    """The query of what can be asked of one version."""

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)

    model_version: Asked | None = Field(
        default=None, description="Version that answers, or `champion`; without it, the split decides."
    )


class Options(Choice):
    """The query of both prediction routes."""

    confidence: Level = Field(
        default=DEFAULT_LEVEL,
        description="Level of the interval: the share of such houses whose price it should contain.",
    )
    explain: Switch = Field(default=False, description=f"Explain each price; of at most {MAX_EXPLAINED} houses.")
    comparables: CountInQuery | None = Field(
        default=None,
        description=f"Number of comparable sales to add, 1 to {MAX_COMPARABLES}. The version must keep its sales.",
    )


MISPLACED: Final = "misplaced"
NOT_OF_BATCH: Final = "not_of_batch"
_IN_BODY: Final = "The same as the query parameter of this name; both may be sent if they are equal."
BESIDE: Final = "This applies to the whole batch: send it in the query, or in the body beside houses."
ONE_BY_ONE: Final = "Comparable sales are found for one house at a time: send it to /predict."


class OneHouse(House):
    """The body of a prediction: a house, and the parameters that the query may have instead."""

    confidence: Level | None = Field(default=None, description=_IN_BODY)
    model_version: Asked | None = Field(default=None, description=_IN_BODY)
    explain: bool | None = Field(default=None, description=_IN_BODY)
    comparables: CountInBody | None = Field(default=None, description=_IN_BODY)


class HouseOfBatch(House):
    """One house of a batch."""

    confidence: None = Field(default=None, description=BESIDE)
    model_version: None = Field(default=None, description=BESIDE)
    explain: None = Field(default=None, description=BESIDE)
    comparables: None = Field(default=None, description=ONE_BY_ONE)


class Houses(BaseModel):
    """The body of a batch."""

    model_config = ConfigDict(
        strict=True,
        frozen=True,
        allow_inf_nan=False,
        json_schema_extra={"examples": [{"houses": [EXAMPLE_HOUSE, _LARGER_HOUSE]}]},
    )

    houses: list[HouseOfBatch] = Field(min_length=1)
    confidence: Level | None = Field(default=None, description=_IN_BODY)
    model_version: Asked | None = Field(default=None, description=_IN_BODY)
    explain: bool | None = Field(default=None, description=_IN_BODY)
    comparables: None = Field(default=None, description=ONE_BY_ONE)


def batch_of(max_rows: int) -> type[Houses]:
    """Houses with at most `max_rows` of them."""
    rows = Field(min_length=1, max_length=max_rows, description=f"1 to {max_rows:,} houses.")
    return cast(
        "type[Houses]",
        create_model("Houses", __base__=Houses, __doc__=Houses.__doc__, houses=(list[HouseOfBatch], rows)),
    )


def _misplaced(value: object) -> NoReturn:
    """Leave out null and refuse any value, since a house would otherwise be answered at another level."""
    if value is None:
        raise PydanticOmit
    raise PydanticCustomError(MISPLACED, BESIDE)


def _not_of_batch(value: object) -> NoReturn:
    """Leave out null and refuse any value, since comparables are of one house."""
    if value is None:
        raise PydanticOmit
    raise PydanticCustomError(NOT_OF_BATCH, ONE_BY_ONE)


def _plain(name: str, config: ConfigDict, fields: Mapping[str, Any]) -> Any:  # noqa: ANN401 -- a class made here
    """A type that is parsed into a dictionary, which takes half the time of an object."""
    return with_config(config)(TypedDict(name, fields))  # type: ignore[operator]


_FIELDS: Final = {name: Annotated[float, field] for name, field in House.model_fields.items()}
_ASKED: Final = {
    "confidence": NotRequired[Level | None],
    "model_version": NotRequired[Asked | None],
    "explain": NotRequired[StrictBool | None],
}
_ASKED_OF_ONE: Final = {"comparables": NotRequired[CountInBody | None]}
_NOT_OF_BATCH: Final = dict.fromkeys(_ASKED_OF_ONE, NotRequired[Annotated[Any, PlainValidator(_not_of_batch)]])
_MISPLACED: Final = dict.fromkeys(_ASKED, NotRequired[Annotated[Any, PlainValidator(_misplaced)]])
PlainOneHouse: Final[Any] = _plain("House", House.model_config, _FIELDS | _ASKED | _ASKED_OF_ONE)
"""OneHouse by the same rules; what is not sent has no key."""
PlainHouseOfBatch: Final[Any] = _plain("House", House.model_config, _FIELDS | _MISPLACED | _NOT_OF_BATCH)
"""HouseOfBatch by the same rules, with nothing but the fields of a house."""


def max_rows_of(batch: type[Houses]) -> int:
    """The number of houses that a batch may have."""
    return next(rule.max_length for rule in batch.model_fields["houses"].metadata if isinstance(rule, MaxLen))


def rows_of(batch: type[Houses], row: Any) -> TypeAdapter[dict[str, Any]]:  # noqa: ANN401 -- any type
    """Parses the body of a batch with rows of this type, into plain dictionaries."""
    rows = Annotated[list[row], batch.model_fields["houses"]]
    return TypeAdapter(_plain("Houses", batch.model_config, {"houses": rows} | _ASKED | _NOT_OF_BATCH))


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


class Unseen(_Answer):
    """A category that the model was not trained on: the house is priced as if it were unknown."""

    field: str
    msg: str


class Contribution(_Answer):
    """Dollars that a group of fields adds to the base, or takes from it."""

    group: str = Field(description="Name of the group.")
    fields: list[str] = Field(description="Fields and columns of the group.")
    price: float = Field(description="US dollars of the price, rounded to cents.")
    width: float = Field(description="US dollars of the width of the interval, rounded to cents.")


class Explanation(_Answer):
    """Why the model gives this price and no other: Shapley values, which add up to price and width to the cent."""

    base_price: Dollars = Field(
        description="Mean price of the background, a few houses of the training, in US dollars."
    )
    base_width: Dollars = Field(description="Their mean width of the interval, in US dollars.")
    contributions: list[Contribution] = Field(
        description="With base_price they add up to predicted_price, with base_width to upper - lower."
    )


class Difference(_Answer):
    """A field or column that differs between the house and a sale."""

    field: str
    house: float | str = Field(description="Of the house that was asked for.")
    sale: float | str


class Comparable(_Answer):
    """A sale that the version learned from."""

    price: Dollars
    sold_on: date | None = Field(default=None, description="Absent if the sales have no dates.")
    time_adjusted_price: Dollars = Field(
        description="The price at the level of the market on the day of valued_as_of; without dates, the price itself."
    )
    adjusted_price: Dollars = Field(
        description="Of the house that was asked for, by this sale: the time-adjusted price, times what the model sees "
        "between the two houses."
    )
    similarity: float = Field(
        ge=0,
        le=1,
        description="1 if both reach the same leaves of the model, 0 at the mean distance of all sales.",
    )
    house: dict[str, float | str] = Field(description="What is known of the house that was sold.")
    differences: list[Difference] = Field(description="What is known of both houses, and differs.")


class Prediction(_Answer):
    """The answer for one house."""

    predicted_price: Dollars
    confidence_interval: ConfidenceInterval
    model_version: Version
    predicted_at: AwareDatetime = Field(description="UTC, ISO 8601.")
    confidence_level: Level = Field(description="The level that the interval holds: the one asked for or just above.")
    prediction_id: UUID = Field(description="Identifier in the journal; ids grow with time.")
    fsd: float | None = Field(
        default=None,
        ge=0,
        description="Forecast standard deviation as a share of the price: price ± fsd holds at 68.3 %. The trade's "
        "confidence score is 100 * (1 - fsd).",
    )
    valued_as_of: date | None = Field(
        default=None, description="Last date of sale that the version learned from; absent if its sales had none."
    )
    warnings: list[OutOfRange | Unseen] | None = Field(
        default=None, description="Present only if a value is out of range, or a category unknown."
    )
    not_given: list[str] | None = Field(
        default=None,
        description="Columns of the version that were not given; absent of a version without columns. In a batch, only "
        "those that other houses of it were given.",
    )
    explanation: Explanation | None = Field(default=None, description="Present only if it is asked for.")
    comparables: list[Comparable] | None = Field(
        default=None, description="Present only if they are asked for; the most similar first."
    )


class Predictions(_Answer):
    """The answer for a batch."""

    predictions: list[Prediction] = Field(description="One for each house, in order.")
    count: int
    not_given: list[str] | None = Field(
        default=None, description="Columns of the version that no house was given; absent of a version without columns."
    )


class Problem(_Answer):
    """An error, as one sentence."""

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

    # It is also a part of the state that workers publish, where unknown fields are those of a later release.
    model_config = ConfigDict(extra="ignore", json_schema_extra={"additionalProperties": False})

    generation: int | None = Field(default=None, description="Of the deployment; null if it cannot be read.")
    version: Version | None = None
    reason: str


KEYS_UNREADABLE: Final = (
    "Present only if the stored keys cannot be read: the reason. The keys that were read last are valid meanwhile."
)


class Health(_Answer):
    """The worker can predict."""

    status: Literal["ready"]
    version: Version = Field(description="The champion.")
    generation: int = Field(description="Number of the deployment that is served; it only grows.")
    refused: list[Refused] | None = Field(default=None, description="Present only if a version was refused.")
    keys_unreadable: str | None = Field(default=None, description=KEYS_UNREADABLE)


class Unready(_Answer):
    """The worker cannot predict."""

    detail: str = Field(description="One sentence.")
    refused: list[Refused] | None = Field(default=None, description="Present only if a version was refused.")
    keys_unreadable: str | None = Field(default=None, description=KEYS_UNREADABLE)


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
    weight: int = Field(description="Percent of the clients that name no version.")
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
    """The requests to one route, counted."""


class VersionSummary(_Answered):
    """The predictions of one version, counted."""

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
    """The training of a version and its measured quality."""

    version: Version
    generation: int
    family: str
    trained_at: AwareDatetime
    features: tuple[Feature, ...]
    columns: tuple[OptionalColumn, ...] = Field(
        default=(), description="What the version knows beyond the features; each is optional in a request."
    )
    metrics: Metrics
    confidence_levels: tuple[float, ...] = Field(description="Levels that the interval can hold.")
    calibration_rows: int
    data: Data
    kept_sales: int | None = Field(
        default=None, description="Sales that comparables are chosen from; absent if the version keeps none."
    )
    recalibrated: Recalibration | None = Field(
        default=None, description="Present only if the version has the graph of another with a new level."
    )
    parity: Parity
    parameters: dict[str, Parameters]
    seed: int
    libraries: dict[str, str]
    sha256: Sha256 = Field(description="Of the ONNX graph.")
