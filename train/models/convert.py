"""From two fitted estimators to one ONNX graph: houses (n, 5) float32 -> log_price (n,), spread (n,) float64."""

import warnings
from typing import Final, NamedTuple

import numpy as np
import onnx
from onnx import TensorProto, helper
from skl2onnx import convert_sklearn
from skl2onnx.common.data_types import FloatTensorType

from pricing.house import FEATURES, Column, Matrix
from pricing.inference.onnx_check import INPUT, OUTPUTS
from train.models.families import Estimator, kind_of

OPSET: Final = 21
OPSET_ML: Final = 3
IR_VERSION: Final = 10

_GAPS: Final = "nodes_missing_value_tracks_true"
# Written by skl2onnx, one value a node: a sixth of the file. Hit rates are never read. Gaps occur only in further
# columns, for which `_sides_of_gaps` writes their sides again.
_UNUSED_ATTRIBUTES: Final = frozenset({"nodes_hitrates", _GAPS})


class Fitted(NamedTuple):
    """The fitted estimators: the price estimator gives the deviation from `mean_log_price`.

    A log price of 13 in float32 is only good to a millionth; its deviation from the mean is ten times better.
    """

    price: Estimator
    spread: Estimator
    mean_log_price: float
    lowest_spread: float

    def log_price(self, houses: Matrix) -> Column:
        """Log dollars of shape (n,), by scikit-learn."""
        deviation: Column = self.price.predict(houses)
        return self.mean_log_price + deviation

    def expected_error(self, houses: Matrix) -> Column:
        """Spread of shape (n,), by scikit-learn: never below the floor, so that intervals are ordered."""
        expected: Column = self.spread.predict(houses)
        return np.maximum(expected, self.lowest_spread)


def to_onnx(fitted: Fitted) -> bytes:
    """Return the graph's bytes; equal estimators give equal bytes. `parity` decides whether it is faithful."""
    price_nodes, price_constants = _nodes(fitted.price, "price_trees")
    spread_nodes, spread_constants = _nodes(fitted.spread, "spread_trees")
    graph = helper.make_graph(
        [
            *price_nodes,
            helper.make_node("Cast", ["price_trees"], ["deviation"], to=TensorProto.DOUBLE),
            helper.make_node("Add", ["deviation", "mean_log_price"], ["log_price_column"]),
            helper.make_node("Reshape", ["log_price_column", "flat"], [OUTPUTS[0]]),
            *spread_nodes,
            helper.make_node("Cast", ["spread_trees"], ["expected_error"], to=TensorProto.DOUBLE),
            helper.make_node("Max", ["expected_error", "lowest_spread"], ["spread_column"]),
            helper.make_node("Reshape", ["spread_column", "flat"], [OUTPUTS[1]]),
        ],
        "appraiser",
        [helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, ["n", fitted.price.n_features_in_])],
        [helper.make_tensor_value_info(name, TensorProto.DOUBLE, ["n"]) for name in OUTPUTS],
        [
            helper.make_tensor("mean_log_price", TensorProto.DOUBLE, [1], [fitted.mean_log_price]),
            helper.make_tensor("lowest_spread", TensorProto.DOUBLE, [1], [fitted.lowest_spread]),
            helper.make_tensor("flat", TensorProto.INT64, [1], [-1]),
            *price_constants,
            *spread_constants,
        ],
    )
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid("ai.onnx.ml", OPSET_ML)]
    model = helper.make_model(graph, producer_name="appraiser", opset_imports=opsets, ir_version=IR_VERSION)
    onnx.checker.check_model(model, full_check=True)
    data: bytes = model.SerializeToString(deterministic=True)
    return data


def _nodes(estimator: Estimator, output: str) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    """The nodes and constants of a converted estimator, named apart from everybody else's, ending in `output`."""
    with warnings.catch_warnings():
        # skl2onnx's own flags; `protobuf<7` in pyproject.toml keeps them accepted
        warnings.filterwarnings("ignore", ".*Expected an int, got a boolean", DeprecationWarning)
        model = convert_sklearn(
            estimator,
            name=output,
            initial_types=[(INPUT, FloatTensorType([None, estimator.n_features_in_]))],
            target_opset={"": OPSET, "ai.onnx.ml": OPSET_ML},
        ).graph
    renamed = {INPUT: INPUT, model.output[0].name: output}
    for constant in model.initializer:
        constant.name = renamed.setdefault(constant.name, f"{output}_{constant.name}")
    for node in model.node:
        node.name = f"{output}_{node.name}"
        node.input[:] = [renamed.setdefault(name, f"{output}_{name}") for name in node.input]
        node.output[:] = [renamed.setdefault(name, f"{output}_{name}") for name in node.output]
        used = [attribute for attribute in node.attribute if attribute.name not in _UNUSED_ATTRIBUTES]
        del node.attribute[:]
        node.attribute.extend(used)
        if node.op_type == "TreeEnsembleRegressor" and estimator.n_features_in_ > len(FEATURES):
            node.attribute.append(helper.make_attribute(_GAPS, _sides_of_gaps(estimator)))
    return list(model.node), list(model.initializer)


def _sides_of_gaps(estimator: Estimator) -> list[int]:
    """1 for each node that a gap leaves to the left, in the order of the graph: skl2onnx omits those of a forest."""
    trees = kind_of(estimator).trees(estimator)
    return [int(goes_left) for tree in trees for goes_left in tree.gap_goes_left & tree.split]
