"""The trees of a graph: numbers that are some, and from each root a way down that ends.

onnxruntime minds neither a circle, in which it walks for good, nor a tree of 40,000 levels, on which it crashes.
"""

from collections.abc import Mapping
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pricing.errors import ModelError
from pricing.inference.protobuf import BROKEN, floats, integers

_FLOATS: Final = ("base_values", "nodes_values", "target_weights")  # a forest has no base_values
_IDS: Final = ("nodes_treeids", "nodes_nodeids", "nodes_truenodeids", "nodes_falsenodeids")
_MODES: Final = "nodes_modes"
_GAPS: Final = "nodes_missing_value_tracks_true"
# Passed over: onnxruntime looks for features that there are not, and for leaves.
_OTHERS: Final = (
    "nodes_featureids",
    _GAPS,
    "target_ids",
    "target_nodeids",
    "target_treeids",
)
LISTS: Final = frozenset({*_FLOATS, *_IDS, *_OTHERS, _MODES})  # attributes

MAX_LEVELS: Final = 1_024  # a power of two; ours have 22

# Of AttributeProto, as protobuf writes it: a key before each value of a list, and at the end what kind of list it is.
_FLOAT_KEY, _ID_KEY = 0x3D, 0x40
_ARE_FLOATS, _ARE_IDS, _ARE_TEXTS = b"\xa0\x01\x06", b"\xa0\x01\x07", b"\xa0\x01\x08"
_BRANCH, _LEAF = b"\x4a\x0aBRANCH_LEQ", b"\x4a\x04LEAF"

Indices = NDArray[np.int64]


class TreeNodes(NamedTuple):
    """All nodes of a TreeEnsembleRegressor, tree after tree, root first; each of shape (nodes,).

    What is below a node is a place in these lists. Below a leaf is the leaf itself.
    """

    is_root: NDArray[np.bool_]
    is_leaf: NDArray[np.bool_]
    feature: Indices
    threshold: NDArray[np.float32]
    true: Indices
    false: Indices
    gap_is_true: NDArray[np.bool_]
    """Whether NaN takes the true way."""
    value: NDArray[np.float32]
    """Of a leaf."""


def check_trees(attributes: Mapping[str, memoryview]) -> None:
    """Raise ModelError unless the lists of a TreeEnsembleRegressor are such trees as training writes."""
    for name in attributes.keys() & _FLOATS:
        _check_finite(name, floats(_list(attributes, name, _ARE_FLOATS), _FLOAT_KEY))
    tree, node, true, false = (integers(_list(attributes, name, _ARE_IDS), _ID_KEY) for name in _IDS)
    branches = np.flatnonzero(_is_branch(_list(attributes, _MODES, _ARE_TEXTS), len(node)))
    if not len(tree) == len(node) == len(true) == len(false):
        raise ModelError(BROKEN)
    first = _first(tree, node)
    below = np.stack([true[branches], false[branches]]) + first[branches]
    _check_ways(tree, node, branches, below)


def read_nodes(attributes: Mapping[str, memoryview], width: int) -> TreeNodes:
    """The nodes of trees that `check_trees` has passed, for houses of `width` columns.

    Raises ModelError for features and leaves that do not exist.
    """
    tree, node, true, false = (integers(_list(attributes, name, _ARE_IDS), _ID_KEY) for name in _IDS)
    count, first = len(node), _first(tree, node)
    is_leaf = ~_is_branch(_list(attributes, _MODES, _ARE_TEXTS), count)
    own = np.arange(count)
    feature = integers(_list(attributes, "nodes_featureids", _ARE_IDS), _ID_KEY)
    gap_is_true = np.zeros(count, np.int64)
    if _GAPS in attributes:
        gap_is_true = integers(_list(attributes, _GAPS, _ARE_IDS), _ID_KEY)
    threshold = floats(_list(attributes, "nodes_values", _ARE_FLOATS), _FLOAT_KEY)
    if not len(feature) == len(gap_is_true) == len(threshold) == count or ((feature < 0) | (feature >= width)).any():
        msg = f"the trees ask for a feature that does not exist, expected one of {width} for each node"
        raise ModelError(msg)
    return TreeNodes(
        is_root=node == 0,
        is_leaf=is_leaf,
        feature=feature,
        threshold=threshold,
        true=np.where(is_leaf, own, true + first),
        false=np.where(is_leaf, own, false + first),
        gap_is_true=gap_is_true != 0,
        value=_leaf_values(attributes, own[node == 0], is_leaf),
    )


def _leaf_values(
    attributes: Mapping[str, memoryview], roots: Indices, is_leaf: NDArray[np.bool_]
) -> NDArray[np.float32]:
    tree, node = (integers(_list(attributes, name, _ARE_IDS), _ID_KEY) for name in ("target_treeids", "target_nodeids"))
    weight = floats(_list(attributes, "target_weights", _ARE_FLOATS), _FLOAT_KEY)
    if len(tree) == len(node) == len(weight) == is_leaf.sum() and ((tree >= 0) & (tree < len(roots))).all():
        place = roots[tree] + node
        if np.array_equal(np.sort(place), np.flatnonzero(is_leaf)):
            value = np.zeros(len(is_leaf), np.float32)
            value[place] = weight
            return value
    msg = "the trees have not one value for each leaf"
    raise ModelError(msg)


def _check_finite(name: str, values: NDArray[np.float32]) -> None:
    """A leaf that is NaN is a house without a price, and no example need be that house."""
    finite = np.isfinite(values)
    if not finite.all():
        bad = int(np.argmin(finite))
        msg = f"{name} of the trees: observed {values[bad]} at {bad:,}, expected finite numbers"
        raise ModelError(msg)


def _first(tree: Indices, node: Indices) -> Indices:
    """The place of its tree's first node for each node: both are numbered from 0 on, and in order."""
    roots = np.flatnonzero(node == 0)
    number = np.cumsum(node == 0) - 1
    first = roots[number] if len(roots) else number
    wrong = (tree != number) | (node != np.arange(len(node)) - first)
    if wrong.any():
        bad = int(np.argmax(wrong))
        msg = f"the trees name node {node[bad]} of tree {tree[bad]} at {bad:,}, expected trees and nodes in order"
        raise ModelError(msg)
    return first


def _check_ways(tree: Indices, node: Indices, branches: Indices, below: Indices) -> None:
    """One way leads to each node but none to a root, and none of them is longer than MAX_LEVELS."""
    count = len(node)
    if ((below < 0) | (below >= count)).any():
        msg = "a branch of the trees leads to a node that does not exist"
        raise ModelError(msg)
    ways, expected = np.bincount(below.ravel(), minlength=count), (node > 0).astype(np.int64)
    if (ways != expected).any():
        bad = int(np.argmax(ways != expected))
        msg = f"node {node[bad]} of tree {tree[bad]}: observed {ways[bad]} branches to it, expected {expected[bad]}"
        raise ModelError(msg)
    above = np.arange(count)
    above[below] = branches  # one level up; roots stay
    for _ in range(MAX_LEVELS.bit_length() - 1):
        above = above[above]  # twice as far up
    far = node[above] > 0
    if far.any():
        bad = int(np.argmax(far))
        msg = f"node {node[bad]} of tree {tree[bad]} is more than {MAX_LEVELS:,} levels below its root, or in a circle"
        raise ModelError(msg)


def _is_branch(modes: memoryview, count: int) -> NDArray[np.bool_]:
    """Which nodes are branches; the others are leaves. A mode has no J, but its key is one."""
    content = bytes(modes)
    branches, leaves = content.count(_BRANCH), content.count(_LEAF)
    if branches + leaves != count or branches * len(_BRANCH) + leaves * len(_LEAF) != len(content):
        msg = "nodes_modes of the trees: expected BRANCH_LEQ or LEAF for each node"
        raise ModelError(msg)
    found = np.frombuffer(modes, np.uint8)
    is_branch: NDArray[np.bool_] = found[np.flatnonzero(found == _BRANCH[0]) + 1] == _BRANCH[1]
    return is_branch


def _list(attributes: Mapping[str, memoryview], name: str, kind: bytes) -> memoryview:
    content = attributes.get(name, memoryview(b""))
    if content[-len(kind) :] != kind:
        raise ModelError(BROKEN)
    return content[: -len(kind)]
