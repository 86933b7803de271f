"""The leaves that numpy finds are those that onnxruntime sums up, at thresholds and gaps too."""

import numpy as np
import onnx
import pytest
from onnx import AttributeProto

from pricing.artifacts.store import Artifact
from pricing.errors import ModelError
from pricing.house import Matrix
from pricing.inference.leaves import ROWS_A_STEP, LeafFinder, deviations, price_trees
from pricing.inference.predictor import OnnxGraph
from pricing.inference.trees import TreeNodes
from train.models.convert import Fitted, to_onnx
from train.models.families import FAMILIES, fit, round_thresholds, spread_estimator
from train.models.parity import gap_rows, threshold_rows
from train.sales import rows as data

ROWS = 1_500


def off(graph: bytes, houses: Matrix) -> float:
    """How far log price and leaves are from being a constant apart, in log dollars."""
    nodes = price_trees(graph, houses.shape[1])
    return float(np.ptp(OnnxGraph(graph).run(houses)[0] - deviations(nodes, LeafFinder(nodes), houses)))


@pytest.fixture(scope="module")
def houses() -> Matrix:
    return data.synthetic(0, ROWS).houses


@pytest.fixture(scope="module", params=FAMILIES)
def fitted(request: pytest.FixtureRequest, houses: Matrix) -> Fitted:
    """The five fields and a column with gaps, of each family."""
    rng = np.random.default_rng(0)
    column = np.where(rng.random(ROWS) < 0.3, np.nan, rng.random(ROWS)).astype(np.float32)
    matrix = np.column_stack([houses, column])
    target = np.log(data.synthetic(0, ROWS).prices)
    target -= target.mean()
    price = FAMILIES[request.param](0, 1).set_params(**({"max_iter": 60} if "boosting" in request.param else {}))
    estimators = fit(price, matrix, target + np.nan_to_num(column)), fit(spread_estimator(0, 1), matrix, np.abs(target))
    for estimator in estimators:
        round_thresholds(estimator)
    return Fitted(*estimators, mean_log_price=13.0, lowest_spread=0.01)


def test_the_values_of_the_leaves_add_up_to_the_log_price(fitted: Fitted, houses: Matrix) -> None:
    graph = to_onnx(fitted)
    whole = np.column_stack([houses, np.linspace(0, 1, ROWS, dtype=np.float32)])
    at_thresholds = threshold_rows(fitted.price, whole, seed=0)

    assert off(graph, whole) < 1e-5
    assert len(at_thresholds) > 1_000
    assert off(graph, at_thresholds) < 1e-5
    assert off(graph, gap_rows(whole, seed=0)) < 1e-5
    assert off(graph, np.full_like(whole, np.nan)) < 1e-5


def test_a_version_with_columns_and_one_of_five_fields_are_read(published: Artifact, knowing: Artifact) -> None:
    for artifact in (published, knowing):
        rows = np.array([example.features for example in artifact.manifest.examples], dtype=np.float32)
        assert off(artifact.graph, rows) < 1e-5


def test_leaves_of_a_tree_have_positions_by_their_value(fitted: Fitted, houses: Matrix) -> None:
    whole = np.column_stack([houses, np.linspace(0, 1, ROWS, dtype=np.float32)])
    nodes = price_trees(to_onnx(fitted), 6)
    finder = LeafFinder(nodes)
    found, reached = finder.find(whole), finder.nodes(whole)

    assert found.shape == (finder.trees, ROWS)
    assert len(houses) > ROWS_A_STEP  # in steps
    assert np.array_equal(found[:, ROWS_A_STEP - 1 : ROWS_A_STEP + 1], finder.find(whole[ROWS_A_STEP - 1 :][:2]))
    for positions, leaves, tree in zip(found, reached, range(finder.trees), strict=True):
        order = np.argsort(nodes.value[leaves], kind="stable")
        assert (np.diff(positions[order].astype(int)) >= 0).all()
        values = np.sort(nodes.value[nodes.is_leaf & (np.cumsum(nodes.is_root) - 1 == tree)])
        ranks = np.searchsorted(values, nodes.value[leaves])
        assert np.abs(positions - 255 * ranks / max(len(values) - 1, 1)).max() <= 255 / len(values)  # equal values


def test_a_tree_of_one_leaf_says_nothing(published: Artifact) -> None:
    nodes = price_trees(published.graph, 5)
    root = {name: part[:1] for name, part in nodes._asdict().items()}
    stump = TreeNodes(**root | {"is_leaf": np.array([True]), "true": np.array([0]), "false": np.array([0])})

    assert LeafFinder(stump).find(np.ones((3, 5), np.float32)).tolist() == [[0, 0, 0]]


def changed(graph: bytes, name: str, values: list[int]) -> bytes:
    """The same graph with other numbers in a list of its first trees."""
    model = onnx.load_from_string(graph)
    node = next(node for node in model.graph.node if node.op_type == "TreeEnsembleRegressor")
    attribute: AttributeProto = next(found for found in node.attribute if found.name == name)
    attribute.ints[: len(values)] = values
    data: bytes = model.SerializeToString()
    return data


@pytest.mark.parametrize(
    ("name", "values", "reason"),
    [
        ("nodes_featureids", [5], "the trees ask for a feature that does not exist, expected one of 5 for each node"),
        ("nodes_featureids", [-1], "the trees ask for a feature that does not exist, expected one of 5 for each node"),
        ("target_treeids", [80], "the trees have not one value for each leaf"),
        ("target_treeids", [-1], "the trees have not one value for each leaf"),
        ("target_nodeids", [10**9], "the trees have not one value for each leaf"),
        ("target_nodeids", [0], "the trees have not one value for each leaf"),
    ],
)
def test_trees_that_lead_out_of_their_lists_are_refused(
    published: Artifact, name: str, values: list[int], reason: str
) -> None:
    with pytest.raises(ModelError) as refused:
        price_trees(changed(published.graph, name, values), 5)
    assert str(refused.value) == reason


def test_a_graph_without_trees_is_refused(published: Artifact) -> None:
    model = onnx.load_from_string(published.graph)
    del model.graph.node[:]
    with pytest.raises(ModelError, match="the graph has no trees"):
        price_trees(model.SerializeToString(), 5)
