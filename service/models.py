"""Which models answer in this worker, and which one answers whom."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np

from pricing.deployment import Deployment, bucket_of
from pricing.errors import AppraiserError, NothingDeployedError, UnknownVersionError
from pricing.house import Matrix
from pricing.journal import Arm
from pricing.manifest import Manifest
from pricing.predictor import Predictor, load
from pricing.store import Store
from service.contract import CHAMPION, Refused
from service.errors import NotInServiceError, NotReadyError

NOTHING_LOADED = "No model has been loaded yet."
NOTHING_DEPLOYED = "No model is deployed: run `appraiser train` or `appraiser promote VERSION`."
UNREADABLE = (
    "The deployment cannot be read; /health/ready has the reason. "
    "Remove deployment.json from the artifacts and run `appraiser promote VERSION`."
)
UNUSABLE = (
    "The deployed model cannot be used; /health/ready has the reason. "
    "Run `appraiser promote VERSION` with another version."
)

NOT_YET = object()

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class ServedModel:
    """A verified version in memory. A request takes it once, so that its price and its version belong together."""

    digest: str
    """Of the manifest, which seals the graph: equal digests give equal answers."""
    manifest: Manifest
    predictor: Predictor
    trained_from: Matrix
    trained_to: Matrix
    _trained: tuple[tuple[float, float], ...]

    def outside(self, houses: Matrix) -> list[tuple[int, int]]:
        """Row and column of each value of houses (n, 5) that is outside of what this version was trained on."""
        if len(houses) == 1:  # numpy would take four times as long for one
            pairs = enumerate(zip(houses[0].tolist(), self._trained, strict=True))
            return [(0, column) for column, (value, (lowest, highest)) in pairs if not lowest <= value <= highest]
        rows, columns = np.nonzero((houses < self.trained_from) | (houses > self.trained_to))
        return list(zip(rows.tolist(), columns.tolist(), strict=True))

    @classmethod
    def of(cls, digest: str, manifest: Manifest, predictor: Predictor) -> "ServedModel":
        """Training ranges become float32 rows of shape (5,), as the houses that they are compared with."""
        lowest = np.array([feature.trained_from for feature in manifest.features], dtype=np.float32)
        highest = np.array([feature.trained_to for feature in manifest.features], dtype=np.float32)
        pairs = tuple(zip(lowest.tolist(), highest.tolist(), strict=True))
        return cls(digest, manifest, predictor, lowest, highest, pairs)


class Chosen(NamedTuple):
    """Who answers a request."""

    model: ServedModel
    arm: Arm
    """Of a split; `requested` if the client named the version."""
    generation: int


class Serving:
    """A deployment in memory: its models, and who gets which. Never changed, only replaced as a whole."""

    def __init__(self, deployment: Deployment, models: Mapping[str, ServedModel]) -> None:
        self.deployment = deployment
        self.models = models
        self.champion = models[deployment.champion]
        generation = deployment.generation
        self._unasked = Chosen(self.champion, "champion", generation)
        self._asked = {version: Chosen(model, "requested", generation) for version, model in models.items()}
        self._asked[CHAMPION] = self._asked[deployment.champion]
        arms = {version: Chosen(models[version], "challenger", generation) for version in deployment.split}
        arms[deployment.champion] = self._unasked
        self._buckets = [arms[version] for version in deployment.buckets()] if deployment.split else None

    def choose(self, version: str | None, client: bytes) -> Chosen:
        """Return the version that was asked for, or else that of the client's arm. Raises NotInServiceError."""
        if version is None:
            if self._buckets is None or self.deployment.split_since is None:
                return self._unasked
            return self._buckets[bucket_of(client, self.deployment.split_since)]
        try:
            return self._asked[version]
        except KeyError:
            msg = f"This version is not in service; in service are {', '.join(self.models)} (/models has more)."
            raise NotInServiceError(msg) from None


class Loads(Protocol):
    """Who counts what becomes of versions."""

    def loaded(self, version: str) -> None:
        """It is in memory now."""

    def refused(self, version: str, reason: str) -> None:
        """It cannot be served, for one of a few reasons."""


class Uncounted:
    """Nobody does."""

    def loaded(self, version: str) -> None:
        """Do nothing."""

    def refused(self, version: str, reason: str) -> None:
        """Do nothing."""


class Models:
    """What is in service, or the reason why there is nothing."""

    def __init__(self, store: Store, loads: Loads | None = None) -> None:
        self._store = store
        self._loads = loads or Uncounted()
        self._serving: Serving | None = None
        self._reason = NOTHING_LOADED
        self._seen: object = NOT_YET
        self.generation = 0
        """Of the deployment that is served whole; 0 when there is none, or only a part of it."""
        self.refused: tuple[Refused, ...] = ()
        """What could not be served of the last deployment, and of earlier ones that kept the champion of today."""

    @property
    def is_ready(self) -> bool:
        """Whether anything answers."""
        return self._serving is not None

    def serving(self) -> Serving:
        """Return what answers. Raises NotReadyError with a sentence that says what to do."""
        if self._serving is None:
            raise NotReadyError(self._reason)
        return self._serving

    def named(self) -> frozenset[str]:
        """Return the versions that are in service, or were refused; none while nothing is in service."""
        if self._serving is None:
            return frozenset()
        return frozenset((*self._serving.models, *(found.version for found in self.refused if found.version)))

    def follow(self) -> bool:
        """Load what is deployed when that has changed since the last look; returns whether it had. Never raises."""
        seen = self._store.stamp()
        if seen == self._seen:
            return False
        self._seen = seen
        self.load()
        return True

    def load(self) -> None:
        """Load what is deployed: all of it, or go on with what is served, or start with what there is.

        Never raises: a worker that dies while it boots takes the service down; one without a model can say so.
        """
        try:
            deployment = self._store.deployment()
        except NothingDeployedError as error:
            self._reason = NOTHING_DEPLOYED
            self.refused = (Refused(reason=str(error)),) if self._serving else ()
        except AppraiserError as error:
            self._reason = UNREADABLE
            self._loads.refused("", "unreadable deployment")
            self.refused = (Refused(reason=str(error)),)
        else:
            self._take(deployment)

    def _take(self, deployment: Deployment) -> None:
        models, refused = self._load_all(deployment)
        former, self._reason = self._serving, UNUSABLE
        serving = former
        if {deployment.champion, *deployment.split} <= models.keys():
            serving = Serving(deployment, models)
            self.generation = deployment.generation
        elif former is None and models:  # at boot, with nothing to go on with: champion, previous or arm, who is left
            left = deployment.model_copy(update={"champion": next(iter(models)), "split": {}})
            serving = Serving(left, models)
        goes_on = former is not None and serving is not None and serving.champion is former.champion
        self.refused = refused or (self.refused if goes_on else ())
        self._serving = serving  # the swap

    def _load_all(self, deployment: Deployment) -> tuple[dict[str, ServedModel], tuple[Refused, ...]]:
        held = {} if self._serving is None else {model.digest: model for model in self._serving.models.values()}
        models: dict[str, ServedModel] = {}
        refused: list[Refused] = []
        for version in deployment.named():
            digest = deployment.sha256[version]
            try:
                models[version] = held.get(digest) or self._load(version, digest)
            except AppraiserError as error:
                self._loads.refused(version, "missing" if isinstance(error, UnknownVersionError) else "damaged")
                refused.append(Refused(generation=deployment.generation, version=version, reason=str(error)))
            except Exception:  # whatever nobody foresaw costs this version, not the worker
                self._loads.refused(version, "unforeseen")
                logger.exception("loading %s failed", version)
                reason = "loading it failed as nobody foresaw; the log has the reason"
                refused.append(Refused(generation=deployment.generation, version=version, reason=reason))
        return models, tuple(refused)

    def _load(self, version: str, digest: str) -> ServedModel:
        artifact = self._store.read(version, digest)
        model = ServedModel.of(digest, artifact.manifest, load(artifact))
        self._loads.loaded(version)
        return model
