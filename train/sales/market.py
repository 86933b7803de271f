"""The built-in synthetic market: made-up houses, so that everything can be tried before there is any real data.

Its figures mean nothing for real houses, and every place that shows them states so.
"""

from typing import Final

import numpy as np

from pricing.house import Column

NAME: Final = "synthetic market (made up, not real sales)"
ROWS: Final = 12_000


def synthetic_sales(rows: int, seed: int) -> dict[str, Column]:
    """`rows` made-up sales: each feature and `price` (US dollars) as float64 of shape (rows,).

    Large, new and central houses are dearer; prices scatter by about 10 %, and more for old or remote houses.
    """
    rng = np.random.default_rng(seed)
    bedrooms = rng.choice([1.0, 2.0, 3.0, 4.0, 5.0, 6.0], size=rows, p=[0.05, 0.2, 0.38, 0.25, 0.1, 0.02])
    square_feet = np.round(np.clip(rng.lognormal(5.95, 0.28, rows) * (bedrooms + 1.7), 300, 12_000), -1)
    bathrooms = np.clip(np.round((0.6 * bedrooms + rng.normal(0.3, 0.5, rows)) * 4) / 4, 0.75, 8)
    age_years = np.floor(rng.gamma(1.6, 20, rows).clip(0, 150))
    distance_to_city = np.round(rng.gamma(2.2, 5, rows).clip(0.1, 80), 1)
    log_price = (
        13.12
        + 0.72 * np.log(square_feet / 2000)
        + 0.04 * (bathrooms - 2)
        - 0.012 * (bedrooms - 3)
        - 0.18 * np.sqrt(age_years / 50)
        - 0.17 * np.log1p(distance_to_city / 5)
        + 0.10 * np.exp(-distance_to_city / 3) * np.log(square_feet / 2000)
    )
    scatter = 0.07 + 0.05 * np.minimum(age_years / 80, 1) + 0.04 * np.minimum(distance_to_city / 30, 1)
    return {
        "square_feet": square_feet,
        "bedrooms": bedrooms,
        "bathrooms": bathrooms,
        "age_years": age_years,
        "distance_to_city": distance_to_city,
        "price": np.round(np.exp(log_price + scatter * rng.standard_normal(rows)), -2),
    }
