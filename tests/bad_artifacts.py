"""Fourteen ways in which a version can be bad, made from a good one.

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
from onnx import ModelProto, TensorProto, helper

from pricing.deployment import Deployment
from pricing.manifest import Manifest
from pricing.store import GRAPH_FILE, MANIFEST_FILE, POINTER_FILE, Artifact, Store

Change = Callable[[ModelProto], None]


class Files(NamedTuple):
    """What lies in the folder of a bad version; None where a file is missing."""

    manifest: bytes
    graph: bytes | None
    sealed: bytes
    """The manifest whose digest the deployment holds."""


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


def swapped_features(model: ModelProto) -> None:
    """Every tree takes square feet for years, and the other way round."""
    for node in model.graph.node:
        for attribute in node.attribute:
            if attribute.name == "nodes_featureids":
                attribute.ints[:] = [{0: 3, 3: 0}.get(number, number) for number in attribute.ints]


def nan_output(model: ModelProto) -> None:
    """All is well for the examples and at every corner; one leaf in the middle is NaN."""
    trees = next(node for node in model.graph.node if node.output[0] == "price_trees")
    (weights,) = (attribute for attribute in trees.attribute if attribute.name == "target_weights")
    weights.floats[len(weights.floats) // 2] = float("nan")


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
