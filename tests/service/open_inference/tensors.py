"""Inference requests as clients write them."""

import json
from typing import Any, Final

import numpy as np
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from pricing.house import FEATURES
from tests.fake_service import HOUSE

INFER: Final = "/v2/models/appraiser/infer"
LENGTH: Final = "Inference-Header-Content-Length"
KINDS: Final = {"FP64": "<f8", "FP32": "<f4", "INT64": "<i8", "INT32": "<i4", "UINT8": "<u1"}
Tensor = dict[str, Any]


def tensor(name: str, *data: object, datatype: str = "FP64", shape: object = None) -> Tensor:
    """An input in JSON."""
    return {"name": name, "shape": [len(data)] if shape is None else shape, "datatype": datatype, "data": list(data)}


def columns(*houses: dict[str, float], **replaced: Tensor | None) -> list[Tensor]:
    """An input for each field of the houses; any of them may be replaced, or left out by None."""
    houses = houses or (HOUSE,)
    found = {name: tensor(name, *(house[name] for house in houses)) for name in FEATURES} | replaced
    return [one for one in found.values() if one is not None]


def body_of(inputs: list[Tensor], **fields: object) -> bytes:
    """The body of a request in JSON."""
    return json.dumps({"inputs": inputs} | fields).encode()


def packed(values: list[Any], datatype: str) -> bytes:
    """The bytes of a tensor, as the extension for binary tensors has them."""
    if datatype == "BYTES":
        texts = [value if isinstance(value, bytes) else str(value).encode() for value in values]
        return b"".join(len(text).to_bytes(4, "little") + text for text in texts)
    return np.array(values).astype(KINDS[datatype]).tobytes()


def binary(inputs: list[Tensor], **fields: object) -> tuple[bytes, dict[str, str]]:
    """The body of a request whose tensors follow the JSON, and its header."""
    chunks, heads = [], []
    for found in inputs:
        chunk = packed(found["data"], found["datatype"])
        heads.append({key: value for key, value in found.items() if key != "data"})
        heads[-1]["parameters"] = {"binary_data_size": len(chunk)}
        chunks.append(chunk)
    head = body_of(heads, **fields)
    return b"".join((head, *chunks)), {LENGTH: str(len(head))}


def infer(client: FlaskClient, inputs: list[Tensor], path: str = INFER, **fields: object) -> dict[str, Any]:
    """The answer to a request in JSON."""
    response = client.post(path, data=body_of(inputs, **fields))
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.get_json(force=True)
    return answer


def outputs_of(response: TestResponse) -> dict[str, list[Any]]:
    """The elements of each output, whether it is in the JSON or behind it."""
    assert response.status_code == 200, response.text
    length = int(response.headers.get(LENGTH, len(response.data)))
    place, found = length, {}
    for output in json.loads(response.data[:length])["outputs"]:
        size = output.get("parameters", {}).get("binary_data_size")
        if size is None:
            found[output["name"]] = output["data"]
            continue
        chunk = response.data[place : place + size]
        found[output["name"]] = (
            np.frombuffer(chunk, "<f8").tolist() if output["datatype"] == "FP64" else texts_of(chunk)
        )
        place += size
    assert place == len(response.data)
    return found


def texts_of(chunk: bytes) -> list[str]:
    """Elements of a length and the bytes."""
    found = []
    while chunk:
        end = 4 + int.from_bytes(chunk[:4], "little")
        found.append(chunk[4:end].decode())
        chunk = chunk[end:]
    return found
