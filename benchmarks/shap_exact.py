"""Explanations beside shap's exact explainer: `python -m benchmarks.shap_exact VERSION_FOLDER`.

shap is no dependency, since its environment takes 600 MB: run this with one that has shap, pydantic, onnxruntime and
orjson. Players are the groups of the version; the background and the level are the same. Prints the worst relative
difference of a contribution and of the base, for the price and for the width, over houses mixed of the background.
"""

import argparse
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from pricing.artifacts.groups import groups_of
from pricing.artifacts.manifest import Manifest
from pricing.artifacts.store import GRAPH_FILE, MANIFEST_FILE, Artifact
from pricing.house import Column, Matrix
from pricing.inference.predictor import Predictor, load
from pricing.inference.shapley import Explainer

HOUSES: Final = 30
LEVEL: Final = 0.9
Mask = NDArray[np.bool_]


def main() -> None:
    """Compare and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folder", type=Path)
    folder: Path = parser.parse_args().folder
    manifest = Manifest.parse((folder / MANIFEST_FILE).read_bytes())
    predictor = load(Artifact(manifest, (folder / GRAPH_FILE).read_bytes()))
    background = np.array(manifest.background, dtype=np.float32)
    groups = groups_of(manifest.columns)
    members = np.zeros((len(groups), background.shape[1]), dtype=np.bool_)
    for row, group in enumerate(groups):
        members[row, list(group.places)] = True
    explainer, rng = Explainer(predictor, groups, background), np.random.default_rng(0)
    worst = np.zeros(2)
    for _ in range(HOUSES):
        house = background[rng.integers(len(background), size=background.shape[1]), range(background.shape[1])]
        own = explainer.explain(house[None], LEVEL)
        ours = (own.base_price, [part.price for part in own.contributions])
        theirs = (own.base_width, [part.width for part in own.contributions])
        for kind, (base, values) in enumerate((ours, theirs)):
            found = exact(predictor, house, background, members, kind)
            differences = np.abs(found.values[0] - values).max() / np.abs(found.values[0]).max()
            worst[kind] = max(worst[kind], differences, abs(found.base_values[0] / base - 1))
    print(f"{len(groups)} groups, {HOUSES} houses: price {worst[0]:.1e}, width {worst[1]:.1e}")


def exact(predictor: Predictor, house: Matrix, background: Matrix, members: Mask, kind: int) -> Any:  # noqa: ANN401
    """The answer of shap, whose masker replaces the groups that are left out by those of the background."""
    quantile = predictor.quantile(house[None], LEVEL)

    class Masker:
        shape = (None, len(members))
        clustering = None

        def __call__(self, mask: Column, _players: object) -> tuple[Matrix]:
            taken = (np.asarray(mask, dtype=np.bool_) @ members).astype(np.bool_)
            return (np.where(taken, house, background).astype(np.float32),)

    def output(rows: Matrix) -> Column:
        log_price, spread = predictor.outputs(np.ascontiguousarray(rows, dtype=np.float32))
        price = np.exp(log_price)
        half = np.exp(quantile * spread)
        return price if kind == 0 else price * half - price / half

    return import_module("shap").explainers.Exact(output, Masker())(np.zeros((1, len(members))))


if __name__ == "__main__":
    main()
