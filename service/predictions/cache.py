"""Answers to single houses that have been asked before, in each worker."""

from collections import OrderedDict
from typing import Final

from pricing.house import Matrix
from pricing.inference.predictor import Prediction
from service.deployment.loaded_models import ServedModel
from service.observability.metrics import Outcome


class Cache:
    """The most recently used predictions.

    The key is the digest of the version, the level and the exact features, so that neither a swap of models nor a split
    can give the answer of another. Every operation is atomic, since stock workers may run several threads.
    """

    def __init__(self, size: int) -> None:
        self._size: Final = size
        self._entries: OrderedDict[tuple[str, float, bytes], Prediction] = OrderedDict()

    def predict(self, model: ServedModel, house: Matrix, level: float) -> tuple[Prediction, Outcome]:
        """Price one house, float32 of shape (1, 5); returns the prediction and whether it came from here."""
        if not self._size:
            return model.predictor.predict(house, level), "off"
        key = (model.digest, level, house.tobytes())
        found = self._entries.pop(key, None)
        prediction = model.predictor.predict(house, level) if found is None else found
        self._entries[key] = prediction  # the youngest
        if len(self._entries) > self._size:
            self._entries.popitem(last=False)
        return prediction, "miss" if found is None else "hit"
