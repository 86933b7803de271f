"""Bounds the numbers: those of versions and keys out of use are added up as one series, `retired`.

A series for every version that was ever served would make each scrape slower for as long as the service runs. Sums over
all versions, or keys, never decrease by it. Values of features are left out: their bins are those of one version.
"""

from contextlib import closing, suppress
from typing import Final, Protocol

from service.deployment.loaded_models import ModelRegistry
from service.deployment.worker_slots import RunFolder
from service.errors import KeysUnknownError
from service.observability.metrics import WorkerMetrics, fate_of
from service.observability.metrics_file import MetricsFile


class HasIds(Protocol):
    """The part of the keys that is used here."""

    def active(self) -> frozenset[str]:
        """The ids of those that are valid. Raises KeysUnknownError."""


class Retirement:
    """Follows what is deployed, and what keys there are; to be called again and again, by one thread."""

    def __init__(self, run: RunFolder, models: ModelRegistry, metrics: WorkerMetrics, keys: HasIds | None) -> None:
        self._run: Final = run
        self._models = models
        self._metrics = metrics
        self._keys = keys
        self._seen: object = None
        self._done: object = None

    def look(self) -> None:
        """Retire what was in use before the last look: a request may have been in hand then. Never raises OSError."""
        versions = self._models.named()
        if not versions:
            return
        try:
            keys = self._keys.active() if self._keys else frozenset()
        except KeysUnknownError:  # until they are read
            return
        seen, self._seen = self._seen, (versions, keys)
        if seen != self._seen or self._done == self._seen:
            return
        self._done = self._seen
        with suppress(OSError):  # a full disk: with the next deployment; until then it is only slower
            self._metrics.retire(versions, keys)
        with suppress(OSError):
            for path in self._run.unowned():  # of former workers
                with closing(MetricsFile(path)) as file:
                    file.fold(fate_of(versions, keys))
