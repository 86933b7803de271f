"""The rules for a graph, checked in the bytes of the ONNX file before onnxruntime sees them.

Trees and a little arithmetic are all that training writes, so anything else was not written by it. No value of it is
larger than its input: every operator combines one value with constants of one element. So what loading and running it
may take is bounded by the size of the file. Field numbers are those of onnx.proto.
"""

from collections.abc import Collection, Iterator, Mapping
from typing import Final, NamedTuple

from pricing.errors import ModelError
from pricing.house import FEATURES
from pricing.inference.protobuf import BROKEN, fields, first_field, inside, message, number
from pricing.inference.trees import LISTS, check_trees

INPUT: Final = "houses"
OUTPUTS: Final = ("log_price", "spread")

_TREES: Final = ("ai.onnx.ml", "TreeEnsembleRegressor")
# With the attributes of each, as protobuf writes them behind their name: a number or a text, and its kind.
OPERATORS: Final[Mapping[tuple[str, str], Mapping[str, bytes]]] = {
    _TREES: {"n_targets": b"\x18\x01\xa0\x01\x02", "post_transform": b"\x22\x04NONE\xa0\x01\x03"},
    ("", "Add"): {},
    ("", "Cast"): {"to": b"\x18\x0b\xa0\x01\x02"},  # float64
    ("", "Max"): {},
    ("", "Reshape"): {},
}

_GRAPH, _TRAINING, _FUNCTION = 7, 20, 25  # of ModelProto
_NODE, _CONSTANT, _IN, _OUT, _SHAPE_INSIDE, _SPARSE_CONSTANT = 1, 5, 11, 12, 13, 15  # of GraphProto
_NEVER_WRITTEN: Final = {_SPARSE_CONSTANT: "a sparse constant", _SHAPE_INSIDE: "the shape of a value inside"}
_TAKES, _OPERATOR, _ATTRIBUTE, _DOMAIN = 1, 4, 5, 7  # of NodeProto
_ATTRIBUTE_NAME: Final = 1  # of AttributeProto
_DIMENSIONS, _CONSTANT_NAME, _EXTERNAL, _LOCATION = 1, 8, 13, 14  # of TensorProto
_VALUE_NAME, _TYPE, _TENSOR, _ELEMENT, _SHAPE, _DIMENSION, _SIZE = 1, 2, 1, 1, 2, 1, 1  # of ValueInfoProto, and inside
_ELEMENTS: Final = {1: "float32", 11: "float64"}
# Every reference to another file has this key: one search covers all places in which a tensor may stand.
_EXTERNAL_KEY: Final = b"location"


class Signature(NamedTuple):
    """A value that goes into a graph or comes out of it."""

    name: str
    element: str
    shape: tuple[int | None, ...]
    """None where any number will do."""

    def __str__(self) -> str:
        return f"{self.name} {self.element}({', '.join('n' if size is None else str(size) for size in self.shape)})"


ANSWERS: Final = [Signature(name, "float64", (None,)) for name in OUTPUTS]


def check_graph(graph: bytes, width: int = len(FEATURES)) -> None:
    """Raise ModelError for what training never writes.

    That is: other inputs and outputs, other operators, data in other files, constants of more than one element, trees
    that are none, or that hold anything but numbers.
    """
    if _EXTERNAL_KEY in graph:
        msg = "the graph keeps data in another file; all of it must be in model.onnx"
        raise ModelError(msg)
    found = []
    for field, value in fields(memoryview(graph)):
        if field in {_TRAINING, _FUNCTION}:
            msg = "the graph defines functions or training; expected a plain graph"
            raise ModelError(msg)
        if field == _GRAPH:
            found.append(message(value))
    if len(found) != 1:
        msg = f"the file of {len(graph):,} bytes holds {f'{len(found)} graphs' if found else 'no graph'}"
        raise ModelError(msg)
    _check_parts(found[0], width)


def _check_parts(graph: memoryview, width: int) -> None:
    parts: dict[int, list[memoryview]] = {field: [] for field in (_NODE, _CONSTANT, _IN, _OUT)}
    for field, value in fields(graph):
        if field in _NEVER_WRITTEN:
            msg = f"the graph holds {_NEVER_WRITTEN[field]}; training writes none"
            raise ModelError(msg)
        if field in parts:
            parts[field].append(message(value))
    constants = {_checked_constant(tensor) for tensor in parts[_CONSTANT]}
    for node in parts[_NODE]:
        _check_operator(node, constants)
    _check_signatures("takes", [Signature(INPUT, "float32", (None, width))], parts[_IN])
    _check_signatures("gives", ANSWERS, parts[_OUT])


def _check_signatures(verb: str, expected: list[Signature], found: list[memoryview]) -> None:
    observed = [_signature(value) for value in found]
    if observed != expected:
        told = "; ".join(map(str, observed[: len(expected) + 1])) or "nothing"
        msg = f"the graph {verb} {told[:200]}, expected {'; '.join(map(str, expected))}"
        raise ModelError(msg)


def _signature(value: memoryview) -> Signature:
    tensor = inside(value, _TYPE, _TENSOR)
    element = dict(fields(tensor)).get(_ELEMENT)
    dimensions = [message(size) for field, size in fields(inside(tensor, _SHAPE)) if field == _DIMENSION]
    return Signature(
        _text(inside(value, _VALUE_NAME)),
        _ELEMENTS.get(number(element or 0), "another type"),
        tuple(_size(dimension) for dimension in dimensions),
    )


def _size(dimension: memoryview) -> int | None:
    size = dict(fields(dimension)).get(_SIZE)
    return None if size is None else number(size)


def tree_ensembles(graph: bytes) -> Iterator[Mapping[str, memoryview]]:
    """The attributes of each TreeEnsembleRegressor of a graph that `check_graph` has passed, in its order."""
    for field, value in fields(inside(memoryview(graph), _GRAPH)):
        if field == _NODE:
            node = _node(message(value))
            if (node.domain, node.operator) == _TREES:
                yield node.attributes


class _Node(NamedTuple):
    domain: str
    operator: str
    takes: list[bytes]
    attributes: dict[str, memoryview]


def _node(node: memoryview) -> _Node:
    texts = {_OPERATOR: memoryview(b""), _DOMAIN: memoryview(b"")}
    takes: list[bytes] = []
    attributes: dict[str, memoryview] = {}
    for field, value in fields(node):
        if field == _ATTRIBUTE:
            name, content = _attribute(message(value))
            if name in attributes:
                raise ModelError(BROKEN)
            attributes[name] = content
        elif field == _TAKES:
            takes.append(bytes(message(value)))
        elif field in texts:
            texts[field] = message(value)
    return _Node(_text(texts[_DOMAIN]), _text(texts[_OPERATOR]), takes, attributes)


def _check_operator(node: memoryview, constants: Collection[bytes]) -> None:
    domain, operator, takes, attributes = _node(node)
    if (domain, operator) not in OPERATORS:
        allowed = ", ".join(sorted(name for _, name in OPERATORS))
        msg = f"the graph uses the operator {_named(domain, operator)}; training writes {allowed} only"
        raise ModelError(msg)
    if sum(name not in constants for name in takes) > 1:
        msg = f"{operator} combines two values of the graph, expected one and constants: together they may be any size"
        raise ModelError(msg)
    _check_attributes((domain, operator), attributes)


def _check_attributes(operator: tuple[str, str], attributes: Mapping[str, memoryview]) -> None:
    fixed, lists = OPERATORS[operator], LISTS if operator == _TREES else frozenset()
    for name, expected in fixed.items():
        observed = attributes.get(name, memoryview(b""))
        if observed != expected:
            msg = f"{name} of {operator[1]}: observed {_told(observed)}, expected {_told(memoryview(expected))}"
            raise ModelError(msg)
    if unknown := attributes.keys() - fixed.keys() - lists:
        msg = f"{operator[1]} has the attribute {min(unknown)!r}, which training does not write"
        raise ModelError(msg)
    if operator == _TREES:
        check_trees(attributes)


def _attribute(data: memoryview) -> tuple[str, memoryview]:
    """Name of an attribute, and what follows it."""
    field, name, content = first_field(data)
    if field != _ATTRIBUTE_NAME:
        raise ModelError(BROKEN)
    return _text(message(name)), content


def _told(content: memoryview) -> str:
    """The number or text that an attribute begins with."""
    if not content:
        return "nothing"
    _, value, _ = first_field(content)
    return str(value) if isinstance(value, int) else repr(_text(value))


def _checked_constant(tensor: memoryview) -> bytes:
    """The name of a constant."""
    for field, value in fields(tensor):
        if field in {_EXTERNAL, _LOCATION}:
            msg = "a constant of the graph is in another file; all of it must be in model.onnx"
            raise ModelError(msg)
        if field == _DIMENSIONS and (declared := number(value)) != 1:
            msg = f"a constant of the graph declares {declared:,} elements in one dimension; expected 1"
            raise ModelError(msg)
    return bytes(inside(tensor, _CONSTANT_NAME))


def _named(domain: str, operator: str) -> str:
    return repr(f"{domain}.{operator}" if domain else operator)


def _text(data: memoryview) -> str:
    """A name, of which sixty characters are enough: ours are shorter, so a longer one is none of them."""
    return bytes(data[:60]).decode("ascii", "replace")
