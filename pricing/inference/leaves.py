"""The leaf that a house reaches in each tree of the price, which onnxruntime does not give.

The trees are read from the bytes of the graph, after `check_graph` has found them good. Numbers are compared as
onnxruntime does: in float32, a value at the threshold takes the true way, and a gap has a way of its own.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from pricing.errors import ModelError
from pricing.house import Column, Matrix
from pricing.inference.onnx_check import tree_ensembles
from pricing.inference.trees import TreeNodes, read_nodes

ROWS_A_STEP: Final = 1_000
"""Rows that go down together: each takes about 40 bytes a tree meanwhile."""

LAST: Final = 255
"""The position of the leaf with the highest value."""

Leaves = NDArray[np.uint8]
Nodes = NDArray[np.int32]


class LeafFinder:
    """The trees of the price of one version, as one list of nodes."""

    def __init__(self, nodes: TreeNodes) -> None:
        tree = np.cumsum(nodes.is_root) - 1
        self._roots = np.flatnonzero(nodes.is_root).astype(np.int32)
        self._feature = nodes.feature.astype(np.int16)
        self._threshold = nodes.threshold
        self._below = np.stack([nodes.false, nodes.true]).astype(np.int32)
        self._gap_is_true = nodes.gap_is_true
        self._position = _positions(nodes, tree)

    @property
    def trees(self) -> int:
        """The number of trees."""
        return len(self._roots)

    def find(self, houses: Matrix) -> Leaves:
        """The position of the leaf in each tree, for float32 of shape (n, width); of shape (trees, n).

        Leaves of a tree are ordered by their value: the lowest has position 0, the highest LAST.
        """
        found = np.empty((self.trees, len(houses)), dtype=np.uint8)
        for start in range(0, len(houses), ROWS_A_STEP):
            part = slice(start, start + ROWS_A_STEP)
            found[:, part] = self._position[self.nodes(houses[part])]
        return found

    def nodes(self, houses: Matrix) -> Nodes:
        """The node of the leaf, of shape (trees, n). Below a leaf is the leaf itself, so all trees stop."""
        rows = np.arange(len(houses))
        at: Nodes = np.repeat(self._roots[:, None], len(houses), axis=1)
        while True:
            value = houses[rows, self._feature[at]]
            is_true = value <= self._threshold[at]
            is_true |= np.isnan(value) & self._gap_is_true[at]
            below = self._below[is_true.view(np.int8), at]
            if np.array_equal(below, at):
                return at
            at = below


def _positions(nodes: TreeNodes, tree: NDArray[np.int64]) -> Leaves:
    """The position of each node that is a leaf, of shape (nodes,)."""
    leaves = np.flatnonzero(nodes.is_leaf)
    ordered = leaves[np.lexsort((nodes.value[leaves], tree[leaves]))]
    count = np.bincount(tree[leaves])
    rank = np.arange(len(ordered)) - (np.cumsum(count) - count)[tree[ordered]]
    found = np.zeros(len(tree), dtype=np.uint8)
    found[ordered] = np.rint(LAST * rank / np.maximum(count - 1, 1)[tree[ordered]])
    return found


def price_trees(graph: bytes, width: int) -> TreeNodes:
    """The trees of the price in a graph for houses of `width` columns: training writes them first.

    Raises ModelError if there are none, or if they are not whole.
    """
    attributes = next(tree_ensembles(graph), None)
    if attributes is None:
        msg = "the graph has no trees, expected those of the price"
        raise ModelError(msg)
    return read_nodes(attributes, width)


def deviations(nodes: TreeNodes, finder: LeafFinder, houses: Matrix) -> Column:
    """The sum of the values of the leaves, of shape (n,): the log price of the graph, but for a constant."""
    found: Column = nodes.value[finder.nodes(houses)].sum(axis=0, dtype=np.float64)
    return found
