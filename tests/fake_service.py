"""A service around a fake model, whose answers can be computed in the head.

Prices are 1,000 dollars a square foot; the bounds are the price divided and multiplied by RATIOS[level].
"""

import math
from pathlib import Path
from typing import Final

from pricing.artifacts.deployment import Deployment
from pricing.artifacts.manifest import Calibration, Manifest
from pricing.artifacts.store import Store
from pricing.ids import Ids
from pricing.inference.predictor import Predictor, Runs
from service.access.api_keys import Keys
from service.app import Application, create_app
from service.deployment.loaded_models import LoadedDeployment, ModelRegistry, ServedModel
from service.deployment.worker_slots import RunFolder
from service.observability.exposition import Exposition
from service.observability.metrics import WorkerMetrics
from service.predictions.recorder import JournalWriter, PredictionRecorder
from service.resources import Resources
from service.settings import Settings
from tests.fakes import SPREAD, KeptInMemory, ThousandDollarsASquareFoot

NOW: Final = 1_704_110_400_000_000_000
"""2024-01-01 12:00:00 UTC, nanoseconds of the Unix time."""
GENERATION: Final = 7
DIGEST: Final = "0" * 64
RATIOS: Final = {0.5: 1.25, 0.9: 2.0, 0.91: 2.5, 0.99: 4.0}
TRAINED: Final = {
    "square_feet": (500.0, 5000.0),
    "bedrooms": (1.0, 6.0),
    "bathrooms": (0.75, 8.0),
    "age_years": (0.0, 150.0),
    "distance_to_city": (0.1, 80.3),  # neither is a float32
}
HOUSE: Final[dict[str, float]] = {
    "square_feet": 2000,
    "bedrooms": 3,
    "bathrooms": 2,
    "age_years": 10,
    "distance_to_city": 5,
}
NO_STORE: Final = Store(Path("there is no store"))
INSIDE: Final = "what happened inside, which is nobody's business"
DEFAULTS: Final = Settings.model_construct()  # whatever the environment says


class Always(ModelRegistry):
    """Models that need no store: always the same one."""

    def __init__(self, model: ServedModel) -> None:
        super().__init__(NO_STORE)
        version = model.manifest.version
        deployment = Deployment(generation=GENERATION, champion=version, sha256={version: model.digest})
        self._serving = LoadedDeployment(deployment, {version: model})


class Broken(ModelRegistry):
    """Models that fail as nobody foresaw."""

    def __init__(self) -> None:
        super().__init__(NO_STORE)

    def serving(self) -> LoadedDeployment:
        raise RuntimeError(INSIDE)


def calibration() -> Calibration:
    """Quantiles that make RATIOS of the fake's spread."""
    quantiles = tuple(math.log(ratio) / SPREAD for ratio in RATIOS.values())
    return Calibration(rows=200, levels=tuple(RATIOS), quantiles=quantiles)


def fake_model(manifest: Manifest, graph: Runs, max_age_days: int = 0) -> ServedModel:
    """Version v1.2.3, trained on the ranges of TRAINED; what else is in the manifest stays."""
    features = [
        feature.model_copy(update=dict(zip(("trained_from", "trained_to"), TRAINED[feature.name], strict=True)))
        for feature in manifest.features
    ]
    changed = manifest.model_copy(update={"version": "v1.2.3", "features": tuple(features)})
    return ServedModel.of(DIGEST, changed, Predictor(graph, calibration()), max_age_days=max_age_days)


def resources(
    models: ModelRegistry,
    journal: JournalWriter | None = None,
    metrics: WorkerMetrics | None = None,
    keys: Keys | None = None,
) -> Resources:
    """What a worker would have, without any folder."""
    exposition = Exposition(RunFolder(Path("there is no folder")), NO_STORE, models)
    metrics = metrics or WorkerMetrics()
    return Resources(models, metrics, exposition, PredictionRecorder(journal or KeptInMemory(), metrics), keys=keys)


def fake_app(
    manifest: Manifest,
    graph: Runs | None = None,
    settings: Settings = DEFAULTS,
    ids: Ids | None = None,
    keys: Keys | None = None,
) -> Application:
    """The whole application over the fake, at NOW."""
    models = Always(fake_model(manifest, graph or ThousandDollarsASquareFoot()))
    return create_app(settings, resources(models, keys=keys), lambda: NOW, ids)
