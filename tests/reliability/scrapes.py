"""Somebody who scrapes the metrics all the time, and remembers when a counter went back."""

import contextlib
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import httpx
from prometheus_client.parser import text_string_to_metric_families

from tests.gunicorn_process import GunicornProcess

Series = tuple[str, tuple[tuple[str, str], ...]]
EVERY_SECONDS = 0.2


@dataclass
class Scrapes:
    """What `/metrics` says."""

    server: GunicornProcess
    seconds: list[float] = field(default_factory=list)
    """How long each took; one that found no worker, or one that was killed, does not count."""
    fallen: list[tuple[Series, float, float]] = field(default_factory=list)
    """Numbers that were lower than before."""
    last: dict[Series, float] = field(default_factory=dict)

    @contextlib.contextmanager
    def running(self) -> Iterator["Scrapes"]:
        """Scrape while the block runs."""
        stopping = threading.Event()
        thread = threading.Thread(target=self._scrape_until, args=[stopping])
        thread.start()
        try:
            yield self
        finally:
            stopping.set()
            thread.join()

    def total(self, name: str, **labels: str) -> int:
        """The sum of a metric as it is now, over labels that are not named."""
        self.look()
        asked = labels.items()
        return int(sum(n for (found, its), n in self.last.items() if found == name and asked <= dict(its).items()))

    def look(self) -> None:
        """Scrape once."""
        begun = time.monotonic()
        text = httpx.get(f"{self.server.url}/metrics", timeout=10).text
        self.seconds.append(time.monotonic() - begun)
        self.take(text)

    def take(self, text: str) -> None:
        """Compare with what was said before; a gauge may fall."""
        for family in text_string_to_metric_families(text):
            if family.type != "gauge":
                for sample in family.samples:
                    series = (sample.name, tuple(sorted(sample.labels.items())))
                    before = self.last.get(series, 0.0)
                    if sample.value < before:
                        self.fallen.append((series, before, sample.value))
                    self.last[series] = sample.value

    def _scrape_until(self, stopping: threading.Event) -> None:
        while not stopping.wait(EVERY_SECONDS):
            with contextlib.suppress(httpx.TransportError):
                self.look()
