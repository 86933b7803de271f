"""What is used of libraries beyond their documentation, so that a new version that changes it fails here.

pyproject.toml holds the version below which each was tried; gunicorn's contract is beside the worker's tests.
"""

from pathlib import Path

import numpy as np
from prometheus_client.mmap_dict import MmapedDict, mmap_key
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import CollectorRegistry
from prometheus_client.utils import floatToGoString
from sklearn.ensemble import HistGradientBoostingRegressor, RandomForestRegressor


def test_prometheus_client_reads_files_of_keys_and_doubles(tmp_path: Path) -> None:
    path = tmp_path / "counter_0.db"
    key = mmap_key("requests", "requests_total", ["route"], ["/predict"], "Requests.")
    file = MmapedDict(str(path))  # type: ignore[no-untyped-call]
    file.write_value(key, 3.0, 0.0)  # type: ignore[no-untyped-call]
    file.close()  # type: ignore[no-untyped-call]
    registry = CollectorRegistry()
    MultiProcessCollector(registry, path=str(tmp_path))  # type: ignore[no-untyped-call]

    ((found, value, stamp, place),) = MmapedDict.read_all_values_from_file(str(path))  # type: ignore[no-untyped-call]
    assert (found, value, stamp, place % 8) == (key, 3.0, 0.0, 0)
    assert key == '["requests", "requests_total", {"route": "/predict"}, "Requests."]'
    assert registry.get_sample_value("requests_total", {"route": "/predict"}) == 3.0
    assert floatToGoString(0.1) == "0.1"  # type: ignore[no-untyped-call]


def test_scikit_learns_boosted_trees_are_lists_of_nodes_that_can_be_written() -> None:
    x = np.arange(200.0).reshape(-1, 1)
    estimator = HistGradientBoostingRegressor(max_iter=2).fit(x, x[:, 0])

    for (predictor,) in estimator._predictors:
        nodes = predictor.nodes
        assert {"feature_idx", "num_threshold", "left", "right", "is_leaf", "missing_go_to_left"} <= set(
            nodes.dtype.names
        )
        nodes["num_threshold"][nodes["is_leaf"] == 0] = -1.0
    assert len(set(estimator.predict(x).tolist())) == 1  # all go right: it predicts by these nodes


def test_scikit_learns_forests_have_arrays_of_nodes() -> None:
    x = np.arange(200.0).reshape(-1, 1)
    (member,) = RandomForestRegressor(n_estimators=1, random_state=0).fit(x, x[:, 0]).estimators_
    tree = member.tree_
    sizes = {len(getattr(tree, name)) for name in ("feature", "threshold", "children_left", "children_right")}
    assert sizes == {tree.node_count}
