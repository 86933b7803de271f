"""From the bytes of a request to the bytes of its answer, without any framework: the path of every prediction."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar
from urllib.parse import parse_qsl

import numpy as np
from pydantic import ValidationError

from pricing.house import House, Matrix, decimal, to_matrix
from pricing.predictor import Prediction
from service.cache import Cache
from service.contract import Choice, Houses, Options
from service.errors import BodyTooLargeError, InvalidRequestError, NotJsonError, refusal
from service.models import Models, ServedModel
from service.reply import Reply, json_reply

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

ChoiceT = TypeVar("ChoiceT", bound=Choice)

DEFAULT_OPTIONS: Final = Options()
BODY: Final = "body"
QUERY: Final = "query"


def utc_now() -> datetime:
    """The clock of production."""
    return datetime.now(UTC)


class Request(NamedTuple):
    """What an answer depends on. `body` may be one byte longer than allowed, which is how its reader says too long."""

    path: str
    query: str
    content_type: str
    client_id: str
    body: bytes

    @property
    def client(self) -> bytes:
        """Who asks, for the arm of a split: without a name, equal requests are on the same arm."""
        return self.client_id.encode("latin-1") or self.body


class Answerer:
    """Answers predictions; made once by the composition root."""

    def __init__(
        self,
        models: Models,
        cache: Cache,
        batch: type[Houses],
        max_body_bytes: int,
        clock: "Callable[[], datetime]" = utc_now,
    ) -> None:
        self._models = models
        self._cache = cache
        self._clock = clock
        self._batch = batch
        self.max_body_bytes: Final = max_body_bytes
        self._routes: Mapping[str, Callable[[Request], Reply]] = {
            "/predict": self._predict,
            "/predict/batch": self._predict_batch,
        }
        self.paths: Final = frozenset(self._routes)

    def answer(self, request: Request) -> Reply:
        """Answer a request to one of `paths`; whatever goes wrong becomes a reply too."""
        try:
            self._check_framing(request)
            return self._routes[request.path](request)
        except Exception as error:  # noqa: BLE001 -- refusal() logs what nobody foresaw and answers 500
            return refusal(error)

    def _predict(self, request: Request) -> Reply:
        options = parse_options(request.query)
        house = parse_house(request.body)
        model = self._models.serving().choose(options.model_version, request.client)
        houses = to_matrix([house])
        prediction, hit = self._cache.predict(model, houses, options.confidence)
        answers = render(model, houses, prediction, self._clock())
        return json_reply(200, answers[0], self._cache.headers(hit=hit))

    def _predict_batch(self, request: Request) -> Reply:
        options = parse_options(request.query)
        batch = parse_houses(self._batch, request.body)
        model = self._models.serving().choose(options.model_version, request.client)
        houses = to_matrix(batch)
        prediction = model.predictor.predict(houses, options.confidence)
        answers = render(model, houses, prediction, self._clock())
        return json_reply(200, {"predictions": answers, "count": len(answers)})

    def _check_framing(self, request: Request) -> None:
        if len(request.body) > self.max_body_bytes:
            msg = f"The body is too large: at most {self.max_body_bytes:,} bytes are accepted."
            raise BodyTooLargeError(msg)
        # a request without a content type was taken for JSON by the original, and still is
        media_type = request.content_type.partition(";")[0].strip().lower()
        if media_type and media_type != "application/json" and not _is_json_suffix(media_type):
            msg = "The body must be JSON, sent with the header Content-Type: application/json."
            raise NotJsonError(msg)


def parse_options(query: str) -> Options:
    """Raises InvalidRequestError with `loc` ["query", name]."""
    return parse_query(Options, query) if query else DEFAULT_OPTIONS


def parse_query(options: type[ChoiceT], query: str) -> ChoiceT:
    """Raises InvalidRequestError with `loc` ["query", name]."""
    try:
        return options.model_validate(dict(parse_qsl(query, keep_blank_values=True)))
    except ValidationError as error:
        raise InvalidRequestError(QUERY, error) from error


def parse_house(body: bytes) -> House:
    """Raises InvalidRequestError with `loc` ["body", field]."""
    try:
        return House.model_validate_json(body)
    except ValidationError as error:
        raise InvalidRequestError(BODY, error) from error


def parse_houses(batch: type[Houses], body: bytes) -> list[House]:
    """Raises InvalidRequestError with `loc` ["body", "houses", row, field]."""
    try:
        return batch.model_validate_json(body).houses
    except ValidationError as error:
        raise InvalidRequestError(BODY, error) from error


def render(model: ServedModel, houses: Matrix, prediction: Prediction, now: datetime) -> list[dict[str, Any]]:
    """One answer for each row, in order; here, at the edge, dollars are rounded to cents."""
    version = model.manifest.version
    predicted_at = now.isoformat(timespec="milliseconds")
    answers: list[dict[str, Any]] = [
        {
            "predicted_price": round(price, 2),
            "confidence_interval": {"lower": round(lower, 2), "upper": round(upper, 2)},
            "model_version": version,
            "predicted_at": predicted_at,
            "confidence_level": prediction.confidence_level,
        }
        for price, lower, upper in zip(
            prediction.price.tolist(), prediction.lower.tolist(), prediction.upper.tolist(), strict=True
        )
    ]
    outside = (houses < model.trained_from) | (houses > model.trained_to)
    for row in np.flatnonzero(outside.any(axis=1)).tolist():
        answers[row]["warnings"] = [
            _warning(model, houses, row, column) for column in np.flatnonzero(outside[row]).tolist()
        ]
    return answers


def _warning(model: ServedModel, houses: Matrix, row: int, column: int) -> dict[str, Any]:
    feature, value = model.manifest.features[column], decimal(houses[row, column])
    name, lowest, highest = feature.name, feature.trained_from, feature.trained_to
    return {
        "field": name,
        "value": value,
        "trained_from": lowest,
        "trained_to": highest,
        "msg": f"{name} {value:.9g} is outside of {lowest:.9g} to {highest:.9g}, which the model was trained on.",
    }


def _is_json_suffix(media_type: str) -> bool:
    return media_type.startswith("application/") and media_type.endswith("+json")
