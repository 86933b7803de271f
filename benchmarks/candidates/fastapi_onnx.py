"""The best that the same user would write: FastAPI, an async endpoint, pydantic, onnxruntime with one thread.

It answers with the same model and the same interval, and keeps no journal, no metrics and no log. Served by uvicorn
with uvloop and httptools: `uvicorn benchmarks.candidates.fastapi_onnx:app --workers 2`.
"""

import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from fastapi import FastAPI
from pydantic import BaseModel, Field

LEVEL = 0.9
FOLDER = Path(os.environ["APPRAISER_ARTIFACTS"])


class House(BaseModel):
    """The request."""

    square_feet: float = Field(gt=0, le=50_000)
    bedrooms: float = Field(ge=0, le=50)
    bathrooms: float = Field(ge=0, le=50)
    age_years: float = Field(ge=0, le=500)
    distance_to_city: float = Field(ge=0, le=1_000)


class Houses(BaseModel):
    """The request of many."""

    houses: list[House] = Field(min_length=1, max_length=10_000)


class ConfidenceInterval(BaseModel):
    """Bounds."""

    lower: float
    upper: float


class Prediction(BaseModel):
    """The answer."""

    predicted_price: float
    confidence_interval: ConfidenceInterval
    model_version: str
    predicted_at: datetime


class Predictions(BaseModel):
    """The answer to many."""

    predictions: list[Prediction]
    count: int


class Pricing:
    """The deployed champion."""

    def __init__(self, folder: Path) -> None:
        self.version = str(_json(folder / "deployment.json")["champion"])
        calibration = _json(folder / self.version / "manifest.json")["calibration"]
        self._quantile = calibration["quantiles"][calibration["levels"].index(LEVEL)]
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(
            str(folder / self.version / "model.onnx"), options, providers=["CPUExecutionProvider"]
        )

    def answer(self, houses: list[House]) -> list[Prediction]:
        """Price them."""
        rows = [
            (house.square_feet, house.bedrooms, house.bathrooms, house.age_years, house.distance_to_city)
            for house in houses
        ]
        log_price, spread = self._session.run(None, {"houses": np.array(rows, dtype=np.float32)})
        price, ratio = np.exp(log_price), np.exp(self._quantile * spread)
        now = datetime.now(UTC)
        columns = (price.tolist(), (price / ratio).tolist(), (price * ratio).tolist())
        return [
            Prediction(
                predicted_price=round(middle, 2),
                confidence_interval=ConfidenceInterval(lower=round(lower, 2), upper=round(upper, 2)),
                model_version=self.version,
                predicted_at=now,
            )
            for middle, lower, upper in zip(*columns, strict=True)
        ]


def _json(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_bytes())
    return found


pricing = Pricing(FOLDER)
app = FastAPI()


@app.get("/health/ready")
async def ready() -> dict[str, str]:
    """Whether it answers."""
    return {"status": "ready"}


@app.post("/predict")
async def predict(house: House) -> Prediction:
    """Price one house."""
    return pricing.answer([house])[0]


@app.post("/predict/batch")
async def predict_batch(batch: Houses) -> Predictions:
    """Price many."""
    answers = pricing.answer(batch.houses)
    return Predictions(predictions=answers, count=len(answers))
