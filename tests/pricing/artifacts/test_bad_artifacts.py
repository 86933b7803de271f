"""Every bad artifact is refused before it answers, with the reason; and whatever bytes there are, only refused."""

import math
from contextlib import suppress
from typing import Final

import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

from pricing.artifacts.store import Artifact, Store
from pricing.errors import DamagedArtifactError, ModelError
from pricing.inference.onnx_check import OPERATORS, check_graph
from pricing.inference.predictor import load
from pricing.inference.protobuf import BROKEN
from pricing.inference.trees import LISTS
from tests.bad_artifacts import BAD, changed, foreign_operator, publish_bad, trees_of
from train.models.training import Plan, train
from train.sales import rows as data


def part(number: int, content: bytes) -> bytes:
    """A field of a protobuf message that holds bytes or a message, below 16,384 bytes."""
    return bytes([number << 3 | 2, 0x80 | len(content) & 0x7F, len(content) >> 7]) + content


FLOATS: Final = b"\xa0\x01\x06"  # what a list of floats ends with


def trees_with(name: str, content: bytes) -> bytes:
    """A file of trees with one list only."""
    domain, operator = "ai.onnx.ml", "TreeEnsembleRegressor"
    attributes = {**OPERATORS[domain, operator], name: content}
    node = helper.make_node(operator, ["houses"], ["trees"], domain=domain).SerializeToString()
    for attribute in (part(1, name.encode()) + content for name, content in attributes.items()):
        node += part(5, attribute)
    return part(7, part(1, node))


@pytest.mark.parametrize("name", BAD)
def test_a_bad_artifact_is_refused_with_its_reason(store: Store, published: Artifact, name: str) -> None:
    digest = publish_bad(store, BAD[name], published)

    with pytest.raises(DamagedArtifactError) as refused:
        load(store.read("v1.0.0", digest))

    assert BAD[name].reason in str(refused.value)
    assert str(store.root) not in str(refused.value)


def test_there_are_twenty_one_of_them() -> None:
    assert len(BAD) == 21


def test_the_good_one_is_loaded(store: Store, published: Artifact) -> None:
    load(store.read("v1.0.0"))
    check_graph(published.graph)


def test_a_forest_has_no_other_operators() -> None:
    forest = train(data.synthetic(seed=0, rows=1_500), Plan("v1.0.0", "0", 0, "random-forest"), lambda _: None)

    check_graph(forest.graph)
    nodes = onnx.load_from_string(forest.graph).graph.node
    assert {(node.domain, node.op_type) for node in nodes} == OPERATORS.keys()


def add_function(model: onnx.ModelProto) -> None:
    model.functions.append(helper.make_function("com.example", "F", ["x"], ["y"], [], [helper.make_opsetid("", 21)]))


def add_training(model: onnx.ModelProto) -> None:
    model.training_info.append(onnx.TrainingInfoProto())


def add_sparse_constant(model: onnx.ModelProto) -> None:
    model.graph.sparse_initializer.append(onnx.SparseTensorProto())


def declare_in_two_dimensions(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].dims[:] = [1, 32]


def declare_in_many_dimensions(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].dims[:] = [1] * 1_000


def set_a_float(model: onnx.ModelProto, name: str, value: float) -> None:
    found = [attribute for node in model.graph.node for attribute in node.attribute if attribute.name == name]
    found[-1].floats[-1] = value


def split_at_nan(model: onnx.ModelProto) -> None:
    set_a_float(model, "nodes_values", math.nan)


def end_in_infinity(model: onnx.ModelProto) -> None:
    set_a_float(model, "target_weights", math.inf)


def start_from_minus_infinity(model: onnx.ModelProto) -> None:
    set_a_float(model, "base_values", -math.inf)


def say_that_it_is_elsewhere(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].data_location = TensorProto.EXTERNAL


def hide_it_in_a_tree(model: onnx.ModelProto) -> None:
    tensor = TensorProto(data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="external.bin")
    model.graph.node[0].attribute.append(helper.make_attribute("nodes_values_as_tensor", tensor))


def declare_a_shape_inside(model: onnx.ModelProto) -> None:
    model.graph.value_info.append(helper.make_tensor_value_info("deviation", TensorProto.DOUBLE, [2**40, 1]))


def answer_in_two_columns(model: onnx.ModelProto) -> None:
    trees_of(model)["n_targets"].i = 2**40


def transform_the_answer(model: onnx.ModelProto) -> None:
    trees_of(model)["post_transform"].s = b"SOFTMAX"


def leave_the_number_of_answers_open(model: onnx.ModelProto) -> None:
    trees_of(model)["n_targets"].ClearField("i")
    trees = model.graph.node[0]
    trees.attribute.remove(trees_of(model)["n_targets"])


def cast_to_whole_numbers(model: onnx.ModelProto) -> None:
    next(node for node in model.graph.node if node.op_type == "Cast").attribute[0].i = TensorProto.INT64


def hold_a_tensor(model: onnx.ModelProto) -> None:
    tensor = TensorProto(dims=[2**40], data_type=TensorProto.DOUBLE)
    model.graph.node[0].attribute.append(helper.make_attribute("nodes_values_as_tensor", tensor))


def hold_a_graph(model: onnx.ModelProto) -> None:
    model.graph.node[1].attribute.append(helper.make_attribute("body", onnx.GraphProto()))


def say_it_twice(model: onnx.ModelProto) -> None:
    model.graph.node[0].attribute.append(trees_of(model)["nodes_values"])


def add_each_house_to_each(model: onnx.ModelProto) -> None:
    """A column and a row of n houses make a square, which laid out is a row of n * n: a few such lines fill memory."""
    add = next(node for node in model.graph.node if node.op_type == "Add")
    model.graph.node.append(helper.make_node("Add", [add.input[0], "log_price"], ["square"]))


def repeat_an_input(model: onnx.ModelProto) -> None:
    add = next(node for node in model.graph.node if node.op_type == "Add")
    add.input[1] = add.input[0]


def skip_a_node(model: onnx.ModelProto) -> None:
    trees_of(model)["nodes_nodeids"].ints[1] = 2


def begin_in_the_middle(model: onnx.ModelProto) -> None:
    trees_of(model)["nodes_nodeids"].ints[0] = 1


def hide_the_first_tree(model: onnx.ModelProto) -> None:
    ids = trees_of(model)["nodes_treeids"].ints
    ids[:] = [number + 1 for number in ids]


def share_a_node(model: onnx.ModelProto) -> None:
    trees = trees_of(model)
    trees["nodes_falsenodeids"].ints[0] = trees["nodes_truenodeids"].ints[0]


def lead_nowhere(model: onnx.ModelProto) -> None:
    trees_of(model)["nodes_truenodeids"].ints[0] = 2**40


def lead_back(model: onnx.ModelProto) -> None:
    trees_of(model)["nodes_truenodeids"].ints[0] = -1


def branch_otherwise(model: onnx.ModelProto) -> None:
    trees_of(model)["nodes_modes"].strings[0] = b"BRANCH_GT"


def forget_a_mode(model: onnx.ModelProto) -> None:
    del trees_of(model)["nodes_modes"].strings[-1]


def forget_a_child(model: onnx.ModelProto) -> None:
    del trees_of(model)["nodes_truenodeids"].ints[-1]


def take_other_houses(model: onnx.ModelProto) -> None:
    model.graph.input[0].name = "house"


def take_a_second_input(model: onnx.ModelProto) -> None:
    model.graph.input.append(helper.make_tensor_value_info("more", TensorProto.FLOAT, ["n", 5]))


def take_nothing(model: onnx.ModelProto) -> None:
    del model.graph.input[:]


def take_four_columns(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 4


def take_any_number_of_columns(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_param = "m"


def take_no_tensor(model: onnx.ModelProto) -> None:
    model.graph.input[0].CopyFrom(helper.make_tensor_sequence_value_info("houses", TensorProto.FLOAT, ["n", 5]))


def give_no_spread(model: onnx.ModelProto) -> None:
    del model.graph.output[1]


def give_spread_first(model: onnx.ModelProto) -> None:
    model.graph.output.reverse()


def give_one_more(model: onnx.ModelProto) -> None:
    model.graph.output.append(helper.make_tensor_value_info("deviation", TensorProto.DOUBLE, ["n", 1]))


def give_floats(model: onnx.ModelProto) -> None:
    model.graph.output[0].type.tensor_type.elem_type = TensorProto.FLOAT


def give_columns(model: onnx.ModelProto) -> None:
    model.graph.output[0].type.tensor_type.shape.dim.add(dim_value=2**40)


def give_no_shape(model: onnx.ModelProto) -> None:
    model.graph.output[0].type.tensor_type.ClearField("shape")


def give_a_long_name(model: onnx.ModelProto) -> None:
    model.graph.output[0].name = "x" * 1_000


TAKES: Final = "expected houses float32(n, 5)"
GIVES: Final = "expected log_price float64(n); spread float64(n)"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (foreign_operator, "the graph uses the operator 'com.example.Add'; training writes Add, Cast, Max, Reshape, "),
        (add_function, "the graph defines functions or training; expected a plain graph"),
        (add_training, "the graph defines functions or training; expected a plain graph"),
        (add_sparse_constant, "the graph holds a sparse constant; training writes none"),
        (declare_in_two_dimensions, "a constant of the graph declares 32 elements in one dimension; expected 1"),
        (declare_in_many_dimensions, "a part of the graph has 1,000 fields or more; training writes a few dozen"),
        (split_at_nan, "nodes_values of the trees: observed nan at "),
        (end_in_infinity, "target_weights of the trees: observed inf at "),
        (start_from_minus_infinity, "base_values of the trees: observed -inf at 0, expected finite numbers"),
        (say_that_it_is_elsewhere, "a constant of the graph is in another file; all of it must be in model.onnx"),
        (hide_it_in_a_tree, "the graph keeps data in another file; all of it must be in model.onnx"),
        (declare_a_shape_inside, "the graph holds the shape of a value inside; training writes none"),
        (answer_in_two_columns, "n_targets of TreeEnsembleRegressor: observed 1099511627776, expected 1"),
        (leave_the_number_of_answers_open, "n_targets of TreeEnsembleRegressor: observed nothing, expected 1"),
        (transform_the_answer, "post_transform of TreeEnsembleRegressor: observed 'SOFTMAX', expected 'NONE'"),
        (cast_to_whole_numbers, "to of Cast: observed 7, expected 11"),
        (hold_a_tensor, "TreeEnsembleRegressor has the attribute 'nodes_values_as_tensor', which training does not "),
        (hold_a_graph, "Cast has the attribute 'body', which training does not write"),
        (say_it_twice, BROKEN),
        (add_each_house_to_each, "Add combines two values of the graph, expected one and constants"),
        (repeat_an_input, "Add combines two values of the graph, expected one and constants"),
        (skip_a_node, "the trees name node 2 of tree 0 at 1, expected trees and nodes in order"),
        (begin_in_the_middle, "the trees name node 1 of tree 0 at 0, expected trees and nodes in order"),
        (hide_the_first_tree, "the trees name node 0 of tree 1 at 0, expected trees and nodes in order"),
        (share_a_node, "node 1 of tree 0: observed 2 branches to it, expected 1"),
        (lead_nowhere, "a branch of the trees leads to a node that does not exist"),
        (lead_back, "a branch of the trees leads to a node that does not exist"),
        (branch_otherwise, "nodes_modes of the trees: expected BRANCH_LEQ or LEAF for each node"),
        (forget_a_mode, "nodes_modes of the trees: expected BRANCH_LEQ or LEAF for each node"),
        (forget_a_child, BROKEN),
        (take_other_houses, f"the graph takes house float32(n, 5), {TAKES}"),
        (take_a_second_input, f"the graph takes houses float32(n, 5); more float32(n, 5), {TAKES}"),
        (take_nothing, f"the graph takes nothing, {TAKES}"),
        (take_four_columns, f"the graph takes houses float32(n, 4), {TAKES}"),
        (take_any_number_of_columns, f"the graph takes houses float32(n, n), {TAKES}"),
        (take_no_tensor, f"the graph takes houses another type(), {TAKES}"),
        (give_no_spread, f"the graph gives log_price float64(n), {GIVES}"),
        (give_spread_first, f"the graph gives spread float64(n); log_price float64(n), {GIVES}"),
        (give_one_more, f"the graph gives log_price float64(n); spread float64(n); deviation float64(n, 1), {GIVES}"),
        (give_floats, f"the graph gives log_price float32(n); spread float64(n), {GIVES}"),
        (give_columns, f"the graph gives log_price float64(n, 1099511627776); spread float64(n), {GIVES}"),
        (give_no_shape, f"the graph gives log_price float64(); spread float64(n), {GIVES}"),
        (give_a_long_name, f"the graph gives {'x' * 60} float64(n); spread float64(n), {GIVES}"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_what_training_never_writes_is_refused(published: Artifact, change: object, reason: str) -> None:
    assert callable(change)
    graph = changed(published, change).graph
    assert graph is not None

    with pytest.raises(ModelError) as refused:
        check_graph(graph)

    assert str(refused.value).startswith(reason)


@pytest.mark.parametrize(
    "content",
    [
        b"\x3a",  # a graph without a length
        b"\x3a\x05ab",  # a graph that is longer than the file
        b"\x38\x01",  # a graph that is a number
        b"\x0b",  # a group, which onnx.proto has none of
        b"\xff" * 11,  # a number without an end
        part(7, part(5, part(1, b"\x01\x01"))),  # dimensions that are packed, which protobuf does not do here
        part(7, part(1, part(5, b""))),  # an attribute of nothing
        part(7, part(1, part(5, b"\xa0\x01\x06"))),  # an attribute that does not begin with its name
        trees_with("base_values", b""),  # floats that are not said to be floats
        trees_with("base_values", b"\x3d\x00\x00\x00"),
        trees_with("base_values", b"\x3d\x00\x00\x00" + FLOATS),  # a float that is cut off
        trees_with("base_values", b"\x3a\x04\x00\x00\x00\x00\xa0" + FLOATS),  # packed floats
    ],
)
def test_what_is_no_message_is_refused(content: bytes) -> None:
    with pytest.raises(ModelError, match=BROKEN):
        check_graph(content)


@pytest.mark.parametrize("content", [b"", b"\x08\x0a", b"\x4d1234", b"\x4912345678"])
def test_a_file_without_a_graph_is_refused(content: bytes) -> None:
    with pytest.raises(ModelError, match="bytes holds no graph"):
        check_graph(content)


@given(st.binary(max_size=200))
def test_of_any_bytes_nothing_but_a_refusal_comes(content: bytes) -> None:
    with pytest.raises(ModelError):
        check_graph(b"\x3a\x01\x0a" + content)  # a graph that is cut off, and then anything


@given(st.sampled_from(sorted(LISTS)), st.binary(max_size=40))
def test_of_any_bytes_in_a_list_of_a_tree_nothing_but_a_refusal_comes(name: str, content: bytes) -> None:
    with pytest.raises(ModelError):  # the other lists are missing
        check_graph(trees_with(name, content))


def test_a_big_file_of_small_parts_is_refused_at_once() -> None:
    with pytest.raises(ModelError, match="has 1,000 fields or more"):
        check_graph(b"\x08\x01" * 4_000_000)


@given(place=st.floats(0, 1, exclude_max=True), value=st.integers(0, 255))
def test_of_a_damaged_graph_nothing_but_a_refusal_comes(published: Artifact, place: float, value: int) -> None:
    damaged = bytearray(published.graph)
    damaged[int(place * len(damaged))] = value
    with suppress(ModelError):
        check_graph(bytes(damaged))
