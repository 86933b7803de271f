"""Every bad artifact is refused before it answers, with the reason; and whatever bytes there are, only refused."""

import math
from contextlib import suppress
from typing import Final

import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

from pricing.errors import DamagedArtifactError, ModelError
from pricing.graph import BROKEN, OPERATORS, check_graph
from pricing.predictor import load
from pricing.store import Artifact, Store
from tests.bad_artifacts import BAD, changed, foreign_operator, publish_bad
from train import data
from train.training import Plan, train


def part(number: int, content: bytes) -> bytes:
    """A field of a protobuf message that holds bytes or a message, below 128 bytes."""
    return bytes([number << 3 | 2, len(content)]) + content


BASE_VALUES: Final = part(1, b"base_values")


@pytest.mark.parametrize("name", BAD)
def test_a_bad_artifact_is_refused_with_its_reason(store: Store, published: Artifact, name: str) -> None:
    digest = publish_bad(store, BAD[name], published)

    with pytest.raises(DamagedArtifactError) as refused:
        load(store.read("v1.0.0", digest))

    assert BAD[name].reason in str(refused.value)
    assert str(store.root) not in str(refused.value)


def test_there_are_fourteen_of_them() -> None:
    assert len(BAD) == 14


def test_the_good_one_is_loaded(store: Store, published: Artifact) -> None:
    load(store.read("v1.0.0"))
    check_graph(published.graph)


def test_a_forest_has_no_other_operators() -> None:
    forest = train(data.synthetic(seed=0, rows=1_500), Plan("v1.0.0", "0", 0, "random-forest"), lambda _: None)

    check_graph(forest.graph)
    nodes = onnx.load_from_string(forest.graph).graph.node
    assert {(node.domain, node.op_type) for node in nodes} == OPERATORS


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
        part(7, part(1, part(5, BASE_VALUES))),  # floats that are not said to be floats
        part(7, part(1, part(5, BASE_VALUES + b"\x3d\x00\x00\x00"))),  # a float that is cut off
        part(7, part(1, part(5, BASE_VALUES + b"\x3a\x04\x00\x00\x00\x00\xa0\x01\x06"))),  # packed floats
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


@given(st.binary(max_size=40))
def test_of_any_bytes_after_the_name_of_floats_nothing_but_a_refusal_comes(content: bytes) -> None:
    with pytest.raises(ModelError):  # the node has no operator
        check_graph(part(7, part(1, part(5, BASE_VALUES + content))))


def test_a_big_file_of_small_parts_is_refused_at_once() -> None:
    with pytest.raises(ModelError, match="has 1,000 fields or more"):
        check_graph(b"\x08\x01" * 4_000_000)


@given(place=st.floats(0, 1, exclude_max=True), value=st.integers(0, 255))
def test_of_a_damaged_graph_nothing_but_a_refusal_comes(published: Artifact, place: float, value: int) -> None:
    damaged = bytearray(published.graph)
    damaged[int(place * len(damaged))] = value
    with suppress(ModelError):
        check_graph(bytes(damaged))
