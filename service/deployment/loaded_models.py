"""Which models answer in this worker, and which one answers whom."""

import logging
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

import numpy as np

from pricing.artifacts.columns import OptionalColumn, RowReader
from pricing.artifacts.deployment import Deployment, bucket_of
from pricing.artifacts.manifest import Feature, Manifest
from pricing.artifacts.store import Store
from pricing.errors import AppraiserError, NothingDeployedError, UnknownVersionError, UnreadableError
from pricing.files.followed_file import FollowedFile
from pricing.house import Matrix
from pricing.inference.comparables import ComparableSales, comparable_sales_of
from pricing.inference.predictor import Predictor, load
from pricing.inference.shapley import Explainer, explainer_of
from pricing.journal.journal import Arm
from service.contract import CHAMPION, Refused
from service.errors import NotInServiceError, NotReadyError

NOTHING_LOADED = "No model has been loaded yet."
NOTHING_DEPLOYED = "No model is deployed: run `appraiser train` or `appraiser promote VERSION`."
UNREADABLE = (
    "The deployment cannot be read; /health/ready has the reason. "
    "Remove deployment.json from the artifacts and run `appraiser promote VERSION`."
)
UNREADABLE_NOW = (
    "The deployment cannot be read at the moment; /health/ready has the reason. It is read again every half second."
)
UNUSABLE = (
    "The deployed model cannot be used; /health/ready has the reason. "
    "Run `appraiser promote VERSION` with another version."
)

UNFORESEEN = "loading it failed for an unexpected reason; the log has it"
UNBOUNDED: Final = (-math.inf, math.inf)
RETRY_SECONDS: Final = 60.0  # the largest graph takes 2 s of CPU to load: 3 % of one

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
    valued_as_of: str | None
    """Day of the last sale that it learned from, in ISO 8601."""
    columns: RowReader | None
    """Reads its further columns; None if it knows the five fields only."""
    explainer: Explainer | None
    """Explains its prices; None if it has no background."""
    comparables: ComparableSales | None
    """The sales that it keeps; None if it keeps none."""
    _trained: tuple[tuple[float, float], ...]

    def outside(self, houses: Matrix) -> list[tuple[int, int]]:
        """Row and column of each value of its input that is outside of what this version was trained on."""
        if len(houses) == 1:  # numpy would take four times as long for one
            pairs = enumerate(zip(houses[0].tolist(), self._trained, strict=True))
            return [(0, column) for column, (value, (lowest, highest)) in pairs if value < lowest or value > highest]
        rows, columns = np.nonzero((houses < self.trained_from) | (houses > self.trained_to))
        return list(zip(rows.tolist(), columns.tolist(), strict=True))

    @property
    def known(self) -> tuple[Feature | OptionalColumn, ...]:
        """The features and columns that it was trained on, in the order of its input."""
        return (*self.manifest.features, *self.manifest.columns)

    @classmethod
    def of(
        cls, digest: str, manifest: Manifest, predictor: Predictor, comparables: ComparableSales | None = None
    ) -> "ServedModel":
        """Training ranges become float32 rows, as the input that they are compared with; categories have none."""
        ranges = [
            *((feature.trained_from, feature.trained_to) for feature in manifest.features),
            *((c.trained_from, c.trained_to) if c.kind == "number" else UNBOUNDED for c in manifest.columns),
        ]
        lowest, highest = np.array(ranges, dtype=np.float32).T
        pairs = tuple(zip(lowest.tolist(), highest.tolist(), strict=True))
        valued_as_of = None if manifest.valued_as_of is None else manifest.valued_as_of.isoformat()
        columns = RowReader(manifest.columns) if manifest.columns else None
        explainer = explainer_of(predictor, manifest)
        return cls(digest, manifest, predictor, lowest, highest, valued_as_of, columns, explainer, comparables, pairs)


class Selection(NamedTuple):
    """The version that answers a request."""

    model: ServedModel
    arm: Arm
    """Of a split; `requested` if the client named the version."""
    generation: int


class LoadedDeployment:
    """A deployment in memory: its models, and the choice among them. Never changed, only replaced as a whole."""

    def __init__(self, deployment: Deployment, models: Mapping[str, ServedModel]) -> None:
        self.deployment = deployment
        self.models = models
        self.champion = models[deployment.champion]
        generation = deployment.generation
        self._unasked = Selection(self.champion, "champion", generation)
        self._asked = {version: Selection(model, "requested", generation) for version, model in models.items()}
        self._asked[CHAMPION] = self._asked[deployment.champion]
        arms = {version: Selection(models[version], "challenger", generation) for version in deployment.split}
        arms[deployment.champion] = self._unasked
        self._buckets = [arms[version] for version in deployment.buckets()] if deployment.split else None

    def choose(self, version: str | None, client: bytes) -> Selection:
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
    """Counts the versions that are loaded or refused."""

    def loaded(self, version: str) -> None:
        """Count a version that is in memory now."""

    def refused(self, version: str, reason: str) -> None:
        """Count a version that cannot be served, for one of a few reasons."""


class Uncounted:
    """Counts nothing."""

    def loaded(self, version: str) -> None:
        """Do nothing."""

    def refused(self, version: str, reason: str) -> None:
        """Do nothing."""


class _Refusal(NamedTuple):
    """A version that could not be loaded, and when it is tried again."""

    told: Refused
    files: object
    """What `Store.files` said before they were read: other files are tried at once."""
    until: float
    """In the time of the clock: the same files are not tried before."""


class ModelRegistry:
    """The deployment in service, or the reason why none is.

    A refusal ends when its cause ends. What could not be read is tried again at every look, what is damaged when its
    files change, what failed for an unforeseen reason a minute later too; and all of it when the deployment changes.
    """

    def __init__(self, store: Store, loads: Loads | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._loads = loads or Uncounted()
        self._clock = clock
        self._pointer = FollowedFile(store.stamp, store.deployment)
        self._serving: LoadedDeployment | None = None
        self._held: dict[str, ServedModel] = {}  # by digest: what is served, and what is loaded of what is deployed
        self._refusals: dict[str, _Refusal] = {}  # by version, of what is deployed
        self._is_behind = False
        self._reason = NOTHING_LOADED
        self.generation = 0
        """Of the deployment that is served whole; 0 when there is none, or only a part of it."""
        self.refused: tuple[Refused, ...] = ()
        """What cannot be served of the deployment as it is now."""

    @property
    def is_ready(self) -> bool:
        """Whether anything answers."""
        return self._serving is not None

    def serving(self) -> LoadedDeployment:
        """Return what answers. Raises NotReadyError with a sentence that states what to do."""
        if self._serving is None:
            raise NotReadyError(self._reason)
        return self._serving

    def named(self) -> frozenset[str]:
        """Return the versions that are in service, or were refused; none while nothing is in service."""
        if self._serving is None:
            return frozenset()
        return frozenset((*self._serving.models, *(found.version for found in self.refused if found.version)))

    def follow(self) -> bool:
        """Load what is deployed and not yet loaded; returns whether anything is new since the last look. Never raises.

        All of it is served, or what was served before, or at the start what there is. A worker that dies while it boots
        takes the service down; one without a model can answer so.
        """
        if self._pointer.look():
            self._is_behind = True
            self._refusals.clear()
        failure, deployment = self._pointer.failure, self._pointer.value
        if failure is None and deployment is not None and self._load_all(deployment):
            self._is_behind = True
        if not self._is_behind:
            return False
        if failure is None and deployment is not None:
            self._take(deployment)
        else:
            self._lose(failure)
        self._is_behind = False  # only now: what fails on the way is done again at the next look
        return True

    def load(self) -> None:
        """Load what is deployed, as `follow` does."""
        self.follow()

    def _lose(self, failure: AppraiserError | None) -> None:
        """Nothing is deployed, or the deployment is unknown: the former one stays in service."""
        told = (Refused(reason=str(failure)),)
        if isinstance(failure, NothingDeployedError):
            self._reason = NOTHING_DEPLOYED
            self.refused = told if self._serving else ()
        else:
            self._reason = UNREADABLE_NOW if isinstance(failure, UnreadableError) else UNREADABLE
            self._loads.refused("", "unreadable deployment")
            self.refused = told

    def _take(self, deployment: Deployment) -> None:
        models = {
            version: self._held[digest]
            for version in deployment.named()
            if (digest := deployment.sha256[version]) in self._held
        }
        former, self._reason = self._serving, UNUSABLE
        serving = former
        if {deployment.champion, *deployment.split} <= models.keys():
            serving = LoadedDeployment(deployment, models)
            self.generation = deployment.generation
        elif former is None and models:  # at boot, with nothing in service: the champion, the previous one or an arm
            left = deployment.model_copy(update={"champion": next(iter(models)), "split": {}})
            serving = LoadedDeployment(left, models)
        self.refused = tuple(
            self._refusals[version].told for version in deployment.named() if version in self._refusals
        )
        self._serving = serving  # the swap
        served = () if serving is None else serving.models.values()
        self._held = {model.digest: model for model in (*models.values(), *served)}

    def _load_all(self, deployment: Deployment) -> bool:
        """Load what is due; returns whether a version is loaded now, or refused for another reason."""
        is_new = False
        for version in deployment.named():
            former, digest = self._refusals.get(version), deployment.sha256[version]
            if digest in self._held or (former is not None and not self._is_due(version, former)):
                continue
            files = self._store.files(version)  # before they are read: what changes meanwhile is tried again
            try:
                self._held[digest] = self._load(version, digest)
            except Exception as error:  # noqa: BLE001 -- whatever nobody foresaw costs this version, not the worker
                told, kind, until = self._refusal(version, error)
                refused = Refused(generation=deployment.generation, version=version, reason=told)
                self._refusals[version] = _Refusal(refused, files, until)
                if former is not None and former.told == refused:
                    continue
                self._loads.refused(version, kind)
            else:
                self._refusals.pop(version, None)
            is_new = True
        return is_new

    def _is_due(self, version: str, refusal: _Refusal) -> bool:
        return self._clock() >= refusal.until or self._store.files(version) != refusal.files

    def _refusal(self, version: str, error: Exception) -> tuple[str, str, float]:
        """The reason in a sentence and in a word, and when the same files are worth another try."""
        if isinstance(error, UnknownVersionError):
            return str(error), "missing", -math.inf
        if isinstance(error, UnreadableError):
            return str(error), "unreadable", -math.inf
        if isinstance(error, AppraiserError):
            return str(error), "damaged", math.inf
        logger.error("loading %s failed", version, exc_info=error)
        return UNFORESEEN, "unforeseen", self._clock() + RETRY_SECONDS

    def _load(self, version: str, digest: str) -> ServedModel:
        artifact = self._store.read(version, digest)
        predictor = load(artifact)
        model = ServedModel.of(digest, artifact.manifest, predictor, comparable_sales_of(artifact, predictor))
        self._loads.loaded(version)
        return model
