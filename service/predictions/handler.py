"""From the bytes of a request to the bytes of its answer, without any framework: the path of every prediction."""

import time
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from itertools import chain
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar
from urllib.parse import parse_qsl

from pydantic import ValidationError

from pricing.house import FEATURES, Matrix, Values, decimal, to_matrix
from pricing.ids import Ids
from pricing.inference.predictor import Prediction
from service.contract import Choice, Houses, Options
from service.deployment.loaded_models import ModelRegistry, Selection, ServedModel
from service.errors import BodyTooLargeError, InvalidRequestError, NotJsonError, refusal
from service.observability.metrics import Outcome, PredictionRun, WorkerMetrics
from service.predictions.bodies import QUERY, ROWS_A_STEP, HouseParser, HousesParser, Steps, refused_in_query, whole
from service.predictions.cache import Cache
from service.predictions.columns import GivenColumns, read_many, read_one
from service.predictions.decoding import decoded
from service.predictions.parts import add_parts, check_rows
from service.predictions.recorder import PredictionRecorder, ServedPredictions
from service.reply import JSON_TYPE, Headers, Reply, json_reply
from service.trace import Trace

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

ChoiceT = TypeVar("ChoiceT", bound=Choice)

DEFAULT_OPTIONS: Final = Options()
EPOCH: Final = datetime.fromtimestamp(0, UTC)
SINGLE: Final = "/predict"
BATCH: Final = "/predict/batch"
SHORT_BYTES: Final = 16 * 1024
"""The body of a batch that is answered in one go: 200 houses, which take less than a millisecond."""
UNKNOWN: Final = "extra_forbidden"  # as pydantic calls it
CONTRADICTION: Final = "contradiction"
# A request without a content type was taken for JSON by the original, and still is.
PLAIN_JSON: Final = frozenset({JSON_TYPE, ""})
# The header about the cache; none when it is off.
HEADERS: "Final[Mapping[Outcome, Headers]]" = {"hit": (("X-Cache", "hit"),), "miss": (("X-Cache", "miss"),), "off": ()}


def timestamp(nanoseconds: int) -> str:
    """Unix time in ISO 8601, UTC, to the millisecond."""
    return _millisecond(nanoseconds // 1_000_000)


@lru_cache(maxsize=2)  # under load, a dozen answers are of the same
def _millisecond(milliseconds: int) -> str:
    return (EPOCH + timedelta(milliseconds=milliseconds)).isoformat(timespec="milliseconds")


class Request(NamedTuple):
    """The request, as far as its answer depends on it. A body that is too long is one byte longer than allowed."""

    path: str
    query: str
    content_type: str
    client_id: str
    body: bytes
    trace: Trace
    content_encoding: str = ""

    @property
    def client(self) -> bytes:
        """The client, for the arm of a split. Without a name, equal requests are on the same arm."""
        return self.client_id.encode("latin-1") or self.body


class Answerer:
    """Answers predictions; made once by the composition root."""

    def __init__(  # noqa: PLR0913, PLR0917 -- what a prediction needs and leaves behind
        self,
        models: ModelRegistry,
        metrics: WorkerMetrics,
        books: PredictionRecorder,
        cache: Cache,
        batch: type[Houses],
        body_bytes: "Mapping[str, int]",
        ids: Ids,
        clock: "Callable[[], int]" = time.time_ns,
    ) -> None:
        self._models = models
        self._metrics = metrics
        self._books = books
        self._cache = cache
        self._clock = clock
        self._ids = ids
        self.body_bytes: Final = body_bytes
        self._house = HouseParser(body_bytes[SINGLE])
        self._houses = HousesParser(batch, body_bytes[BATCH])
        self._routes: Mapping[str, Callable[[Request], Reply | Steps[Reply]]] = {
            SINGLE: self._predict,
            BATCH: self._predict_batch,
        }
        self.paths: Final = frozenset(self._routes)

    def answer(self, request: Request) -> Reply:
        """Answer a request to one of `paths`; whatever goes wrong becomes a reply too."""
        try:
            found = self._routes[request.path](request)
            return found if isinstance(found, Reply) else whole(found)
        except Exception as error:  # noqa: BLE001 -- refusal() logs what nobody foresaw and answers 500
            return refusal(error, request.trace.request_id)

    def begin(self, request: Request) -> Reply | Steps[Reply]:
        """Answer as `answer` does, byte for byte; what takes longer has a break after each millisecond or so."""
        try:
            found = self._routes[request.path](request)
        except Exception as error:  # noqa: BLE001 -- the same
            return refusal(error, request.trace.request_id)
        return found if isinstance(found, Reply) else _finish(found, request.trace)

    def _predict(self, request: Request) -> Reply | Steps[Reply]:
        request = self._read(request)
        options = parse_options(request.query)
        house = self._house.parse(request.body)
        if len(house) > len(FEATURES):
            options = options_with(options, house)
        chosen = self.choose(options.model_version, request.client, request.trace, 1)
        reader, given = chosen.model.columns, None
        if reader is None:
            matrix = to_matrix([house])
        else:
            matrix, given = read_one(reader, house, request.body)
        begun = time.perf_counter()
        prediction, outcome = self._cache.predict(chosen.model, matrix, options.confidence)
        took = PredictionRun(outcome, time.perf_counter() - begun)
        told = self._tell(request.trace, chosen, [house], matrix, given, prediction, took)
        (answer,) = render(told)
        if given is not None:
            answer["not_given"] = given.not_given[0]
        if told.outdated is not None:
            answer["outdated"] = told.outdated
        if options.explain or options.comparables:
            return self._extend(request.trace, told, options, answer)
        self._books.enter(told, request.trace)
        return json_reply(200, answer, HEADERS[outcome])

    def _extend(self, trace: Trace, told: ServedPredictions, options: Options, answer: dict[str, Any]) -> Steps[Reply]:
        """The same answer with the parts that are asked for besides the price; it is recorded when it has them."""
        yield from add_parts(told, options, [answer])
        reply = json_reply(200, answer, HEADERS[told.run.cache])
        self._books.enter(told, trace)  # no break after this: what is in the books is answered
        return reply

    def _predict_batch(self, request: Request) -> Steps[Reply]:
        request = self._read(request)
        options = parse_options(request.query)
        found = yield from self._houses.parse(request.body)
        houses = found.pop("houses")
        if found:
            options = options_with(options, found)
        check_rows(options, len(houses))
        yield b""
        # once: a swap in a break changes nothing
        chosen = self.choose(options.model_version, request.client, request.trace, len(houses))
        reader, given = chosen.model.columns, None
        if reader is None:
            matrix = to_matrix(houses)
        else:
            matrix, given = yield from read_many(reader, houses, request.body)
        told = yield from self.price(request.trace, chosen, houses, matrix, given, options.confidence)
        yield b""
        answers = render(told)
        yield b""
        answer: dict[str, Any] = {"predictions": answers, "count": len(answers)}
        if given is not None:
            answer["not_given"] = name_the_rest(answers, given.not_given)
        if told.outdated is not None:
            answer["outdated"] = told.outdated
        yield from add_parts(told, options, answers)
        reply = json_reply(200, answer)
        self.record(told, request.trace)  # no break after this: what is in the books is answered
        return reply

    def price(  # noqa: PLR0913, PLR0917 -- all that is known
        self,
        trace: Trace,
        chosen: Selection,
        houses: list[Values],
        matrix: Matrix,
        given: GivenColumns | None,
        level: float,
    ) -> Steps[ServedPredictions]:
        """Price many houses, with breaks; `matrix` is the input of the version, of shape (n, 5 + columns)."""
        prediction, took = yield from predict_in_steps(chosen.model, matrix, level)
        return self._tell(trace, chosen, houses, matrix, given, prediction, took)

    def record(self, told: ServedPredictions, trace: Trace) -> None:
        """Record and count the predictions of one request for many houses."""
        self._books.enter(told, trace)
        self._metrics.batch(len(told.entries))

    def _tell(  # noqa: PLR0913, PLR0917 -- all that is known
        self,
        trace: Trace,
        chosen: Selection,
        houses: list[Values],
        matrix: Matrix,
        given: GivenColumns | None,
        prediction: Prediction,
        run: PredictionRun,
    ) -> ServedPredictions:
        now, age = self._clock(), chosen.model.age
        outdated = age.outdated(now) if now >= age.outdated_from else None
        names = self._names(trace, len(houses))
        entries = list(zip(names, houses, *prediction[:3], strict=True))
        outside = chosen.model.outside(matrix)
        return ServedPredictions(chosen, entries, matrix, given, outside, prediction, run, timestamp(now), outdated)

    def _names(self, trace: Trace, count: int) -> list[str]:
        """A prediction that is a request's only one has its name, so that its log line is found by it too."""
        return [trace.request_id] if trace.is_ours and count == 1 else self._ids.take(count)

    def choose(self, version: str | None, client: bytes, trace: Trace, rows: int) -> Selection:
        """The version that answers a request of so many rows. Raises NotReadyError or NotInServiceError."""
        chosen = self._models.serving().choose(version, client)
        trace.version, trace.arm, trace.rows = chosen.model.manifest.version, chosen.arm, rows
        return chosen

    def _read(self, request: Request) -> Request:
        """The request, with its body as it was before it was coded."""
        self._check_framing(request)
        if not request.content_encoding:
            return request
        most = self.body_bytes[request.path]
        return request._replace(body=decoded(request.body, request.content_encoding, most))

    def _check_framing(self, request: Request) -> None:
        if len(request.body) > self.body_bytes[request.path]:
            msg = f"The body is too large: at most {self.body_bytes[request.path]:,} bytes are accepted."
            raise BodyTooLargeError(msg)
        if request.content_type not in PLAIN_JSON and not _is_json(request.content_type):
            msg = "The body must be JSON, sent with the header Content-Type: application/json."
            raise NotJsonError(msg)


def _finish(steps: Steps[Reply], trace: Trace) -> Steps[Reply]:
    """The steps to a reply, whatever goes wrong in them."""
    try:
        return (yield from steps)
    except Exception as error:  # noqa: BLE001 -- refusal() logs what nobody foresaw and answers 500
        return refusal(error, trace.request_id)


def parse_options(query: str) -> Options:
    """Raises InvalidRequestError with `loc` ["query", name]."""
    return parse_query(Options, query) if query else DEFAULT_OPTIONS


def parse_query(options: type[ChoiceT], query: str) -> ChoiceT:
    """Raises InvalidRequestError with `loc` ["query", name], or ["query"] for a name that is not known."""
    found: dict[str, str] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name not in options.model_fields:  # it is not repeated in the answer: it may be anything
            known = ", ".join(sorted(options.model_fields))
            raise refused_in_query(UNKNOWN, f"A query parameter is not known. Known parameters: {known}.")
        if found.setdefault(name, value) != value:
            raise refused_in_query(
                CONTRADICTION, "The query has two different values of this parameter: send one.", name
            )
    try:
        return options.model_validate(found)
    except ValidationError as error:
        raise InvalidRequestError(QUERY, error) from error


def options_with(options: Options, body: dict[str, Any]) -> Options:
    """The options of the query, with those of a body, which are taken out of it.

    Raises InvalidRequestError with `loc` ["query", name] where the two contradict each other.
    """
    asked = {name: value for name in Options.model_fields if (value := body.pop(name, None)) is not None}
    for name in asked.keys() & options.model_fields_set:
        if getattr(options, name) != asked[name]:
            message = f"The query and the body have different values of {name}: send one."
            raise refused_in_query(CONTRADICTION, message, name)
    return options.model_copy(update=asked)


def predict_in_steps(model: ServedModel, houses: Matrix, level: float) -> Steps[tuple[Prediction, PredictionRun]]:
    """Predict as the predictor does, in slices with breaks between them; the time is the model's alone."""
    seconds, found = 0.0, []
    for start in range(0, len(houses), ROWS_A_STEP):
        begun = time.perf_counter()
        found.append(model.predictor.predict(houses[start : start + ROWS_A_STEP], level))
        seconds += time.perf_counter() - begun
        yield b""
    price, lower, upper = (list(chain.from_iterable(parts)) for parts in list(zip(*found, strict=True))[:3])
    fsd = None if found[0].fsd is None else [share for part in found for share in part.fsd or ()]
    return Prediction(price, lower, upper, found[0].confidence_level, fsd), PredictionRun("off", seconds)


def render(told: ServedPredictions) -> list[dict[str, Any]]:
    """One answer for each row, in order; here, at the edge, dollars are rounded to cents, halves up.

    `round` takes twice as long, since it looks for the nearest decimal; that differs for halves of a cent only.
    """
    model = told.chosen.model
    version, predicted_at = model.manifest.version, told.predicted_at
    level = told.prediction.confidence_level
    answers: list[dict[str, Any]] = [
        {
            "predicted_price": int(price * 100 + 0.5) / 100,
            "confidence_interval": {
                "lower": int(lower * 100 + 0.5) / 100,
                "upper": int(upper * 100 + 0.5) / 100,
            },
            "model_version": version,
            "predicted_at": predicted_at,
            "confidence_level": level,
            "prediction_id": name,
        }
        for name, _, price, lower, upper in told.entries
    ]
    if told.prediction.fsd is not None:
        for answer, fsd in zip(answers, told.prediction.fsd, strict=True):
            answer["fsd"] = int(fsd * 10_000 + 0.5) / 10_000
    if valued_as_of := model.valued_as_of:
        for answer in answers:
            answer["valued_as_of"] = valued_as_of
    for row, column in told.outside:
        answers[row].setdefault("warnings", []).append(_out_of_range(model, told.matrix, row, column))
    for row, column in told.given.unseen if told.given else ():
        answers[row].setdefault("warnings", []).append(_unseen(model.known[column].name))
    return answers


def name_the_rest(answers: list[dict[str, Any]], not_given: list[list[str]]) -> list[str]:
    """Return the columns that no house of a batch was given; an answer gets only those that its house lacks besides."""
    of_all = set(not_given[0]).intersection(*not_given)
    for answer, names in zip(answers, not_given, strict=True):
        if len(names) > len(of_all):
            answer["not_given"] = [name for name in names if name not in of_all]
    return [name for name in not_given[0] if name in of_all]


def _unseen(name: str) -> dict[str, Any]:
    return {"field": name, "msg": f"{name} has a value that the model was not trained on, and is priced as unknown."}


def _out_of_range(model: ServedModel, houses: Matrix, row: int, column: int) -> dict[str, Any]:
    feature, value = model.known[column], decimal(houses[row, column])
    name, lowest, highest = feature.name, feature.trained_from, feature.trained_to
    return {
        "field": name,
        "value": value,
        "trained_from": lowest,
        "trained_to": highest,
        "msg": f"{name} {value:.9g} is outside of {lowest:.9g} to {highest:.9g}, which the model was trained on.",
    }


def _is_json(content_type: str) -> bool:
    media_type = content_type.partition(";")[0].strip().lower()
    return media_type in PLAIN_JSON or (media_type.startswith("application/") and media_type.endswith("+json"))
