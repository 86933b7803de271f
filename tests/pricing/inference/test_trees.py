"""Of trees that pass, every way down ends at a leaf, and soon."""

from collections.abc import Iterable
from contextlib import suppress
from itertools import product

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import AttributeProto

from pricing.artifacts.store import Artifact
from pricing.errors import ModelError
from pricing.inference.onnx_check import check_graph
from pricing.inference.predictor import OnnxGraph
from pricing.inference.trees import check_trees
from tests.bad_artifacts import grow_chains

Node = tuple[int, int, bool, int, int]
"""Of which tree, its number, whether it is a branch, and where that leads."""


def lists(nodes: list[Node]) -> dict[str, memoryview]:
    """The lists of a TreeEnsembleRegressor as they stand in a file."""
    modes = AttributeProto(
        strings=[b"BRANCH_LEQ" if branch else b"LEAF" for *_, branch, _, _ in nodes], type=AttributeProto.STRINGS
    )
    numbers = {
        "nodes_treeids": [tree for tree, *_ in nodes],
        "nodes_nodeids": [number for _, number, *_ in nodes],
        "nodes_truenodeids": [true for *_, true, _ in nodes],
        "nodes_falsenodeids": [false for *_, false in nodes],
    }
    written = {name: AttributeProto(ints=values, type=AttributeProto.INTS) for name, values in numbers.items()}
    written["nodes_modes"] = modes
    return {name: memoryview(attribute.SerializeToString()) for name, attribute in written.items()}


Place = tuple[bool, int, int]
"""Of a node, without its tree and number."""

LEAF: Place = (False, 0, 0)
STUMP: list[Place] = [(True, 1, 2), LEAF, LEAF]


def tree(places: Iterable[Place], number: int = 0) -> list[Node]:
    return [(number, node, *place) for node, place in enumerate(places)]


def test_trees_of_a_few_nodes_pass() -> None:
    check_trees(lists([]))
    check_trees(lists(tree([LEAF])))
    check_trees(lists(tree(STUMP)))
    check_trees(lists([*tree(STUMP, 0), *tree([LEAF], 1), *tree(STUMP, 2)]))


def test_of_all_ways_to_join_three_nodes_two_pass() -> None:
    """A leaf or nine branches at each place: a thousand, of which the others are circles, or leave a node out."""
    places: list[Place] = [LEAF, *((True, true, false) for true, false in product(range(3), repeat=2))]
    passed = []
    for three in product(places, repeat=3):
        with suppress(ModelError):
            check_trees(lists(tree(three)))
            passed.append(three)

    assert passed == [((True, 1, 2), LEAF, LEAF), ((True, 2, 1), LEAF, LEAF)]


@given(st.permutations(range(1, 7)), st.lists(st.sampled_from("tf"), min_size=7, max_size=7))
def test_every_tree_passes_in_whatever_order_its_nodes_are(numbers: list[int], sides: list[str]) -> None:
    """Three branches, each below one before it, in any places."""
    free, nodes = [0], [LEAF] * 7
    for place in range(0, 6, 2):
        parent, (true, false) = free.pop(0 if sides[place] == "t" else -1), numbers[place : place + 2]
        nodes[parent] = (True, true, false)
        free += [true, false]
    check_trees(lists(tree(nodes)))


def test_two_nodes_that_lead_to_each_other_apart_from_the_tree_are_refused() -> None:
    """Each is reached by one way, as it should be, but from no root."""
    with pytest.raises(ModelError) as refused:
        check_trees(lists(tree([*STUMP, (True, 5, 4), LEAF, (True, 3, 6), LEAF])))

    assert str(refused.value) == "node 3 of tree 0 is more than 1,024 levels below its root, or in a circle"


def test_a_tree_of_as_many_levels_as_there_may_be_is_read_and_walked(published: Artifact) -> None:
    model = onnx.load_from_string(published.graph)
    grow_chains(model, trees=2, levels=1_024)

    check_graph(model.SerializeToString())
    OnnxGraph(model.SerializeToString()).run(np.ones((2, 5), np.float32))


def test_one_level_more_is_refused(published: Artifact) -> None:
    model = onnx.load_from_string(published.graph)
    grow_chains(model, trees=2, levels=1_025)

    with pytest.raises(ModelError) as refused:
        check_graph(model.SerializeToString())

    assert str(refused.value) == "node 2049 of tree 0 is more than 1,024 levels below its root, or in a circle"
