"""Twenty-one ways in which a version can be bad, made from a good one.

Where the defect is in what the files say, the digests are made anew, as a careless tool would: then nothing but a look
at the content can tell. Where it is in the bytes, the digests are those of the good version.
"""

import os
import struct
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Final, NamedTuple

import onnx
from onnx import AttributeProto, ModelProto, TensorProto, helper

from pricing.artifacts.deployment import Deployment
from pricing.artifacts.manifest import Manifest
from pricing.artifacts.store import (
    GRAPH_FILE,
    MANIFEST_FILE,
    MAX_BYTES,
    MAX_MANIFEST_BYTES,
    POINTER_FILE,
    Artifact,
    Store,
)

Change = Callable[[ModelProto], None]


class Files(NamedTuple):
    """What lies in the folder of a bad version; None where a file is missing."""

    manifest: bytes
    graph: bytes | None
    sealed: bytes
    """The manifest whose digest the deployment holds."""
    size: int = 0
    """To which the file of the graph grows by a hole, which takes no room."""


class Bad(NamedTuple):
    """How it is made, and what the reason must say."""

    make: Callable[[Artifact, Path], Files]
    reason: str


def as_published(good: Artifact, graph: bytes | None) -> Files:
    """Another graph under the manifest of the good one."""
    manifest = good.manifest.to_bytes()
    return Files(manifest, graph, manifest)


def resealed(manifest: Manifest, graph: bytes) -> Files:
    """Manifest and digests that fit the graph."""
    described = manifest.graph.model_copy(update={"sha256": sha256(graph).hexdigest(), "size": len(graph)})
    content = manifest.model_copy(update={"graph": described}).to_bytes()
    return Files(content, graph, content)


def changed(good: Artifact, change: Change) -> Files:
    """Another graph, under a manifest that fits it."""
    model = onnx.load_from_string(good.graph)
    change(model)
    return resealed(good.manifest, model.SerializeToString())


def bit_flips(good: Artifact, _folder: Path) -> Files:
    flipped = bytearray(good.graph)
    for place in range(len(flipped) // 10, len(flipped), len(flipped) // 10):
        flipped[place] ^= 1
    return as_published(good, bytes(flipped))


def wrong_digest(good: Artifact, _folder: Path) -> Files:
    manifest = good.manifest.model_copy(update={"graph": good.manifest.graph.model_copy(update={"sha256": "0" * 64})})
    return Files(manifest.to_bytes(), good.graph, manifest.to_bytes())


def wrong_manifest(good: Artifact, _folder: Path) -> Files:
    other = good.manifest.model_copy(update={"version": "v9.9.9"}).to_bytes()
    return Files(other, good.graph, other)


def renamed(manifest: Manifest, length: int) -> Manifest:
    return manifest.model_copy(update={"family": "x" * length})


def other_order_of_features(good: Artifact, _folder: Path) -> Files:
    first, second, *rest = good.manifest.features
    return resealed(good.manifest.model_copy(update={"features": (second, first, *rest)}), good.graph)


def swapped_features(model: ModelProto) -> None:
    """Every tree takes square feet for years, and the other way round."""
    for node in model.graph.node:
        for attribute in node.attribute:
            if attribute.name == "nodes_featureids":
                attribute.ints[:] = [{0: 3, 3: 0}.get(number, number) for number in attribute.ints]


def nan_output(model: ModelProto) -> None:
    """All is well for the examples and at every corner; one leaf in the middle is NaN."""
    weights = trees_of(model)["target_weights"].floats
    weights[len(weights) // 2] = float("nan")


def wrong_examples(good: Artifact, _folder: Path) -> Files:
    first, *rest = good.manifest.examples
    wrong = first.model_copy(update={"log_price": first.log_price + 1e-9})
    return resealed(good.manifest.model_copy(update={"examples": (wrong, *rest)}), good.graph)


def external(location: Callable[[Path], str]) -> Callable[[Artifact, Path], Files]:
    """The mean log price lies in another file, which is there and holds the right number."""

    def make(good: Artifact, folder: Path) -> Files:
        path = folder / "external.bin"

        def change(model: ModelProto) -> None:
            (tensor,) = (found for found in model.graph.initializer if found.name == "mean_log_price")
            content = tensor.raw_data or b"".join(map(_double, tensor.double_data))
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            tensor.ClearField("raw_data")
            tensor.ClearField("double_data")
            tensor.data_location = TensorProto.EXTERNAL
            for key, value in {"location": location(path), "offset": "0", "length": str(len(content))}.items():
                entry = tensor.external_data.add()
                entry.key, entry.value = key, value

        return changed(good, change)

    return make


def _double(value: float) -> bytes:
    return struct.pack("<d", value)


def huge_dimensions(model: ModelProto) -> None:
    """Eight terabytes, declared in a few bytes."""
    (tensor,) = (found for found in model.graph.initializer if found.name == "mean_log_price")
    tensor.dims[:] = [2**40]


def trees_of(model: ModelProto) -> dict[str, AttributeProto]:
    """The attributes of the price's trees, by name."""
    trees = next(node for node in model.graph.node if node.output[0] == "price_trees")
    return {attribute.name: attribute for attribute in trees.attribute}


def grow_chains(model: ModelProto, trees: int, levels: int) -> None:
    """So many trees so deep: below each branch are a leaf and the next branch, and below the last one two leaves."""
    lists, count = trees_of(model), 2 * levels + 1
    leaves = [*range(1, count, 2), count - 1]
    below = [(2 * level + 1, 2 * level + 2) for level in range(levels)]
    lists["nodes_treeids"].ints[:] = [tree for tree in range(trees) for _ in range(count)]
    lists["nodes_nodeids"].ints[:] = [*range(count)] * trees
    lists["nodes_modes"].strings[:] = ([b"BRANCH_LEQ", b"LEAF"] * levels + [b"LEAF"]) * trees
    for name, side in (("nodes_truenodeids", 0), ("nodes_falsenodeids", 1)):
        lists[name].ints[:] = [*(node for pair in below for node in (pair[side], 0)), 0] * trees
    lists["nodes_featureids"].ints[:] = [0] * count * trees
    lists["nodes_values"].floats[:] = [-1] * count * trees  # every house is larger, and goes down to the end
    lists["target_treeids"].ints[:] = [tree for tree in range(trees) for _ in leaves]
    lists["target_nodeids"].ints[:] = leaves * trees
    lists["target_ids"].ints[:] = [0] * len(leaves) * trees
    lists["target_weights"].floats[:] = [0] * len(leaves) * trees


def slow(good: Artifact) -> Artifact:
    """Nothing is wrong with it but its size, which is allowed: it takes seconds of CPU, and half a gigabyte."""
    graph = changed(good, lambda model: grow_chains(model, trees=400, levels=1_000)).graph
    assert graph is not None
    manifest = good.manifest.model_copy(update={"examples": good.manifest.examples[:1] * 3_500})
    return Artifact(Manifest.parse(resealed(manifest, graph).manifest), graph)


def circle(model: ModelProto) -> None:
    """A node leads back to the one above it, and every house comes along there: it would be walked with for good."""
    trees = trees_of(model)
    modes, below = trees["nodes_modes"].strings, trees["nodes_falsenodeids"].ints
    above = below[0]
    node = below[above]
    assert [modes[place] for place in (0, above, node)] == [b"BRANCH_LEQ"] * 3
    trees["nodes_values"].floats[0] = trees["nodes_values"].floats[above] = -1
    trees["nodes_values"].floats[node] = 1e9
    trees["nodes_truenodeids"].ints[node] = above


def wrong_output_name(model: ModelProto) -> None:
    model.graph.output[1].name = model.graph.node[-1].output[0] = "width"


def wrong_input_type(model: ModelProto) -> None:
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.DOUBLE


def huge_input(model: ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 2**40


def foreign_operator(model: ModelProto) -> None:
    model.opset_import.append(helper.make_opsetid("com.example", 1))
    next(node for node in model.graph.node if node.op_type == "Add").domain = "com.example"


def by(change: Change) -> Callable[[Artifact, Path], Files]:
    return lambda good, _folder: changed(good, change)


ELSEWHERE: Final = "the graph keeps data in another file; all of it must be in model.onnx"
BAD: Final[dict[str, Bad]] = {
    "truncated": Bad(lambda good, _: as_published(good, good.graph[:-1]), "observed sha256 "),
    "bit flips": Bad(bit_flips, "observed sha256 "),
    "empty": Bad(lambda good, _: as_published(good, b""), "(0 bytes) does not match expected "),
    "wrong digest": Bad(wrong_digest, f"does not match expected {'0' * 64}"),
    "wrong manifest": Bad(wrong_manifest, "manifest.json is the manifest of v9.9.9"),
    "missing file": Bad(lambda good, _: as_published(good, None), "model.onnx cannot be read: No such file"),
    "swapped features": Bad(by(swapped_features), "example 0: observed ["),
    "NaN output": Bad(by(nan_output), "target_weights of the trees: observed nan at "),
    "wrong examples": Bad(wrong_examples, "example 0: observed ["),
    "external data beside the graph": Bad(external(lambda path: path.name), ELSEWHERE),
    "external data by an absolute path": Bad(external(str), ELSEWHERE),
    "external data below the working folder": Bad(external(lambda path: os.path.relpath(path, Path.cwd())), ELSEWHERE),
    "huge dimensions": Bad(by(huge_dimensions), "a constant of the graph declares 1,099,511,627,776 elements "),
    "foreign operator": Bad(by(foreign_operator), "the graph uses the operator 'com.example.Add'"),
    "huge manifest": Bad(
        lambda good, _: resealed(renamed(good.manifest, MAX_MANIFEST_BYTES), good.graph),
        "/manifest.json, expected 1,048,576 at most",
    ),
    "huge graph": Bad(
        lambda good, _: as_published(good, good.graph)._replace(size=MAX_BYTES + 1),
        "/model.onnx, expected 67,108,864 at most",
    ),
    "features in another order": Bad(
        other_order_of_features, "features are bedrooms, square_feet, bathrooms, age_years, distance_to_city; this "
    ),
    "wrong output name": Bad(by(wrong_output_name), "the graph gives log_price float64(n); width float64(n), "),
    "wrong input type": Bad(by(wrong_input_type), "the graph takes houses float64(n, 5), expected houses "),
    "huge input": Bad(by(huge_input), "the graph takes houses float32(1099511627776, 5), expected "),
    "trees in a circle": Bad(by(circle), " of tree 0: observed 2 branches to it, expected 1"),
}


def named(good: Artifact, version: str) -> Artifact:
    return good._replace(manifest=good.manifest.model_copy(update={"version": version}))


def publish_bad(store: Store, bad: Bad, good: Artifact) -> str:
    """Put a bad version where a good one of its name would be; returns the digest that a deployment would hold."""
    folder = store.root / good.manifest.version
    files = bad.make(good, folder)
    folder.mkdir(exist_ok=True)
    (folder / MANIFEST_FILE).write_bytes(files.manifest)
    (folder / GRAPH_FILE).unlink(missing_ok=True)
    if files.graph is not None:
        (folder / GRAPH_FILE).write_bytes(files.graph)
        os.truncate(folder / GRAPH_FILE, max(files.size, len(files.graph)))
    return sha256(files.sealed).hexdigest()


def deploy_carelessly(store: Store, version: str, digest: str, champion: str) -> Deployment:
    """Point at a version that nobody has looked at, over a good champion."""
    before = store.deployment()
    deployment = Deployment(
        generation=before.generation + 1,
        champion=version,
        previous=champion,
        sha256={version: digest, champion: before.sha256[champion]},
    )
    aside = store.root / "aside.json"
    aside.write_text(deployment.model_dump_json())
    aside.replace(store.root / POINTER_FILE)
    return deployment
