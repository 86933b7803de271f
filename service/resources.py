"""The parts that a worker has of its own, made after the fork: slot, models, counts, journal, log."""

import atexit
import logging
from dataclasses import dataclass
from typing import Self

from pricing.artifacts.store import Store
from pricing.journal.journal import Journal
from service.access.api_keys import Keys, KeyStore
from service.deployment.loaded_models import ModelRegistry
from service.deployment.watcher import Watcher
from service.deployment.worker_slots import RunFolder, Slot
from service.observability.exposition import Exposition
from service.observability.logs import RequestLog
from service.observability.metrics import Files, WorkerMetrics
from service.observability.retirement import Retirement
from service.predictions.recorder import JournalWriter, NullJournal, PredictionRecorder
from service.settings import Settings

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Resources:
    """Made once by the composition root, or by a test."""

    models: ModelRegistry
    metrics: WorkerMetrics
    exposition: Exposition
    books: PredictionRecorder
    log: RequestLog | None = None
    keys: Keys | None = None
    """None where nobody needs one."""

    @classmethod
    def acquire(cls, settings: Settings) -> Self:
        """Take a slot and begin to follow the deployment and to keep the journal. Never raises.

        A worker without a slot answers all the same: promotions do not wait for it, and nothing of it is kept.
        """
        run, store = RunFolder(settings.run), Store(settings.artifacts)
        slot = _claim(run)
        metrics = _metrics(slot)
        models = ModelRegistry(store, metrics, max_age_days=settings.max_version_age_days)
        keys = _keys(settings)
        watcher = Watcher(models, slot, keys, Retirement(run, models, metrics, keys).look)
        watcher.start()
        atexit.register(watcher.stop)
        books = PredictionRecorder(_journal(settings, slot, metrics), metrics)
        return cls(models, metrics, Exposition(run, store, models), books, RequestLog(), keys)


def _claim(run: RunFolder) -> Slot | None:
    try:
        return run.claim()
    except OSError as error:
        told = f"no slot in {run.root}: {error.strerror}; promotions do not wait for this worker, nothing is recorded"
        logger.error(told)  # noqa: TRY400 -- the sentence says it all
        return None


def _metrics(slot: Slot | None) -> WorkerMetrics:
    try:
        return WorkerMetrics(Files.of(*slot.metrics) if slot else None)
    except OSError as error:
        logger.error("the metrics of this worker are not kept: %s", error.strerror)  # noqa: TRY400 -- the same
        return WorkerMetrics()


def _keys(settings: Settings) -> Keys | None:
    return Keys(KeyStore(settings.artifacts)) if settings.require_keys else None


def _journal(settings: Settings, slot: Slot | None, metrics: WorkerMetrics) -> JournalWriter:
    if slot is None:
        return NullJournal()
    journal = Journal(
        settings.journal,
        settings.instance,
        slot.number,
        settings.journal_segment_bytes,
        settings.journal_keep_days,
        lost=lambda records: metrics.journaled(records, kept=False),
    )
    journal.start()
    atexit.register(journal.stop)
    return journal
