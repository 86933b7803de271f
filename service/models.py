"""Which model answers in this worker."""

import logging
from dataclasses import dataclass

import numpy as np

from pricing.deployment import Deployment
from pricing.errors import AppraiserError, NothingDeployedError
from pricing.house import Matrix
from pricing.manifest import Manifest
from pricing.predictor import Predictor, load
from pricing.store import Store
from service.errors import NotReadyError

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A verified version in memory. A request takes it once, so that its price and its version belong together."""

    generation: int
    manifest: Manifest
    predictor: Predictor
    trained_from: Matrix
    trained_to: Matrix

    @classmethod
    def of(cls, generation: int, manifest: Manifest, predictor: Predictor) -> "ServedModel":
        """Training ranges become float32 rows of shape (5,), as the houses that they are compared with."""
        lowest = np.array([feature.trained_from for feature in manifest.features], dtype=np.float32)
        highest = np.array([feature.trained_to for feature in manifest.features], dtype=np.float32)
        return cls(generation, manifest, predictor, lowest, highest)


class Models:
    """The model in service, or the reason why there is none."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._champion: ServedModel | None = None
        self._reason = "No model has been loaded yet."

    def champion(self) -> ServedModel:
        """Return the model that answers. Raises NotReadyError with a sentence that says what to do."""
        if self._champion is None:
            raise NotReadyError(self._reason)
        return self._champion

    def load(self) -> None:
        """Load what is deployed: the champion, else the previous one.

        Never raises: a worker that dies while it boots takes the service down; one without a model can say so.
        """
        try:
            deployment = self._store.deployment()
        except NothingDeployedError:
            self._reason = "No model is deployed: run `appraiser train` or `appraiser promote VERSION`, then restart."
        except AppraiserError as error:
            self._reason = (
                "The deployment cannot be read; the log has the reason. "
                "Remove deployment.json from the artifacts, run `appraiser promote VERSION`, then restart."
            )
            logger.error("the deployment cannot be read: %s", error)  # noqa: TRY400 -- the sentence says it all
        else:
            self._load_first_good(deployment)

    def _load_first_good(self, deployment: Deployment) -> None:
        for version in filter(None, (deployment.champion, deployment.previous)):
            try:
                artifact = self._store.read(version, deployment.sha256.get(version))
                self._champion = ServedModel.of(deployment.generation, artifact.manifest, load(artifact))
            except (AppraiserError, OSError) as error:
                logger.error("refused %s: %s", version, error)  # noqa: TRY400 -- the sentence says it all
            else:
                logger.info("serving %s, generation %d", version, deployment.generation)
                return
        self._reason = (
            "The deployed model cannot be used: its files failed verification; the log has the reason. "
            "Run `appraiser promote VERSION` with another version, then restart."
        )
