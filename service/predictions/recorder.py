"""The predictions that were served, and their records: in the journal and in the metrics."""

from collections import Counter
from typing import Any, NamedTuple, Protocol

from pricing.house import Matrix
from pricing.inference.predictor import Prediction
from pricing.journal.journal import Columns, Context, Entry, Source
from service.deployment.loaded_models import Selection
from service.observability.metrics import PredictionRun, WorkerMetrics
from service.predictions.columns import GivenColumns
from service.trace import Trace


class ServedPredictions(NamedTuple):
    """All that is known about the predictions of one request. Rows belong together by their place."""

    chosen: Selection
    entries: list[Entry]
    """With prices and bounds that are not rounded."""
    matrix: Matrix
    given: GivenColumns | None
    """Its further columns; None of a version that knows the five fields only."""
    outside: list[tuple[int, int]]
    """Row and column of each value that the model was not trained on."""
    prediction: Prediction
    run: PredictionRun
    predicted_at: str
    outdated: dict[str, Any] | None
    """Of the answer; None if its version is within its limit of age."""


class JournalWriter(Protocol):
    """The part of the journal that a prediction uses."""

    def append(self, context: Context, entries: list[Entry], columns: Columns | None = None) -> bool:
        """Record them in one piece; returns whether they are recorded. Never raises."""


class NullJournal:
    """Stands in for the journal when the worker has no slot. Every record is dropped and counted as dropped."""

    def append(self, _context: Context, _entries: list[Entry], _columns: Columns | None = None) -> bool:
        """Drop them."""
        return False


class PredictionRecorder:
    """Kept before an answer leaves: what was answered is in them, whatever happens to the worker then."""

    def __init__(self, journal: JournalWriter, metrics: WorkerMetrics) -> None:
        self._journal = journal
        self._metrics = metrics

    def enter(self, told: ServedPredictions, trace: Trace) -> None:
        """Record and count predictions. Never raises: a prediction is answered also when it cannot be recorded."""
        model, arm, generation = told.chosen
        level, hit = told.prediction.confidence_level, told.run.cache == "hit"
        source = Source(generation, model.manifest.version, arm, model.digest, level, hit)
        context = Context(source, told.predicted_at, trace.request_id, trace.key_id)
        kept = self._journal.append(context, told.entries, told.given.recorded if told.given else None)
        self._metrics.journaled(len(told.entries), kept=kept)
        self._metrics.predicted(model, arm, told.matrix, told.prediction, told.run)
        unusual = told.outside + told.given.unseen if told.given else told.outside
        if unusual:
            self._metrics.out_of_range(Counter(model.known[column].name for _, column in unusual))
