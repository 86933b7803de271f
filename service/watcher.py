"""A thread that follows the deployment: it looks at the pointer twice a second and loads beside the requests."""

import atexit
import logging
import threading
from contextlib import suppress
from typing import Final

from service import memory
from service.errors import NotReadyError
from service.models import Models
from service.slots import RunFolder, Slot, WorkerState

LOOK_SECONDS: Final = 0.5  # one look costs 10 µs

logger = logging.getLogger(__name__)


class Watcher:
    """Keeps the models of one process as they are deployed, and says in its slot what that process serves."""

    def __init__(self, models: Models, run: RunFolder) -> None:
        self._models = models
        self._run = run
        self._slot: Slot | None = None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="deployment", daemon=True)

    def start(self) -> None:
        """Take a slot, load what is deployed, and then go on looking. Never raises.

        A worker without a slot serves all the same, but whoever promotes does not wait for it.
        """
        memory.use_one_arena()
        try:
            self._slot = self._run.claim()
        except OSError as error:
            told = f"no slot in {self._run.root}: {error.strerror}; promotions do not wait for this worker"
            logger.error(told)  # noqa: TRY400 -- the sentence says it all
        self.look()
        self._thread.start()
        atexit.register(self.stop)  # a load in hand ends before the interpreter does

    def look(self) -> None:
        """Follow the deployment, and say so once when it has changed. Never raises."""
        try:
            if self._models.follow():
                memory.give_back()
                self._report()
        except Exception:
            logger.exception("following the deployment failed")

    def stop(self) -> None:
        """End the thread and wait for it."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    def _watch(self) -> None:
        while not self._stopping.wait(LOOK_SECONDS):
            self.look()

    def _report(self) -> None:
        models = self._models
        if self._slot:
            self._slot.write(WorkerState(generation=models.generation, refused=models.refused))
        for refused in models.refused:
            sentence = f"refused {refused.version or 'the deployment'}: {refused.reason}"
            if refused.generation is not None:
                sentence = f"generation {refused.generation}: {sentence}"
            if self._slot is None or self._slot.is_first_to_say(sentence):
                logger.error(sentence)
        with suppress(NotReadyError):
            serving = models.serving()
            logger.info("serving generation %d: %s", serving.deployment.generation, ", ".join(serving.models))
