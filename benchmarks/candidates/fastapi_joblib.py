"""The original: FastAPI, uvicorn, and a scikit-learn pipeline out of joblib; its file is named by ORIGINAL_MODEL."""

import os
from datetime import UTC, datetime

import joblib
from fastapi import FastAPI
from pydantic import BaseModel

FEATURES = ("square_feet", "bedrooms", "bathrooms", "age_years", "distance_to_city")


class House(BaseModel):
    """The request."""

    square_feet: float
    bedrooms: float
    bathrooms: float
    age_years: float
    distance_to_city: float


class ConfidenceInterval(BaseModel):
    """Bounds: ten percent, whatever the house."""

    lower: float
    upper: float


class Prediction(BaseModel):
    """The answer."""

    predicted_price: float
    confidence_interval: ConfidenceInterval
    model_version: str
    predicted_at: datetime


model = joblib.load(os.environ["ORIGINAL_MODEL"])
app = FastAPI()


@app.get("/health/ready")
def ready() -> dict[str, str]:
    """Whether it answers."""
    return {"status": "ready"}


@app.post("/predict")
def predict(house: House) -> Prediction:
    """Price one house."""
    price = float(model.predict([[getattr(house, name) for name in FEATURES]])[0])
    return Prediction(
        predicted_price=round(price, 2),
        confidence_interval=ConfidenceInterval(lower=round(price * 0.9, 2), upper=round(price * 1.1, 2)),
        model_version="v1.0.0",
        predicted_at=datetime.now(UTC),
    )
