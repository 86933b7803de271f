"""A thread that follows the deployment: it looks at the pointer twice a second and loads beside the requests."""

import logging
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from pricing import memory
from service.access.api_keys import Keys
from service.contract import Refused
from service.deployment.loaded_models import ModelRegistry
from service.deployment.worker_slots import Slot, WorkerState
from service.errors import NotReadyError

LOOK_SECONDS: Final = 0.5  # one look costs 10 µs

logger = logging.getLogger(__name__)


class Watcher:
    """Keeps the models of one process as they are deployed, and writes into its slot what that process serves."""

    def __init__(
        self,
        models: ModelRegistry,
        slot: Slot | None,
        keys: Keys | None = None,
        then: Callable[[], object] = lambda: None,
    ) -> None:
        """Without a slot it serves all the same, but a promotion does not wait for it. `then` ends each look."""
        self._then = then
        self._models = models
        self._slot = slot
        self._keys = keys
        self._logged: set[str] = set()
        self._said: WorkerState | None = None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="deployment", daemon=True)

    def start(self) -> None:
        """Load what is deployed, and then go on looking. Never raises."""
        memory.use_one_arena()
        memory.raise_gc_threshold()
        self.look()
        self._thread.start()

    def look(self) -> None:
        """Follow the deployment, and log each change once. Never raises."""
        try:
            if self._models.follow():
                memory.trim_heap()
                self._log()
            self._say()
            self._then()
        except Exception:
            logger.exception("following the deployment failed")

    def stop(self) -> None:
        """End the thread and wait for it: a load in hand ends before the interpreter does."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    def _watch(self) -> None:
        while not self._stopping.wait(LOOK_SECONDS):
            self.look()

    def _say(self) -> None:
        models = self._models
        ready, unreadable = models.is_ready, False
        if self._keys is not None:
            self._keys.look()  # a worker without requests logs it too
            ready, unreadable = ready and self._keys.are_known, self._keys.unreadable is not None
        state = WorkerState(
            generation=models.generation, ready=ready, refused=models.refused, keys_unreadable=unreadable
        )
        if self._slot and state != self._said:
            with suppress(
                OSError
            ):  # a full disk: again with the next look, and `promote` names the worker that is behind
                self._slot.write(state)
                self._said = state

    def _log(self) -> None:
        sentences = [_sentence_of(refused) for refused in self._models.refused]
        for sentence in sentences:
            if self._is_first_to_say(sentence):
                logger.error(sentence)
        for over in self._logged.difference(sentences):
            with suppress(OSError):  # then it is not logged when it comes again
                if self._slot is not None:
                    self._slot.forget(over)
        self._logged = set(sentences)
        with suppress(NotReadyError):
            serving = self._models.serving()
            logger.info("serving generation %d: %s", serving.deployment.generation, ", ".join(serving.models))

    def _is_first_to_say(self, sentence: str) -> bool:
        try:
            return self._slot is None or self._slot.claim_log_message(sentence)
        except OSError:  # twice rather than not at all
            return True


def _sentence_of(refused: Refused) -> str:
    sentence = f"refused {refused.version or 'the deployment'}: {refused.reason}"
    return sentence if refused.generation is None else f"generation {refused.generation}: {sentence}"
