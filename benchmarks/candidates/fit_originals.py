"""What the original served: scikit-learn pipelines in joblib files, `python fit_originals.py FOLDER`."""

import sys
from pathlib import Path

import joblib
from sklearn.ensemble import GradientBoostingRegressor, RandomForestRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from train.sales import rows as data

sales = data.synthetic(seed=0)
for name, estimator in {
    "gradient-boosting": GradientBoostingRegressor(random_state=0),
    "random-forest": RandomForestRegressor(n_estimators=100, n_jobs=-1, random_state=0),
}.items():
    pipeline = make_pipeline(StandardScaler(), estimator).fit(sales.houses, sales.prices)
    joblib.dump(pipeline, Path(sys.argv[1], f"{name}.joblib"))
